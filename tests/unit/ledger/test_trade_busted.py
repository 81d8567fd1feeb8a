"""TradeBusted."""

from __future__ import annotations

from tests.support.domain import Log, given
from tests.support.events import SYMBOL, Sent, deposit, event, event_id, mark, opened, trade

from psm.domain.books import Books
from psm.domain.snapshot import dump_account, load_account


def bust(number: int, fill_id: str | None = None, **payload: str) -> Sent:
    """Return a bust by fill id, or by event id."""
    named = {"fill_id": fill_id} if fill_id else {}
    return event("TradeBusted", {**named, **payload, "reason": "erroneous"}, number)


def fill(number: int, side: str, quantity: str, price: str, **more: str) -> Sent:
    """Return a fill named after its number."""
    return trade(number, side, quantity, price, fill_id=f"f{number}", **more)


def test_a_busted_fill_never_happened() -> None:
    """Position, cash and fees are those of the surviving fills, also across cycles."""
    log = given(opened(1), deposit(2), fill(3, "buy", "2", "100", commission="1"))
    log.when(fill(4, "sell", "2", "110"), fill(5, "buy", "1", "120"))
    assert log.position()["cycle"] == 2
    assert log.when(bust(6, "f4")).outcome == "applied"
    position = log.position()
    assert (position["size"], position["cycle"], position["realized_pnl"]) == ("3", 1, "0")
    assert log.state()["cash"] == {"USDT": "999"}
    assert position["entry_price"] == "106.666666666666666667"


def test_bust_by_event_id_of_the_only_fill_forgets_the_position() -> None:
    """Nothing is left of it."""
    log = given(opened(1), deposit(2), trade(3, "buy", "2", "100", commission="1"))
    before = event_id("TradeExecuted", "acc_001", 3, "")
    log.when(bust(4, event_id=before.upper()))
    assert (log.state()["positions"], log.state()["cash"]) == ({}, {"USDT": "1000"})


def test_busts_that_name_nothing_are_refused() -> None:
    """Unknown, busted before, not unique, or not named at all."""
    log = given(opened(1), fill(2, "buy", "2", "100"))
    assert log.when(bust(3, "other")).reason == "unknown_trade"
    assert log.when(bust(4)).reason == "invalid_payload"
    assert log.when(bust(5, "f2")).outcome == "applied"
    seen = log.when(bust(6, "f2"))
    assert (seen.outcome, seen.reason) == ("refused", "unknown_trade")


def test_a_bust_repeated_is_a_duplicate() -> None:
    """The same bytes again change nothing."""
    log = given(opened(1), fill(2, "buy", "2", "100"), bust(3, "f2"))
    before = log.hashes()
    seen = log.when(bust(3, "f2"))
    assert (seen.outcome, seen.updates) == ("duplicate", [])
    assert log.hashes() == before


def test_a_fill_amended_and_then_busted_is_gone() -> None:
    """The bust takes away what the amendment left; a bust cannot be amended."""
    log = given(opened(1), deposit(2), fill(3, "buy", "2", "100"), fill(4, "buy", "1", "90"))
    log.when(event("TradeAmended", {"fill_id": "f3", "price": "50", "reason": "typo"}, 5))
    log.when(bust(6, "f3"))
    assert (log.position()["size"], log.position()["entry_price"]) == ("1", "90")
    again = event("TradeAmended", {"fill_id": "f3", "price": "50", "reason": "typo"}, 7)
    assert log.when(again).reason == "unknown_trade"


def test_a_past_correction_keeps_its_trade() -> None:
    """A later fill of another symbol with the same fill id does not make it ambiguous."""
    log = given(opened(1), fill(2, "buy", "2", "100"), bust(3, "f2"))
    log.when(trade(4, "buy", "1", "10", "OTHER", fill_id="f2"), fill(5, "buy", "1", "100"))
    assert log.when(bust(6, "f5")).outcome == "applied"


def test_bust_after_a_snapshot_was_restored() -> None:
    """The state comes from the snapshot, the fills from the log."""
    log = given(opened(1), deposit(2), fill(3, "buy", "2", "100"), fill(4, "buy", "1", "90"))
    books = Books(partitions=16)
    books.restore(load_account(dump_account(log.account(), 4, b"hash"))[0])
    books.position = 4
    restored = Log(books=books)
    restored.messages = dict(log.messages)
    restored._time = log._time
    for other in (log, restored):
        assert other.when(bust(5, "f3")).outcome == "applied"
    assert restored.end() == log.end()
    assert restored.updates == log.updates[-len(restored.updates) :]


def test_bust_inside_a_released_gap() -> None:
    """A parked bust is folded when its number comes, and sees the fill that came late."""
    log = given(opened(1), deposit(2))
    assert log.when(bust(4, "f3")).outcome == "parked"
    log.when(fill(5, "buy", "1", "90"), fill(3, "buy", "2", "100"))
    assert (log.account().delivery.version, log.position()["size"]) == (5, "1")


def test_bust_held_behind_an_overflow() -> None:
    """A bust that was held is folded on release, in its place."""
    log = given(opened(1), fill(2, "buy", "1", "100"))
    log.when(*(deposit(number, "1") for number in range(4, 1004)))
    assert log.when(deposit(1004, "1")).outcome == "blocked"
    assert log.when(bust(1005, "f2")).outcome == "held"
    log.when(deposit(3, "1"))
    assert (log.account().delivery.version, log.state()["positions"]) == (1005, {})


def test_a_busted_fill_leaves_its_order() -> None:
    """What is left rises again; a cancelled order stays cancelled; a stub disappears."""
    order = {"order_id": "o", "symbol": SYMBOL, "side": "buy", "type": "limit"}
    log = given(opened(1))
    log.when(event("OrderSubmitted", {**order, "quantity": "2", "price": "100"}, 2))
    log.when(order_fill(3, "o", "2"))
    assert log.state()["orders"] == {}
    log.when(bust(4, "f3"))
    assert log.state()["orders"]["o"]["status"] == "submitted"
    log.when(event("OrderCancelled", {"order_id": "o"}, 5), order_fill(6, "o", "2"))
    assert log.account().ledger.orders.by_id["o"].status == "filled"
    log.when(bust(7, "f6"))
    assert log.account().ledger.orders.by_id["o"].status == "cancelled"
    log.when(order_fill(8, "stub", "1"), bust(9, "f8"))
    assert "stub" not in log.account().ledger.orders.by_id


def test_a_fill_from_before_a_split_is_busted_in_new_units() -> None:
    """The order was rescaled after the fill; its bust leaves nothing filled."""
    order = {"order_id": "o", "symbol": SYMBOL, "side": "buy", "type": "limit"}
    log = given(opened(1), mark(1, "100"))
    log.when(event("OrderSubmitted", {**order, "quantity": "4", "price": "100"}, 2))
    log.when(order_fill(3, "o", "1"), event("SplitApplied", {"symbol": SYMBOL, "ratio": "5"}, 4))
    log.when(bust(5, "f3"))
    left = log.state()["orders"]["o"]
    assert (left["quantity"], left["filled_quantity"]) == ("20", "0")


def order_fill(number: int, order_id: str, quantity: str) -> Sent:
    """Return a fill of an order."""
    payload = {"symbol": SYMBOL, "side": "buy", "quantity": quantity, "price": "100"}
    payload |= {"order_id": order_id, "fill_id": f"f{number}"}
    return event("TradeExecuted", payload, number)
