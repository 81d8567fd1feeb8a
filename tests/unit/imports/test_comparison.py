"""Balances and positions of a venue against the account's, and what explains a difference."""

from __future__ import annotations

from decimal import Decimal

import pytest
from tests.support.importing import folded, owner_of, planned

from psm.workers.imports.comparison import ImportComparison, compare_files
from psm.workers.imports.facts import Found, ReportedPosition, VenueInstrument
from psm.workers.imports.plan import ordered
from psm.workers.imports.rows import FilePlace, FileRow

ROW = FileRow(place=FilePlace("f", 3), kind="", values={})
SECOND = 1_000_000
OWNER = owner_of("somewhere", "USD")


def files() -> Found:
    """A deposit of 100 at second 1, a fee of 1 at second 5."""
    found = Found()
    money = {"currency": "USD"}
    found.add(ROW, 1 * SECOND, "CashDeposited", "a", {"amount": Decimal(100), **money})
    found.add(ROW, 5 * SECOND, "FeeCharged", "b", {"amount": Decimal(1), **money})
    return found


def compared(found: Found, last: int | None = None) -> ImportComparison:
    """Compare what files say with the account that they lead to."""
    log, _ = folded(found, OWNER)
    facts = ordered(found.facts, OWNER)
    return compare_files(found, facts, log.account("acc"), "somewhere", last)


def test_figures_that_agree_at_eighteen_decimals() -> None:
    """Both sides are rounded; what is not reported is as the account has it."""
    found = files()
    found.balance("USD", Decimal("99.0000000000000000004"))
    result = compared(found)
    assert (result.matches, result.compared, result.report) == (True, ["assets.USD"], None)


def test_a_whole_report_leaves_nothing_out() -> None:
    """What a whole report does not name the account must not have."""
    found = files()
    found.whole |= {"balances", "positions"}
    (one,) = compared(found).differences
    assert (one.what, one.expected, one.reported) == ("assets.USD", "99", "0")


def test_a_whole_report_is_told_to_the_log() -> None:
    """It says through which record it goes, by the venue's name or by the event's id."""
    found = files()
    found.balance("USD", Decimal(99))
    found.whole |= {"balances", "positions"}
    report = compared(found).report
    assert report is not None
    assert report["through"] == planned(found, OWNER).new[-1].event["event_id"]
    assert (report["assets"], report["as_of"]) == ({"USD": "99"}, "1970-01-01T00:00:05Z")
    found.reported(2 * SECOND)
    report = compared(found).report
    assert report is not None
    assert report["through"] == planned(found, OWNER).new[0].event["event_id"]


def test_nothing_reported_is_no_match() -> None:
    """Files without balances or positions prove nothing."""
    assert compared(files()).matches is None


@pytest.mark.parametrize(
    ("venue", "said"),
    [
        ("100", "the amount of one record, FeeCharged of 1970-01-01T00:00:05Z at f:3:1"),
        ("98", "not known: a record is missing in the files"),
    ],
)
def test_causes_of_a_balance(venue: str, said: str) -> None:
    """The one record whose amount it is, or nothing that is known."""
    found = files()
    found.balance("USD", Decimal(venue))
    (one,) = compared(found).differences
    assert one.cause.startswith(said)


def test_an_asset_that_nothing_moves() -> None:
    """What the files never mention was there before, or a file is missing."""
    found = files()
    found.balance("EUR", Decimal(7))
    (one,) = compared(found).differences
    assert one.cause == "no record here moves EUR: it was there before, or a file is missing"


def test_records_after_the_report() -> None:
    """What happened after the report's time is no fault of either side."""
    found = files()
    found.balance("USD", Decimal(100))
    found.reported(2 * SECOND)
    (one,) = compared(found).differences
    assert one.cause == "1 records are later than the report"


def test_rows_that_were_left_out_are_named() -> None:
    """Where the cause is not known, what was skipped may be it."""
    found = files()
    found.balance("USD", Decimal(98))
    found.skipped["TRADE: the executions tell it"] += 2
    (one,) = compared(found).differences
    assert "TRADE: the executions tell it" in one.cause


def test_events_after_the_report_leave_it_open() -> None:
    """An account that went on is not judged by an old report."""
    found = files()
    found.balance("USD", Decimal(98))
    result = compared(found, 9 * SECOND)
    assert result.matches is None
    assert result.differences[0].cause == "the account has events after the report"


def test_entry_prices_are_compared_where_both_are_averages() -> None:
    """Venues round averages: half a basis point is no difference, more is."""
    found = files()
    found.instruments["X"] = VenueInstrument(
        symbol="X", kind="linear_perp", base="X", quote="USD", settle="USD"
    )
    sold = {"symbol": "X", "side": "sell", "quantity": Decimal(2), "price": Decimal("100.004")}
    found.add(ROW, 2 * SECOND, "TradeExecuted", "c", sold)
    found.position("X", ReportedPosition(quantity=Decimal(-2), entry_price=Decimal(100)))
    assert compared(found).matches
    found.position("X", ReportedPosition(quantity=Decimal(-2), entry_price=Decimal(101)))
    (one,) = compared(found).differences
    assert (one.what, one.reported, one.expected) == ("positions.X.entry_price", "101", "100.004")
