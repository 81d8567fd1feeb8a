"""OrderAccepted."""

from __future__ import annotations

from tests.support.questions import ORDERED, Question

ASK = Question(
    "OrderAccepted",
    {"order_id": "o", "reason": "venue"},
    wrong={"order_id": ""},
    before=ORDERED,
)


def test_order_accepted_is_booked() -> None:
    """The venue has it; it still reserves margin."""
    log = ASK.booked()
    assert log.account().ledger.orders.by_id["o"].status == "accepted"
    assert (log.state()["open_orders"], log.state()["margin_available"]) == (1, "820")


def test_order_accepted_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    ASK.is_refused()


def test_order_accepted_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing; another event with its number is a conflict."""
    ASK.is_quiet_and_loud()
