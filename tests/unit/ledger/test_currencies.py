"""Several currencies, inverse contracts, spot and equity."""

from __future__ import annotations

from tests.support.domain import given
from tests.support.events import deposit, event, instrument, mark, opened, trade

INVERSE = instrument(1, "INV", kind="inverse_perp", quote="USD", settle="BTC", multiplier="100")
SPOT = instrument(1, "BTCUSDT", kind="spot")


def test_a_missing_rate_leaves_an_amount_out() -> None:
    """It is flagged, never taken one to one; the mark of a defined spot instrument is the rate."""
    log = given(opened(1), deposit(2), deposit(3, "2", currency="BTC"), mark(1, "50000", "BTCUSDT"))
    assert (log.state()["equity"], log.state()["flags"]) == ("1000", ["rate_missing"])
    log.when(SPOT)
    assert (log.state()["equity"], log.state()["flags"]) == ("101000", [])


def test_inverse_contracts_average_harmonically() -> None:
    """Realized and unrealized coin are the cash identity's."""
    log = given(INVERSE, opened(1, currency="BTC"), deposit(2, "1"))
    log.when(trade(3, "buy", "1", "40000", "INV"), trade(4, "buy", "1", "50000", "INV"))
    assert log.position("INV")["entry_price"] == "44444.444444444444444444"
    log.when(trade(5, "sell", "2", "50000", "INV"))
    assert log.position("INV")["realized_pnl"] == "0.0005"
    assert log.state()["cash"] == {"BTC": "1.0005"}


def test_an_inverse_gain_enters_equity_at_its_rate() -> None:
    """Coin times the mark of the spot instrument."""
    log = given(INVERSE, SPOT, opened(1), deposit(2), mark(1, "50000", "BTCUSDT"))
    log.when(trade(3, "buy", "10", "40000", "INV"), mark(1, "50000", "INV"))
    assert log.position("INV")["unrealized_pnl"] == "0.005"
    assert log.state()["equity"] == "1250"
    log.when(mark(2, "60000", "BTCUSDT"))
    assert log.account().valuation is not None
    assert log.state()["equity"] == "1300"


def test_spot_moves_the_whole_notional_and_its_base_fee_shrinks_it() -> None:
    """The fee in kind is worth what the trade says: not in the entry price, nothing realized."""
    log = given(SPOT, opened(1), deposit(2))
    fee = {"commission": "0.001", "commission_currency": "BTC"}
    log.when(trade(3, "buy", "1", "100", "BTCUSDT", **fee))
    state = log.state()
    asset = state["assets"]["BTC"]
    assert (asset["quantity"], asset["cost"], asset["entry_price"]) == ("0.999", "99.9", "100")
    assert (state["cash"], state["equity"]) == ({"BTC": "0.999", "USDT": "900"}, "999.9")
    assert (state["fees"], state["realized_pnl"], state["open_positions"]) == ("0.1", "0", 0)


def test_what_is_fully_paid_neither_frees_nor_locks_cash() -> None:
    """What is held secures nothing and needs nothing; what is below zero counts in full.

    Short 1 at 80: 980 - 80 of it - 80 of initial margin may leave.
    """
    log = given(SPOT, opened(1), deposit(2), trade(3, "buy", "5", "100", "BTCUSDT"))
    log.when(mark(1, "80", "BTCUSDT"))
    assert (log.state()["equity"], log.state()["withdrawable"]) == ("900", "500")
    log.when(trade(4, "sell", "6", "80", "BTCUSDT"))
    cash = {"BTC": "-1", "USDT": "980"}
    assert (log.state()["cash"], log.state()["withdrawable"]) == (cash, "820")


def test_a_fee_in_a_third_currency_is_that_currencys() -> None:
    """It takes that holding below zero; without a rate it is flagged. A rebate is a credit."""
    log = given(opened(1), deposit(2))
    log.when(trade(3, "buy", "1", "100", commission="0.1", commission_currency="BNB"))
    assert log.state()["cash"] == {"BNB": "-0.1", "USDT": "1000"}
    assert "rate_missing" in log.state()["flags"]
    log.when(trade(4, "buy", "1", "100", commission="-0.5"))
    assert (log.state()["cash"]["USDT"], log.position()["fees"]) == ("1000.5", "-0.5")


def test_a_flow_is_booked_whatever_the_marks_say() -> None:
    """Digits of a valuation never refuse a venue fact."""
    tiny, huge = "0.000000000000000001", "999999999999999999"
    log = given(
        instrument(1, "INV", kind="inverse_perp", quote="USD", settle="USDT", multiplier=tiny),
        opened(1),
        deposit(2, huge),
        trade(3, "buy", tiny, "999999999999999999.999999999999999997", "INV"),
        mark(1, "999999999999999999.999999999999999991", "INV"),
        instrument(1, "LIN", multiplier=huge),
        trade(4, "buy", huge, huge, "LIN"),
        mark(1, "888888888888888888.888888888888888887", "LIN"),
    )
    assert log.when(deposit(5, "1")).outcome == "applied"
    adjusted = {"amount": "1", "reason": "r", "actor": "a"}
    assert log.when(event("CashAdjusted", adjusted, 6)).outcome == "applied"
