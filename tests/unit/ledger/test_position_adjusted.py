"""PositionAdjusted."""

from __future__ import annotations

from tests.support.domain import given
from tests.support.events import SYMBOL, deposit, event, opened, trade


def test_position_adjusted_is_booked() -> None:
    """Size comes and goes without cash and without PnL."""
    log = given(opened(1), deposit(2), trade(3, "buy", "2", "100"))
    seen = log.when(
        event(
            "PositionAdjusted",
            {
                "symbol": "BTC-PERP",
                "quantity": "2",
                "price": "200",
                "reason": "late",
                "actor": "ann",
            },
            4,
        )
    )
    assert seen.outcome == "applied"
    state = log.state()
    position = log.position()
    assert (position["size"], position["entry_price"], state["cash"]) == (
        "4",
        "150",
        {"USDT": "1000"},
    )
    less = {"symbol": SYMBOL, "quantity": "-3", "price": "1", "reason": "late", "actor": "ann"}
    log.when(event("PositionAdjusted", less, 5))
    position = log.position()
    assert (position["size"], position["entry_price"], position["realized_pnl"]) == (
        "1",
        "150",
        "0",
    )
    log.when(event("PositionAdjusted", less, 6))
    position = log.position()
    assert (position["side"], position["size"], position["entry_price"]) == ("short", "2", "1")
    assert (position["cycle"], position["realized_pnl"]) == (2, "0")


def test_position_adjusted_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    log = given(opened(1), deposit(2), trade(3, "buy", "2", "100"))
    cash = log.state()["cash"]
    seen = log.when(
        event(
            "PositionAdjusted",
            {
                "symbol": "BTC-PERP",
                "quantity": "0",
                "price": "200",
                "reason": "late",
                "actor": "ann",
            },
            4,
        )
    )
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
    assert seen.payload("EventRefused")["field"] == "payload.quantity"
    assert log.state()["cash"] == cash


def test_position_adjusted_repeated_is_a_duplicate() -> None:
    """The same bytes again change nothing."""
    log = given(opened(1), deposit(2), trade(3, "buy", "2", "100"))
    again = event(
        "PositionAdjusted",
        {"symbol": "BTC-PERP", "quantity": "2", "price": "200", "reason": "late", "actor": "ann"},
        4,
    )
    log.when(again)
    before = log.hashes()
    seen = log.when(again)
    assert (seen.outcome, seen.updates) == ("duplicate", [])
    assert log.hashes() == before
