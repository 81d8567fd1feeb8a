"""OrderSubmitted."""

from __future__ import annotations

from tests.support.questions import Question

ASK = Question(
    "OrderSubmitted",
    {
        "order_id": "o",
        "symbol": "BTC-PERP",
        "side": "buy",
        "type": "limit",
        "quantity": "2",
        "price": "90",
    },
    wrong={"quantity": "0"},
)


def test_order_submitted_is_booked() -> None:
    """It is open, and reserves margin at its price: 2 x 90."""
    state = ASK.booked().state()
    assert (state["orders"]["o"]["status"], state["open_orders"]) == ("submitted", 1)
    assert (state["margin_available"], state["cash"]) == ("820", {"USDT": "1000"})


def test_order_submitted_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    ASK.is_refused()


def test_order_submitted_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing; another event with its number is a conflict."""
    ASK.is_quiet_and_loud()
