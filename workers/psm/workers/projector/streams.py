"""Readers of streams that PSM does not fold an account from: RISK, RULEBOOK, MARKETDATA.

They have no partitions: the projector of partition 0 follows them. Every message moves the
checkpoint, also one that changes no row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from nats.aio.client import Client

from psm.adapters.jetstream import (
    OrderedReader,
    StoredMessage,
    last_for,
    read_range,
    stream_info,
)
from psm.contracts.errors import TransientError
from psm.contracts.updates_read import ReadUpdate
from psm.projections.checkpoints import ViewCheckpoint
from psm.projections.source import ProjectionSource
from psm.projections.sql import Connection
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
    """What makes updates of a stream's messages."""

    async def restore(self, connection: Connection, position: int, first: int) -> int:
        """Forget everything; return the message from which on all up to a position are needed.

        Args:
            connection: to the views, which were written up to the position.
            position: of the last message before those that follow.
            first: message that the stream holds.
        """

    def take(self, messages: Sequence[Stored]) -> list[ReadUpdate]:
        """Return the updates of the next messages."""


class RiskFold:
    """Each record by itself."""

    async def restore(self, connection: Connection, position: int, first: int) -> int:
        """Need nothing of what was before."""
        return position + 1

    def take(self, messages: Sequence[Stored]) -> list[ReadUpdate]:
        """Return the updates of the next messages."""
        return [
            update
            for one in messages
            for update in updates_of_record(one.subject, one.sequence, one.data)
        ]


class RulebookFold:
    """The rulebook, folded again at every start: it is small, and says what became of an event."""

    def __init__(self) -> None:
        self._entries = RulebookEntries(made_signature)

    async def restore(self, connection: Connection, position: int, first: int) -> int:
        """Need everything."""
        self._entries = RulebookEntries(made_signature)
        return 1

    def take(self, messages: Sequence[Stored]) -> list[ReadUpdate]:
        """Return the updates of the next messages."""
        return [update for one in messages for update in self._entries.take(one)]


class WholeStream:
    """Way to read a stream as one partition."""

    def __init__(self, source: ProjectionSource, fold: Callable[[], Fold]) -> None:
        self.probe = source.filter_subject
        self._source = source
        self._fold = fold

    def partitions(self, own: Sequence[int]) -> Sequence[int]:
        """Return the only one, where it is the process's own."""
        return [number for number in own if number == 0]

    def filters(self, partition: int) -> list[str]:
        """Return all its subjects."""
        return [self._source.filter_subject]

    def open(
        self, nc: Client, partition: int, start_sequence: int, on_reset: OnReset
    ) -> BatchReader:
        """Return a reader from a position on."""
        return StreamBatches(nc, self._source, self._fold(), start_sequence, on_reset)

    async def ends(self, nc: Client) -> dict[int, int]:
        """Return where the stream ends, if it has begun."""
        last = await end_of(nc, self._source)
        return {0: last} if last else {}


class StreamBatches:
    """Batches of a stream: whatever was fetched is one."""

    def __init__(
        self,
        nc: Client,
        source: ProjectionSource,
        fold: Fold,
        start_sequence: int,
        on_reset: OnReset,
    ) -> None:
        self._nc = nc
        self._source = source
        self._fold = fold
        self._position = start_sequence - 1
        filters = [source.filter_subject]
        self._reader = OrderedReader(
            nc, source.js_stream, filters, start_sequence, on_reset=on_reset
        )

    @property
    def pending(self) -> int:
        """Messages known of that no batch had yet."""
        return self._reader.pending or 0

    async def restore(self, connection: Connection) -> None:
        """Bring the fold to where the views are.

        Raises:
            TransientError: the connection was closed for good.
        """
        await restore(self._nc, self._source, self._fold, connection, self._position)

    async def fetch(self) -> Sequence[StoredMessage]:
        """Return the next messages.

        Raises:
            TransientError: the connection was closed for good.
        """
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
            require_contiguous(self._source, self._position, found)
        ready = ready_batch(self._fold, found)
        if ready is not None:
            self._position = ready.checkpoint.stream_sequence
        return ready

    async def close(self) -> None:
        """Let go of the broker's consumer."""
        await self._reader.close()


async def restore(
    nc: Client, source: ProjectionSource, fold: Fold, connection: Connection, position: int
) -> None:
    """Bring a fold to a position up to which the views of a connection were written.

    Raises:
        TransientError: a server is away.
    """
    begin = (await stream_info(nc, source.js_stream)).first_sequence
    first = await fold.restore(connection, position, begin)
    if first <= position:
        filters = [source.filter_subject]
        async for messages in read_range(nc, source.js_stream, filters, first, position):
            fold.take([as_stored(message) for message in messages])


async def end_of(nc: Client, source: ProjectionSource) -> int:
    """Return the sequence of a source's last message, 0 where there is none.

    Of a stream that is read whole it is the stream's, also when that message has expired.
    """
    if source.filter_subject == EVERYTHING:
        return (await stream_info(nc, source.js_stream)).last_sequence
    last = await last_for(nc, source.js_stream, source.filter_subject)
    return last.sequence if last else 0


def require_contiguous(
    source: ProjectionSource, position: int, messages: Sequence[StoredMessage]
) -> None:
    """Make sure that messages follow a position one by one: nobody deletes any there.

    Of a stream that has other messages too, what is between belongs to those.

    Raises:
        TransientError: one is missing; the broker hides it, or it expired.
    """
    if source.filter_subject != EVERYTHING:
        return
    for following, message in enumerate(messages, position + 1):
        if message.sequence != following:
            raise TransientError(
                f"{source.js_stream} shows message {message.sequence} and not {following}"
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
    updates = fold.take([as_stored(message) for message in found])
    return ReadyBatch(updates=updates, checkpoint=checkpoint)


def as_stored(message: StoredMessage) -> Stored:
    """Return a message as the pure code takes it."""
    return Stored(
        sequence=message.sequence,
        time=message.time_ns // 1000,
        subject=message.subject,
        data=message.data,
    )
