"""MarginTransferred."""

from __future__ import annotations

from tests.support.events import event, trade
from tests.support.questions import FUNDED, Question

ASK = Question(
    "MarginTransferred",
    {"symbol": "BTC-PERP", "amount": "25"},
    wrong={"amount": ""},
    before=(
        *FUNDED,
        trade(3, "buy", "2", "100"),
        event("MarginModeChanged", {"symbol": "BTC-PERP", "mode": "isolated", "amount": "50"}, 4),
    ),
)


def test_margin_transferred_is_booked() -> None:
    """The wallet grows; cash, equity and nav stay."""
    log = ASK.booked()
    assert log.position()["isolated_margin"] == "75"
    assert (log.state()["cash"], log.state()["equity"]) == ({"USDT": "1000"}, "1000")


def test_margin_transferred_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    ASK.is_refused()


def test_margin_transferred_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing; another event with its number is a conflict."""
    ASK.is_quiet_and_loud()
