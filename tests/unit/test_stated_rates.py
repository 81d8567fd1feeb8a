"""Rates that an event states, and the rate and value that anything is booked at."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any, get_args

import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st
from tests.support.domain import Log, given
from tests.support.events import deposit, event, instrument, mark, opened, trade

from psm.contracts import EventFactory, codec, events, limits, registry
from psm.contracts.errors import ContractError
from psm.contracts.events import CashDeposited, TradeExecuted
from psm.contracts.fields import Payload
from psm.contracts.reversals import TradeAmended
from psm.domain.booking.booked_rates import BookedRate, rate_for, value_of
from psm.domain.booking.context import EventContext
from psm.domain.money import ONE

D = Decimal
MOST = {f"A{n}": "1" for n in range(limits.RATES)}


def read(rates: object) -> Any:
    """Return the rates of a deposit that states them."""
    deposited = registry.codec_for(codec.decode_envelope(deposit(1).data))
    payload = deposited.decode(codec.encode({"amount": "1", "rates": rates}))
    assert isinstance(payload, CashDeposited)
    return payload.rates


def test_every_event_that_moves_money_or_quantity_may_state_rates() -> None:
    """And no other; an amendment may restate them."""
    stating = [kind for kind in get_args(events.AccountEvent) if "rates" in kind.__struct_fields__]
    dated = [k for k in get_args(events.AccountEvent) if "effective_at" in k.__struct_fields__]
    assert [kind for kind in stating if kind not in dated] == [TradeAmended]
    earmarks = [kind for kind in dated if kind.__module__.endswith("margin_events")]
    assert [kind for kind in dated if kind not in stating] == earmarks


@pytest.mark.parametrize(
    ("rates", "found"),
    [
        (None, None),
        ({}, {}),
        ({"BTC": "50000", "X": None}, {"BTC": D(50000), "X": None}),
        ({"BTC": 5, "é": "0"}, {"BTC": D(5), "é": D(0)}),
        ({"B" * limits.SYMBOL_BYTES: "0." + "1" * 18}, {"B" * 64: D("0." + "1" * 18)}),
        (MOST, {name: D(1) for name in MOST}),
    ],
)
def test_rates_are_read(rates: object, found: object) -> None:
    """Zero or more, or null: there was none."""
    assert read(rates) == found


NUMBER = "must be a decimal of zero or more with at most 18 digits before and 18 after the point"
OBJECT = "must be an object of at most 32 names, each with a decimal or null"
NAME = "must be text of 1 to 64 bytes, without NUL"


@pytest.mark.parametrize(
    ("rates", "detail", "field"),
    [
        ([], f"rates {OBJECT}", "payload.rates"),
        ("1", f"rates {OBJECT}", "payload.rates"),
        ({**MOST, "B": "1"}, f"rates {OBJECT}", "payload.rates"),
        ({"": "1"}, f"each name in rates {NAME}", "payload.rates"),
        ({"B" * 65: "1"}, f"each name in rates {NAME}", "payload.rates"),
        ({"é" * 33: "1"}, f"each name in rates {NAME}", "payload.rates"),
        ({"B\0": "1"}, f"each name in rates {NAME}", "payload.rates"),
        ({"A": "1", "B": "-1"}, f"rates {NUMBER}", "payload.rates.B"),
        *(
            ({"B": value}, f"rates {NUMBER}", "payload.rates.B")
            for value in ("", " 1", "1_0", "+1", ".5", "NaN", "1" * 19, "0." + "0" * 18 + "1")
        ),
        *(({"B": odd}, f"rates {NUMBER}", "payload.rates.B") for odd in (True, [1], {"a": 1})),
    ],
)
def test_what_is_no_rate_is_refused_with_its_field(rates: object, detail: str, field: str) -> None:
    """The refusal names the asset."""
    with pytest.raises(ContractError) as refused:
        read(rates)
    assert (refused.value.reason, refused.value.detail) == ("invalid_payload", detail)
    assert refused.value.field == field


def test_the_factory_makes_events_that_state_rates() -> None:
    """With Decimal or text, and null."""
    made = EventFactory("desk", "1.0.0").create_event(
        "CashDeposited",
        "acc_001",
        {"amount": D(1), "currency": "BTC", "rates": {"BTC": D("50000.5"), "XYZ": None}},
    )
    assert made.payload["rates"] == {"BTC": "50000.5", "XYZ": None}


# --- rate_for and value_of ------------------------------------------------------------------------


def spot(base: str, quote: str) -> Any:
    """Return the definition of a spot instrument."""
    return instrument(1, f"{base}{quote}", kind="spot", base=base, quote=quote, settle=quote)


def context_of(log: Log) -> EventContext:
    """Return the context in which an event of the account would be booked now."""
    account = log.account()
    return EventContext(prices=account.prices, home=account.ledger.currency or "USDT")


def moved(**rates: Decimal | None) -> CashDeposited:
    """Return an event that states rates, or states none."""
    return CashDeposited(amount=ONE, rates=rates or None)


def test_a_stated_rate_is_over_every_table() -> None:
    """Over marks and own fills; null is unrated; what is not named is asked for."""
    log = given(spot("A", "USDT"), spot("B", "USDT"), opened(1), mark(1, "5", "AUSDT"))
    log.when(trade(2, "buy", "1", "3", "BUSDT"))
    context = context_of(log)

    def found(event: Payload, asset: str) -> tuple[str, str] | None:
        rate = rate_for(event, context, asset)
        return None if rate is None else (str(rate.value), rate.source)

    assert [found(moved(), name) for name in ("A", "B", "C", "USDT")] == [
        ("5", "table"),
        ("3", "fill"),
        None,
        ("1", "own"),
    ]
    stated = moved(A=D("4.5"), B=None, C=D(0), USDT=D(7))
    assert [found(stated, name) for name in ("A", "B", "C", "USDT")] == [
        ("4.5", "stated"),
        None,
        ("0", "stated"),
        ("1", "own"),
    ]
    assert found(moved(X=D(1)), "A") == ("5", "table")
    rate = rate_for(moved(), context, "B")
    assert rate is not None
    assert [step.text for step in rate.steps] == ["BUSDT (fill)"]


def test_the_first_event_of_an_account_finds_rates_too() -> None:
    """Into the currency that it opens the account with."""
    log = given(spot("A", "EUR"), mark(1, "5", "AEUR"))
    fresh = log.books.open("fresh")
    context = EventContext(prices=fresh.prices, home="EUR")
    rate = rate_for(moved(), context, "A")
    assert rate is not None
    assert (str(rate.value), rate.source) == ("5", "table")


def test_a_stated_rate_has_34_digits_and_a_value_18_decimals() -> None:
    """Half-even; an amount of the account currency is its own value."""
    log = given(opened(1))
    stated = moved(A=D("123456789012345678.123456789012345678"))
    rate = rate_for(stated, context_of(log), "A")
    assert rate == BookedRate(value=D("123456789012345678.1234567890123457"), source="stated")
    third = BookedRate(value=D("0.3333333333333333333333333333333333"), source="table")
    assert value_of(ONE, third) == D("0.333333333333333333")
    half = BookedRate(value=D("0.5"), source="stated")
    odd, even = D("0.000000000000000003"), D("0.000000000000000001")
    assert (value_of(odd, half), value_of(even, half)) == (D("0.000000000000000002"), D(0))
    own = rate_for(moved(), context_of(log), "USDT")
    assert own is not None
    assert value_of(D("1.0000000000000000001"), own) == D("1.0000000000000000001")


NUMBERS = st.decimals("-999999999999999999", "999999999999999999", places=18)


@given_any(NUMBERS, st.decimals("0", "999999999999999999", places=18))
def test_a_value_is_amount_times_rate_to_half_a_unit(amount: Decimal, rate: Decimal) -> None:
    """Of any amount and rate that an event may have; both signs alike."""
    booked = BookedRate(value=rate, source="stated")
    value = value_of(amount, booked)
    exact = Fraction(amount) * Fraction(rate)
    assert abs(Fraction(value) - exact) <= Fraction(1, 2 * 10**18)
    assert value_of(amount.copy_negate(), booked) == value.copy_negate()


def test_flows_are_at_the_rate_of_the_market() -> None:
    """A stated rate is of cost and totals; `flows` and nav are what the money is worth after it."""
    log = given(spot("A", "USDT"), mark(1, "5", "AUSDT"), opened(1), deposit(2, "100"))
    told = {"amount": "2", "currency": "A", "rates": {"A": "4"}}
    log.when(event("CashDeposited", told, 3))
    state = log.state()
    assert (state["equity"], state["flows"], state["nav"]) == ("110", "110", "1")
    log.when(event("CashDeposited", {"amount": "2", "currency": "B", "rates": {"B": "4"}}, 4))
    assert (log.state()["flows"], log.state()["flags"]) == ("110", ["rate_missing"])


def test_an_amendment_may_restate_rates() -> None:
    """It is a change of its own."""
    log = given(opened(1), trade(2, "buy", "1", "5", fill_id="f1"))
    again = {"fill_id": "f1", "reason": "rate of then", "rates": {"BTC": "4"}}
    seen = log.when(event("TradeAmended", again, 3))
    assert seen.result.reason is None
    assert TradeExecuted.__struct_fields__[-2] == "rates"
