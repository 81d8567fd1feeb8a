"""CashAdjusted."""

from __future__ import annotations

from tests.support.domain import given
from tests.support.events import deposit, event, opened


def test_cash_adjusted_is_booked() -> None:
    """A signed correction is performance, not a flow."""
    log = given(opened(1), deposit(2))
    seen = log.when(
        event("CashAdjusted", {"amount": "-100", "reason": "booked twice", "actor": "ann"}, 3)
    )
    assert seen.outcome == "applied"
    state = log.state()
    assert (state["cash"], state["drawdown"]) == ({"USDT": "900"}, "0.1")


def test_cash_adjusted_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    log = given(opened(1), deposit(2))
    cash = log.state()["cash"]
    seen = log.when(event("CashAdjusted", {"amount": "-100", "reason": "", "actor": "ann"}, 3))
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
    assert seen.payload("EventRefused")["field"] == "payload.reason"
    assert log.state()["cash"] == cash


def test_cash_adjusted_repeated_is_a_duplicate() -> None:
    """The same bytes again change nothing."""
    log = given(opened(1), deposit(2))
    again = event("CashAdjusted", {"amount": "-100", "reason": "booked twice", "actor": "ann"}, 3)
    log.when(again)
    before = log.hashes()
    seen = log.when(again)
    assert (seen.outcome, seen.updates) == ("duplicate", [])
    assert log.hashes() == before
