"""What the stream PSM says has been committed: batches, each opened by its cursor.

A partition's messages in PSM are `cursor, update * n, cursor, update * n, ...`. A position is a
boundary when a batch with `part` = 0 ends there: only then all updates of every input so far
have been read. `Assembler` finds boundaries and refuses anything that breaks the pattern.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from psm.adapters.jetstream import StoredMessage
from psm.contracts import subjects
from psm.contracts.errors import LogDamagedError
from psm.projections.checkpoints import Checkpoint
from psm.projections.projection import ReadUpdate
from psm.workers.cursor import Cursor, load_cursor


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Everything up to a boundary that was not handed out before.

    Attributes:
        updates: in log order; may be none.
        checkpoint: the boundary.
        log_hash: SHA-256 of the log's message at the boundary, hex; None before the first.
    """

    updates: list[ReadUpdate]
    checkpoint: Checkpoint
    log_hash: str | None


class Assembler:
    """Collects one partition's messages until a boundary is reached."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._cursor_subject = subjects.cursor(partition)
        self._updates: list[ReadUpdate] = []
        self._cursor: Cursor | None = None
        self._missing = 0
        self._next_sequence = 0

    @property
    def waiting(self) -> int:
        """Updates that were read behind the last boundary."""
        return len(self._updates)

    def feed(self, messages: Iterable[StoredMessage]) -> Ready | None:
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
        return Ready(
            updates=ready,
            checkpoint=Checkpoint(
                partition=self._partition,
                stream_sequence=last.sequence,
                event_hash=hashlib.sha256(last.data).hexdigest(),
                log_sequence=cursor.log_sequence,
            ),
            log_hash=cursor.event_hash,
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
    _, noun, verb, partition, _ = message.subject.split(".", 4)
    return ReadUpdate(
        kind=f"{noun}.{verb}",
        data=message.data,
        partition=int(partition),
        traceparent=message.header("traceparent"),
    )


def psm_filters(partition: int) -> list[str]:
    """Return the subjects of one partition in the stream PSM; they do not overlap."""
    return [f"psm.*.*.{partition}.*", subjects.cursor(partition)]
