"""The views of analytics on real servers: what the timelines say, however updates were batched."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client
from tests.support.analytics_log import (
    MIDNIGHT_NS,
    SECOND_NS,
    Input,
    TimedLog,
    assert_same,
    commit,
    pieces,
    told,
    traded,
    written,
)
from tests.support.psm_stream import Account
from tests.support.workbench import until_answer

from psm.adapters import postgres, telemetry
from psm.adapters.jetstream import connect
from psm.adapters.jetstream.streams_apply import apply
from psm.analytics.year_days import YearDays
from psm.domain.messages import Update
from psm.projections.analytics import ANALYTICS, analytics_of
from psm.projections.analytics.tables import TOLD
from psm.projections.projection import Projection
from psm.workers.analytics.figures import FiguresQuestion, figures_of
from psm.workers.analytics.reads import AnalyticsReads
from psm.workers.process.settings import Settings
from psm.workers.projector.follower import Projector
from psm.workers.projector.lag import view_lag

TABLES_OF_ROWS = [table.table for table in TOLD]


class Scene:
    """The stream PSM as a worker of one partition fills it, a database, and projectors."""

    def __init__(self, nc: Client, pool: postgres.Pool) -> None:
        self.nc, self.pool = nc, pool

    async def commit(self, inputs: Sequence[Input], dice: random.Random) -> None:
        for piece in pieces(inputs, dice):
            await commit(self.nc, piece)

    @asynccontextmanager
    async def projecting(
        self, count: int = 1, projection: Projection = ANALYTICS
    ) -> AsyncIterator[list[Projector]]:
        metrics = telemetry.quiet().metrics
        projectors = [
            Projector(self.nc, self.pool, [projection], [0], metrics) for _ in range(count)
        ]
        tasks = [asyncio.create_task(projector.run()) for projector in projectors]
        try:
            yield projectors
        finally:
            broken = [task.exception() for task in tasks if task.done()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert not broken, broken

    async def settled(self) -> None:
        """Wait until everything was read and every account has told what is due."""

        async def behind() -> tuple[list[int], bool]:
            lags = [one.lag_events for one in await view_lag(self.nc, self.pool, ANALYTICS)]
            async with postgres.acquired(self.pool) as connection:
                untold = await connection.fetchval(
                    "SELECT count(*) FROM analytics_progress "
                    "WHERE reached IS DISTINCT FROM closed_through "
                    "OR stated_through IS DISTINCT FROM date_trunc('day', reached, 'UTC')"
                )
            return lags, bool(untold)

        await until_answer(behind, lambda found: found == ([0], False), "the views are settled")

    async def execute(self, query: str) -> None:
        async with postgres.acquired(self.pool) as connection:
            await connection.execute(query)

    async def table(self, name: str) -> list[dict[str, Any]]:
        async with postgres.acquired(self.pool) as connection:
            rows = [dict(row) for row in await connection.fetch(f"TABLE {name}")]
        return sorted(rows, key=lambda row: [str(value) for value in row.values()])


@pytest.fixture
async def scene(nats_url: str, postgres_dsn: str) -> AsyncIterator[Scene]:
    nc = await connect(nats_url, name="test")
    await apply(nc, Settings(partitions=1))
    pool = await postgres.open_pool(postgres_dsn, name="test")
    yield Scene(nc, pool)
    pool.terminate()
    await nc.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_rows_are_what_the_timelines_say(scene: Scene, seed: int) -> None:
    """With restarts of the projector between, so that states come from their rows."""
    log, dice = traded(seed), random.Random(seed)
    log.quiet(180)
    half = len(log.inputs) // 2
    for part in (log.inputs[:half], log.inputs[half:]):
        async with scene.projecting():
            await scene.commit(part, dice)
            await scene.settled()
    wanted = told(log.inputs)
    assert_same(await written(scene.pool), wanted)
    assert {len(wanted[table]) > 9 for table in wanted} == {True}


async def test_how_updates_were_batched_makes_no_difference(scene: Scene) -> None:
    """States and progress included: read again in one piece, by two projectors at once."""
    log, dice = traded(4, events=120, start=MIDNIGHT_NS - 400 * SECOND_NS), random.Random(4)
    log.quiet(180)
    for part in pieces(log.inputs, dice):
        async with scene.projecting():
            await scene.commit(part, dice)
            await scene.settled()
    before = {name: await scene.table(name) for name in ANALYTICS.tables}
    assert before["analytics_progress"][0]["closed_through"] is not None
    assert before["risk_metrics"]
    assert before["trade_statistics"]
    await scene.execute(f"TRUNCATE {', '.join(ANALYTICS.tables)}, projection_checkpoints")
    async with scene.projecting(2):
        await scene.settled()
    for name in ANALYTICS.tables:
        assert await scene.table(name) == before[name], name


async def test_days_have_the_figures_that_were_known_at_their_end(scene: Scene) -> None:
    """Of trades that were busted after midnight, too; windows hold the same where they reach."""
    log, trader = TimedLog(MIDNIGHT_NS - 600 * SECOND_NS), Account("a")
    log.say(trader.deposit("1000"))
    for price, name in (("110", "won"), ("95", "lost")):
        log.say(trader.trade("buy", "1", "100"))
        log.say(
            trader.event(
                "TradeExecuted",
                symbol="BTC-PERP",
                side="sell",
                quantity="1",
                price=price,
                commission="0",
                fill_id=name,
            ),
            10,
        )
        log.mark("BTC-PERP", "100")
    log.quiet(900)
    log.say(trader.event("TradeAmended", fill_id="won", price="101", reason="venue error"))
    log.quiet(180)
    async with scene.projecting():
        await scene.commit(log.inputs, random.Random(7))
        await scene.settled()
    figures = await scene.table("risk_metrics")
    assert {(str(row["day"]), row["strategy_id"], row["symbol"]) for row in figures} == {
        ("2025-12-12", "*", "*"),
        ("2025-12-12", "*", "@account"),
        ("2025-12-12", "*", "BTC-PERP"),
    }
    assert {row["time_window"] for row in figures} == {"all", "30d", "90d", "365d"}
    # Contributions are to the equity at a day's start, which the first one has not.
    own = [row for row in figures if row["symbol"] == "*"]
    assert {(row["n"], row["total_return"]) for row in own} == {(1, Decimal("0.0048"))}
    statistics = await scene.table("trade_statistics")
    assert {row["symbol"] for row in statistics} == {"*", "BTC-PERP"}
    assert {(row["n"], row["wins"], row["net"]) for row in statistics} == {
        (2, 1, Decimal("4.8")),
    }
    held = [row for row in await scene.table("trades") if row["strategy_id"] == "*"]
    assert [str(row["net"]) for row in held if row["revised_at"] is not None] == ["0.9"]


async def test_days_a_year_are_those_of_the_account(scene: Scene) -> None:
    """As the settings have them, in what is written and in what is computed when it is read."""
    log, year_days = TimedLog(MIDNIGHT_NS - 2 * 86_400 * SECOND_NS), YearDays.of(("rest*=252",))
    for trader in (Account("resting"), Account("restless")):
        log.say(trader.deposit("1000"))
        log.say(trader.trade("buy", "1", "100"))
    other = Account("never")
    log.say(other.deposit("1000"))
    log.say(other.trade("buy", "1", "100"))
    for price in ("110", "90", "105"):
        log.mark("BTC-PERP", price, 86_400)
        log.quiet(300)
    async with scene.projecting(projection=analytics_of(year_days)):
        await scene.commit(log.inputs, random.Random(9))
        await scene.settled()
    figures = await scene.table("risk_metrics")
    assert {(row["account_id"], row["periods_per_year"]) for row in figures} == {
        ("resting", 252),
        ("restless", 252),
        ("never", 365),
    }
    reads = AnalyticsReads(scene.pool, year_days)
    wanted = {"resting": 252, "never": 365, "resting,restless": 252, "resting,never": 365}
    for subject, days in wanted.items():
        found = await figures_of(reads, FiguresQuestion(subject=subject))
        assert (subject, found.periods) == (subject, days)
        stated = await figures_of(reads, FiguresQuestion(subject=subject, periods=260))
        assert stated.periods == 260
        assert stated.metrics.volatility is not None
        assert found.metrics.volatility is not None
        ratio = found.metrics.volatility / stated.metrics.volatility
        assert abs(ratio**2 - Decimal(days) / 260) < Decimal("1e-20")


async def test_poison_stops_one_account_alone(scene: Scene) -> None:
    """It stops before the update that no column can hold, wherever that was batched."""
    log = traded(5, accounts=3, events=60)
    place = len(log.inputs) // 2
    poisoned, (account, data) = log.inputs[place], ("", b"")
    while not account:
        for update in poisoned.updates:
            if update.kind == "state.updated":
                account, data = update.stream_id, update.data
        place += not account
        poisoned = log.inputs[place]
    odd = [
        msgspec.structs.replace(
            update, data=data.replace(b'"chain_hash":"', b'"chain_hash":"\\u0000')
        )
        if update.data == data
        else update
        for update in poisoned.updates
    ]
    inputs = [*log.inputs]
    inputs[place] = Input(poisoned.log_sequence, poisoned.event_hash, poisoned.closed_through, odd)
    log.quiet(180)
    inputs += log.inputs[len(inputs) :]
    async with scene.projecting() as (projector,):
        await scene.commit(inputs, random.Random(5))
        await scene.settled()
        (entry,) = projector.statuses()[0].stale
    assert (entry.view, entry.stream_id, entry.column_name, entry.sqlstate) == (
        "analytics_accounts",
        account,
        "state",
        "22P05",
    )
    assert entry.log_sequence == poisoned.log_sequence
    found, wanted = await written(scene.pool), told(log.inputs)
    for table, rows in wanted.items():
        mine = {key: row for key, row in rows.items() if key[0] != account}
        assert {key for key in found[table] if key[0] != account} == set(mine)
    (state,) = (r for r in await scene.table("analytics_accounts") if r["account_id"] == account)
    assert state["log_sequence"] < poisoned.log_sequence
    before = {name: await scene.table(name) for name in (*TABLES_OF_ROWS, "analytics_accounts")}
    await scene.execute(f"TRUNCATE {', '.join(ANALYTICS.tables)}, projection_checkpoints")
    async with scene.projecting():
        await scene.settled()
    assert {name: await scene.table(name) for name in before} == before


async def test_a_figure_that_does_not_compute_stops_its_account(scene: Scene) -> None:
    """The other one tells on: nothing that an account adds up to ends the projector."""
    log = TimedLog()
    odd, plain = Account("odd"), Account("plain")
    for trader in (odd, plain):
        log.say(trader.deposit("100000"))
        log.say(trader.trade("buy", "2", "10"))
        fill = {"symbol": "BTC-PERP", "side": "sell", "quantity": "2", "price": "12"}
        log.say(trader.event("TradeExecuted", **fill, commission="0", strategy_id="alpha"))
    log.quiet(180)
    tail = b"." + b"0" * 60 + b"1"
    inputs = [
        msgspec.structs.replace(one, updates=[_with_long_figures(u, tail) for u in one.updates])
        for one in log.inputs
    ]
    async with scene.projecting() as (projector,):
        await scene.commit(inputs, random.Random(8))
        await scene.settled()
        (entry,) = projector.statuses()[0].stale
    assert (entry.stream_id, entry.sqlstate, entry.sequence_number) == ("odd", "22003", 3)
    assert {row["account_id"] for row in await scene.table("trades")} == {"plain"}


def _with_long_figures(update: Update, tail: bytes) -> Update:
    """Return an update with a size and a price whose product has more than a hundred digits."""
    if update.stream_id != "odd" or update.kind != "position.updated":
        return update
    data = update.data.replace(b'"size":"2"', b'"size":"2' + tail + b'"')
    data = data.replace(b'"entry_price":"10"', b'"entry_price":"10' + tail + b'"')
    return msgspec.structs.replace(update, data=data)


async def test_a_row_that_a_column_cannot_hold_stops_its_account(scene: Scene) -> None:
    """Which the entry names; the others tell on, and so does it once it is folded anew."""
    await scene.execute("ALTER TABLE lots ALTER COLUMN pnl TYPE numeric(3, 1)")
    log = TimedLog()
    rich, poor = Account("rich"), Account("poor")
    for trader, price in ((rich, "1000"), (poor, "11")):
        log.say(trader.deposit("100000"))
        log.say(trader.trade("buy", "2", "10"))
        log.say(trader.trade("sell", "1", price))
        log.say(trader.trade("sell", "1", "12"))
    log.quiet(180)
    async with scene.projecting():
        await scene.commit(log.inputs, random.Random(6))
        await scene.settled()
    async with postgres.acquired(scene.pool) as connection:
        (entry,) = await ANALYTICS.quarantine.entries(connection)
    assert (entry.view, entry.stream_id, entry.column_name) == ("lots", "rich", "pnl")
    assert (entry.sequence_number, entry.sqlstate) == (3, "22003")
    assert [row["account_id"] for row in await scene.table("lots")] == ["poor", "poor"]
    # Of the minutes up to there it tells all the same.
    assert {row["account_id"] for row in await scene.table("pnl_timeseries")} == {"poor", "rich"}
