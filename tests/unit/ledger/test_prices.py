"""Prices of zero and below: venue facts where the instrument can have them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.domain import given
from tests.support.events import Sent, deposit, event, instrument, mark, opened, trade

CRUDE = {
    "kind": "linear_future", "base": "CL", "quote": "USD", "settle": "USD", "multiplier": "1000",
}  # fmt: skip
SHARE = {"kind": "equity", "base": "X", "quote": "USD", "settle": "USD"}
INVERSE = {"kind": "inverse_perp", "quote": "USD", "settle": "BTC"}


def crude(*, signed: bool = True) -> Any:
    """Return an account that bought a crude oil future at 10."""
    return given(
        instrument(1, "CLK0", **CRUDE, signed_price=signed),
        opened(1, currency="USD"),
        deposit(2, "100000"),
        trade(3, "buy", "1", "10", "CLK0"),
    )


def test_a_future_is_sold_below_zero() -> None:
    """A long from 10 that is sold at -37.63 loses 47.63 a unit."""
    log = crude()
    log.when(trade(4, "sell", "1", "-37.63", "CLK0"))
    state = log.state()
    assert (state["cash"], state["realized_pnl"]) == ({"USD": "52370"}, "-47630")
    assert state["open_positions"] == 0


def test_a_mark_below_zero_values_a_position() -> None:
    """Gross exposure is a magnitude; net follows the sign of the price; no liquidation price."""
    log = crude()
    log.when(mark(1, "-5", "CLK0"))
    state, position = log.state(), log.position("CLK0")
    assert (state["equity"], position["unrealized_pnl"]) == ("85000", "-15000")
    assert (position["notional"], position["mark_price"]) == ("5000", "-5")
    assert (state["exposure_gross"], state["exposure_net"]) == ("5000", "-5000")
    assert (state["margin_initial"], position["liquidation_price"]) == ("5000", None)


def test_a_position_opened_below_zero_gains_as_the_price_rises() -> None:
    """Cost and entry are below zero; closing at +1 gains what lies between."""
    log = crude()
    log.when(trade(4, "sell", "1", "10", "CLK0"), trade(5, "buy", "2", "-40", "CLK0"))
    assert log.position("CLK0")["entry_price"] == "-40"
    log.when(trade(6, "sell", "3", "1", "CLK0"))
    assert log.state()["realized_pnl"] == str(2 * 41 * 1000)
    assert (log.position("CLK0")["side"], log.position("CLK0")["entry_price"]) == ("short", "1")


@pytest.mark.parametrize(
    ("symbol", "price", "applied"),
    [
        ("CLK0", "-1", True),
        ("CLK0", "0", True),
        ("X", "0", True),
        ("X", "-0.01", False),
        ("INV", "0", False),
        ("INV", "-1", False),
        ("NOBODY", "0", True),
        ("NOBODY", "-1", False),
    ],
)
@pytest.mark.parametrize("what", ["trade", "mark", "settled", "adjusted", "ordered"])
def test_a_price_is_taken_where_the_instrument_can_have_it(
    what: str, symbol: str, price: str, applied: bool
) -> None:
    """Zero for all but inverse contracts, below it only where `signed_price` says so."""
    log = given(
        instrument(1, "CLK0", **CRUDE, signed_price=True),
        instrument(1, "X", **SHARE),
        instrument(1, "INV", **INVERSE),
        opened(1, currency="USD"),
        deposit(2, "1000"),
    )
    seen = log.when(said(what, symbol, price))
    assert seen.outcome == ("applied" if applied else "refused")
    if not applied:
        assert seen.reason == "invalid_payload"
        field = "settlement_price" if what == "settled" else "price"
        assert seen.payload("EventRefused")["field"] == f"payload.{field}"


def said(what: str, symbol: str, price: str) -> Sent:
    """Return an event that names a price."""
    named = {"symbol": symbol, "price": price, "quantity": "1"}
    match what:
        case "mark":
            return mark(1, price, symbol)
        case "settled":
            payload = {"symbol": symbol, "settlement_price": price, "kind": "expiry"}
            return event("PositionSettled", payload, 3)
        case "adjusted":
            return event("PositionAdjusted", {**named, "reason": "r", "actor": "a"}, 3)
        case "ordered":
            order = {**named, "order_id": "o", "side": "buy", "type": "limit"}
            return event("OrderSubmitted", order, 3)
    return trade(3, "buy", "1", price, symbol)


def test_an_option_expires_worthless() -> None:
    """Bought for 1.5 x 100, settled at 0: the premium is lost, nothing is held."""
    log = given(
        instrument(1, "OPT", **SHARE, multiplier="100"),
        opened(1, currency="USD"),
        deposit(2, "1000"),
        trade(3, "buy", "1", "1.5", "OPT"),
    )
    payload = {"symbol": "OPT", "settlement_price": "0", "kind": "expiry"}
    assert log.when(event("PositionSettled", payload, 4)).outcome == "applied"
    state = log.state()
    assert (state["cash"], state["realized_pnl"], state["equity"]) == (
        {"USD": "850"},
        "-150",
        "850",
    )
    assert state["open_positions"] == 0


def test_an_option_written_expires_worthless() -> None:
    """Who sold it keeps the premium."""
    log = given(
        instrument(1, "OPT", **SHARE, multiplier="100"),
        opened(1, currency="USD"),
        deposit(2, "1000"),
        trade(3, "sell", "2", "1.5", "OPT"),
        mark(1, "0", "OPT"),
    )
    assert (log.state()["equity"], log.position("OPT")["unrealized_pnl"]) == ("1300", "300")
    log.when(
        event("PositionSettled", {"symbol": "OPT", "settlement_price": "0", "kind": "expiry"}, 4)
    )
    assert (log.state()["realized_pnl"], log.state()["open_positions"]) == ("300", 0)


def test_what_came_for_nothing_has_no_cost() -> None:
    """An airdrop of shares: cost 0, and what is paid in by hand is in `adjustments`."""
    log = given(instrument(1, "X", **SHARE), opened(1, currency="USD"), deposit(2, "100"))
    payload = {"symbol": "X", "quantity": "10", "price": "0", "reason": "airdrop", "actor": "ops"}
    log.when(event("PositionAdjusted", payload, 3), mark(1, "5", "X"))
    assert (log.position("X")["entry_price"], log.state()["equity"]) == ("0", "150")
    log.when(event("PositionAdjusted", {**payload, "quantity": "-4", "price": "3"}, 4))
    assert log.account().ledger.total("adjustments") == 0
    log.when(event("PositionAdjusted", {**payload, "quantity": "4", "price": "3"}, 5))
    assert log.account().ledger.total("adjustments") == 12
    log.when(trade(6, "sell", "10", "5", "X"))
    assert (log.state()["realized_pnl"], log.state()["equity"]) == ("38", "150")


def test_an_inverse_definition_comes_after_a_mark_of_zero() -> None:
    """Such a mark values nothing that is inverse: the own last fill does."""
    log = given(mark(1, "0", "INV"), instrument(1, "INV", **INVERSE))
    log.when(opened(1, currency="BTC"), deposit(2, "1"), trade(3, "buy", "100", "50", "INV"))
    assert (log.position("INV")["mark_source"], log.state()["equity"]) == ("fill", "1")


def test_signed_price_is_decided_once() -> None:
    """Marks below zero were or were not taken: a later definition cannot change that."""
    log = given(instrument(1, "CLK0", **CRUDE))
    assert (
        log.when(instrument(2, "CLK0", **CRUDE, signed_price=True)).reason == "instrument_conflict"
    )


@pytest.mark.parametrize(("side", "gained", "coins"), [("buy", "1", "11"), ("sell", "-1", "9")])
def test_what_came_or_went_for_nothing_in_the_account_currency_is_realized(
    side: str, gained: str, coins: str
) -> None:
    """A bitcoin of an account in bitcoin, traded at 0: there is no money that could cost it."""
    pair = instrument(1, "BTCUSDT", kind="spot")
    log = given(pair, opened(1, currency="BTC"), deposit(2, "10"))
    log.when(trade(3, side, "1", "0", "BTCUSDT"))
    state = log.state()
    assert (state["realized_pnl"], state["equity"], state["flows_cost"]) == (gained, coins, "10")
    assert state["flows"] == "10"
