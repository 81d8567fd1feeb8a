"""SplitApplied."""

from __future__ import annotations

from tests.support.domain import given
from tests.support.events import SYMBOL, deposit, event, instrument, mark, opened, trade


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
    log = given(opened(1), deposit(2), trade(3, "buy", "3", "100"))
    payload = {"symbol": SYMBOL, "ratio": "0.5", "cash_in_lieu": "110"}
    log.when(event("SplitApplied", payload, 4))
    position = log.position()
    assert (position["size"], position["entry_price"]) == ("1", "200")
    assert (position["realized_pnl"], log.state()["cash"]) == ("10", {"USDT": "1110"})


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
