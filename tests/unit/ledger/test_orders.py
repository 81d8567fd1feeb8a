"""The order lifecycle and its races with fills."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.domain import Log, given
from tests.support.events import SYMBOL, Sent, deposit, event, instrument, mark, opened, trade


def submitted(number: int, quantity: str = "2", **more: Any) -> Sent:
    payload = {"order_id": "o", "symbol": SYMBOL, "side": "buy", "type": "limit", "price": "100"}
    return event("OrderSubmitted", {**payload, "quantity": quantity, **more}, number)


def moved(number: int, verb: str, order_id: str = "o") -> Sent:
    return event(f"Order{verb}", {"order_id": order_id}, number)


def filled(number: int, quantity: str, side: str = "buy", price: str = "100") -> Sent:
    payload = {"symbol": SYMBOL, "side": side, "quantity": quantity, "price": price}
    return event("TradeExecuted", {**payload, "order_id": "o"}, number)


def status(log: Log) -> str:
    return log.account().ledger.orders.by_id["o"].status


def test_an_order_lives_and_fills() -> None:
    """Submitted, accepted, filled in parts at an average price."""
    log = given(opened(1), deposit(2), submitted(3))
    assert log.state()["open_orders"] == 1
    log.when(moved(4, "Accepted"))
    seen = log.when(filled(5, "0.5", price="90"))
    update = seen.payload("OrderUpdated")
    assert (update["status"], update["filled_quantity"]) == ("partially_filled", "0.5")
    update = log.when(filled(6, "1.5", price="98")).payload("OrderUpdated")
    assert (update["status"], update["average_price"]) == ("filled", "96")
    assert log.state()["open_orders"] == 0


@pytest.mark.parametrize("verb", ["Cancelled", "Expired", "Rejected"])
def test_what_is_left_ends_and_releases_its_margin(verb: str) -> None:
    """After a partial fill the fill stays; the order reserves nothing."""
    log = given(opened(1), deposit(2), submitted(3))
    assert log.state()["margin_available"] == "800"
    log.when(moved(4, verb))
    assert (status(log), log.state()["margin_available"]) == (verb.lower(), "1000")


def test_a_fill_after_the_cancel_is_booked_and_flagged() -> None:
    """It stays cancelled with what filled; where it filled wholly it is filled."""
    log = given(opened(1), deposit(2), submitted(3), moved(4, "Cancelled"))
    assert "fill_after_cancel" in log.when(filled(5, "0.5")).payload("StateUpdated")["flags"]
    assert (status(log), log.position()["size"]) == ("cancelled", "0.5")
    log.when(filled(6, "1.5"))
    assert (status(log), log.position()["size"]) == ("filled", "2")


def test_an_overfill_is_booked_and_flagged() -> None:
    """Money is real."""
    log = given(opened(1), deposit(2), submitted(3))
    assert "overfill" in log.when(filled(4, "3")).payload("StateUpdated")["flags"]
    assert (status(log), log.position()["size"]) == ("filled", "3")


def test_a_fill_of_an_unknown_order_makes_a_stub() -> None:
    """Which a late submission turns into the order."""
    log = given(opened(1), deposit(2), filled(3, "1"))
    assert (status(log), log.account().ledger.orders.by_id["o"].external) == ("filled", True)
    log.when(submitted(4))
    assert status(log) == "partially_filled"
    assert not log.account().ledger.orders.by_id["o"].external


def test_a_reduce_only_order_that_opens_is_flagged_and_reserves_nothing() -> None:
    """A venue fact all the same."""
    log = given(opened(1), deposit(2), submitted(3, reduce_only=True))
    assert log.state()["margin_available"] == "1000"
    flags = log.when(filled(4, "1")).payload("StateUpdated")["flags"]
    assert "reduce_only_opened" in flags


def test_a_replaced_order_has_the_new_terms() -> None:
    """A quantity that the fills cover ends it."""
    log = given(opened(1), deposit(2), submitted(3), filled(4, "1"))
    log.when(event("OrderReplaced", {"order_id": "o", "quantity": "5", "price": "10"}, 5))
    order = log.account().ledger.orders.by_id["o"]
    assert (str(order.quantity), str(order.price), order.status) == ("5", "10", "partially_filled")
    log.when(event("OrderReplaced", {"order_id": "o", "quantity": "1"}, 6))
    assert status(log) == "filled"


@pytest.mark.parametrize("verb", ["Accepted", "Rejected", "Cancelled", "Expired", "Replaced"])
def test_unknown_and_ended_orders_are_refused(verb: str) -> None:
    """Terminal states never reopen."""
    log = given(opened(1), deposit(2))
    assert log.when(moved(3, verb)).reason == "unknown_order"
    log.when(submitted(4), moved(5, "Cancelled"))
    assert log.when(moved(6, verb)).reason == "invalid_payload"
    assert log.when(submitted(7)).reason == "invalid_payload"


def test_an_order_event_repeated_is_a_duplicate() -> None:
    """The same bytes again change nothing."""
    log = given(opened(1), deposit(2), submitted(3))
    seen = log.when(submitted(3))
    assert (seen.outcome, seen.updates) == ("duplicate", [])


def test_orders_reserve_the_worse_side() -> None:
    """Sells against a long reserve only what goes beyond it."""
    log = given(opened(1), deposit(2), trade(3, "buy", "1", "100"))
    assert log.state()["margin_available"] == "900"
    log.when(submitted(4, "1.5", side="sell"))
    assert log.state()["margin_available"] == "900"
    log.when(submitted(5, "3", side="sell", order_id="p"))
    assert log.state()["margin_available"] == "650"


def test_orders_without_a_position_know_their_instrument() -> None:
    """Its multiplier and settle currency count; a missing rate is flagged."""
    log = given(instrument(multiplier="2", settle="EUR"), opened(1), deposit(2), submitted(3, "1"))
    assert log.state()["flags"] == ["rate_missing"]
    log.when(instrument(1, "EURUSDT", kind="spot", base="EUR"), mark(1, "1.5", "EURUSDT"))
    assert (log.state()["flags"], log.state()["margin_available"]) == ([], "700")
    log.when(instrument(1, "LATE", multiplier="3"))
    late = {"order_id": "l", "symbol": "LATE", "side": "buy", "type": "market", "quantity": "1"}
    log.when(event("OrderSubmitted", late, 4), mark(1, "10", "LATE"))
    assert log.state()["margin_available"] == "670"


INVERSE = {"kind": "inverse_perp", "quote": "USD", "settle": "BTC"}


@pytest.mark.parametrize(
    ("fills", "average"),
    [
        ((("1000", "5000"), ("2000", "6000")), "5625"),
        ((("100", "40000"), ("100", "60000")), "48000"),
        ((("300", "7"),), "7"),
        ((("1", "1"), ("1", "3"), ("2", "3")), "2"),
    ],
)
def test_an_order_of_an_inverse_contract_averages_as_its_position(
    fills: tuple[tuple[str, str], ...], average: str
) -> None:
    """Weighted by contracts, harmonically: order and position say the same price."""
    log = given(instrument(1, "BTC-INV", **INVERSE), opened(1, currency="BTC"), deposit(2, "1"))
    log.when(submitted(3, "4000", symbol="BTC-INV", type="market"))
    for number, (quantity, price) in enumerate(fills, 4):
        payload = {"symbol": "BTC-INV", "side": "buy", "quantity": quantity, "price": price}
        seen = log.when(event("TradeExecuted", {**payload, "order_id": "o"}, number))
    assert seen.payload("OrderUpdated")["average_price"] == average
    assert log.position("BTC-INV")["entry_price"] == average


def test_an_order_announced_late_keeps_the_harmonic_average() -> None:
    """The fills that came before the announcement are those of an inverse contract."""
    log = given(instrument(1, "BTC-INV", **INVERSE), opened(1, currency="BTC"), deposit(2, "1"))
    payload = {"symbol": "BTC-INV", "side": "buy", "order_id": "o"}
    log.when(event("TradeExecuted", {**payload, "quantity": "1000", "price": "5000"}, 3))
    log.when(submitted(4, "4000", symbol="BTC-INV", type="market"))
    seen = log.when(event("TradeExecuted", {**payload, "quantity": "2000", "price": "6000"}, 5))
    assert seen.payload("OrderUpdated")["average_price"] == "5625"
