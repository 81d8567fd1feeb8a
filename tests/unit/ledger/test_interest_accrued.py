"""InterestAccrued."""

from __future__ import annotations

from tests.support.domain import given
from tests.support.events import deposit, event, opened


def test_interest_accrued_is_booked() -> None:
    """Interest in another currency goes to that currency's cash."""
    log = given(opened(1), deposit(2))
    seen = log.when(event("InterestAccrued", {"amount": "-0.5", "currency": "BTC"}, 3))
    assert seen.outcome == "applied"
    state = log.state()
    assert state["cash"] == {"BTC": "-0.5", "USDT": "1000"}
    assert state["flags"] == ["rate_missing"]


def test_interest_accrued_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    log = given(opened(1), deposit(2))
    cash = log.state()["cash"]
    seen = log.when(event("InterestAccrued", {"amount": "x"}, 3))
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
    assert seen.payload("EventRefused")["field"] == "payload.amount"
    assert log.state()["cash"] == cash


def test_interest_accrued_repeated_is_a_duplicate() -> None:
    """The same bytes again change nothing."""
    log = given(opened(1), deposit(2))
    again = event("InterestAccrued", {"amount": "-0.5", "currency": "BTC"}, 3)
    log.when(again)
    before = log.hashes()
    seen = log.when(again)
    assert (seen.outcome, seen.updates) == ("duplicate", [])
    assert log.hashes() == before
