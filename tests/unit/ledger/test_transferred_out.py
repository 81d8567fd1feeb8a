"""TransferredOut."""

from __future__ import annotations

from tests.support.domain import given
from tests.support.events import deposit, event, opened


def test_transferred_out_is_booked() -> None:
    """Cash leaves as a flow; booked even if it overdraws."""
    log = given(opened(1), deposit(2))
    seen = log.when(event("TransferredOut", {"amount": "1200", "transfer_id": "t1"}, 3))
    assert seen.outcome == "applied"
    state = log.state()
    assert state["cash"] == {"USDT": "-200"}
    assert "overdraft" in state["flags"]


def test_transferred_out_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    log = given(opened(1), deposit(2))
    cash = log.state()["cash"]
    seen = log.when(event("TransferredOut", {"amount": "5"}, 3))
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
    assert seen.payload("EventRefused")["field"] == "payload.transfer_id"
    assert log.state()["cash"] == cash


def test_transferred_out_repeated_is_a_duplicate() -> None:
    """The same bytes again change nothing."""
    log = given(opened(1), deposit(2))
    again = event("TransferredOut", {"amount": "1200", "transfer_id": "t1"}, 3)
    log.when(again)
    before = log.hashes()
    seen = log.when(again)
    assert (seen.outcome, seen.updates) == ("duplicate", [])
    assert log.hashes() == before
