"""One account of a projection, folded anew in the shadow tables to where the live view stands.

As a rebuild, but only what concerns the account is read of the log. The fold ends where the live
checkpoint stands, so both sides are of one moment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import msgspec
from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.jetstream import read_range
from psm.contracts.errors import ConfigError, InvariantError
from psm.contracts.subjects import PSM, partition_of
from psm.contracts.updates_read import ReadUpdate
from psm.domain.books import Books
from psm.domain.market.slots import ValuationSlots
from psm.projections import checkpoints
from psm.projections.checkpoints import ViewCheckpoint
from psm.projections.closes import MINUTES_CLOSED
from psm.projections.projection import Projection
from psm.projections.schema import shadow
from psm.workers.log.committed import BatchAssembler, psm_filters
from psm.workers.log.refold import refold_stream
from psm.workers.projector.closed import ClosedUpdates, with_closed
from psm.workers.projector.follower import check_against_log
from psm.workers.projector.pasts import LogPasts

_BATCH_UPDATES = 5000


class _Account(msgspec.Struct, gc=False):
    account_id: str


class _Update(msgspec.Struct, gc=False):
    payload: _Account


_update = msgspec.json.Decoder(_Update)


class FoldedAccount(msgspec.Struct, frozen=True, kw_only=True):
    """Both sides of an account, in an open transaction that keeps projectors waiting.

    Attributes:
        connection: of the transaction; it reads and writes the live tables.
        live: schema of the live views.
        log_sequence: up to which both sides are.
        updates: how many updates the fold gave.
    """

    connection: postgres.Connection
    live: str
    log_sequence: int
    updates: int


class AccountFold:
    """Folds accounts of one projection anew; one at a time, and never beside a rebuild."""

    def __init__(
        self,
        nc: Client,
        pool: postgres.Pool,
        projection: Projection,
        *,
        partitions: int,
        slots: ValuationSlots,
    ) -> None:
        self._nc = nc
        self._pool = pool
        self._projection = projection
        self._partitions = partitions
        self._slots = slots
        self._pasts = LogPasts(nc)
        self._writer = projection.writer(self._pasts)

    @asynccontextmanager
    async def folded(self, stream_id: str) -> AsyncIterator[FoldedAccount]:
        """Fold one account anew; what the block writes is committed at its end.

        Raises:
            ConfigError: a rebuild is running, the schema is missing, or nothing was read yet.
            LogDamagedError: the views were made from another log.
            TransientError: a server went away; nothing was changed.
        """
        partition = partition_of(stream_id, self._partitions)
        self._writer = self._projection.writer(self._pasts)
        async with postgres.acquired(self._pool) as connection:
            await shadow.claim(connection)
            live = await shadow.live_schema(connection)
            await shadow.create(connection, self._projection, live)
            try:
                checkpoint = await self._checkpoint(connection, partition)
                updates = await self._fold(connection, live, stream_id, checkpoint)
                async with connection.transaction():
                    locked = await checkpoints.lock_all(connection, self._projection.name)
                    (now,) = (c for c in locked if c.partition == partition)
                    await shadow.use_shadow(connection, live)
                    updates += await self._catch_up(connection, stream_id, checkpoint, now)
                    await self._writer.settle(connection, partition)
                    await shadow.use_live(connection, live)
                    yield FoldedAccount(
                        connection=connection,
                        live=live,
                        log_sequence=now.log_sequence,
                        updates=updates,
                    )
            finally:
                if not connection.is_closed():
                    await shadow.drop(connection)
                    await connection.execute("SELECT pg_advisory_unlock_all()")

    async def _checkpoint(self, connection: postgres.Connection, partition: int) -> ViewCheckpoint:
        found = await checkpoints.read(connection, self._projection.name, partition)
        await check_against_log(self._nc, self._projection.source, found, partition)
        if found is None:
            raise ConfigError(f"partition {partition} was not read yet; there is nothing to fold")
        return found

    async def _fold(
        self,
        connection: postgres.Connection,
        live: str,
        stream_id: str,
        checkpoint: ViewCheckpoint,
    ) -> int:
        books = Books(
            partitions=self._partitions,
            partition=checkpoint.partition,
            slots=self._slots,
        )
        pending: list[ReadUpdate] = []
        closed = ClosedUpdates(checkpoint.partition)
        count = 0
        async for replayed in refold_stream(self._nc, books, stream_id, checkpoint.log_sequence):
            pending += closed.updates(replayed, stream_id)
            if len(pending) >= _BATCH_UPDATES:
                count += await self._write(connection, live, pending)
                pending = []
        return count + await self._write(connection, live, pending)

    async def _write(
        self, connection: postgres.Connection, live: str, updates: list[ReadUpdate]
    ) -> int:
        async with connection.transaction():
            await shadow.use_shadow(connection, live)
            await self._writer.apply_apart(connection, updates)
        return _counted(updates)

    async def _catch_up(
        self,
        connection: postgres.Connection,
        stream_id: str,
        done: ViewCheckpoint,
        now: ViewCheckpoint,
    ) -> int:
        if now.stream_sequence < done.stream_sequence:
            raise InvariantError(f"partition {now.partition}: the checkpoint went back; try again")
        assembler = BatchAssembler(now.partition)
        filters = psm_filters(now.partition)
        count = 0
        async for messages in read_range(
            self._nc, PSM, filters, done.stream_sequence + 1, now.stream_sequence
        ):
            inputs = assembler.feed(messages)
            if inputs is not None:
                updates = with_closed(now.partition, inputs)
                own = list(_of(stream_id, updates, self._projection.kinds))
                await self._writer.apply_apart(connection, own)
                count += _counted(own)
        return count


def _of(
    stream_id: str, updates: Iterable[ReadUpdate], kinds: frozenset[str]
) -> Iterable[ReadUpdate]:
    return (
        update
        for update in updates
        if update.kind == MINUTES_CLOSED
        or (update.kind in kinds and _update.decode(update.data).payload.account_id == stream_id)
    )


def _counted(updates: Iterable[ReadUpdate]) -> int:
    """Return how many of updates are an account's."""
    return sum(update.kind != MINUTES_CLOSED for update in updates)
