"""Assets, hedge legs, isolated margin and liquidation prices agree with other people's code.

The vectors were made by `scripts/make_ledger_vectors.py`, which calls the libraries themselves.

* beancount averages in decimals of 60 digits: agrees to 1e-15.
* nautilus_trader keeps a position for each id, so each leg is one; its entry is a float (1e-9) and
  its money is rounded to 8 decimals at every booking. Its margin account locks notional / leverage
  x the instrument's own rate: without that rate it is the wallet of an isolated position.
* ccxt computes Binance's liquidation price from wallet, entry and one tier's rate: agrees to 8
  decimals, as it prints.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from tests.support.domain import Log
from tests.support.events import Sent, deposit, event, instrument, mark, opened, trade

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "ledger_vectors.json").read_text())
EXACT = Fraction(1, 10**15)
FLOAT = Fraction(1, 10**9)
BOOKING = Fraction(1, 10**8)
PERP = {"kind": "linear_perp", "base": "BTC", "quote": "USDT", "settle": "USDT"}


def near(found: str | None, expected: str, tolerance: Fraction, absolute: Fraction) -> bool:
    """Whether a published number is the expected one, within a relative and absolute tolerance."""
    one, other = Fraction(found or 0), Fraction(expected)
    return abs(one - other) <= tolerance * abs(other) + absolute


def coin_event(number: int, step: dict[str, str]) -> Sent:
    """Return the event of a step of `coins`."""
    quantity, price = step["quantity"], step["price"]
    moved: dict[str, Any] = {"amount": quantity, "currency": "BTC"}
    if step["kind"] == "deposit":
        return event("CashDeposited", {**moved, "cost": step["cost"]}, number)
    if step["kind"] == "fee":
        return event("FeeCharged", {**moved, "rates": {"BTC": price}}, number)
    return trade(number, step["kind"], quantity, price, "BTCUSD")


@pytest.mark.parametrize("case", VECTORS["coins"])
def test_average_cost_of_a_coin_is_beancounts(case: dict[str, Any]) -> None:
    """Deposits in kind, trades and fees in the coin: quantity, cost and what was realized."""
    log = Log()
    log.when(
        instrument(1, "BTCUSD", kind="spot", base="BTC", quote="USD", settle="USD"),
        opened(1, currency="USD"),
        deposit(2, "100000000", currency="USD"),
    )
    for number, (step, expected) in enumerate(
        zip(case["steps"], case["beancount"], strict=True), 3
    ):
        assert log.when(coin_event(number, step)).outcome == "applied"
        state = log.state()
        held = state["assets"].get("BTC", {"quantity": "0", "cost": "0"})
        assert near(held["quantity"], expected[0], EXACT, EXACT)
        assert near(held["cost"], expected[1], EXACT, EXACT)
        assert near(state["realized_pnl"], expected[2], EXACT, EXACT)


@pytest.mark.parametrize("case", VECTORS["foreign"])
def test_foreign_money_is_an_asset_too(case: dict[str, Any]) -> None:
    """A coin bought for euros by an account in dollars: both legs move at the value of the day."""
    log = Log()
    log.when(
        instrument(1, "BTCEUR", kind="spot", base="BTC", quote="EUR", settle="EUR"),
        opened(1, currency="USD"),
    )
    for number, (step, expected) in enumerate(
        zip(case["steps"], case["beancount"], strict=True), 2
    ):
        if step["kind"] == "deposit":
            payload = {"amount": step["amount"], "currency": "EUR", "cost": step["cost"]}
            sent = event("CashDeposited", payload, number)
        else:
            payload = {
                "symbol": "BTCEUR",
                "side": step["kind"],
                "quantity": step["quantity"],
                "price": step["price"],
                "rates": {"EUR": step["rate"]},
            }
            sent = event("TradeExecuted", payload, number)
        assert log.when(sent).outcome == "applied"
        state, realized = log.state(), Fraction(0)
        for asset, (quantity, cost, gained) in expected.items():
            held = state["assets"].get(asset, {"quantity": "0", "cost": "0"})
            assert near(held["quantity"], quantity, EXACT, EXACT)
            assert near(held["cost"], cost, EXACT, EXACT)
            realized += Fraction(gained)
        assert near(state["realized_pnl"], str(realized), EXACT, EXACT)


@pytest.mark.parametrize("case", VECTORS["hedge"])
def test_each_leg_is_a_position_of_nautilus(case: dict[str, Any]) -> None:
    """Two legs of one contract: size, entry and realized of both after every fill."""
    log = Log()
    log.when(
        instrument(1, "X", **PERP), opened(1), event("PositionModeChanged", {"mode": "hedge"}, 2)
    )
    for number, (step, expected) in enumerate(zip(case["steps"], case["nautilus"], strict=True), 3):
        payload = {
            "symbol": "X",
            "side": step["side"],
            "quantity": step["quantity"],
            "price": step["price"],
            "position_side": step["leg"],
        }
        assert log.when(event("TradeExecuted", payload, number)).outcome == "applied"
        positions = log.state()["positions"]
        realized = Fraction(0)
        for leg, (size, entry, _) in expected.items():
            held = positions.get(f"X#{leg}", {"size": "0", "entry_price": None})
            assert Fraction(held["size"]) == abs(Fraction(size))
            if Fraction(size):
                assert near(held["entry_price"], entry, FLOAT, FLOAT)
            realized += Fraction(expected[leg][2])
        assert near(log.state()["realized_pnl"], str(realized), FLOAT, BOOKING * number)


@pytest.mark.parametrize("row", VECTORS["margins"])
def test_opening_moves_what_nautilus_locks(row: dict[str, str]) -> None:
    """The wallet of an isolated position that was opened: notional / leverage."""
    log = Log()
    log.when(
        instrument(1, "X", **PERP),
        opened(1),
        deposit(2, "10000000"),
        event("LeverageChanged", {"symbol": "X", "leverage": row["leverage"]}, 3),
        event("MarginModeChanged", {"symbol": "X", "mode": "isolated"}, 4),
        trade(5, "buy", row["quantity"], row["price"], "X"),
    )
    locked = Fraction(row["margin"]) / Fraction(row["initial_rate"])
    wallet = log.state()["positions"]["X"]["isolated_margin"]
    assert near(wallet, str(locked), Fraction(0), BOOKING / Fraction(row["initial_rate"]))


@pytest.mark.parametrize("row", VECTORS["liquidations"])
def test_liquidation_price_is_ccxts(row: dict[str, Any]) -> None:
    """Cross with one position, and isolated with its wallet stated."""
    log = Log()
    tiers = [
        {"notional_floor": floor, "maintenance_rate": rate} for floor, rate in VECTORS["tiers"]
    ]
    more = {"isolated_margin": row["wallet"]} if row["isolated"] else {}
    payload = {
        "symbol": "X",
        "side": row["side"],
        "quantity": row["quantity"],
        "price": row["entry"],
        **more,
    }
    log.when(
        instrument(1, "X", **PERP, margin_tiers=tiers),
        opened(1),
        deposit(2, row["wallet"] if not row["isolated"] else "1000000"),
        event("LeverageChanged", {"symbol": "X", "leverage": row["leverage"]}, 3),
    )
    number = 4
    if row["isolated"]:
        log.when(event("MarginModeChanged", {"symbol": "X", "mode": "isolated"}, number))
        number += 1
    log.when(event("TradeExecuted", payload, number))
    log.when(mark(1, row["mark"], "X"))
    found = log.state()["positions"]["X"]["liquidation_price"]
    assert near(found, row["liquidation_price"], FLOAT, BOOKING)
