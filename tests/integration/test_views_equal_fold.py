"""The views are what an offline fold of the same log says, column by column."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from tests.support import events
from tests.support.events import Sent
from tests.support.feed import SYMBOLS, publish, traffic
from tests.support.log import LogSize, empty_log
from tests.support.running import started
from tests.support.slots import even_slots, slots_env
from tests.support.views import assert_views_equal_fold

PARTITIONS = 4
TIERS = [
    {"notional_floor": "0", "maintenance_rate": "0.01"},
    {"notional_floor": "1000", "maintenance_rate": "0.02", "maintenance_amount": "10"},
]


SLOTS = even_slots(200)


@pytest.mark.parametrize("seed", [1, 2])
async def test_views_equal_the_offline_fold(
    seed: int, nats_url: str, postgres_dsn: str, tmp_path: Path
) -> None:
    """A random load with flips, gaps, repeats, junk, refusals, blocks and marks."""
    environment = {
        "NATS_URL": nats_url,
        "POSTGRES_DSN": postgres_dsn,
        "PSM_PARTITIONS": str(PARTITIONS),
        **slots_env(SLOTS),
    }
    size = LogSize(partitions=PARTITIONS, valuation_slots=SLOTS)
    async with empty_log(nats_url, size) as nc:
        with (
            started(tmp_path, "worker", environment=environment) as worker,
            started(tmp_path, "projector", environment=environment) as projector,
        ):
            await publish(nc, load(seed))
            await asyncio.sleep(2 * SLOTS.slow_ms / 1000)  # into the next slot of every account
            await publish(nc, [events.mark(9999, "99", symbol) for symbol in SYMBOLS])
            views = await assert_views_equal_fold(nc, postgres_dsn, PARTITIONS, slots=SLOTS)
            assert worker.stop() == 0
            assert projector.stop() == 0
    assert_load_was_worth_it(views["balances_view"], views["positions_view"])
    statuses = {order: row["status"] for (_, order), row in views["orders_view"].items()}
    assert statuses == {"filled": "filled", "open": "partially_filled", "cancelled": "cancelled"}
    assert ("acc_orders", "contract", "GONE-PERP", "net") not in views["positions_view"]
    answers = {
        account: row.get("matches") for (account,), row in views["reconciliation_view"].items()
    }
    assert answers == {
        "acc_reported": False,
        "acc_late": None,
        "acc_nobody": True,
    }


def load(seed: int) -> list[Sent]:
    """Return the load: ordinary traffic, and accounts in every kind of trouble within it."""
    dice = random.Random(seed)
    usual = traffic(seed, accounts=8, events=1500)
    special = [
        [events.deposit(1, stream="acc_gap"), events.deposit(3, stream="acc_gap")],
        [events.deposit(2, stream="acc_waiting")],
        [
            events.opened(1, stream="acc_blocked", currency="EUR"),
            events.deposit(2, stream="acc_blocked"),
            events.unknown(3, stream="acc_blocked"),
            events.deposit(4, stream="acc_blocked"),
        ],
        [
            events.opened(1, stream="acc_loaded", leverage_limit="3"),
            events.deposit(2, "1000", stream="acc_loaded"),
            events.trade(3, "buy", "30", "100", stream="acc_loaded", commission="0.7"),
            events.funding(4, "-1.25", stream="acc_loaded"),
            events.withdrawal(5, "400", stream="acc_loaded"),
            events.trade(6, "sell", "55", "101", stream="acc_loaded", commission="-0.1"),
        ],
        ordered(),
        reported(),
    ]
    for one in special:
        places = sorted(dice.sample(range(len(usual)), len(one)))
        for place, sent in zip(reversed(places), reversed(one), strict=True):
            usual.insert(place, sent)
    return [events.instrument(1, margin_tiers=TIERS), *usual]


def ordered() -> list[Sent]:
    """Return an account's orders: one filled, one open, one cancelled, one that never was."""

    def say(number: int, event_type: str, **payload: str) -> Sent:
        return events.event(event_type, payload, number, stream="acc_orders")

    def submit(number: int, order_id: str) -> Sent:
        terms = {"symbol": "BTC-PERP", "side": "buy", "type": "limit", "price": "90"}
        return say(number, "OrderSubmitted", order_id=order_id, quantity="2", **terms)

    def fill(number: int, order_id: str, symbol: str = "BTC-PERP") -> Sent:
        terms = {"symbol": symbol, "side": "buy", "quantity": "1", "price": "90.000000000000000001"}
        return say(number, "TradeExecuted", order_id=order_id, fill_id=f"f{number}", **terms)

    return [
        submit(1, "filled"),
        submit(2, "open"),
        submit(3, "cancelled"),
        fill(4, "filled"),
        fill(5, "open"),
        fill(6, "ghost", "GONE-PERP"),
        say(7, "OrderCancelled", order_id="cancelled"),
        fill(8, "filled"),
        say(9, "TradeBusted", fill_id="f6", reason="venue error"),
        say(10, "TradeAmended", fill_id="f4", price="91", reason="venue error"),
    ]


def assert_load_was_worth_it(balances: dict, positions: dict) -> None:  # type: ignore[type-arg]
    status = {account: row["status"] for (account,), row in balances.items()}
    assert status["acc_gap"] == status["acc_waiting"] == "gap"
    assert status["acc_blocked"] == "blocked"
    assert status["acc_loaded"] == "open"
    assert {row["side"] for row in positions.values()} >= {"long", "short"}
    assert max(row["cycle"] for row in positions.values()) > 5
    assert any(row["cause"] == "mark" for row in positions.values())
    assert positions["acc_loaded", "contract", "BTC-PERP", "net"]["side"] == "short"


def reported() -> list[Sent]:
    """Return statements about an account: a right one, then one with more in it, and others'."""
    stream, held = "acc_reported", {"symbol": "GOLD-PERP", "size": "-1", "entry_price": "5"}
    return [
        events.deposit(1, "10", stream=stream),
        events.trade(2, "sell", "1", "5", "GOLD-PERP", stream=stream, fill_id="f"),
        events.report({"USDT": "10"}, held, stream=stream, through="f", cost_method="average"),
        events.report({"USDT": "12.5", "BTC": "1"}, stream=stream),
        events.report({"USDT": "1"}, stream="acc_late", through="never"),
        events.report({}, stream="acc_nobody"),
    ]
