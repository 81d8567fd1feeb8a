"""`psm.contracts.valuation`: equity at other marks, from what is read of an account."""

from __future__ import annotations

from decimal import Decimal

import pytest
from examples.equity_now import EquityNow
from tests.support.domain import Log, given
from tests.support.events import deposit, instrument, mark, opened, trade

from psm.contracts.valuation import equity_at, unrealized_at

INVERSE = {"kind": "inverse_perp", "base": "BTC", "quote": "USD", "settle": "BTC"}


def house() -> Log:
    """Return a log with a long and a short perpetual, an equity, and an inverse contract."""
    return given(
        instrument(), instrument(1, "ETH-PERP", base="ETH", multiplier="10"),
        instrument(1, "ACME", kind="equity", base="ACME"),
        instrument(1, "BTC-INV", multiplier="100", **INVERSE),
        instrument(1, "BTCUSDT", kind="spot", base="BTC"), mark(1, "40000", "BTCUSDT"),
        opened(1), deposit(2, "100000"), trade(3, "buy", "1.5", "40000"),
        trade(4, "sell", "3", "2000", "ETH-PERP"), trade(5, "buy", "7", "100.01", "ACME"),
        trade(6, "sell", "20", "40000", "BTC-INV"), trade(7, "buy", "0.5", "41000"),
    )  # fmt: skip


def test_equity_from_a_state_is_that_of_the_fold_at_later_marks() -> None:
    """Whatever the position's own age: all unrealized PnL is taken out, and comes in anew."""
    log = house()
    before = log.state()
    moved = {"BTC-PERP": "43210.5", "ETH-PERP": "2100", "ACME": "99.5", "BTC-INV": "38000"}
    log.when(*(mark(1, price, symbol) for symbol, price in moved.items()))
    prices = {symbol: Decimal(price) for symbol, price in moved.items()}
    equity = equity_at(before, prices, {"BTC": Decimal(40000)})
    assert equity is not None
    live = Decimal(log.state()["equity"])
    assert abs(equity - live) < Decimal("1e-12"), "entry prices have 18 decimals"


def test_what_is_unknown_makes_no_number() -> None:
    """Without a mark, a rate or an equity there is none."""
    state = house().state()
    prices = {s: Decimal(1) for s in ("BTC-PERP", "ETH-PERP", "ACME", "BTC-INV")}
    assert equity_at(state, prices) is None
    assert equity_at(state, {}, {"BTC": Decimal(1)}) is None
    assert equity_at({**state, "equity": None}, prices, {"BTC": Decimal(1)}) is None


@pytest.mark.parametrize(("side", "expected"), [("buy", "10"), ("sell", "-10")])
def test_unrealized_has_the_sign_of_the_side(side: str, expected: str) -> None:
    """A flat position has none."""
    log = given(opened(1), trade(2, side, "1", "100"))
    assert unrealized_at(log.position(), Decimal(110)) == Decimal(expected)
    log.when(trade(3, "sell" if side == "buy" else "buy", "1", "100"))
    assert unrealized_at(log.position(), Decimal(110)) == 0


def test_example_follows_marks_between_updates() -> None:
    """A newer state does not bring an older mark back."""
    log = given(opened(1), deposit(2, "100"), trade(3, "buy", "1", "100"))
    now = EquityNow(log.state())
    assert now.equity == 100, "at its own fill"
    now.take_mark({"symbol": "BTC-PERP", "price": "105"})
    assert now.equity == 105
    now.take_state(log.state())
    assert now.equity == 105
