"""Rebuilding views from a real log, beside a real worker and projector."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from nats.aio.client import Client
from tests.support import log_oracle
from tests.support.psm_stream import TRACEPARENT, Account, mark

from psm.adapters import postgres, telemetry
from psm.adapters.jetstream import connect, last_per_subject
from psm.adapters.jetstream.api import call
from psm.adapters.jetstream.streams_apply import apply
from psm.contracts.errors import ConfigError, LogDamagedError
from psm.contracts.subjects import PSM
from psm.domain.market.slots import ValuationSlots
from psm.projections.current_state import CURRENT_STATE
from psm.projections.schema import shadow
from psm.workers.fleet.worker import Worker
from psm.workers.partition.settings import PartitionSettings
from psm.workers.process.settings import Settings
from psm.workers.projector.follower import Projector
from psm.workers.projector.lag import view_lag
from psm.workers.projector.rebuild import Rebuild, RebuildReport

PARTITIONS = 3
WAIT_S = 60.0
TABLES = (
    "balances_view",
    "positions_view",
    "margin_view",
    "orders_view",
    "reconciliation_view",
    "chain_heads",
)


class World:
    """A log, a worker on it, a database."""

    def __init__(self, nc: Client, pool: postgres.Pool) -> None:
        self.nc = nc
        self.pool = pool
        self.accounts = [Account(f"acc_{n:03}") for n in range(12)]
        self.marks = 0
        self.rounds = 0

    async def publish(self, rounds: int = 3) -> None:
        """Trade in every account, with marks in between, and a trace; until all is committed."""
        js = self.nc.jetstream()
        for _ in range(rounds):
            self.marks += 1
            self.rounds += 1
            messages = [a.trade("buy", "0.3", "42000") for a in self.accounts]
            messages += [a.trade("sell", "0.4", "42100.5") for a in self.accounts[::2]]
            for account in self.accounts[::4]:  # an order, and a position that a bust removes
                order = f"o{self.rounds}"
                messages.append(account.order(order, "2"))
                fill_id = f"fill-{account.number}"
                messages.append(account.fill(order, "0.5", "3000"))
                busted = account.event("TradeBusted", fill_id=fill_id, reason="venue error")
                messages.append(busted)
            messages.append(mark("BTC-PERP", f"{42000 + self.marks}", self.marks))
            for subject, data in messages:
                await js.publish(subject, data, headers={"traceparent": TRACEPARENT})
        await log_oracle.judge(self.nc, Settings(partitions=PARTITIONS))

    @asynccontextmanager
    async def projecting(self) -> AsyncIterator[None]:
        metrics = telemetry.quiet().metrics
        projector = Projector(self.nc, self.pool, [CURRENT_STATE], range(PARTITIONS), metrics)
        task = asyncio.create_task(projector.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def rebuild(self, **options: bool) -> RebuildReport:
        rebuild = Rebuild(
            self.nc,
            self.pool,
            CURRENT_STATE,
            partitions=PARTITIONS,
            slots=ValuationSlots(),
        )
        return await rebuild.run(**options)

    async def rows(self) -> list[list[dict[str, Any]]]:
        async with postgres.acquired(self.pool) as connection:
            tables = [await connection.fetch(f"SELECT * FROM {t} ORDER BY 1, 2") for t in TABLES]
        return [[dict(row) for row in table] for table in tables]

    async def keep_from(self, sequence: int) -> None:
        """Let everything in PSM before `sequence` expire."""
        info = await call(self.nc, f"STREAM.INFO.{PSM}", None)
        kept = info["state"]["last_seq"] - sequence + 1
        await call(self.nc, f"STREAM.UPDATE.{PSM}", info["config"] | {"max_msgs": kept})

    async def execute(self, query: str) -> None:
        async with postgres.acquired(self.pool) as connection:
            await connection.execute(query)

    async def caught_up(self) -> None:
        """Wait until the projector has written everything that is committed."""
        numbers = {account.stream_id: account.number for account in self.accounts}

        async def reached() -> bool:
            balances, *_ = await self.rows()
            return {r["account_id"]: r["sequence_number"] for r in balances} == numbers and all(
                lag.lag_events == 0 for lag in await view_lag(self.nc, self.pool, CURRENT_STATE)
            )

        await until(reached)


async def until(reached: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not await reached():  # noqa: ASYNC110 - other tasks change it
            await asyncio.sleep(0.05)


@pytest.fixture
async def world(nats_url: str, postgres_dsn: str) -> AsyncIterator[World]:
    nc = await connect(nats_url, name="test")
    await apply(nc, Settings(partitions=PARTITIONS))
    pool = await postgres.open_pool(postgres_dsn, name="test")
    settings = PartitionSettings(partitions=PARTITIONS)
    worker = Worker(nc, range(PARTITIONS), settings, telemetry.quiet().metrics)
    task = asyncio.create_task(worker.run())
    yield World(nc, pool)
    worker.stop()
    await task
    pool.terminate()
    await nc.close()


def without_trace(tables: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    return [[{k: v for k, v in row.items() if k != "trace_id"} for row in t] for t in tables]


async def test_rebuilt_view_equals_the_live_one(world: World) -> None:
    """A rebuild finds no difference, swaps, and the projector goes on with the new tables."""
    async with world.projecting():
        await world.publish()
        await world.caught_up()
        before = await world.rows()
        report = await world.rebuild()
        assert (report.rows_differ, report.compared, report.swapped) == (0, True, True)
        assert [row["symbol"] for row in before[1]] == ["BTC-PERP"] * 12
        assert len(before[3]) == 3 * 3
        assert report.partitions == PARTITIONS
        assert report.updates >= 12 * 3
        assert without_trace(await world.rows()) == without_trace(before)
        await world.publish(1)
        await world.caught_up()
    report = await world.rebuild(dry_run=True)
    assert (report.rows_differ, report.swapped) == (0, False)


async def test_rebuild_under_load(world: World) -> None:
    """While events and marks arrive, the rebuilt view meets the live one at the same place."""
    async with world.projecting():
        loading = asyncio.create_task(world.publish(20))
        for _ in range(3):
            report = await world.rebuild()
            assert (report.rows_differ, report.swapped) == (0, True), report.differences
            await asyncio.sleep(0.1)
        await loading
        await world.caught_up()
        report = await world.rebuild(dry_run=True)
        assert report.rows_differ == 0


async def test_rebuild_without_a_projector(world: World) -> None:
    """A view that lags is brought along for the comparison; an empty one is filled."""
    await world.publish(1)
    dry = await world.rebuild(dry_run=True)
    assert (dry.rows_differ, dry.swapped) == (0, False)
    assert await world.rows() == [[] for _ in TABLES]
    report = await world.rebuild()
    assert (report.rows_differ, report.swapped) == (0, True)
    assert all(lag.lag_events == 0 for lag in await view_lag(world.nc, world.pool, CURRENT_STATE))
    async with world.projecting():
        await world.caught_up()


async def test_difference_is_reported_and_stops_the_swap(world: World) -> None:
    """Changed, missing and invented rows are named by key and column; nothing is swapped."""
    async with world.projecting():
        await world.publish()
        await world.caught_up()
    right = await world.rows()
    await world.execute(
        "UPDATE balances_view SET equity = equity + 0.01 WHERE account_id = 'acc_001'"
    )
    await world.execute("DELETE FROM margin_view WHERE account_id = 'acc_002'")
    await world.execute(
        "INSERT INTO positions_view SELECT (jsonb_populate_record(p, "
        "'{\"account_id\": \"ghost\"}')).* FROM positions_view p WHERE account_id = 'acc_001'"
    )
    wrong = await world.rows()
    report = await world.rebuild()
    assert (report.rows_differ, report.swapped) == (3, False)
    found = {(d.table, d.key["account_id"], d.column): d for d in report.differences}
    assert set(found) == {
        ("balances_view", "acc_001", "equity"),
        ("positions_view", "ghost", None),
        ("margin_view", "acc_002", None),
    }
    assert found["positions_view", "ghost", None].rebuilt == "absent"
    assert await world.rows() == wrong
    report = await world.rebuild(accept_differences=True)
    assert (report.rows_differ, report.swapped) == (3, True)
    assert without_trace(await world.rows()) == without_trace(right)


async def test_expired_updates_are_no_obstacle(world: World) -> None:
    """A view behind PSM's retention is made anew from the log and then followed again."""
    async with world.projecting():
        await world.publish(1)
        await world.caught_up()
    await world.publish(3)
    cursors = await last_per_subject(world.nc, PSM, ["psm.cursor.*"])
    assert len(cursors) == PARTITIONS
    await world.keep_from(cursors[0].sequence)
    async with world.projecting():
        await asyncio.sleep(0.2)
        report = await world.rebuild()
        assert (report.compared, report.swapped) == (False, True)
        await world.caught_up()


async def test_partition_without_a_cursor_stops_the_swap(world: World) -> None:
    """Where PSM lost a partition's cursor, its accounts are not dropped from the view."""
    async with world.projecting():
        await world.publish(1)
        await world.caught_up()
    before = await world.rows()
    cursors = await last_per_subject(world.nc, PSM, ["psm.cursor.*"])
    await world.keep_from(cursors[0].sequence + 1)
    with pytest.raises(LogDamagedError, match="nothing says"):
        await world.rebuild(accept_differences=True)
    assert await world.rows() == before


async def test_view_from_another_log_is_replaced_only_on_request(world: World) -> None:
    """A checkpoint that this log does not have stops the swap, with the point, until accepted."""
    async with world.projecting():
        await world.publish()
        await world.caught_up()
    right = await world.rows()
    await world.execute(
        "UPDATE projection_checkpoints SET event_hash = 'other' WHERE partition = 1"
    )
    await world.execute("UPDATE balances_view SET fees = 77")
    report = await world.rebuild()
    assert not report.swapped
    assert "ahead of the log" in report.diverged[0]
    report = await world.rebuild(accept_differences=True)
    assert report.swapped
    assert without_trace(await world.rows()) == without_trace(right)


async def test_privileges_survive_the_swap(world: World) -> None:
    """Whoever might read a view may read its successor."""
    async with world.projecting():
        await world.publish(1)
        await world.caught_up()
    await world.execute("GRANT SELECT ON balances_view TO PUBLIC")
    assert (await world.rebuild()).swapped
    async with postgres.acquired(world.pool) as connection:
        assert await connection.fetchval(
            "SELECT count(*) FROM information_schema.role_table_grants "
            "WHERE table_name = 'balances_view' AND grantee = 'PUBLIC'"
        )


async def test_two_rebuilds_do_not_mix(world: World, postgres_dsn: str) -> None:
    """A second rebuild is refused while one runs, and an abandoned one leaves nothing behind."""
    connection = await asyncpg.connect(postgres_dsn)
    await shadow.claim(connection)
    await shadow.create(connection, CURRENT_STATE, "public")
    with pytest.raises(ConfigError, match="another rebuild"):
        await world.rebuild()
    await connection.close()

    async def possible() -> bool:
        try:
            return (await world.rebuild()).swapped
        except ConfigError:
            return False

    await until(possible)
    async with postgres.acquired(world.pool) as connection_now:
        assert await connection_now.fetchval("SELECT to_regnamespace('psm_shadow')") is None
