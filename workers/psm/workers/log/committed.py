"""Committed batches as the stream PSM holds them, each opened by its cursor.

A partition's messages in PSM are `cursor, update * n, cursor, update * n, ...`. A position is a
boundary when a batch with `part` = 0 ends there: only then all updates of every input so far
have been read. `CommittedReader` reads a partition's messages, `BatchAssembler` finds boundaries
and refuses anything that breaks the pattern.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import OrderedReader, StoredMessage
from psm.contracts import subjects
from psm.contracts.errors import LogDamagedError
from psm.contracts.subjects import PSM, update_place
from psm.contracts.updates_read import ReadUpdate
from psm.workers.log.cursor import Cursor, load_cursor


class CommittedReader:
    """Reader of one partition of the stream PSM, in stream order and without a gap.

    Cursors and updates come by a consumer each: a broker that looks for the next message on more
    than one filter goes through all subjects of a block, and is ten times slower where these are
    thousands. Cursors lead, for each says how many updates follow it.

    Not for concurrent use: one task calls `fetch`.
    """

    def __init__(
        self,
        nc: Client,
        partition: int,
        start_sequence: int,
        *,
        on_reset: Callable[[str, str], None] | None = None,
    ) -> None:
        """Open nothing before the first `fetch`; `on_reset` is as in `OrderedReader`."""
        updates, cursors = psm_filters(partition)
        self._cursors = OrderedReader(nc, PSM, [cursors], start_sequence, on_reset=on_reset)
        self._updates = OrderedReader(nc, PSM, [updates], start_sequence, on_reset=on_reset)
        self._read_cursors: deque[StoredMessage] = deque()
        self._read_updates: deque[StoredMessage] = deque()
        self._promised = 0  # updates of cursors read, less the updates read; they may be ahead
        self._remaining_in_batch = 0  # of the last cursor handed out, updates not handed out

    @property
    def pending(self) -> int:
        """Messages known of that were not handed out."""
        cursors = (self._cursors.pending or 0) + len(self._read_cursors)
        updates = max(self._updates.pending or 0, self._promised) + len(self._read_updates)
        return cursors + updates

    async def fetch(
        self, max_messages: int, max_wait_s: float, *, linger_s: float = 0.0
    ) -> list[StoredMessage]:
        """Return the next messages, or an empty list when none came within `max_wait_s`.

        Args:
            max_messages: upper limit of the updates; of the cursors twice that.
            max_wait_s: how long to wait for a cursor, and for an update that one promised.
            linger_s: once there is one, how long to wait for more of them.

        Raises:
            TransientError: the connection was closed for good.
        """
        # Both are asked in every round, for the broker drops a consumer that is not pulled from;
        # but the cursors, which are few, must not run far ahead.
        if self._promised < max_messages:
            idle = self._promised <= 0
            found = await self._cursors.fetch(
                max_messages, max_wait_s if idle else 0.0, linger_s=linger_s if idle else 0.0
            )
            self._read_cursors += found
            self._promised += sum(load_cursor(message.data).updates for message in found)
        wanted = min(self._promised, max_messages)
        updates = await self._updates.fetch(
            max(1, wanted), max_wait_s if wanted > 0 else 0.0, linger_s=linger_s
        )
        self._read_updates += updates
        self._promised -= len(updates)
        return self._in_order()

    async def close(self) -> None:
        """Delete the consumers."""
        await self._cursors.close()
        await self._updates.close()

    def _in_order(self) -> list[StoredMessage]:
        """Take what certainly comes next in the stream."""
        cursors, updates = self._read_cursors, self._read_updates
        taken: list[StoredMessage] = []
        while True:
            # Where both are known it is the earlier one, also if the log is damaged; else it is
            # an update that was promised, or the next cursor when all of these are here.
            if cursors and updates:
                first = cursors if cursors[0].sequence < updates[0].sequence else updates
            elif updates and self._remaining_in_batch:
                first = updates
            elif cursors and not self._remaining_in_batch:
                first = cursors
            else:
                return taken
            message = first.popleft()
            taken.append(message)
            if first is cursors:
                self._remaining_in_batch = load_cursor(message.data).updates
            else:
                self._remaining_in_batch -= 1


class CommittedInputs(msgspec.Struct, frozen=True, kw_only=True):
    """Updates of whole inputs, up to a boundary, that were not handed out before.

    Attributes:
        updates: in log order; may be none.
        stream_sequence: position of the boundary's message in the stream PSM.
        event_hash: SHA-256 of that message, hex.
        log_sequence: of the log; every input up to it has been read.
        log_hash: SHA-256 of the log's message there, hex; None before the first.
        closed_through: end of the last minute all of whose closes these updates or earlier ones
            tell; None before the first.
    """

    updates: list[ReadUpdate]
    stream_sequence: int
    event_hash: str
    log_sequence: int
    log_hash: str | None
    closed_through: str | None


class BatchAssembler:
    """Collector of one partition's messages until a boundary is reached."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._cursor_subject = subjects.cursor(partition)
        self._updates: list[ReadUpdate] = []
        self._cursor: Cursor | None = None
        self._missing = 0
        self._next_sequence = 0

    @property
    def waiting(self) -> int:
        """Updates that were read after the last boundary."""
        return len(self._updates)

    def feed(self, messages: Iterable[StoredMessage]) -> CommittedInputs | None:
        """Take messages in stream order; return what is complete up to the last boundary.

        Raises:
            LogDamagedError: a batch lacks a message, or a message belongs to no batch.
        """
        boundary: tuple[StoredMessage, Cursor, int] | None = None
        for message in messages:
            cursor = self._take(message)
            if self._missing == 0 and cursor.part == 0:
                boundary = (message, cursor, len(self._updates))
        if boundary is None:
            return None
        last, cursor, count = boundary
        ready, self._updates = self._updates[:count], self._updates[count:]
        return CommittedInputs(
            updates=ready,
            stream_sequence=last.sequence,
            event_hash=hashlib.sha256(last.data).hexdigest(),
            log_sequence=cursor.log_sequence,
            log_hash=cursor.event_hash,
            closed_through=cursor.closed_through,
        )

    def _take(self, message: StoredMessage) -> Cursor:
        if message.subject == self._cursor_subject:
            if self._missing:
                raise self._damaged(message, f"{self._missing} updates before it are missing")
            self._cursor = load_cursor(message.data)
            self._missing = self._cursor.updates
        elif self._cursor is None or not self._missing:
            raise self._damaged(message, "no commit cursor announced it")
        elif message.sequence != self._next_sequence:
            raise self._damaged(message, f"message {self._next_sequence} before it is missing")
        else:
            self._missing -= 1
            self._updates.append(read_update(message))
        # The broker stores a batch without a hole, so the next one is known.
        self._next_sequence = message.sequence + 1
        return self._cursor

    def _damaged(self, message: StoredMessage, what: str) -> LogDamagedError:
        return LogDamagedError(
            f"PSM, partition {self._partition}, message {message.sequence}: {what}"
        )


def read_update(message: StoredMessage) -> ReadUpdate:
    """Return an update as projections take it; the kind is the middle of its subject."""
    kind, partition, _ = update_place(message.subject)
    return ReadUpdate(
        kind=kind,
        data=message.data,
        partition=partition,
        traceparent=message.header("traceparent"),
    )


def psm_filters(partition: int) -> list[str]:
    """Return the subjects of one partition in the stream PSM; they do not overlap."""
    return [f"psm.*.*.{partition}.*", subjects.cursor(partition)]
