"""CashReversed."""

from __future__ import annotations

from tests.support.events import deposit, opened
from tests.support.questions import Question

ASK = Question(
    "CashReversed",
    {"reference": "r", "amount": "30", "direction": "in"},
    wrong={"direction": "up"},
    before=(opened(1), deposit(2, "1000", reference="r")),
)


def test_cash_reversed_is_booked() -> None:
    """A part of the deposit is gone, out of the total it was in."""
    state = ASK.booked().state()
    assert (state["cash"], state["deposits"]) == ({"USDT": "970"}, "970")
    assert (state["nav"], state["drawdown"]) == ("1", "0")


def test_cash_reversed_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    ASK.is_refused()


def test_cash_reversed_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing; another event with its number is a conflict."""
    ASK.is_quiet_and_loud()
