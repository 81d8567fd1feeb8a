"""MarginModeChanged."""

from __future__ import annotations

from tests.support.events import trade
from tests.support.questions import FUNDED, Question

ASK = Question(
    "MarginModeChanged",
    {"symbol": "BTC-PERP", "mode": "isolated", "amount": "150"},
    wrong={"amount": "-1"},
    before=(*FUNDED, trade(3, "buy", "2", "100", fill_id="f3")),
)


def test_margin_mode_changed_is_booked() -> None:
    """The open position has a wallet of its own; no money moves."""
    log = ASK.booked()
    held = log.position()
    assert (held["margin_mode"], held["isolated_margin"]) == ("isolated", "150")
    assert (log.state()["cash"], log.state()["equity"]) == ({"USDT": "1000"}, "1000")


def test_margin_mode_changed_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    ASK.is_refused()


def test_margin_mode_changed_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing; another event with its number is a conflict."""
    ASK.is_quiet_and_loud()
