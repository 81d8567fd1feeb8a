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
    assert abs(equity - live) < Decimal("1e-13"), "what an inverse gained has 18 decimals"


def test_what_is_unknown_makes_no_number() -> None:
    """Without a mark, a rate or an equity there is none."""
    log = house()
    log.when(mark(1, "41000"))
    state, rates = log.state(), {"BTC": Decimal(40000)}
    assert equity_at(state, {"BTC-PERP": Decimal(1)}) is None, "what the inverse settles in"
    assert equity_at(state, {}, rates) is None, "the perpetual has a mark"
    assert equity_at(state, {"BTC-PERP": Decimal(41000)}, rates) == Decimal(state["equity"])
    assert equity_at({**state, "equity": None}, {"BTC-PERP": Decimal(1)}, rates) is None


def test_what_is_held_in_other_currencies_moves_with_its_rate() -> None:
    """Coins, and shares quoted in a foreign currency, whose cost is in the account's; long, short.

    Coins that `rates` does not name keep the rate of their row.
    """
    log = given(
        instrument(1, "EURUSDT", kind="spot", base="EUR"), mark(1, "1.1", "EURUSDT"),
        instrument(1, "BTCUSDT", kind="spot", base="BTC"), mark(1, "100", "BTCUSDT"),
        instrument(1, "SAP", kind="equity", base="SAP", quote="EUR", settle="EUR"),
        instrument(1, "ASML", kind="equity", base="ASML", quote="EUR", settle="EUR"),
        opened(1), deposit(2, "1000"), deposit(3, "2", currency="BTC"),
        trade(4, "buy", "3", "50", "SAP"), trade(5, "sell", "2", "30", "ASML"),
        mark(1, "55", "SAP"), mark(1, "31", "ASML"),
    )  # fmt: skip
    before = log.state()
    position = before["positions"]["SAP"]
    assert (position["cost"], position["cost_quote"]) == ("165", "150"), "3 x 50, at 1.1"
    assert position["unrealized_pnl_account"] == "16.5", "3 x 55 at 1.1, less 165"
    log.when(mark(2, "1.2", "EURUSDT"), mark(2, "90", "BTCUSDT"), mark(2, "60", "SAP"))
    prices = {"SAP": Decimal(60), "ASML": Decimal(31)}
    rates = {"EUR": Decimal("1.2"), "BTC": Decimal(90)}
    live = Decimal(log.state()["equity"])
    assert equity_at(before, prices, rates) == live
    assert equity_at(before, prices, {"EUR": Decimal("1.2")}) == live + 20, "2 BTC at 100"
    assert log.state()["positions"]["SAP"]["unrealized_pnl_account"] == "51", "3 x 60 x 1.2 - 165"


def test_what_has_no_rate_is_left_out() -> None:
    """As it is out of the published equity, until there is a rate: then it is worth its value."""
    log = given(
        instrument(1, "BTCUSDT", kind="spot", base="BTC"), opened(1), deposit(2, "1000"),
        deposit(3, "2", currency="BTC"),
    )  # fmt: skip
    before = log.state()
    assert before["equity"] == "1000"
    assert equity_at(before, {}) == 1000
    log.when(mark(1, "100", "BTCUSDT"))
    assert equity_at(before, {}, {"BTC": Decimal(100)}) == Decimal(log.state()["equity"]) == 1200
    assert equity_at(log.state(), {}, {"BTC": None}) == 1000


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
