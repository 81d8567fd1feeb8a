"""TransferredIn."""

from __future__ import annotations

from tests.support.domain import given
from tests.support.events import deposit, event, opened


def test_transferred_in_is_booked() -> None:
    """Cash comes in as a flow."""
    log = given(opened(1), deposit(2))
    seen = log.when(event("TransferredIn", {"amount": "5", "transfer_id": "t1"}, 3))
    assert seen.outcome == "applied"
    state = log.state()
    assert (state["cash"], state["deposits"]) == ({"USDT": "1005"}, "1000")
    assert (state["peak_equity"], state["drawdown"]) == ("1005", "0")


def test_transferred_in_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    log = given(opened(1), deposit(2))
    cash = log.state()["cash"]
    seen = log.when(event("TransferredIn", {"amount": "-5", "transfer_id": "t1"}, 3))
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
    assert seen.payload("EventRefused")["field"] == "payload.amount"
    assert log.state()["cash"] == cash


def test_transferred_in_repeated_is_a_duplicate() -> None:
    """The same bytes again change nothing."""
    log = given(opened(1), deposit(2))
    again = event("TransferredIn", {"amount": "5", "transfer_id": "t1"}, 3)
    log.when(again)
    before = log.hashes()
    seen = log.when(again)
    assert (seen.outcome, seen.updates) == ("duplicate", [])
    assert log.hashes() == before


def test_a_transfer_id_is_booked_once() -> None:
    """A second event with the same transfer id is refused, in either direction."""
    log = given(opened(1), deposit(2))
    payload = {"amount": "5", "transfer_id": "t1"}
    log.when(event("TransferredIn", payload, 3))
    for number, event_type in ((4, "TransferredIn"), (5, "TransferredOut")):
        seen = log.when(event(event_type, payload, number, salt="again"))
        assert (seen.outcome, seen.reason) == ("refused", "duplicate_transfer")
    assert log.state()["cash"] == {"USDT": "1005"}
