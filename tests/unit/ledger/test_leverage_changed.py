"""LeverageChanged."""

from __future__ import annotations

from tests.support.domain import given
from tests.support.events import SYMBOL, deposit, event, opened, trade


def test_leverage_changed_is_booked() -> None:
    """Initial margin is notional over leverage, for one symbol or all."""
    log = given(opened(1), deposit(2))
    seen = log.when(event("LeverageChanged", {"leverage": "4"}, 3))
    assert seen.outcome == "applied"
    state = log.state()
    log.when(trade(4, "buy", "1", "100"))
    assert (log.state()["margin_initial"], state["leverage_limit"]) == ("25", None)
    log.when(event("LeverageChanged", {"leverage": "10", "symbol": SYMBOL}, 5))
    assert log.state()["margin_initial"] == "10"
    log.when(event("LeverageChanged", {"leverage": "2"}, 6))
    assert log.state()["margin_initial"] == "10"


def test_leverage_changed_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    log = given(opened(1), deposit(2))
    cash = log.state()["cash"]
    seen = log.when(event("LeverageChanged", {"leverage": "0"}, 3))
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
    assert seen.payload("EventRefused")["field"] == "payload.leverage"
    assert log.state()["cash"] == cash


def test_leverage_changed_repeated_is_a_duplicate() -> None:
    """The same bytes again change nothing."""
    log = given(opened(1), deposit(2))
    again = event("LeverageChanged", {"leverage": "4"}, 3)
    log.when(again)
    before = log.hashes()
    seen = log.when(again)
    assert (seen.outcome, seen.updates) == ("duplicate", [])
    assert log.hashes() == before
