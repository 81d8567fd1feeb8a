"""FundingApplied."""

from __future__ import annotations

from tests.support.events import trade
from tests.support.questions import FUNDED, Question

ASK = Question(
    "FundingApplied",
    {"symbol": "BTC-PERP", "funding_payment": "-1.25"},
    wrong={"funding_payment": ""},
    before=(*FUNDED, trade(3, "buy", "2", "100", fill_id="f3")),
)


def test_funding_applied_is_booked() -> None:
    """Cash moves, the entry price does not."""
    log = ASK.booked()
    held = log.position()
    assert (held["funding"], held["entry_price"]) == ("-1.25", "100")
    assert (log.state()["cash"], log.state()["funding"]) == ({"USDT": "998.75"}, "-1.25")


def test_funding_applied_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    ASK.is_refused()


def test_funding_applied_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing; another event with its number is a conflict."""
    ASK.is_quiet_and_loud()
