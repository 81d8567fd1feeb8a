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


def test_tax_withheld_is_part_of_the_dividend() -> None:
    """What arrived is the amount; the dividend was that and the tax."""
    log = given(
        instrument(1, "AAPL", kind="equity", quote="USD", settle="USD"),
        opened(1, currency="USD"),
        deposit(2),
    )
    said = {"symbol": "AAPL", "amount": "8.5", "tax": "1.5", "gross": "10", "per_share": "0.25"}
    more = {"ex_date": "2026-02-06", "kind": "ordinary", "effective_at": "2026-02-13T00:00:00Z"}
    log.when(event("DividendPaid", {**said, **more}, 3))
    state = log.state()
    assert (state["cash"], state["dividends"], state["taxes"]) == ({"USD": "1008.5"}, "10", "1.5")
    assert state["equity"] == "1008.5"


def test_tax_in_another_currency_is_taken_from_it() -> None:
    """The dividend is what arrived; the tax is another movement."""
    log = given(
        instrument(1, "SAP", kind="equity", quote="EUR", settle="EUR"),
        opened(1, currency="USD"),
        deposit(2),
    )
    said = {
        "symbol": "SAP",
        "amount": "10",
        "tax": "3",
        "tax_currency": "USD",
        "rates": {"EUR": "1.1"},
    }
    log.when(event("DividendPaid", said, 3))
    assert log.state()["cash"] == {"EUR": "10", "USD": "997"}
    assert log.state()["taxes"] == "3"
    assert log.state()["dividends"] == "11"


def test_short_pays_in_lieu() -> None:
    """Below zero, and a tax that comes back too."""
    log = given(opened(1, currency="USD"), deposit(2))
    said = {"symbol": "X", "amount": "-10", "currency": "USD", "kind": "in_lieu"}
    log.when(event("DividendPaid", said, 3))
    log.when(event("DividendPaid", {**said, "amount": "2", "tax": "-2"}, 4))
    state = log.state()
    assert (state["cash"], state["dividends"], state["taxes"]) == ({"USD": "992"}, "-10", "-2")
