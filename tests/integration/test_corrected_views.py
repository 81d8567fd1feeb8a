"""Trades and lots of views after corrections, on real servers: those of the log as corrected.

Real workers write the updates, a real projector follows them and asks the log where these do not
say enough. What must come out is what a file of the same log says.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from tests.support.analytics_log import TimedLog, commit
from tests.support.events import Sent, deposit, event, opened, trade
from tests.support.log import LogSize, empty_log
from tests.support.market import KINDS, Market
from tests.support.psm_stream import Account
from tests.support.running import psm, started
from tests.support.workbench import until_answer

from psm.adapters import postgres, telemetry
from psm.analytics.revision import Pasts
from psm.contracts.errors import LogDamagedError
from psm.contracts.updates_read import ReadUpdate
from psm.projections import pasts
from psm.projections.analytics import ANALYTICS
from psm.projections.sql import Connection
from psm.workers.projector.follower import Projector
from psm.workers.projector.pasts import LogPasts

PARTITIONS = 2
SECONDS = 120.0
_TRADES = """
SELECT DISTINCT ON (account_id, symbol, position_side, strategy_id, cycle)
    account_id, symbol, side, gross, fees, funding, net, peak_size, gone, strategy_id
FROM trades
ORDER BY account_id, symbol, position_side, strategy_id, cycle, through_log_sequence DESC
"""
_LOTS = """
SELECT DISTINCT ON (account_id, symbol, position_side, lot)
    account_id, symbol, side, quantity, open_price, close_price, pnl, gone
FROM lots
ORDER BY account_id, symbol, position_side, lot, through_log_sequence DESC
"""
_OF_A_TRADE = ("symbol", "side", "gross", "fees", "funding", "net", "peak_size")
_OF_A_LOT = ("symbol", "side", "quantity", "open_price", "close_price", "pnl")
Rows = list[tuple[str, ...]]

SPLIT = {"symbol": "BTC-PERP", "numerator": "2", "denominator": "1"}
BUSTED = [
    opened(1),
    deposit(2, "10000"),
    trade(3, "buy", "2", "100", fill_id="f1", strategy_id="alpha"),
    trade(4, "sell", "2", "110", fill_id="f2", strategy_id="alpha"),
    event("SplitApplied", SPLIT, 5),
    trade(6, "sell", "4", "60", fill_id="f3", strategy_id="alpha"),
    event("TradeBusted", {"fill_id": "f2", "reason": "venue"}, 7),
]
"""The account was flat at the split; without the busted sale it held 2 at 100, then 4 at 50."""


@asynccontextmanager
async def followed(
    nats_url: str, postgres_dsn: str, tmp_path: Path
) -> AsyncIterator[tuple[Client, postgres.Pool, dict[str, str], Path]]:
    """Give a log that a worker and a projector of analytics follow, and the projector's log."""
    environment = {
        "NATS_URL": nats_url,
        "POSTGRES_DSN": postgres_dsn,
        "PSM_PARTITIONS": str(PARTITIONS),
    }
    pool = await postgres.open_pool(postgres_dsn, name="test")
    async with empty_log(nats_url, LogSize(partitions=PARTITIONS)) as nc:
        with (
            started(tmp_path, "worker", environment=environment),
            started(
                tmp_path, "projector", "--only", "analytics", environment=environment
            ) as projector,
        ):
            yield nc, pool, environment, projector.log
            assert projector.stop() == 0
    pool.terminate()


async def publish(nc: Client, sent: list[Sent]) -> None:
    for one in sent:
        await nc.jetstream().publish(one.subject, one.data)


async def views(pool: postgres.Pool) -> tuple[Rows, Rows]:
    """Return trades of accounts and lots as the views have them now."""
    async with postgres.acquired(pool) as connection:
        trades = await connection.fetch(_TRADES)
        lots = await connection.fetch(_LOTS)
    own = [row for row in trades if row["strategy_id"] == "*"]
    return _rows(own, _OF_A_TRADE), _rows(lots, _OF_A_LOT)


def of_a_file(path: Path, environment: dict[str, str]) -> tuple[Rows, Rows]:
    """Return what `psm fold --metrics` and `psm lots` say of the log."""
    path.unlink(missing_ok=True)
    psm("export", "--to", str(path), environment=environment)
    metrics = psm("fold", str(path), "--metrics", "--partitions", str(PARTITIONS)).stdout
    lots = psm("lots", str(path), "--partitions", str(PARTITIONS)).stdout
    documents = [json.loads(line) for line in metrics.splitlines()]
    trades = [
        {**trade, "account_id": one["account_id"]} for one in documents for trade in one["trades"]
    ]
    return _rows(trades, _OF_A_TRADE), _rows(map(json.loads, lots.splitlines()), _OF_A_LOT)


def _rows(found: Any, names: tuple[str, ...]) -> Rows:
    """Return rows as texts, numbers normalized, without those that are gone."""
    return sorted(
        (one["account_id"], *(_text(one[name]) for name in names))
        for one in map(dict, found)
        if not one.get("gone")
    )


def _text(value: Any) -> str:
    try:
        return format(Decimal(value).normalize(), "f")
    except ArithmeticError:
        return str(value)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("seed", "kind"), [(4, "equity"), (8, "linear_perp"), (3, "everything")])
async def test_views_say_what_a_file_of_the_log_says(
    nats_url: str, postgres_dsn: str, tmp_path: Path, seed: int, kind: str
) -> None:
    """Random logs of every event type; made anew and folded one by one, rows are the same."""
    sent = Market(seed=seed, length=150, symbols=KINDS[kind]).author().sent
    async with followed(nats_url, postgres_dsn, tmp_path) as (nc, pool, environment, log):
        await publish(nc, sent)
        wanted = await asyncio.to_thread(of_a_file, tmp_path / "log", environment)
        assert all(wanted)
        await until_answer(
            lambda: views(pool), lambda found: found == wanted, "views are those of a file", SECONDS
        )
        assert "projection.past_read" in log.read_text()
        verified = psm("views", "verify", "analytics", "-o", "json", environment=environment)
        assert json.loads(verified.stdout)["rows_differ"] == 0
    rebuilt = psm(
        "views", "rebuild", "analytics", "--dry-run", "-o", "json", environment=environment
    )
    report = json.loads(rebuilt.stdout)
    assert (report["compared"], report["rows_differ"]) == (True, 0)


async def test_the_next_correction_goes_on_from_the_last_one(
    nats_url: str, postgres_dsn: str, tmp_path: Path
) -> None:
    """Of each strategy too."""
    async with followed(nats_url, postgres_dsn, tmp_path) as (nc, pool, _, log):
        await publish(nc, BUSTED)

        async def gross() -> list[tuple[str, int, str]]:
            async with postgres.acquired(pool) as connection:
                found = await connection.fetch(_TRADES)
            return [
                (row["strategy_id"], row["peak_size"], str(row["gross"]))
                for row in found
                if not row["gone"]
            ]

        await until_answer(
            gross, lambda found: found == [("*", 4, "40"), ("alpha", 4, "40")], "busted", SECONDS
        )
        amended = {"fill_id": "f3", "price": "65", "reason": "venue"}
        await publish(nc, [event("TradeAmended", amended, 8)])
        await until_answer(
            gross, lambda found: found == [("*", 4, "60"), ("alpha", 4, "60")], "amended", SECONDS
        )
        assert log.read_text().count("projection.past_read") == 2


async def test_a_log_that_has_not_the_events_stops_the_projector(
    nats_url: str, postgres_dsn: str
) -> None:
    """Rather no rows than wrong ones; it says what is missing, and goes on when it is there."""
    log, trader = TimedLog(), Account("acc_1")
    log.say(trader.deposit("1000"))
    log.say(trader.event("SplitApplied", **SPLIT))
    buy = {"symbol": "BTC-PERP", "side": "buy", "quantity": "1", "price": "100", "commission": "0"}
    log.say(trader.event("TradeExecuted", **buy, fill_id="f1"))
    log.say(trader.event("TradeBusted", fill_id="f1", reason="venue"))
    pool = await postgres.open_pool(postgres_dsn, name="test")
    async with empty_log(nats_url, LogSize(partitions=1)) as nc:
        await commit(nc, log.inputs)  # updates alone
        projector = Projector(nc, pool, [ANALYTICS], [0], telemetry.quiet().metrics)
        task = asyncio.create_task(projector.run())

        async def detail() -> tuple[str, str]:
            (status,) = projector.statuses()
            return status.state, status.detail or ""

        state, text = await until_answer(detail, lambda found: found[0] == "stopped", "it stops")
        assert (state, "acc_1: its correction 4" in text) == ("stopped", True), text
        assert "restore the log" in text
        reader = LogPasts(nc)
        with pytest.raises(LogDamagedError, match="log sequence 4"):
            await reader.read("acc_1", 4, 4)
        for message in log.messages():
            await nc.jetstream().publish(f"trades.{message.stream_id}", message.data)
        await until_answer(detail, lambda found: found[0] == "running", "it goes on")
        assert (await reader.read("acc_1", 4, 4)).was["BTC-PERP"].cycle is not None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    pool.terminate()


async def test_a_transaction_stays_awake_while_the_log_is_read(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL ends one that says nothing for a minute."""
    monkeypatch.setattr(pasts, "_AWAKE_S", 0.01)
    pool = await postgres.open_pool(postgres_dsn, name="test")

    class Slow:
        """Answers when the transaction has been heard of again."""

        async def read(self, stream_id: str, log_sequence: int, number: int) -> Pasts:
            del stream_id, log_sequence, number
            async with postgres.acquired(pool) as other:
                await until_answer(lambda: _awake(other), lambda found: found > 0, "it is heard of")
            return Pasts(was={}, is_now={})

    log, trader = TimedLog(), Account("acc_1")
    log.say(trader.deposit("1000"))
    log.say(trader.event("SplitApplied", **SPLIT))
    log.say(trader.event("CashAdjusted", amount="1", reason="x", actor="ann"))
    buy = {"symbol": "BTC-PERP", "side": "buy", "quantity": "1", "price": "100", "commission": "0"}
    log.say(trader.event("TradeExecuted", **buy, fill_id="f1"))
    log.say(trader.event("TradeBusted", fill_id="f1", reason="venue"))
    updates: list[ReadUpdate] = [update for one in log.inputs for update in one.read()]
    async with postgres.transaction(pool) as connection:
        assert await ANALYTICS.writer(Slow()).apply(connection, updates)
    pool.terminate()


async def _awake(connection: Connection) -> int:
    found = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE state = 'idle in transaction' AND query = 'SELECT 1'"
    )
    return int(found)
