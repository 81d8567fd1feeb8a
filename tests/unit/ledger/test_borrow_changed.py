"""BorrowChanged."""

from __future__ import annotations

import msgspec
from tests.support.domain import Log, given
from tests.support.events import Sent, deposit, event, opened


def borrow(number: int, amount: str, asset: str = "BTC", **more: str) -> Sent:
    return event("BorrowChanged", {"asset": asset, "amount": amount, **more}, number)


def account() -> Log:
    return given(opened(1), deposit(2))


def test_borrow_changed_is_booked() -> None:
    """What is owed adds up by asset and ends at zero; no money moves."""
    log = account()
    before = {n: v for n, v in log.state().items() if n in ("cash", "equity", "nav", "flows")}
    log.when(borrow(3, "0.5"), borrow(4, "20", "USDT"))
    seen = log.when(borrow(5, "-0.2"))
    assert seen.payload("StateUpdated")["borrowed"] == {"BTC": "0.3", "USDT": "20"}
    assert seen.payload("StateUpdated")["applied"] == {
        "event_type": "BorrowChanged",
        "amount": "-0.2",
    }
    assert {n: v for n, v in log.state().items() if n in before} == before
    log.when(borrow(6, "-0.3"), borrow(7, "-25", "USDT"))
    assert log.state()["borrowed"] == {"USDT": "-5"}


def test_borrow_changed_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    log = account()
    seen = log.when(borrow(3, "much"))
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
    assert seen.payload("EventRefused")["field"] == "payload.amount"
    assert log.state()["borrowed"] == {}


def test_borrow_changed_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing; its reference is known; its number is taken."""
    log = account()
    again = borrow(3, "1", reference="b")
    log.when(again)
    before = log.hashes()
    assert log.when(again).outcome == "duplicate"
    assert log.hashes() == before
    assert log.when(borrow(4, "1", reference="b")).reason == "duplicate_reference"
    assert log.when(borrow(3, "2")).outcome == "conflict"


def test_what_is_owed_is_in_the_ledger_hash() -> None:
    """Two accounts that owe differently differ."""
    one, other = account(), account()
    one.when(borrow(3, "1"))
    other.when(borrow(3, "2"))
    assert one.hashes() != other.hashes()


def test_reversed_borrowing_never_happened() -> None:
    """Named by its event_id."""
    log = account()
    wrong = borrow(3, "1")
    log.when(wrong)
    named = msgspec.json.decode(wrong.data)["event_id"]
    said = {"event_id": named, "reason": "no loan", "actor": "ann"}
    assert log.when(event("EventReversed", said, 4)).outcome == "applied"
    assert log.state()["borrowed"] == {}
