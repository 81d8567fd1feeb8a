"""MarginReported."""

from __future__ import annotations

from tests.support.events import mark, trade
from tests.support.questions import FUNDED, Question

ASK = Question(
    "MarginReported",
    {"symbol": "BTC-PERP", "initial": "35", "maintenance": "20"},
    wrong={"maintenance": "-1"},
    before=(*FUNDED, trade(3, "buy", "2", "100", fill_id="f3")),
)


def test_margin_reported_is_booked() -> None:
    """It is what the position needs, whatever its mark; no money moves."""
    log = ASK.booked()
    log.when(mark(1, "150"))
    state = log.state()
    assert (state["margin_initial"], state["margin_maintenance"]) == ("35", "20")
    assert (state["cash"], state["flags"]) == ({"USDT": "1000"}, ["instrument_undefined"])


def test_margin_reported_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    ASK.is_refused()


def test_margin_reported_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing; another event with its number is a conflict."""
    ASK.is_quiet_and_loud()
