"""LossCovered."""

from __future__ import annotations

from tests.support.questions import Question

ASK = Question(
    "LossCovered",
    {"symbol": "BTC-PERP", "amount": "70"},
    wrong={"amount": "-70"},
)


def test_loss_covered_is_booked() -> None:
    """Somebody else paid; it has a total of its own."""
    state = ASK.booked().state()
    assert (state["cash"], state["losses_covered"]) == ({"USDT": "1070"}, "70")
    assert (state["realized_pnl"], state["adjustments"]) == ("0", "0")


def test_loss_covered_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    ASK.is_refused()


def test_loss_covered_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing; another event with its number is a conflict."""
    ASK.is_quiet_and_loud()
