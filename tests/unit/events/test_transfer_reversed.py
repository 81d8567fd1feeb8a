"""TransferReversed."""

from __future__ import annotations

from tests.support.events import event
from tests.support.questions import FUNDED, Question

ASK = Question(
    "TransferReversed",
    {"transfer_id": "t", "amount": "30", "direction": "out"},
    wrong={"direction": "back"},
    before=(*FUNDED, event("TransferredOut", {"amount": "100", "transfer_id": "t"}, 3)),
)


def test_transfer_reversed_is_booked() -> None:
    """A part of what went is there again, out of the total it was in."""
    state = ASK.booked().state()
    assert (state["cash"], state["transfers"]) == ({"USDT": "930"}, "-70")
    assert (state["nav"], state["drawdown"]) == ("1", "0")


def test_transfer_reversed_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    ASK.is_refused()


def test_transfer_reversed_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing; another event with its number is a conflict."""
    ASK.is_quiet_and_loud()
