"""ReturnOfCapital."""

from __future__ import annotations

from tests.support.events import instrument, trade
from tests.support.questions import FUNDED, Question

ASK = Question(
    "ReturnOfCapital",
    {"symbol": "ABC", "amount": "50"},
    wrong={"amount": "x"},
    before=(
        instrument(1, "ABC", kind="equity", base="ABC"),
        *FUNDED,
        trade(3, "buy", "10", "20", "ABC", fill_id="f3"),
    ),
)


def test_return_of_capital_is_booked() -> None:
    """The cost falls by what was paid back: 150 / 10."""
    log = ASK.booked()
    assert log.position("ABC")["entry_price"] == "15"
    assert (log.state()["realized_pnl"], log.state()["cash"]) == ("0", {"USDT": "850"})


def test_return_of_capital_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    ASK.is_refused()


def test_return_of_capital_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing; another event with its number is a conflict."""
    ASK.is_quiet_and_loud()
