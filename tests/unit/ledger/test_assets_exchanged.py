"""AssetsExchanged."""

from __future__ import annotations

from typing import Any

import msgspec
from tests.support.domain import Log, given
from tests.support.events import Sent, deposit, event, opened


def exchange(number: int = 3, **terms: Any) -> Sent:
    """Return 100 USDT for 0.002 BTC."""
    said = {"from": "USDT", "from_amount": "100", "to": "BTC", "to_amount": "0.002"}
    return event("AssetsExchanged", {**said, **terms}, number)


def account() -> Log:
    return given(opened(1), deposit(2))


def test_assets_exchanged_is_booked() -> None:
    """One goes, the other comes, and the fee out of what came, or of what is named."""
    log = account()
    assert log.when(exchange(fee="0.0001")).outcome == "applied"
    assert log.state()["cash"] == {"BTC": "0.0019", "USDT": "900"}
    log.when(exchange(4, fee="2", fee_currency="BNB"))
    assert log.state()["cash"] == {"BNB": "-2", "BTC": "0.0039", "USDT": "800"}


def test_assets_exchanged_with_a_bad_payload_is_refused() -> None:
    """It keeps its place, changes nothing, and names the field."""
    log = account()
    seen = log.when(exchange(from_amount="-1"))
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
    assert seen.payload("EventRefused")["field"] == "payload.from_amount"
    assert log.state()["cash"] == {"USDT": "1000"}


def test_assets_exchanged_repeated_is_a_duplicate() -> None:
    """The same bytes change nothing; its reference is known; its number is taken."""
    log = account()
    again = exchange(reference="x")
    log.when(again)
    before = log.hashes()
    assert log.when(again).outcome == "duplicate"
    assert log.hashes() == before
    assert log.when(exchange(4, reference="x")).reason == "duplicate_reference"
    assert log.when(exchange(3, fee="1")).outcome == "conflict"


def test_reversed_exchange_never_happened() -> None:
    """Named by its event_id."""
    log = account()
    wrong = exchange()
    log.when(wrong)
    named = msgspec.json.decode(wrong.data)["event_id"]
    said = {"event_id": named, "reason": "not filled", "actor": "ann"}
    assert log.when(event("EventReversed", said, 4)).outcome == "applied"
    assert log.state()["cash"] == {"USDT": "1000"}


def test_an_asset_is_not_exchanged_for_itself() -> None:
    """The field is named, and nothing changes."""
    log = account()
    seen = log.when(exchange(to="USDT"))
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
    assert seen.payload("EventRefused")["field"] == "payload.to"
    assert log.state()["equity"] == "1000"
