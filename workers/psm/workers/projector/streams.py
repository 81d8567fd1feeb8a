"""Readers of streams whose messages are complete by themselves: RISK and RULEBOOK.

They have no partitions: the projector of partition 0 follows them. Every message moves the
checkpoint, also one that changes no row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from nats.aio.client import Client

from psm.adapters.jetstream import OrderedReader, StoredMessage, read_range, stream_info
from psm.contracts.errors import TransientError
from psm.contracts.updates_read import ReadUpdate
from psm.projections.checkpoints import ViewCheckpoint
from psm.projections.source import ProjectionSource
from psm.risk.messages import Stored
from psm.workers.ops.keys import made_signature
from psm.workers.projector.batches import (
    BATCH_MESSAGES,
    FETCH_WAIT_S,
    LINGER_S,
    BatchReader,
    OnReset,
    ReadyBatch,
)
from psm.workers.projector.risk_records import updates_of_record
from psm.workers.projector.rules import RulebookEntries

EVERYTHING = ">"


class Fold(Protocol):
    """What makes updates of a stream's messages.

    Attributes:
        from_start: whether it must have seen every message before.
    """

    from_start: bool

    def take(self, stored: Stored) -> list[ReadUpdate]:
        """Return the updates of the next message."""


class RiskFold:
    """Each record by itself."""

    from_start = False

    def take(self, stored: Stored) -> list[ReadUpdate]:
        """Return the updates of the next message."""
        return updates_of_record(stored.subject, stored.sequence, stored.data)


class RulebookFold:
    """The rulebook, folded again at every start: it is small, and says what became of an event."""

    from_start = True

    def __init__(self) -> None:
        self._entries = RulebookEntries(made_signature)

    def take(self, stored: Stored) -> list[ReadUpdate]:
        """Return the updates of the next message."""
        return self._entries.take(stored)


class WholeStream:
    """Way to read a stream as one partition."""

    probe = EVERYTHING

    def __init__(self, source: ProjectionSource, fold: Callable[[], Fold]) -> None:
        self._js_stream = source.js_stream
        self._fold = fold

    def partitions(self, own: Sequence[int]) -> Sequence[int]:
        """Return the only one, where it is the process's own."""
        return [number for number in own if number == 0]

    def filters(self, partition: int) -> list[str]:
        """Return all subjects."""
        return [EVERYTHING]

    def open(
        self, nc: Client, partition: int, start_sequence: int, on_reset: OnReset
    ) -> BatchReader:
        """Return a reader from a position on."""
        return StreamBatches(nc, self._js_stream, self._fold(), start_sequence, on_reset)

    async def ends(self, nc: Client) -> dict[int, int]:
        """Return where the stream ends, if it has begun."""
        last = (await stream_info(nc, self._js_stream)).last_sequence
        return {0: last} if last else {}


class StreamBatches:
    """Batches of a stream: whatever was fetched is one."""

    def __init__(
        self, nc: Client, js_stream: str, fold: Fold, start_sequence: int, on_reset: OnReset
    ) -> None:
        self._nc = nc
        self._js_stream = js_stream
        self._fold = fold
        self._before = start_sequence - 1 if fold.from_start else 0
        self._position = start_sequence - 1
        self._reader = OrderedReader(nc, js_stream, [EVERYTHING], start_sequence, on_reset=on_reset)

    @property
    def pending(self) -> int:
        """Messages known of that no batch had yet."""
        return self._reader.pending or 0

    async def fetch(self) -> Sequence[StoredMessage]:
        """Return the next messages, once what was before them is folded.

        Raises:
            LogDamagedError: a message before them is missing.
            TransientError: the connection was closed for good.
        """
        if self._before:
            async for messages in read_range(
                self._nc, self._js_stream, [EVERYTHING], 1, self._before
            ):
                for message in messages:
                    self._fold.take(as_stored(message))
            self._before = 0
        return await self._reader.fetch(BATCH_MESSAGES, FETCH_WAIT_S, linger_s=LINGER_S)

    def assemble(self, messages: Iterable[StoredMessage]) -> ReadyBatch | None:
        """Return all that was fetched.

        Raises:
            InvariantError: a message is not what its writer writes.
            LogDamagedError: one is missing where none may be.
            TransientError: one is hidden, or expired while this read: read again.
        """
        found = list(messages)
        # A stream that was made again may begin anywhere.
        if self._position:
            require_contiguous(self._js_stream, self._position, found)
        ready = ready_batch(self._fold, found)
        if ready is not None:
            self._position = ready.checkpoint.stream_sequence
        return ready

    async def close(self) -> None:
        """Let go of the broker's consumer."""
        await self._reader.close()


def require_contiguous(js_stream: str, position: int, messages: Sequence[StoredMessage]) -> None:
    """Make sure that messages follow a position one by one: nobody deletes any there.

    Raises:
        TransientError: one is missing; the broker hides it, or it expired.
    """
    for following, message in enumerate(messages, position + 1):
        if message.sequence != following:
            raise TransientError(
                f"{js_stream} shows message {message.sequence} and not {following}"
            )


def ready_batch(fold: Fold, found: Sequence[StoredMessage]) -> ReadyBatch | None:
    """Return the updates of messages, None where there are none."""
    if not found:
        return None
    last = found[-1]
    checkpoint = ViewCheckpoint(
        partition=0,
        stream_sequence=last.sequence,
        event_hash=hashlib.sha256(last.data).hexdigest(),
        log_sequence=0,
    )
    updates = [update for message in found for update in fold.take(as_stored(message))]
    return ReadyBatch(updates=updates, checkpoint=checkpoint)


def as_stored(message: StoredMessage) -> Stored:
    """Return a message as the pure code takes it."""
    return Stored(
        sequence=message.sequence,
        time=message.time_ns // 1000,
        subject=message.subject,
        data=message.data,
    )
