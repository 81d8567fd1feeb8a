"""StockDividend."""

from __future__ import annotations

from tests.support.events import instrument, trade
from tests.support.questions import FUNDED, Question

ASK = Question(
    "StockDividend",
    {"symbol": "ABC", "numerator": "1", "denominator": "4"},
    wrong={"denominator": "0"},
    before=(
        instrument(1, "ABC", kind="equity", base="ABC"),
        *FUNDED,
        trade(3, "buy", "10", "20", "ABC", fill_id="f3"),
    ),
)


def test_stock_dividend_is_booked() -> None:
    """2.5 units on top of 10, at no cost: 200 / 12.5 is what each cost."""
    log = ASK.booked()
    held = log.position("ABC")
    assert (held["size"], held["entry_price"]) == ("12.5", "16")
    assert (log.state()["dividends"], log.state()["cash"]) == ("0", {"USDT": "800"})


def test_stock_dividend_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    ASK.is_refused()


def test_stock_dividend_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing; another event with its number is a conflict."""
    ASK.is_quiet_and_loud()
