"""What gives the updates of a view once more: a fold of the log, or the stream itself.

The archive has what a stream holds no more. A rebuild asks for the updates up to a boundary, and
for those between two boundaries; both ways end where a transaction may end.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Protocol

from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.jetstream import StoredMessage, get, last_for, read_range, stream_info
from psm.adapters.jetstream.batch import EXPECTED_LAST_SUBJECT_SEQUENCE
from psm.analytics.market_books import MarketRules
from psm.contracts import subjects
from psm.contracts.errors import ConfigError, LogDamagedError, TransientError
from psm.contracts.subjects import PSM
from psm.contracts.updates_read import ReadUpdate
from psm.domain.books import Books
from psm.domain.market.slots import ValuationSlots
from psm.domain.messages import Emit
from psm.projections.checkpoints import ViewCheckpoint
from psm.projections.projection import Projection
from psm.projections.source import ProjectionSource
from psm.projections.sql import load
from psm.workers.log.committed import BatchAssembler, psm_filters
from psm.workers.log.cursor import Cursor, load_cursor
from psm.workers.log.reader import stored_at
from psm.workers.log.refold import refold_partition
from psm.workers.projector.closed import ClosedUpdates, with_closed
from psm.workers.projector.sources import WHOLE_STREAMS
from psm.workers.projector.streams import (
    Fold,
    as_stored,
    end_of,
    require_contiguous,
    restore,
)

Progress = Callable[[int, int, int], None]
"""Called with partition, sequence reached, sequence to reach."""

Updates = AsyncIterator[list[ReadUpdate]]

_ARCHIVED = load("psm.projections.archive", "reads")
_ARCHIVE_BATCH = 2000


class Making(Protocol):
    """A way to have the updates of a source again."""

    @property
    def partitions(self) -> Sequence[int]:
        """All partitions of the source."""

    async def boundary(self, partition: int) -> ViewCheckpoint | None:
        """Return the newest position to which the updates can be made; None without any.

        Raises:
            LogDamagedError: the stream is not what the log gives.
            TransientError: it cannot be read now.
        """

    def made(self, target: ViewCheckpoint) -> Updates:
        """Yield all updates of a partition up to a boundary, in order.

        Raises:
            ConfigError: what is missing in the stream is not in the archive.
            LogDamagedError: a message is missing.
            TransientError: a server is away.
        """

    def between(
        self, connection: postgres.Connection, partition: int, position: int, end: int
    ) -> Updates:
        """Yield the updates behind one boundary up to another, as the stream has them.

        The views of the connection were written up to the first boundary.

        Raises:
            LogDamagedError: `end` is no boundary.
            TransientError: a server is away.
        """


class FromLog:
    """Updates of PSM: the log is folded again, to where a commit of whole inputs ended."""

    def __init__(
        self,
        nc: Client,
        partitions: int,
        slots: ValuationSlots,
        emit: Emit,
        progress: Progress | None,
    ) -> None:
        self.partitions: Sequence[int] = range(partitions)
        self._nc = nc
        self._slots = slots
        self._emit: Emit = emit
        self._progress = progress

    async def boundary(self, partition: int) -> ViewCheckpoint | None:
        """Return the end of the newest batch with `part` = 0."""
        return await boundary(self._nc, partition)

    async def made(self, target: ViewCheckpoint) -> Updates:
        """Fold the log of a partition to the target's log sequence."""
        partition = target.partition
        books = Books(partitions=len(self.partitions), partition=partition, slots=self._slots)

        def progress(reached: int, last: int) -> None:
            if self._progress is not None:
                self._progress(partition, reached, last)

        closed = ClosedUpdates(partition)
        async for batch in refold_partition(
            self._nc, books, partition, target.log_sequence, emit=self._emit, progress=progress
        ):
            yield [update for replayed in batch for update in closed.updates(replayed)]

    async def between(
        self, connection: postgres.Connection, partition: int, position: int, end: int
    ) -> Updates:
        """Read the updates of PSM between two boundaries."""
        assembler = BatchAssembler(partition)
        async for messages in read_range(self._nc, PSM, psm_filters(partition), position + 1, end):
            inputs = assembler.feed(messages)
            if inputs is not None:
                yield with_closed(partition, inputs)
                position = inputs.stream_sequence
        if position != end:
            raise LogDamagedError(
                f"PSM, partition {partition}: {end} is no end of a committed input; "
                f"the last one read is {position}"
            )


class FromStream:
    """Messages of a stream: what it holds no more from the archive first, where that is needed."""

    partitions: Sequence[int] = (0,)

    def __init__(
        self,
        nc: Client,
        pool: postgres.Pool,
        source: ProjectionSource,
        fold: Callable[[], Fold],
        progress: Progress | None,
    ) -> None:
        self._nc = nc
        self._pool = pool
        self._source = source
        self._js_stream = source.js_stream
        self._new_fold = fold
        self._progress = progress

    async def boundary(self, partition: int) -> ViewCheckpoint | None:
        """Return the end of the stream."""
        last = await end_of(self._nc, self._source)
        if not last:
            return None
        message = await get(self._nc, self._js_stream, last)
        if message is not None:
            hashed = hashlib.sha256(message.data).hexdigest()
        else:
            async with postgres.acquired(self._pool) as connection:
                hashed = await connection.fetchval(
                    _ARCHIVED["hash_of_message"], self._js_stream, last
                )
            if hashed is None:
                raise self._not_archived(last)
        return ViewCheckpoint(
            partition=partition, stream_sequence=last, event_hash=hashed, log_sequence=0
        )

    async def made(self, target: ViewCheckpoint) -> Updates:
        """Read everything up to the target."""
        fold = self._new_fold()
        first = (await stream_info(self._nc, self._js_stream)).first_sequence
        end = target.stream_sequence
        if first > 1 and not self._source.heals:
            async for messages in self._archived(first - 1):
                yield _updates(fold, messages)
        async for messages in self._read(first, end):
            yield _updates(fold, messages)
            if self._progress is not None:
                self._progress(target.partition, messages[-1].sequence, end)

    async def between(
        self, connection: postgres.Connection, partition: int, position: int, end: int
    ) -> Updates:
        """Read on from a position."""
        fold = self._new_fold()
        await restore(self._nc, self._source, fold, connection, position)
        async for messages in self._read(position + 1, end):
            yield _updates(fold, messages)

    async def _read(self, first: int, end: int) -> AsyncIterator[list[StoredMessage]]:
        """Yield what the stream holds of a range, all of it."""
        position = first - 1
        filters = [self._source.filter_subject]
        if position < end:
            async for messages in read_range(self._nc, self._js_stream, filters, first, end):
                require_contiguous(self._source, position, messages)
                yield messages
                position = messages[-1].sequence
        if position < end:
            raise TransientError(f"{self._js_stream} shows its messages up to {position} alone")

    async def _archived(self, end: int) -> AsyncIterator[list[StoredMessage]]:
        """Yield what the stream holds no more."""
        position = 0
        while position < end:
            async with postgres.acquired(self._pool) as connection:
                rows = await connection.fetch(
                    _ARCHIVED["messages_of_stream"], self._js_stream, position, end, _ARCHIVE_BATCH
                )
            found = [row["js_sequence"] for row in rows]
            if found != list(range(position + 1, position + 1 + len(found))) or not found:
                raise self._not_archived(position + 1)
            yield [
                StoredMessage(
                    sequence=row["js_sequence"],
                    subject=row["subject"],
                    data=row["raw"],
                    time_ns=row["stored_ns"],
                )
                for row in rows
            ]
            position = found[-1]

    def _not_archived(self, sequence: int) -> ConfigError:
        return ConfigError(
            f"{self._js_stream} holds its message {sequence} no more, and the archive does not "
            "have it: let `psm archive` catch up, or restore it"
        )


def making_of(
    projection: Projection,
    nc: Client,
    pool: postgres.Pool,
    *,
    partitions: int,
    slots: ValuationSlots,
    market: MarketRules,
    progress: Progress | None,
) -> Making:
    """Return the way to have the updates of a projection's source again.

    Raises:
        ConfigError: there is none.
    """
    source = projection.source
    if source.rebuilt_from == "log":
        return FromLog(
            nc, partitions, slots, "updates" if projection.hashed else "unhashed", progress
        )
    if source.rebuilt_from == "stream":
        fold = partial(WHOLE_STREAMS[source.reader], market)
        return FromStream(nc, pool, source, fold, progress)
    raise ConfigError(f"{source.js_stream} is given again neither by the log nor by itself")


async def boundary(nc: Client, partition: int) -> ViewCheckpoint | None:
    """Return the newest position of PSM at which a batch with `part` = 0 ends; None without one.

    Raises:
        LogDamagedError: the cursor's input is not in the log as it was.
        TransientError: the messages of a batch are not all readable, or NATS is away.
    """
    found = await _newest_whole_cursor(nc, partition)
    if found is None:
        return None
    message, cursor = found
    end = message.sequence + cursor.updates
    last = await get(nc, PSM, end)
    if last is None:
        raise TransientError(f"PSM, partition {partition}: message {end} cannot be read")
    if cursor.log_sequence and cursor.event_hash is not None:
        event = await stored_at(nc, cursor.log_sequence)
        if event is None or hashlib.sha256(event.data).hexdigest() != cursor.event_hash:
            raise LogDamagedError(
                f"partition {partition}: updates up to log sequence {cursor.log_sequence} were "
                "committed, and the log has no such message there; it was damaged or restored"
            )
    return ViewCheckpoint(
        partition=partition,
        stream_sequence=end,
        event_hash=hashlib.sha256(last.data).hexdigest(),
        log_sequence=cursor.log_sequence,
    )


async def _newest_whole_cursor(nc: Client, partition: int) -> tuple[StoredMessage, Cursor] | None:
    subject = subjects.cursor(partition)
    message = await last_for(nc, PSM, subject)
    while message is not None:
        cursor = load_cursor(message.data)
        if cursor.part == 0:
            return message, cursor
        # Each cursor expected its predecessor: the stored header is a chain backwards.
        before = message.header(EXPECTED_LAST_SUBJECT_SEQUENCE)
        message = await get(nc, PSM, int(before)) if before and before != "0" else None
    return None


def _updates(fold: Fold, messages: Sequence[StoredMessage]) -> list[ReadUpdate]:
    return fold.take([as_stored(message) for message in messages])
