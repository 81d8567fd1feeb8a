"""The projector on real NATS and PostgreSQL: each update once, whole inputs only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from nats.aio.client import Client
from tests.support.psm_stream import TRACE_ID, Account, OneWorker, commit

from psm.adapters import postgres, telemetry
from psm.adapters.jetstream import connect
from psm.adapters.jetstream.api import call
from psm.adapters.jetstream.streams_apply import apply
from psm.contracts.errors import LogDamagedError
from psm.contracts.subjects import PSM
from psm.domain.messages import Update
from psm.projections import checkpoints
from psm.projections.checkpoints import ViewCheckpoint
from psm.projections.current_state import CURRENT_STATE
from psm.projections.schema import migrate
from psm.workers.log.committed import BatchAssembler, psm_filters
from psm.workers.process.settings import Settings
from psm.workers.projector.follower import Projector

WAIT_S = 60.0


class World:
    """One partition's worker, the stream PSM and the database."""

    def __init__(self, nc: Client, dsn: str) -> None:
        self.nc = nc
        self.dsn = dsn
        self.worker = OneWorker()

    async def publish(self, *messages: tuple[str, bytes]) -> None:
        """Fold messages and commit all their updates as one batch."""
        updates = [update for message in messages for update in self.worker.fold(*message)]
        await self.commit(updates)

    async def commit(self, updates: list[Update], **extra: Any) -> None:
        await commit(
            self.nc,
            0,
            updates,
            **{
                "log_sequence": self.worker.log_sequence,
                "event_hash": self.worker.event_hash,
                **extra,
            },
        )

    @asynccontextmanager
    async def projecting(self, dsn: str | None = None) -> AsyncIterator[Projector]:
        """Run a projector while the block runs; it is cancelled without any farewell."""
        pool = await postgres.open_pool(dsn or self.dsn, name="psm-projector")
        metrics = telemetry.quiet().metrics
        projector = Projector(self.nc, pool, [CURRENT_STATE], [0], metrics)
        task = asyncio.create_task(projector.run())
        try:
            yield projector
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            pool.terminate()

    async def row(self, query: str = "SELECT * FROM balances_view") -> Any:
        connection = await asyncpg.connect(self.dsn)
        try:
            return await connection.fetchrow(query)
        finally:
            await connection.close()

    async def execute(self, query: str) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(query)
        finally:
            await connection.close()

    async def checkpoint(self) -> ViewCheckpoint | None:
        connection = await asyncpg.connect(self.dsn)
        try:
            return await checkpoints.read(connection, CURRENT_STATE.name, 0)
        finally:
            await connection.close()

    async def version_is(self, number: int) -> None:
        async def reached() -> bool:
            row = await self.row()
            return row is not None and row["sequence_number"] == number

        await until(reached)


async def until(reached: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not await reached():  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.02)


@pytest.fixture
async def world(nats_url: str, postgres_dsn: str) -> AsyncIterator[World]:
    await migrate.migrate(postgres_dsn)
    nc = await connect(nats_url, name="test")
    await apply(nc, Settings(partitions=1))
    yield World(nc, postgres_dsn)
    await nc.close()


async def test_updates_reach_the_rows_with_their_trace(world: World) -> None:
    """What a worker commits is in the views soon, with the producer's trace id."""
    account = Account("acc_001")
    async with world.projecting() as projector:
        await world.publish(account.deposit(), account.trade("buy", "0.5", "42000"))
        await world.version_is(2)
        row = await world.row()
        assert row["ledger_hash"] == world.worker.document("acc_001")["ledger_hash"]
        assert row["trace_id"] == TRACE_ID
        position = await world.row("SELECT * FROM positions_view")
        assert position["size"] == Decimal("0.5")
        checkpoint = await world.checkpoint()
        assert checkpoint is not None
        assert checkpoint.log_sequence == 2

        async def told() -> bool:  # the rows are seen a moment before the projector knows
            at = projector.statuses()[0].stream_sequence
            return projector.is_ready() and at == checkpoint.stream_sequence

        await until(told)


async def test_restart_goes_on_and_repeats_nothing(world: World) -> None:
    """A projector that was killed is followed by one that reads only what is new."""
    account = Account("acc_001")
    await world.publish(account.deposit())
    async with world.projecting():
        await world.version_is(1)
    # A repeated update would overwrite this again.
    await world.execute("UPDATE balances_view SET currency = 'KEPT'")
    before = await world.checkpoint()
    assert before is not None
    await world.publish()
    async with world.projecting():

        async def moved() -> bool:
            now = await world.checkpoint()
            return now is not None and now.stream_sequence > before.stream_sequence

        await until(moved)
        row = await world.row()
        assert row["currency"] == "KEPT"


async def test_half_an_input_is_never_seen(world: World) -> None:
    """A batch with `part` above zero is held back until the rest of its input is committed."""
    account = Account("acc_001")
    await world.publish(account.deposit("1"))
    updates = world.worker.fold(*account.trade("buy", "1", "100"))
    async with world.projecting():
        await world.version_is(1)
        before = await world.checkpoint()
        await world.commit(updates[:1], log_sequence=1, part=1)
        await asyncio.sleep(0.3)
        assert await world.row("SELECT * FROM positions_view") is None
        assert await world.checkpoint() == before
        await world.commit(updates[1:])
        await world.version_is(2)
        position = await world.row("SELECT * FROM positions_view")
        assert position["side"] == "long"


async def test_restart_inside_an_input_reads_it_from_its_beginning(world: World) -> None:
    """The checkpoint never points into an input, so a restart sees both halves."""
    account = Account("acc_001")
    await world.publish(account.deposit("1"))
    updates = world.worker.fold(*account.trade("buy", "1", "100"))
    async with world.projecting():
        await world.version_is(1)
        await world.commit(updates[:1], log_sequence=1, part=1)
        await asyncio.sleep(0.1)
    async with world.projecting():
        await asyncio.sleep(0.1)
        await world.commit(updates[1:])
        await world.version_is(2)
        assert await world.row("SELECT * FROM positions_view") is not None


async def test_two_projectors_do_no_harm(world: World) -> None:
    """Two at once on one partition: the checkpoint lets one through at a time."""
    account = Account("acc_001")
    async with world.projecting() as one, world.projecting() as two:
        for _ in range(20):
            await world.publish(account.deposit("1"))
        await world.version_is(20)
        document = world.worker.document("acc_001")
        assert (await world.row())["ledger_hash"] == document["ledger_hash"]

        async def both_run() -> bool:
            return one.is_ready() and two.is_ready()

        await until(both_run)


async def test_lost_database_connections_are_survived(world: World) -> None:
    """Connections that are killed under load cost a retry, never an update."""
    account = Account("acc_001")

    async def load() -> None:
        for _ in range(60):
            await world.publish(account.deposit("1"))
            await asyncio.sleep(0.01)

    async with world.projecting():
        loading = asyncio.create_task(load())
        killed = 0
        while not loading.done():
            row = await world.row(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE application_name = 'psm-projector' AND datname = current_database()"
            )
            killed += row[0]
            await asyncio.sleep(0.15)
        await loading
        assert killed > 0
        await world.version_is(60)
        row = await world.row()
        assert row["ledger_hash"] == world.worker.document("acc_001")["ledger_hash"]


async def test_view_ahead_of_the_log_is_refused_with_the_point(world: World) -> None:
    """A log restored to an older state has no message at the checkpoint: nothing is read."""
    account = Account("acc_001")
    await world.publish(account.deposit(), account.deposit())
    async with world.projecting():
        await world.version_is(2)
    checkpoint = await world.checkpoint()
    assert checkpoint is not None
    await world.execute("UPDATE projection_checkpoints SET stream_sequence = 99")
    async with world.projecting() as projector:

        async def stopped() -> bool:
            return projector.statuses()[0].state == "stopped"

        await until(stopped)
        detail = projector.statuses()[0].detail or ""
        assert "message 99 of PSM" in detail
        assert "is absent" in detail
        assert not projector.is_ready()
    await world.execute("UPDATE projection_checkpoints SET stream_sequence = 2, event_hash = 'x'")
    async with world.projecting() as projector:
        await until(stopped)
        assert "has other bytes" in (projector.statuses()[0].detail or "")


async def test_checkpoint_behind_retention_is_refused_with_the_command(world: World) -> None:
    """Where messages after the checkpoint expired, a rebuild is asked for, no hole is jumped."""
    account = Account("acc_001")
    await world.publish(account.deposit())
    async with world.projecting():
        await world.version_is(1)
    for _ in range(5):
        await world.publish(account.deposit())
    info = await call(world.nc, f"STREAM.INFO.{PSM}", None)
    await call(world.nc, f"STREAM.UPDATE.{PSM}", info["config"] | {"max_msgs": 4})
    async with world.projecting() as projector:

        async def behind() -> bool:
            return projector.statuses()[0].state == "behind_retention"

        await until(behind)
        assert "psm views rebuild" in (projector.statuses()[0].detail or "")
    assert (await world.row())["sequence_number"] == 1


async def test_batch_with_a_missing_message_stops_the_partition(world: World) -> None:
    """Fewer updates than the cursor announced, and then the next cursor: something was lost."""
    account = Account("acc_001")
    await world.commit(world.worker.fold(*account.deposit()), announced=5)
    await world.publish(account.deposit())
    async with world.projecting() as projector:

        async def stopped() -> bool:
            return projector.statuses()[0].state == "stopped"

        await until(stopped)
        assert "are missing" in (projector.statuses()[0].detail or "")
    assert await world.row() is None


async def test_idle_cursor_moves_the_checkpoint(world: World) -> None:
    """A batch without updates still moves the checkpoint, away from the end of retention."""
    await world.commit([], log_sequence=7)
    async with world.projecting():

        async def moved() -> bool:
            now = await world.checkpoint()
            return now is not None and now.log_sequence == 7

        await until(moved)


def test_filters_do_not_overlap_with_other_partitions() -> None:
    """A partition's filters name its own number as a whole token."""
    assert psm_filters(1) == ["psm.*.*.1.*", "psm.cursor.1"]


def test_update_without_a_cursor_is_damage() -> None:
    """An update that no cursor announced does not belong to any commit."""
    from psm.adapters.jetstream import StoredMessage

    stray = StoredMessage(subject="psm.state.updated.0.a", sequence=4, time_ns=0, data=b"{}")
    with pytest.raises(LogDamagedError, match="message 4: no commit cursor"):
        BatchAssembler(0).feed([stray])
