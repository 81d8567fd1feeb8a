"""A state that would grow beyond its bounds stops its stream, and keeps what it has no room for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

import pytest
from tests.support.domain import Log, given
from tests.support.events import Sent, deposit, dismissed, event, retried, rules, trade, unknown

from psm.contracts import limits
from psm.domain.folding import table_events as table_fold
from psm.domain.ledger import bounds
from psm.domain.messages import Outcome
from psm.domain.snapshot import dump_account, load_account

MOST = 3


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Bounds of three, which new rules lift."""
    monkeypatch.setattr(bounds, "FEW", 0)
    for name in ("ASSETS", "POSITIONS", "OPEN_ORDERS"):
        monkeypatch.setattr(bounds, name, MOST)
    monkeypatch.setattr(table_fold, "RULES_VERSION", 2)
    return monkeypatch


@contextmanager
def room(patch: pytest.MonkeyPatch, most: int = 9) -> Iterator[None]:
    """Have wider bounds for a while."""
    names = ("ASSETS", "POSITIONS", "OPEN_ORDERS")
    for name in names:
        patch.setattr(bounds, name, most)
    yield
    for name in names:
        patch.setattr(bounds, name, MOST)


def order(number: int, order_id: str, symbol: str = "BTC-PERP") -> Sent:
    """Return an order that may fill."""
    payload = {"order_id": order_id, "symbol": symbol, "side": "buy", "type": "market"}
    return event("OrderSubmitted", {**payload, "quantity": "1"}, number)


GROWING = {
    "assets": lambda n: deposit(n, "1", currency=f"C{n}"),
    "open positions": lambda n: trade(n, "buy", "1", "10", f"S{n}", fill_id=f"f{n}"),
    "open orders": lambda n: order(n, f"o{n}"),
}


def full(what: str) -> Log:
    """Return a log whose account has as many of something as it may have."""
    log = given(*[GROWING[what](n) for n in range(1, MOST + 1)])
    assert log.account().delivery.status == "open"
    return log


@pytest.mark.parametrize("what", GROWING)
def test_one_more_blocks_its_stream(small: pytest.MonkeyPatch, what: str) -> None:
    """Not refused, because it happened; nothing is changed, and what follows is held."""
    log = full(what)
    before = log.hashes()
    seen = log.when(GROWING[what](MOST + 1))
    assert (seen.outcome, seen.reason) == (Outcome.BLOCKED, "state_too_large")
    blocked = seen.payload("StreamBlocked")
    assert (blocked["reason"], blocked["expected_sequence"]) == ("state_too_large", MOST + 1)
    assert blocked["detail"] == f"the account would have more than {MOST} {what}"
    assert log.hashes() != before  # its status is part of the ledger
    assert log.account().delivery.version == MOST
    assert log.when(deposit(MOST + 2, currency="C1")).outcome is Outcome.HELD


@pytest.mark.parametrize("what", GROWING)
def test_what_adds_nothing_goes_on(small: pytest.MonkeyPatch, what: str) -> None:
    """At the bound, events of what is there are applied, and what makes room makes room."""
    log = full(what)
    more = {
        "assets": [deposit(4, "1", currency="C1")],
        "open positions": [
            trade(4, "buy", "1", "10", "S1", fill_id="g"),
            trade(5, "sell", "2", "10", "S1", fill_id="h"),
            trade(6, "buy", "1", "10", "S9", fill_id="i"),
        ],
        "open orders": [
            event("OrderCancelled", {"order_id": "o1"}, 4),
            order(5, "o5"),
        ],
    }[what]
    for sent in more:
        assert log.when(sent).outcome is Outcome.APPLIED


def test_flip_at_the_bound_goes_on(small: pytest.MonkeyPatch) -> None:
    """A position that changes its side is one position."""
    log = full("open positions")
    assert log.when(trade(4, "sell", "3", "10", "S1", fill_id="g")).outcome is Outcome.APPLIED


@pytest.mark.parametrize("what", GROWING)
def test_new_rules_with_room_take_it(small: pytest.MonkeyPatch, what: str) -> None:
    """It is kept: with wider bounds it and what was held behind it are applied."""
    log = full(what)
    log.when(GROWING[what](4), deposit(5, currency="USDT"), deposit(7))
    with room(small):
        seen = log.when(rules(2))
    assert seen.outcome is Outcome.APPLIED
    assert log.account().delivery.version == 5
    assert log.account().delivery.status == "gap"


def test_new_rules_without_room_block_again(small: pytest.MonkeyPatch) -> None:
    """Parked and held events stay where they were, also over a snapshot."""
    log = full("assets")
    log.when(deposit(4, currency="C4"), deposit(5, currency="C1"), deposit(7), retried())
    assert log.account().delivery.status == "blocked"
    seen = log.when(rules(2))
    assert seen.payload("StreamBlocked")["reason"] == "state_too_large"
    assert log.account().delivery.version == MOST
    data = dump_account(log.account(), log.books.position, b"\0" * 32)
    restored = load_account(data)[0].delivery
    assert restored.blocked == log.account().delivery.blocked
    assert restored.too_large == log.account().delivery.too_large == {4: 2}
    last = log.when(dismissed(4))
    assert last.outcome is Outcome.APPLIED
    assert (log.account().delivery.version, log.account().delivery.status) == (5, "gap")


def test_retry_is_in_vain(small: pytest.MonkeyPatch) -> None:
    """The operator hears that nothing changed; the chain alone moves."""
    log = full("assets")
    log.when(deposit(4, currency="C4"))
    seen = log.when(retried())
    assert (seen.outcome, seen.reason) == (Outcome.BLOCKED, "state_too_large")
    assert "still too large for the state" in seen.payload("StreamBlocked")["detail"]


def test_parked_event_that_is_too_large(small: pytest.MonkeyPatch) -> None:
    """Released by the number before it, it blocks, and what was parked behind it stays parked."""
    log = full("assets")
    log.when(deposit(5, currency="C5"), deposit(6, currency="C1"), deposit(8, currency="C1"))
    seen = log.when(deposit(4, currency="C1"))
    assert seen.outcome is Outcome.APPLIED
    assert seen.payload("StreamBlocked")["reason"] == "state_too_large"
    delivery = log.account().delivery
    assert (delivery.version, sorted(delivery.parked)) == (4, [6, 8])
    place = delivery.blocked.log_sequence if delivery.blocked else 0
    log.when(dismissed(place))
    assert (log.account().delivery.version, sorted(delivery.parked)) == (6, [8])


def test_held_event_that_is_too_large(small: pytest.MonkeyPatch) -> None:
    """Behind an unknown type: dismissed, the stream goes on to the one it has no room for."""
    log = full("assets")
    log.when(unknown(4), deposit(5, currency="C1"), deposit(6, currency="C6"), deposit(7))
    log.when(dismissed(4))
    delivery = log.account().delivery
    assert (delivery.version, delivery.status) == (5, "blocked")
    assert delivery.blocked is not None
    assert delivery.blocked.held_from == 7
    log.when(dismissed(6))
    assert log.account().delivery.version == 7


@pytest.mark.parametrize("ended", ["dismissed", "rules"])
def test_correction_reads_the_stream_as_it_was(small: pytest.MonkeyPatch, ended: str) -> None:
    """A bust later finds the chain: the event blocked, and was dismissed or applied at last."""
    log = full("open positions")
    log.when(trade(4, "buy", "1", "10", "S4", fill_id="f4"), deposit(5), deposit(6))
    with room(small):
        log.when(dismissed(4) if ended == "dismissed" else rules(2))
    assert log.account().delivery.version == 6
    with room(small):
        seen = log.when(event("TradeBusted", {"fill_id": "f1", "reason": "wrong"}, 7))
    assert seen.outcome is Outcome.APPLIED
    held = {"S2", "S3"} if ended == "dismissed" else {"S2", "S3", "S4"}
    assert set(log.state()["positions"]) == held


@pytest.mark.parametrize("ended", ["dismissed", "retried"])
def test_correction_that_brings_too_much(small: pytest.MonkeyPatch, ended: str) -> None:
    """A bust of what closed a position would open it again, where another one took its room."""
    log = full("open positions")
    log.when(
        trade(4, "sell", "1", "10", "S1", fill_id="closing"),
        trade(5, "buy", "1", "10", "S4", fill_id="f4"),
    )
    before = log.state()["positions"]
    seen = log.when(event("TradeBusted", {"fill_id": "closing", "reason": "wrong"}, 6))
    assert (seen.outcome, seen.reason) == (Outcome.BLOCKED, "state_too_large")
    assert log.state()["positions"] == before
    assert log.account().delivery.version == 5
    with room(small):
        log.when(dismissed(6) if ended == "dismissed" else rules(2), deposit(7))
    assert log.account().delivery.version == 7
    open_now = {s for s, p in log.state()["positions"].items() if p["size"] != "0"}
    assert open_now == ({"S2", "S3", "S4"} | (set() if ended == "dismissed" else {"S1"}))


def test_names_of_a_correction_are_bounded_together(small: pytest.MonkeyPatch) -> None:
    """Each is measured once: those that stay and those that come back."""
    log = full("open positions")
    log.when(
        trade(4, "sell", "1", "10", "S1", fill_id="closing"),
        event("TradeBusted", {"fill_id": "closing", "reason": "wrong"}, 5),
    )
    size = len('"USDT"') + 3 * len('"S1"')
    for most, outcome in ((size, Outcome.APPLIED), (size - 1, Outcome.BLOCKED)):
        again = full("open positions")
        again.when(trade(4, "sell", "1", "10", "S1", fill_id="closing"))
        small.setattr(bounds, "IDENTIFIER_BYTES", most)
        seen = again.when(event("TradeBusted", {"fill_id": "closing", "reason": "wrong"}, 5))
        assert seen.outcome is outcome
        small.setattr(bounds, "IDENTIFIER_BYTES", limits.IDENTIFIER_BYTES)


def test_names_are_bounded_together(small: pytest.MonkeyPatch) -> None:
    """Long names count by what they take in a document."""
    small.setattr(bounds, "OPEN_ORDERS", 100)
    small.setattr(bounds, "IDENTIFIER_BYTES", 300)
    log = given(order(1, "x" * 100), order(2, "y" * 100))
    seen = log.when(order(3, "\x01" * 50))
    assert seen.reason == "state_too_large"
    detail = seen.payload("StreamBlocked")["detail"]
    assert detail == "names of assets, positions and orders would take more than 300 bytes"


def test_largest_update_fits() -> None:
    """As many assets as there may be, with the longest names and the longest amounts."""
    log = given(deposit(1, currency="USDT"))
    ledger = log.account().ledger
    for number in range(limits.ASSETS - 1):
        name = chr(1 + number % 7) * (limits.CURRENCY_BYTES - 3) + f"{number:03d}"
        ledger.cash[name] = Decimal("-" + "9" * 82 + "." + "9" * 18)
    seen = log.when(deposit(2, currency="USDT"))
    largest = max(len(update.data) for update in seen.result.updates)
    assert limits.UPDATE_BYTES // 4 < largest < limits.UPDATE_BYTES
