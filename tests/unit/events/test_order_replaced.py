"""OrderReplaced."""

from __future__ import annotations

from tests.support.questions import ORDERED, Question

ASK = Question(
    "OrderReplaced",
    {"order_id": "o", "quantity": "5", "price": "80"},
    wrong={"quantity": "-5"},
    before=ORDERED,
)


def test_order_replaced_is_booked() -> None:
    """It has the new terms, and reserves margin by them: 5 x 80."""
    state = ASK.booked().state()
    order = state["orders"]["o"]
    assert (order["quantity"], order["price"]) == ("5", "80")
    assert state["margin_available"] == "600"


def test_order_replaced_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    ASK.is_refused()


def test_order_replaced_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing; another event with its number is a conflict."""
    ASK.is_quiet_and_loud()
