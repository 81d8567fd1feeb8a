"""DividendPaid."""

from __future__ import annotations

from tests.support.domain import given
from tests.support.events import deposit, event, instrument, opened


def test_dividend_paid_is_booked() -> None:
    """A dividend comes in the settle currency of its instrument."""
    log = given(
        instrument(1, "AAPL", kind="equity", quote="USD", settle="USD"), opened(1), deposit(2)
    )
    seen = log.when(event("DividendPaid", {"symbol": "AAPL", "amount": "3"}, 3))
    assert seen.outcome == "applied"
    state = log.state()
    assert state["cash"] == {"USD": "3", "USDT": "1000"}


def test_dividend_paid_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    log = given(
        instrument(1, "AAPL", kind="equity", quote="USD", settle="USD"), opened(1), deposit(2)
    )
    cash = log.state()["cash"]
    seen = log.when(event("DividendPaid", {"symbol": "", "amount": "3"}, 3))
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
    assert seen.payload("EventRefused")["field"] == "payload.symbol"
    assert log.state()["cash"] == cash


def test_dividend_paid_repeated_is_a_duplicate() -> None:
    """The same bytes again change nothing."""
    log = given(
        instrument(1, "AAPL", kind="equity", quote="USD", settle="USD"), opened(1), deposit(2)
    )
    again = event("DividendPaid", {"symbol": "AAPL", "amount": "3"}, 3)
    log.when(again)
    before = log.hashes()
    seen = log.when(again)
    assert (seen.outcome, seen.updates) == ("duplicate", [])
    assert log.hashes() == before
