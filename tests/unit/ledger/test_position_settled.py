"""PositionSettled."""

from __future__ import annotations

from tests.support.domain import given
from tests.support.events import SYMBOL, deposit, event, instrument, opened, trade


def test_position_settled_is_booked() -> None:
    """A session moves the gain to cash; expiry closes, with its fee."""
    log = given(opened(1), deposit(2), trade(3, "buy", "2", "100"))
    seen = log.when(
        event(
            "PositionSettled",
            {"symbol": "BTC-PERP", "settlement_price": "110", "kind": "session"},
            4,
        )
    )
    assert seen.outcome == "applied"
    state = log.state()
    position = log.position()
    assert (state["cash"], state["equity"]) == ({"USDT": "1020"}, "1000")
    assert (position["entry_price"], position["size"], position["realized_pnl"]) == (
        "110",
        "2",
        "20",
    )
    payload = {"symbol": SYMBOL, "settlement_price": "120", "kind": "expiry", "fee": "0.5"}
    seen = log.when(event("PositionSettled", payload, 5))
    assert seen.payload("PositionUpdated")["change"] == "closed"
    assert log.state()["cash"] == {"USDT": "1039.5"}


def test_position_settled_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    log = given(opened(1), deposit(2), trade(3, "buy", "2", "100"))
    cash = log.state()["cash"]
    seen = log.when(
        event(
            "PositionSettled", {"symbol": "BTC-PERP", "settlement_price": "110", "kind": "noon"}, 4
        )
    )
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
    assert seen.payload("EventRefused")["field"] == "payload.kind"
    assert log.state()["cash"] == cash


def test_position_settled_repeated_is_a_duplicate() -> None:
    """The same bytes again change nothing."""
    log = given(opened(1), deposit(2), trade(3, "buy", "2", "100"))
    again = event(
        "PositionSettled", {"symbol": "BTC-PERP", "settlement_price": "110", "kind": "session"}, 4
    )
    log.when(again)
    before = log.hashes()
    seen = log.when(again)
    assert (seen.outcome, seen.updates) == ("duplicate", [])
    assert log.hashes() == before


def test_what_is_fully_paid_has_no_session() -> None:
    """A session of an equity is refused; its expiry pays the whole notional."""
    log = given(
        instrument(1, "AAPL", kind="equity", base="AAPL"),
        opened(1),
        deposit(2),
        trade(3, "buy", "2", "100", "AAPL"),
    )
    payload = {"symbol": "AAPL", "settlement_price": "110", "kind": "session"}
    assert log.when(event("PositionSettled", payload, 4)).reason == "invalid_payload"
    log.when(event("PositionSettled", {**payload, "kind": "expiry"}, 5))
    assert log.state()["cash"] == {"USDT": "1020"}


def test_settlement_of_a_flat_symbol_only_pays_its_fee() -> None:
    """No position appears."""
    log = given(opened(1), deposit(2))
    payload = {"symbol": "X", "settlement_price": "110", "kind": "expiry", "fee": "1"}
    log.when(event("PositionSettled", payload, 3))
    assert (log.state()["cash"], log.state()["positions"]) == ({"USDT": "999"}, {})
