"""Rebuild of views: make the updates again, write them into shadow tables, compare, swap.

The live views serve until the swap. Per partition the updates are made up to the newest boundary
(see `making`): of PSM where the newest commit cursor with `part` = 0 ends, the log being folded to
exactly there. Then the live checkpoints are locked, the side that is earlier reads the stream
until both stand at one boundary, the rows are compared, and the tables change places in the same
transaction.
"""

from __future__ import annotations

import hashlib

import msgspec
from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.logs import get_logger
from psm.analytics.market_books import DEFAULT_RULES, MarketRules
from psm.contracts.errors import LogDamagedError
from psm.contracts.updates_read import ReadUpdate
from psm.domain.market.slots import ValuationSlots
from psm.projections import checkpoints
from psm.projections.checkpoints import ViewCheckpoint
from psm.projections.closes import MINUTES_CLOSED
from psm.projections.projection import Projection, Writer
from psm.projections.quarantine import StaleKey
from psm.projections.schema import shadow
from psm.projections.schema.shadow import RowDifference, TableHash
from psm.projections.witness import heads
from psm.workers.log.reader import stored_at
from psm.workers.projector.follower import BehindRetentionError, check_against_log
from psm.workers.projector.making import Progress, Updates, making_of
from psm.workers.projector.pasts import LogPasts

DIFFERENCES_SHOWN = 20
_BATCH_UPDATES = 20_000
"""In one transaction: an account's state is written once in it, however often it changed."""

_log = get_logger()


class RebuildReport(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a rebuild.

    Attributes:
        projection: its name.
        partitions: how many were made anew.
        updates: how many updates that gave.
        compared: False where the live view could not be brought to the same position.
        diverged: partitions whose live view was made from another log than this one, and where.
        rows_differ: rows in which live and rebuilt view differ.
        differences: the first of them.
        stale: keys whose last row cannot be stored in the rebuilt view.
        swapped: whether the rebuilt view is the live one now.
        boundaries: where both sides stood, by partition.
        before, after: what the live and the rebuilt tables held there; empty of a dry run.
    """

    projection: str
    partitions: int
    updates: int
    compared: bool
    diverged: list[str]
    rows_differ: int
    differences: list[RowDifference]
    stale: list[StaleKey]
    swapped: bool
    boundaries: list[ViewCheckpoint]
    before: list[TableHash]
    after: list[TableHash]


class Rebuild:
    """Rebuild of one projection."""

    def __init__(
        self,
        nc: Client,
        pool: postgres.Pool,
        projection: Projection,
        *,
        partitions: int,
        slots: ValuationSlots,
        market: MarketRules = DEFAULT_RULES,
        progress: Progress | None = None,
    ) -> None:
        self._nc = nc
        self._pool = pool
        self._projection = projection
        self._making = making_of(
            projection,
            nc,
            pool,
            partitions=partitions,
            slots=slots,
            market=market,
            progress=progress,
        )
        pasts = LogPasts(nc)
        self._shadow_writer, self._live_writer = projection.writer(pasts), projection.writer(pasts)
        self._updates = 0
        self._live = "public"

    async def run(
        self, *, accept_differences: bool = False, dry_run: bool = False
    ) -> RebuildReport:
        """Rebuild and, unless rows differ, swap.

        Args:
            accept_differences: swap all the same; the log is right, the view was wrong.
            dry_run: compare only, never swap.

        Raises:
            ConfigError: another rebuild is running, the schema is missing, or so are messages.
            LogDamagedError: log and stream contradict each other.
            TransientError: a server went away; nothing was changed, start again.
        """
        async with postgres.acquired(self._pool) as connection:
            await shadow.claim(connection)
            self._live = await shadow.live_schema(connection)
            await shadow.create(connection, self._projection, self._live)
            try:
                targets: dict[int, ViewCheckpoint] = {}
                for partition in self._making.partitions:
                    target = await self._making.boundary(partition)
                    if target is not None:
                        targets[partition] = target
                        await self._fold(connection, target)
                return await self._finish(
                    connection, targets, accept_differences=accept_differences, dry_run=dry_run
                )
            finally:
                if not connection.is_closed():
                    await shadow.drop(connection)
                    await connection.execute("SELECT pg_advisory_unlock_all()")

    async def _fold(self, connection: postgres.Connection, target: ViewCheckpoint) -> None:
        """Make the updates of one partition up to the target, into the shadow tables."""
        async for updates in _batches(self._making.made(target)):
            await self._write(connection, updates)

    async def _write(self, connection: postgres.Connection, updates: list[ReadUpdate]) -> None:
        async with connection.transaction():
            await shadow.use_shadow(connection, self._live)
            await self._shadow_writer.apply_apart(connection, updates)
        self._updates += sum(update.kind != MINUTES_CLOSED for update in updates)

    async def _finish(
        self,
        connection: postgres.Connection,
        targets: dict[int, ViewCheckpoint],
        *,
        accept_differences: bool,
        dry_run: bool,
    ) -> RebuildReport:
        transaction = connection.transaction()
        await transaction.start()
        try:
            locked = await checkpoints.lock_all(connection, self._projection.name)
            live = {checkpoint.partition: checkpoint for checkpoint in locked}
            reached = [
                await self._reach_boundary(
                    connection, partition, targets.get(partition), live.get(partition)
                )
                for partition in self._making.partitions
            ]
            for at in reached:
                if at.checkpoint is not None:
                    await checkpoints.force(connection, self._projection.name, at.checkpoint)
            await self._settle(connection)
            report = await self._compared(connection, reached, hashed=not dry_run)
            wrong = report.rows_differ or report.diverged
            swapped = not dry_run and (accept_differences or not wrong)
            if swapped:
                await shadow.swap(connection, self._projection, self._live)
                await self._set_heads(connection, reached)
        except BaseException:
            if not connection.is_closed():
                await transaction.rollback()
            raise
        # Without a swap the live side must stay as it was, its checkpoints too.
        await (transaction.commit() if swapped else transaction.rollback())
        _log.info(
            "projection.rebuilt",
            projection=self._projection.name,
            updates=self._updates,
            rows_differ=report.rows_differ,
            swapped=swapped,
        )
        return msgspec.structs.replace(report, partitions=len(targets), swapped=swapped)

    async def _compared(
        self, connection: postgres.Connection, reached: list[_Boundary], *, hashed: bool
    ) -> RebuildReport:
        """Return what both sides hold, now that they stand where they can be compared."""
        compared = all(at.comparable for at in reached)
        count = 0
        differences: list[RowDifference] = []
        if compared:
            count, differences = await shadow.compare(
                connection, self._projection, self._live, DIFFERENCES_SHOWN
            )
        await shadow.use_shadow(connection, self._live)
        stale = await self._projection.quarantine.entries(connection)
        await shadow.use_live(connection, self._live)
        before, after = [
            await shadow.hashes(connection, self._projection, schema) if hashed else []
            for schema in (self._live, shadow.SCHEMA)
        ]
        return RebuildReport(
            projection=self._projection.name,
            partitions=0,
            updates=self._updates,
            compared=compared,
            diverged=[at.diverged for at in reached if at.diverged],
            rows_differ=count,
            differences=differences,
            stale=stale,
            swapped=False,
            boundaries=[at.checkpoint for at in reached if at.checkpoint is not None],
            before=before,
            after=after,
        )

    async def _set_heads(self, connection: postgres.Connection, reached: list[_Boundary]) -> None:
        """Remember this log; where the views came from another one, forget that one's heads."""
        if not self._projection.keeps_heads:
            return
        for at in reached:
            if at.checkpoint is None or not at.checkpoint.log_sequence:
                continue
            if at.diverged:
                await heads.forget(connection, at.checkpoint.partition)
            event = await stored_at(self._nc, at.checkpoint.log_sequence)
            if event is None:
                raise LogDamagedError(
                    f"partition {at.checkpoint.partition}: the log has no message at log sequence "
                    f"{at.checkpoint.log_sequence}, up to which updates were committed"
                )
            await heads.record(
                connection,
                at.checkpoint.partition,
                log_sequence=at.checkpoint.log_sequence,
                event_hash=hashlib.sha256(event.data).hexdigest(),
                stream_sequence=at.checkpoint.stream_sequence,
            )

    async def _reach_boundary(
        self,
        connection: postgres.Connection,
        partition: int,
        target: ViewCheckpoint | None,
        live: ViewCheckpoint | None,
    ) -> _Boundary:
        """Bring both sides of a partition to one boundary of PSM, in the open transaction."""
        if target is None and live is not None and await self._making.boundary(partition) is None:
            # Going on would take the accounts of this partition out of the view. (A first commit
            # while the others were folded is no loss: the shadow catches up with it below.)
            raise LogDamagedError(
                f"partition {partition}: the view was read up to message {live.stream_sequence} "
                f"of {self._projection.source.js_stream}, which has nothing of it; nothing says "
                "how far to rebuild"
            )
        try:
            await check_against_log(self._nc, self._projection.source, live, partition)
        except BehindRetentionError:
            return _Boundary(target, comparable=False)
        except LogDamagedError as error:
            return _Boundary(target, comparable=False, diverged=str(error))
        shadow_at = target.stream_sequence if target else 0
        live_at = live.stream_sequence if live else 0
        if shadow_at < live_at:
            assert live is not None
            await shadow.use_shadow(connection, self._live)
            await self._catch_up(connection, self._shadow_writer, partition, shadow_at, live_at)
            await shadow.use_live(connection, self._live)
            return _Boundary(live, comparable=True)
        if live_at < shadow_at:
            await self._catch_up(connection, self._live_writer, partition, live_at, shadow_at)
        return _Boundary(target, comparable=True)

    async def _settle(self, connection: postgres.Connection) -> None:
        """Let both sides write what is due without an update: then they can be compared."""
        for partition in self._making.partitions:
            await shadow.use_shadow(connection, self._live)
            await self._shadow_writer.settle(connection, partition)
            await shadow.use_live(connection, self._live)
            await self._live_writer.settle(connection, partition)

    async def _catch_up(
        self,
        connection: postgres.Connection,
        writer: Writer,
        partition: int,
        position: int,
        end: int,
    ) -> None:
        """Apply the updates of the stream after `position` up to `end`, both boundaries."""
        async for updates in _batches(self._making.between(connection, partition, position, end)):
            await writer.apply_apart(connection, updates)


async def _batches(made: Updates) -> Updates:
    """Yield the same updates, so many at once that a writer is seldom asked."""
    pending: list[ReadUpdate] = []
    async for updates in made:
        pending += updates
        if len(pending) >= _BATCH_UPDATES:
            yield pending
            pending = []
    yield pending


class _Boundary(msgspec.Struct, frozen=True):
    """Boundary at which both sides of a partition stand, and whether rows can be compared."""

    checkpoint: ViewCheckpoint | None
    comparable: bool
    diverged: str | None = None
