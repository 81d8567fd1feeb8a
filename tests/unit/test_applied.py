"""What a `StateUpdated` repeats of the event behind it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.domain import given
from tests.support.events import SYMBOL, Sent, deposit, event, mark, opened, trade
from tests.support.slots import even_slots

from psm.contracts.registry import ACCOUNT_EVENTS
from psm.contracts.updates import AppliedEvent
from psm.domain.publication.applied import applied_event


def applied(sent: Sent, *before: Sent) -> dict[str, Any]:
    """Return what the update says of an event."""
    found: dict[str, Any] = given(*before).when(sent).payload("StateUpdated")["applied"]
    return found


def test_a_fill_is_repeated_for_analytics() -> None:
    """Updates hold no fills otherwise; numbers are canonical."""
    sent = trade(1, "buy", "1.50", "100.0", commission="0.10", order_id="o", fill_id="f")
    assert applied(sent) == {
        "event_type": "TradeExecuted",
        "symbol": SYMBOL,
        "side": "buy",
        "quantity": "1.5",
        "price": "100",
        "fee": "0.1",
        "order_id": "o",
        "fill_id": "f",
    }


@pytest.mark.parametrize(
    ("event_type", "payload", "expected"),
    [
        ("CashDeposited", {"amount": "5", "reference": "r"}, {"amount": "5", "reference": "r"}),
        (
            "TransferredOut",
            {"amount": "5", "transfer_id": "t", "counterparty": "Bob Smith"},
            {"amount": "5", "reference": "t"},
        ),
        (
            "CashAdjusted",
            {"amount": "5", "actor": "ann", "reason": "secret"},
            {"amount": "5"},
        ),
        (
            "CashReversed",
            {"amount": "5", "reference": "r", "direction": "in", "reversal_reference": "b"},
            {"amount": "5", "reference": "b", "target": "r"},
        ),
        (
            "TransferReversed",
            {"amount": "5", "transfer_id": "t", "direction": "in"},
            {"amount": "5", "target": "t"},
        ),
        (
            "FundingApplied",
            {"symbol": "X", "funding_payment": "-0.50"},
            {"symbol": "X", "amount": "-0.5"},
        ),
        (
            "PositionSettled",
            {"symbol": "X", "settlement_price": "7", "kind": "expiry"},
            {"symbol": "X", "price": "7"},
        ),
    ],
)
def test_an_event_says_what_it_moved_and_nobodys_name(
    event_type: str, payload: dict[str, str], expected: dict[str, str]
) -> None:
    """Amount and reference; never actor, reason or counterparty."""
    found = applied(event(event_type, payload, 3), opened(1), deposit(2))
    assert found == {"event_type": event_type, **expected}


def test_a_bust_names_its_target() -> None:
    """By the name that was given."""
    log = given(opened(1), trade(2, "buy", "1", "10", fill_id="f"))
    seen = log.when(event("TradeBusted", {"fill_id": "f", "reason": "x"}, 3))
    said = seen.payload("StateUpdated")["applied"]
    assert said == {"event_type": "TradeBusted", "target": "f"}


def test_marks_and_refusals_apply_nothing() -> None:
    """There is no event to tell of."""
    log = given(opened(1), trade(2, "buy", "1", "10"), mark(1, "19"), slots=even_slots(1000))
    assert "applied" not in log.when(mark(2, "20")).payload("StateUpdated")
    refused = log.when(deposit(3, "-1"))
    assert "applied" not in refused.payload("StateUpdated")
    assert "applied" not in log.state()


def test_every_field_is_one_of_the_contract() -> None:
    """For every type of event there is."""
    known = {*AppliedEvent.__struct_fields__}
    for kind in ACCOUNT_EVENTS:
        values = dict.fromkeys(kind.__struct_fields__)
        values |= {"symbol": "S", "reference": "r", "reason": "secret", "actor": "ann"}
        made = kind(**{n: v for n, v in values.items() if n in kind.__struct_fields__})
        said = applied_event(made)
        assert {*said} <= known
        assert "secret" not in said.values()
        assert "ann" not in said.values()
