"""FeeCharged."""

from __future__ import annotations

from tests.support.events import trade
from tests.support.questions import FUNDED, Question

ASK = Question(
    "FeeCharged",
    {"amount": "2.5", "symbol": "BTC-PERP", "reason": "custody"},
    wrong={"amount": "free"},
    before=(*FUNDED, trade(3, "buy", "2", "100", fill_id="f3")),
)


def test_fee_charged_is_booked() -> None:
    """A fee outside of a trade; tagged, it counts for the position too."""
    log = ASK.booked()
    assert (log.state()["cash"], log.state()["fees"]) == ({"USDT": "997.5"}, "2.5")
    assert (log.position()["fees"], log.state()["nav"]) == ("2.5", "0.9975")


def test_fee_charged_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    ASK.is_refused()


def test_fee_charged_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing; another event with its number is a conflict."""
    ASK.is_quiet_and_loud()
