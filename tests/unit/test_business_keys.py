"""What makes two events the same fact, as the archive reads it from their bytes."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from tests.support.events import Sent, deposit, event, trade

from psm.contracts.events import AccountEvent
from psm.projections.archive import keys
from psm.projections.archive.keys import KEY_MAX, BusinessKey, business_key


def key_of(sent: Sent) -> BusinessKey | None:
    """Return the key of an event, by its own type."""
    return business_key(msgspec.json.decode(sent.data)["event_type"], sent.data)


def fill(**more: Any) -> BusinessKey:
    """Return the key of a fill of BTC-PERP."""
    side = more.pop("side", "buy")
    found = key_of(trade(1, side, "1", "10", **more))
    assert found is not None
    return found


def test_fill_is_known_by_symbol_id_side_and_order() -> None:
    """Both legs of a self-trade are facts, and so is one trade that fills two orders."""
    assert fill(fill_id="f1") == BusinessKey(kind="fill", key="f1 buy", symbol="BTC-PERP")
    one = fill(fill_id="f1", order_id="o1")
    assert one.key == "f1 buy o1"
    assert one != fill(fill_id="f1", order_id="o2")
    assert one != fill(fill_id="f1", order_id="o1", side="sell")
    assert key_of(trade(1, "buy", "1", "10", fill_id=None)) is None


def test_blank_in_an_id_is_none_between_two() -> None:
    """No two facts share a key."""
    assert fill(fill_id="f buy") != fill(fill_id="f", order_id="buy")
    assert fill(fill_id="f buy").key == "f%20buy buy"


def test_repeat_of_a_field_hides_no_key() -> None:
    """The key is that of the event as the fold reads it, whatever stands beside it."""
    sent = deposit(1, reference="tx", beside="\0")
    assert key_of(sent) == BusinessKey(kind="reference", key="CashDeposited tx")


def test_reference_belongs_to_its_type_and_to_what_it_moves() -> None:
    """A symbol where there is one, else the asset where the event names it."""
    funding = {"symbol": "BTC-PERP", "funding_payment": "1", "reference": "r"}
    assert key_of(event("FundingApplied", funding, 1)) == BusinessKey(
        kind="reference", key="FundingApplied r", symbol="BTC-PERP"
    )
    found = key_of(deposit(1, reference="r", currency="EUR"))
    assert found == BusinessKey(kind="reference", key="CashDeposited r", symbol="EUR")
    assert key_of(deposit(1)) is None


@pytest.mark.parametrize("direction", ["in", "out"])
def test_reversal_is_known_by_its_own_reference(direction: str) -> None:
    """That of the original is not it: a transfer may come back in parts."""
    back = {"transfer_id": "t", "direction": direction, "amount": "1", "currency": "EUR"}
    assert key_of(event("TransferReversed", back, 1)) is None
    found = key_of(event("TransferReversed", {**back, "reversal_reference": "b"}, 1))
    assert found == BusinessKey(kind="reference", key="TransferReversed b", symbol="EUR")
    cash = {"reference": "tx", "amount": "1", "direction": direction}
    assert key_of(event("CashReversed", cash, 1)) is None
    found = key_of(event("CashReversed", {**cash, "reversal_reference": "b"}, 1))
    assert found == BusinessKey(kind="reference", key="CashReversed b")


def test_transfer_is_known_by_its_id_whatever_moves() -> None:
    """Money or shares, in or out."""
    money = {"transfer_id": "t", "amount": "1"}
    shares = {"transfer_id": "t", "symbol": "SAP", "quantity": "1", "cost": "1"}
    for event_type, payload in (
        ("TransferredIn", money),
        ("TransferredOut", money),
        ("PositionTransferredIn", shares),
        ("PositionTransferredOut", shares),
    ):
        assert key_of(event(event_type, payload, 1)) == BusinessKey(kind="transfer", key="t")


def test_what_cannot_be_applied_has_none() -> None:
    """The fold refuses it, so it is nobody's fact."""
    assert key_of(trade(1, "up", "1", "10", fill_id="f1")) is None
    assert business_key("TradeExecuted", b"junk") is None
    assert business_key(None, b"junk") is None


def test_long_key_is_known_by_its_hash() -> None:
    """An index entry has a limit."""
    found = fill(fill_id="ä" * 60, order_id="ö" * 60)
    assert found.key.startswith("sha256:")
    assert len(found.key) < KEY_MAX


def test_every_type_with_a_reference_has_a_key() -> None:
    """A new event that names one is known to the archive too."""
    names = {"reference", "reversal_reference", "transfer_id", "fill_id"}
    forgotten = []
    for event_type in get_args(AccountEvent):
        fields = set(event_type.__struct_fields__)
        corrects = {"reason"} <= fields and "fill_id" in fields
        if fields & names and not corrects and event_type.__name__ not in keys._KEYS:
            forgotten.append(event_type.__name__)
    assert forgotten == []
