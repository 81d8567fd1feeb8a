"""SplitApplied."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.domain import Log, given
from tests.support.events import SYMBOL, Sent, deposit, event, instrument, mark, opened, trade


def test_split_applied_is_booked() -> None:
    """More units, the same cost, the same equity; the old mark follows."""
    log = given(opened(1), deposit(2), trade(3, "buy", "2", "100"), mark(1, "120"))
    seen = log.when(event("SplitApplied", {"symbol": "BTC-PERP", "ratio": "4"}, 4))
    assert seen.outcome == "applied"
    state = log.state()
    position = log.position()
    assert (position["size"], position["entry_price"], position["mark_price"]) == ("8", "25", "30")
    assert (state["equity"], state["realized_pnl"]) == ("1040", "0")


def test_split_applied_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    log = given(opened(1), deposit(2), trade(3, "buy", "2", "100"), mark(1, "120"))
    cash = log.state()["cash"]
    seen = log.when(event("SplitApplied", {"symbol": "BTC-PERP", "ratio": "-1"}, 4))
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
    assert seen.payload("EventRefused")["field"] == "payload.ratio"
    assert log.state()["cash"] == cash


def test_split_applied_repeated_is_a_duplicate() -> None:
    """The same bytes again change nothing."""
    log = given(opened(1), deposit(2), trade(3, "buy", "2", "100"), mark(1, "120"))
    again = event("SplitApplied", {"symbol": "BTC-PERP", "ratio": "4"}, 4)
    log.when(again)
    before = log.hashes()
    seen = log.when(again)
    assert (seen.outcome, seen.updates) == ("duplicate", [])
    assert log.hashes() == before


def test_a_mark_at_the_old_price_ends_the_split() -> None:
    """A new mark is of new units, also where it repeats the old price."""
    log = given(opened(1), deposit(2), trade(3, "buy", "2", "100"), mark(1, "120"))
    log.when(event("SplitApplied", {"symbol": SYMBOL, "ratio": "4"}, 4), mark(2, "120"))
    assert (log.position()["mark_price"], log.state()["equity"]) == ("120", "1760")


def test_many_splits_between_two_marks_compute() -> None:
    """Ratios between two marks multiply for ever without stopping the partition."""
    log = given(opened(1), trade(2, "buy", "1", "100"), mark(1, "100"))
    for number in range(3, 33, 3):
        ratio = {"symbol": SYMBOL, "ratio": "1.000000000000000001"}
        assert log.when(event("SplitApplied", ratio, number)).outcome == "applied"
        size = log.position()["size"]
        log.when(trade(number + 1, "sell", size, "100"), trade(number + 2, "buy", "1", "100"))
    assert log.state()["flags"] == ["instrument_undefined"]


def test_a_fraction_is_paid_out_at_the_cash_of_the_venue() -> None:
    """The position is left in whole units; the cash is compared with the fraction's cost."""
    share = instrument(1, SYMBOL, kind="equity", base="BTC", quote="USDT", settle="USDT")
    log = given(share, opened(1), deposit(2), trade(3, "buy", "3", "100"))
    payload = {"symbol": SYMBOL, "ratio": "0.5", "quantity_after": "1", "cash_in_lieu": "110"}
    log.when(event("SplitApplied", payload, 4))
    position = log.position()
    assert (position["size"], position["entry_price"]) == ("1", "200")
    assert (position["realized_pnl"], log.state()["cash"]) == ("10", {"USDT": "810"})


def test_open_orders_follow_a_split_and_an_inverse_position_cannot() -> None:
    """Quantity times the ratio, price divided by it."""
    order = {"order_id": "o", "symbol": SYMBOL, "side": "buy", "type": "limit"}
    log = given(opened(1), deposit(2))
    log.when(event("OrderSubmitted", {**order, "quantity": "2", "price": "100"}, 3))
    log.when(event("SplitApplied", {"symbol": SYMBOL, "ratio": "4"}, 4))
    assert log.state()["orders"]["o"]["quantity"] == "8"
    log.when(instrument(1, "INV", kind="inverse_perp", quote="USD", settle="BTC"))
    log.when(trade(5, "buy", "100", "50", "INV"))
    seen = log.when(event("SplitApplied", {"symbol": "INV", "ratio": "4"}, 6))
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")


SHARE = {"kind": "equity", "base": "RVS", "quote": "USD", "settle": "USD"}


def shares(quantity: str, price: str, side: str = "buy") -> Log:
    """Return an account of 10 000 USD that traded shares once."""
    return given(
        instrument(1, "RVS", **SHARE),
        opened(1, currency="USD"),
        deposit(2, "10000"),
        trade(3, side, quantity, price, "RVS"),
    )


def split(number: int = 4, **terms: Any) -> Sent:
    return event("SplitApplied", {"symbol": "RVS", **terms}, number)


@pytest.mark.parametrize(
    ("held", "new", "old", "after"),
    [
        ("300", 1, 3, "100"),
        ("100", "1", "3", "33.333333333333333333"),
        ("7", "3", "7", "3"),
        ("1", "10", "3", "3.333333333333333333"),
        ("1000", "1", "1000", "1"),
        ("999999999999999999.5", "2", "1", "1999999999999999999"),
        (
            "123456789012345678.123456789012345679",
            "3",
            "1",
            "370370367037037034.370370367037037037",
        ),
        ("11", "1.1", "11", "1.1"),
        ("2", "1", "3", "0.666666666666666666"),
    ],
)
@pytest.mark.parametrize("side", ["buy", "sell"])
def test_a_split_is_exact_to_18_decimals(
    side: str, held: str, new: object, old: object, after: str
) -> None:
    """Size times new over old; what 18 decimals cannot hold is cut off, the cost stays whole."""
    log = shares(held, "0.000001", side)
    log.when(split(numerator=new, denominator=old))
    position = log.account().ledger.positions["RVS"]
    assert log.position("RVS")["size"] == after
    assert position.cost == log.account().ledger.positions["RVS"].cost
    assert log.state()["realized_pnl"] == "0"
    other = "sell" if side == "buy" else "buy"
    if len(after.partition(".")[0]) <= 18:
        log.when(trade(5, other, after, "0.000001", "RVS"))
        assert (log.position("RVS")["side"], log.position("RVS")["cycle"]) == ("flat", 1)


def test_one_for_three_then_the_rest_is_sold() -> None:
    """300 shares become the 100 that the broker shows; sold at three times the price, no gain."""
    log = shares("300", "1")
    log.when(split(numerator=1, denominator=3), trade(5, "sell", "100", "3", "RVS"))
    state = log.state()
    assert (state["cash"], state["realized_pnl"]) == ({"USD": "10000"}, "0")
    assert (state["open_positions"], log.position("RVS")["cycle"]) == (0, 1)


def test_a_split_there_and_back_is_where_it_was() -> None:
    """Where both results are exact, mark and orders too."""
    log = shares("30", "7")
    log.when(mark(1, "9", "RVS"))
    before, hashed = log.position("RVS"), log.state()["equity"]
    log.when(split(4, numerator="7", denominator="3"), split(5, numerator="3", denominator="7"))
    assert log.position("RVS") == before
    assert log.state()["equity"] == hashed


@pytest.mark.parametrize(
    ("side", "terms", "size", "cash", "realized", "cost"),
    [
        # 10 at 30, 1 for 4: 2.5. The venue leaves 2 and pays for the half.
        ("buy", {"quantity_after": "2", "cash_in_lieu": "70"}, "2", "9770", "10", "240"),
        ("buy", {"quantity_after": "2", "cash_in_lieu": "0"}, "2", "9700", "-60", "240"),
        ("buy", {"quantity_after": "2"}, "2", "9700", "0", "300"),
        ("buy", {"quantity_after": "3", "cash_in_lieu": "-5"}, "3", "9695", "-5", "300"),
        ("buy", {"quantity_after": "0", "cash_in_lieu": "310"}, "0", "10010", "10", "0"),
        ("buy", {"quantity_after": "0"}, "0", "9700", "-300", "0"),
        ("sell", {"quantity_after": "2", "cash_in_lieu": "-70"}, "2", "10230", "-10", "240"),
        ("sell", {"quantity_after": "2"}, "2", "10300", "0", "300"),
    ],
)
def test_the_venue_says_what_is_left_and_what_it_paid(
    side: str, terms: dict[str, Any], size: str, cash: str, realized: str, cost: str
) -> None:
    """The cost stays whole unless cash is named: then the missing part's share leaves."""
    log = shares("10", "30", side)
    seen = log.when(split(numerator="1", denominator="4", **terms))
    assert seen.outcome == "applied"
    assert (log.position("RVS")["size"], log.state()["cash"]["USD"]) == (size, cash)
    assert log.state()["realized_pnl"] == realized
    assert str(log.account().ledger.positions["RVS"].cost.normalize()) in (cost, "2.4E+2", "3E+2")


def test_cash_for_a_fraction_of_nothing_is_a_dividend() -> None:
    """A flat account that is paid has no cost to compare with."""
    log = given(instrument(1, "RVS", **SHARE), opened(1, currency="USD"), deposit(2, "10"))
    log.when(split(3, ratio="2", quantity_after="0", cash_in_lieu="4"))
    assert log.state()["cash"] == {"USD": "14"}
    assert log.account().ledger.total("dividends") == 4


def test_a_mark_of_new_units_is_spared() -> None:
    """`mark_adjusted`: the mark that came before the event is of new units already."""
    log = shares("10", "30")
    log.when(mark(1, "15", "RVS"), split(ratio="2", mark_adjusted=True))
    assert (log.position("RVS")["mark_price"], log.state()["equity"]) == ("15", "10000")
    unmarked = shares("10", "30")
    unmarked.when(split(ratio="2", mark_adjusted=True))
    assert unmarked.position("RVS")["mark_price"] == "15"


@pytest.mark.parametrize(
    "terms",
    [
        {},
        {"numerator": "1"},
        {"denominator": "1"},
        {"ratio": "2", "numerator": "2", "denominator": "1"},
        {"ratio": "2", "cash_in_lieu": "1"},
        {"ratio": "0"},
        {"numerator": "0", "denominator": "1"},
        {"ratio": "2", "quantity_after": "-1"},
    ],
)
def test_terms_that_say_nothing_are_refused(terms: dict[str, Any]) -> None:
    """A ratio or both terms; cash only beside the size that is left."""
    log = shares("10", "30")
    seen = log.when(split(**terms))
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
