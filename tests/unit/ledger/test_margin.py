"""Margin, liquidation prices, warnings and drawdown of the whole account."""

from __future__ import annotations

from fractions import Fraction

import pytest
from tests.support.domain import Log, given
from tests.support.events import (
    SYMBOL,
    deposit,
    event,
    funding,
    instrument,
    mark,
    opened,
    trade,
    withdrawal,
)

from psm.domain.valuation.liquidation import liquidation_price

TIERS = [
    {"notional_floor": "0", "maintenance_rate": "0.01"},
    {"notional_floor": "1000", "maintenance_rate": "0.05"},
    {"notional_floor": "5000", "maintenance_rate": "0.2"},
]


@pytest.mark.parametrize("kind", ["linear_perp", "inverse_perp"])
@pytest.mark.parametrize("side", ["buy", "sell"])
@pytest.mark.parametrize("quantity", ["7", "11", "60"])
def test_at_the_liquidation_price_equity_is_maintenance(
    kind: str, side: str, quantity: str
) -> None:
    """Marked there, both are equal to 1e-25, in whichever tier it lies."""
    log = given(
        instrument(kind=kind, margin_tiers=TIERS, multiplier="100" if "inv" in kind else "1"),
        instrument(1, "ETH", margin_tiers=TIERS),
        opened(1),
        deposit(2),
        trade(3, "sell", "3", "50", "ETH"),
        trade(4, side, quantity, "100"),
    )
    account = log.account()
    ledger = account.ledger
    position = ledger.positions[SYMBOL]
    price = liquidation_price(ledger, position, account.value(), account.prices, ())
    if price is None:
        assert side == "buy" or kind == "inverse_perp"
        return
    position = account.ledger.positions[SYMBOL]
    x = 1 / Fraction(price) if kind == "inverse_perp" else Fraction(price)
    entry = Fraction(1, 100) if kind == "inverse_perp" else Fraction(100)
    units = abs(Fraction(position.size)) * Fraction(position.instrument.multiplier)
    long = (position.size > 0) != (kind == "inverse_perp")
    equity = 1000 + (1 if long else -1) * units * (x - entry)
    assert abs(equity - _maintenance(units * x) - Fraction(3, 2)) < Fraction(1, 10**25)


def _maintenance(notional: Fraction) -> Fraction:
    parts = [(0, 1000, 1), (1000, 5000, 5), (5000, None, 20)]
    total = Fraction(0)
    for floor, top, percent in parts:
        end = notional if top is None else min(notional, Fraction(top))
        total += max(Fraction(0), end - floor) * percent / 100
    return total


def test_there_may_be_no_liquidation_price() -> None:
    """Flat, or no positive price: null."""
    log = given(instrument(margin_tiers=TIERS), opened(1), deposit(2), trade(3, "buy", "1", "100"))
    assert log.position()["liquidation_price"] is None
    log.when(trade(4, "sell", "1", "100"))
    assert log.position()["liquidation_price"] is None


def test_unrealized_profit_is_not_withdrawable() -> None:
    """It counts for new positions only; a loss counts for both."""
    log = given(opened(1), deposit(2), trade(3, "buy", "1", "100"), mark(1, "150"))
    assert (log.state()["margin_available"], log.state()["withdrawable"]) == ("900", "850")
    log.when(mark(2, "50"))
    assert (log.state()["margin_available"], log.state()["withdrawable"]) == ("900", "900")


def test_warnings_come_on_upward_crossings_only() -> None:
    """They arm again below 0.95 of the level; ruin counts as level 1.0."""
    tiers = [{"notional_floor": "0", "maintenance_rate": "0.1"}]
    log = given(instrument(margin_tiers=tiers), opened(1), deposit(2, "500"))
    log.when(trade(3, "buy", "10", "100"))

    def levels(number: int, price: str) -> list[str]:
        seen = log.when(mark(number, price))
        return [warning["level"] for warning in seen.payloads("MarginWarning")]

    assert levels(1, "60") == ["0.5"]  # equity 100, maintenance 60
    assert levels(2, "61") == []
    assert levels(3, "57") == ["0.8"]  # 0.814
    assert levels(4, "62") == []  # 0.517: 0.8 is armed again, 0.5 is not
    assert levels(5, "57") == ["0.8"]
    assert levels(6, "55") == ["1.0"]
    assert levels(7, "100") == []
    assert levels(8, "49") == ["1.0"]  # equity is gone
    assert "liquidatable" in log.state()["flags"]


def test_a_leverage_limit_is_flagged_and_warned_about() -> None:
    """The fill is booked all the same."""
    log = given(opened(1, leverage_limit="2"), deposit(2))
    seen = log.when(trade(3, "buy", "30", "100"))
    assert "leverage_limit_exceeded" in seen.payload("StateUpdated")["flags"]
    assert seen.payload("MarginWarning")["level"] == "leverage_limit"
    assert log.when(trade(4, "buy", "1", "100")).payloads("MarginWarning") == []


def test_flows_leave_the_drawdown() -> None:
    """Unitised: deposits and withdrawals move the peak with the equity."""
    log: Log = given(opened(1), deposit(2), trade(3, "buy", "1", "100"), mark(1, "50"))
    assert log.state()["drawdown"] == "0.05"
    log.when(deposit(4, "950"))
    assert (log.state()["drawdown"], log.state()["peak_equity"]) == ("0.05", "2000")
    log.when(withdrawal(5, "950"))
    assert log.state()["drawdown"] == "0.05"


def test_a_funding_mismatch_is_flagged_in_the_units_of_now() -> None:
    """The recomputation uses the mark, divided where a split came after it."""
    log = given(opened(1), deposit(2), trade(3, "buy", "2", "100"), mark(1, "100"))
    seen = log.when(funding(4, "-0.02", funding_rate="0.0001"))
    assert "funding_mismatch" not in seen.payload("StateUpdated")["flags"]
    seen = log.when(funding(5, "-0.03", funding_rate="0.0001"))
    assert "funding_mismatch" in seen.payload("StateUpdated")["flags"]
    log.when(event("SplitApplied", {"symbol": SYMBOL, "ratio": "10"}, 6))
    seen = log.when(funding(7, "-0.02", funding_rate="0.0001"))
    assert "funding_mismatch" not in seen.payload("StateUpdated")["flags"]
