"""EventReversed."""

from __future__ import annotations

from tests.support.events import event_id, fee
from tests.support.questions import FUNDED, Question

ASK = Question(
    "EventReversed",
    {"event_id": event_id("FeeCharged", "acc_001", 3, ""), "reason": "wrong", "actor": "ann"},
    wrong={"actor": ""},
    before=(*FUNDED, fee(3, "40")),
)


def test_event_reversed_is_booked() -> None:
    """The fee never was: no cost, and no drawdown of then."""
    state = ASK.booked().state()
    assert (state["cash"], state["fees"]) == ({"USDT": "1000"}, "0")
    assert (state["nav"], state["max_drawdown"]) == ("1", "0")


def test_event_reversed_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    ASK.is_refused()


def test_event_reversed_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing; another event with its number is a conflict."""
    ASK.is_quiet_and_loud()
