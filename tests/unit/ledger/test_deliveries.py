"""PositionSettled of options: paid, exercised, assigned, delivered."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from tests.support.domain import Log, given
from tests.support.events import Sent, deposit, event, instrument, mark, opened, trade
from tests.unit.ledger.actions import cost_less_realized, costs, share

COIN = instrument(1, "BTCUSD", kind="spot", base="BTC", quote="USD", settle="USD")
EURUSD = instrument(1, "EURUSD", kind="spot", base="EUR", quote="USD", settle="USD")
TERMS = {"underlying": "ABC", "strike": "50", "expiry": "2026-06-19T20:00:00Z"}


def option(symbol: str = "ABC-C50", right: str = "call", **more: Any) -> Sent:
    """Return an option on 100 shares of ABC at 50."""
    fields = {"kind": "option", "base": "ABC", "quote": "USD", "settle": "USD"}
    terms = {**TERMS, "right": right, "settlement": "physical", "style": "american"}
    number = more.pop("number", 1)
    return instrument(number, symbol, **{**fields, "multiplier": "100", "option": terms, **more})


def holder(side: str, quantity: str, price: str, *, right: str = "call", shares: str = "0") -> Log:
    """Return an account of 100 000 USD that traded options, and maybe shares at 40."""
    log = given(share("ABC"), option(right=right), opened(1, currency="USD"), deposit(2, "100000"))
    log.when(trade(3, side, quantity, price, "ABC-C50"))
    if Decimal(shares):
        way = "buy" if Decimal(shares) > 0 else "sell"
        log.when(trade(4, way, shares.lstrip("-"), "40", "ABC"))
    return log


def settled(number: int = 5, kind: str = "exercise", price: str = "0", **more: Any) -> Sent:
    payload = {"symbol": "ABC-C50", "settlement_price": price, "kind": kind}
    return event("PositionSettled", {**payload, **more}, number)


def units(quantity: str, price: str = "50", symbol: str = "ABC") -> dict[str, Any]:
    return {"deliver": {"symbol": symbol, "quantity": quantity, "price": price}}


def test_option_is_valued_and_paid_in_full() -> None:
    """A bought one costs its premium, a sold one brings it; both are worth their price."""
    log = holder("buy", "2", "3")
    assert (log.state()["cash"], log.state()["equity"]) == ({"USD": "99400"}, "100000")
    assert (log.position("ABC-C50")["kind"], log.position("ABC-C50")["notional"]) == (
        "option",
        "600",
    )
    sold = holder("sell", "2", "3")
    assert (sold.state()["cash"], sold.state()["equity"]) == ({"USD": "100600"}, "100000")


@pytest.mark.parametrize(
    ("side", "kind", "price", "more", "cash", "realized", "size"),
    [
        ("buy", "expiry", "0", {}, "99400", "-600", "0"),
        ("sell", "expiry", "0", {}, "100600", "600", "0"),
        ("buy", "expiry", "7", {"underlying_price": "57"}, "100800", "800", "0"),
        ("sell", "expiry", "7", {"fee": "2"}, "99198", "-800", "0"),
        ("buy", "exercise", "7", {"quantity": "1"}, "100100", "400", "1"),
        ("sell", "assignment", "7", {"quantity": "1"}, "99900", "-400", "-1"),
        ("buy", "expiry", "7", {"quantity": "0.5"}, "99750", "200", "1.5"),
    ],
)
def test_cash_settlement(
    side: str, kind: str, price: str, more: dict[str, Any], cash: str, realized: str, size: str
) -> None:
    """The settlement price is what the option itself is worth, never the underlying's price."""
    log = holder(side, "2", "3")
    assert log.when(settled(4, kind, price, **more)).outcome == "applied"
    position = log.account().ledger.positions["ABC-C50"]
    assert (log.state()["cash"]["USD"], log.state()["realized_pnl"]) == (cash, realized)
    assert position.size == Decimal(size)


@pytest.mark.parametrize(
    ("right", "side", "kind", "shares", "held", "cash", "realized"),
    [
        # The premium of 300 a contract becomes part of what 100 shares cost, or brought.
        ("call", "buy", "exercise", "0", ("200", "10600"), "89400", "0"),
        ("call", "buy", "exercise", "100", ("300", "14600"), "85400", "0"),
        ("put", "buy", "exercise", "0", ("-200", "9400"), "109400", "0"),
        ("put", "buy", "exercise", "200", None, "101400", "1400"),
        ("call", "sell", "assignment", "0", ("-200", "10600"), "110600", "0"),
        ("call", "sell", "assignment", "300", ("100", "4000"), "98600", "2600"),
        ("put", "sell", "assignment", "0", ("200", "9400"), "90600", "0"),
        ("put", "sell", "assignment", "-200", None, "98600", "-1400"),
        ("call", "buy", "expiry", "-100", ("100", "5300"), "93400", "-1300"),
    ],
)
def test_physical_settlement_carries_the_premium(
    right: str,
    side: str,
    kind: str,
    shares: str,
    held: tuple[str, str] | None,
    cash: str,
    realized: str,
) -> None:
    """Cash moves by the strike alone; nothing is realized but out of a holding."""
    log = holder(side, "2", "3", right=right, shares=shares)
    before = cost_less_realized(log)
    seen = log.when(settled(5 if Decimal(shares) else 4, kind, **units("200")))
    assert seen.outcome == "applied"
    assert costs(log) == ({} if held is None else {"ABC": held})
    assert (log.state()["cash"]["USD"], log.state()["realized_pnl"]) == (cash, realized)
    bought = (right == "call") == (side == "buy")
    assert cost_less_realized(log) == before + (10000 if bought else -10000)


def test_part_is_exercised_with_a_fee() -> None:
    """One of three contracts; the fee is the option's."""
    log = holder("buy", "3", "3")
    log.when(settled(4, quantity="1", fee="1.5", **units("100")))
    assert costs(log) == {"ABC": ("100", "5300"), "ABC-C50": ("2", "6")}
    assert (log.state()["cash"]["USD"], log.state()["fees"]) == ("94098.5", "1.5")
    assert log.position("ABC-C50")["fees"] == "1.5"


def test_stock_leg_of_the_venue_is_the_same_fact() -> None:
    """Its fill comes later under the id that the settlement named: a duplicate; and once only."""
    log = holder("buy", "1", "3")
    again = settled(4, fill_id="s-1", reference="e-1", **units("100"))
    log.when(again)
    leg = trade(5, "buy", "100", "50", "ABC", fill_id="s-1", order_id="x")
    assert log.when(leg).reason == "duplicate_fill"
    assert log.when(trade(6, "sell", "100", "60", "ABC", fill_id="s-1")).outcome == "applied"
    before = log.hashes()
    assert log.when(again).outcome == "duplicate"
    assert log.hashes() == before
    assert log.when(settled(7, fill_id="s-2", reference="e-1", **units("1"))).reason == (
        "duplicate_reference"
    )
    assert log.when(settled(8, fill_id="s-1", reference="e-2", **units("1"))).reason == (
        "duplicate_fill"
    )


def test_into_a_future_the_cost_is_realized() -> None:
    """The future opens at the strike, and no notional moves."""
    future = instrument(1, "ABC-F", kind="linear_future", quote="USD", settle="USD",
                        multiplier="100")  # fmt: skip
    log = holder("buy", "2", "3")
    log.when(future, settled(4, **units("2", symbol="ABC-F")))
    assert (log.state()["cash"], log.state()["realized_pnl"]) == ({"USD": "99400"}, "-600")
    assert costs(log) == {"ABC-F": ("2", "100")}
    assert log.position("ABC-F")["entry_price"] == "50"
    short = holder("buy", "2", "3")
    short.when(future, trade(4, "sell", "2", "55", "ABC-F"))
    short.when(settled(5, **units("2", symbol="ABC-F")))
    assert (short.state()["cash"], short.state()["realized_pnl"]) == ({"USD": "100400"}, "400")
    assert costs(short) == {}


def test_sign_decides_where_no_right_is_known() -> None:
    """Received above zero, delivered below; here the option's terms are not known."""
    option = instrument(1, "OPT", kind="option", base="ABC", quote="USD", settle="USD")
    log = given(share("ABC"), opened(1, currency="USD"), deposit(2, "100000"))
    log.when(option, trade(3, "buy", "1", "3", "OPT"))
    payload = {"symbol": "OPT", "settlement_price": "0", "kind": "exercise"}
    log.when(event("PositionSettled", {**payload, **units("-100")}, 4))
    assert costs(log) == {"ABC": ("-100", "4997")}


def test_a_share_delivers_nothing() -> None:
    """Only options and futures settle in something else: nothing of it is booked."""
    log = given(share("ABC"), opened(1, currency="USD"), deposit(2, "100000"))
    log.when(share("XYZ"), trade(3, "buy", "1", "3", "XYZ"))
    payload = {"symbol": "XYZ", "settlement_price": "0", "kind": "exercise"}
    seen = log.when(event("PositionSettled", {**payload, **units("-100")}, 4))
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
    assert costs(log) == {"XYZ": ("1", "3")}


def test_exercise_may_come_before_its_open() -> None:
    """It is booked as it came; the late fill brings the option back to flat."""
    log = holder("buy", "1", "3")
    log.when(settled(4, quantity="2", **units("200")))
    assert costs(log) == {"ABC": ("200", "10300"), "ABC-C50": ("-1", "0")}
    log.when(trade(5, "buy", "1", "4", "ABC-C50"))
    assert (costs(log), log.state()["realized_pnl"]) == ({"ABC": ("200", "10300")}, "-400")


def test_option_settles_in_coin() -> None:
    """The payoff in dollars, paid in coin at the underlying's price."""
    coin = instrument(1, "BTC-C90", kind="option", base="BTC", quote="USD", settle="USD")
    log = given(coin, opened(1, currency="USD"), deposit(2, "100000"))
    log.when(trade(3, "buy", "2", "3000", "BTC-C90"))
    payload = {"symbol": "BTC-C90", "settlement_price": "10000", "kind": "expiry"}
    said = {**payload, "settlement_currency": "BTC"}
    assert log.when(event("PositionSettled", said, 4)).reason == "invalid_payload"
    seen = log.when(
        event("PositionSettled", {**said, "underlying_price": "100000", "fee": "0.001"}, 5)
    )
    assert seen.outcome == "applied"
    assert log.state()["cash"] == {"BTC": "0.199", "USD": "94000"}
    assert costs(log) == {}


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("payload.kind", {"kind": "session"}),
        ("payload.fill_id", {"fill_id": "f"}),
        ("payload.quantity", {"quantity": "0"}),
        ("payload.deliver", {"deliver": "shares"}),
        ("payload.deliver.quantity", {"deliver": {"symbol": "ABC", "price": "1"}}),
        ("payload.deliver.price", {"deliver": {"symbol": "ABC", "quantity": "1", "price": "x"}}),
        ("payload.deliver.price", units("1", "-1")),
    ],
)
def test_bad_settlement_is_refused(field: str, more: dict[str, Any]) -> None:
    """It keeps its place, changes nothing, and names the field."""
    log = holder("buy", "1", "3")
    before = costs(log)
    seen = log.when(settled(4, **more))
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
    assert seen.payload("EventRefused")["field"] == field
    assert costs(log) == before


@pytest.mark.parametrize(
    ("field", "terms"),
    [
        ("payload.option", "call"),
        ("payload.option.right", {**TERMS, "right": "both"}),
        ("payload.option.strike", {**TERMS, "right": "put", "strike": "NaN"}),
        ("payload.option.underlying", {"right": "put", "strike": "1", "expiry": "x"}),
    ],
)
def test_terms_of_an_option_are_read_strictly(field: str, terms: Any) -> None:
    """A definition that is wrong somewhere names the place."""
    log = given()
    seen = log.when(option(option=terms))
    assert seen.payload("EventRefused")["field"] == field


def test_terms_are_fixed_by_the_first_definition() -> None:
    """Another strike is another instrument."""
    log = given(option())
    other = {**TERMS, "right": "call", "settlement": "physical", "strike": "51"}
    assert log.when(option(option=other, number=2)).reason == "instrument_conflict"


def test_reversed_exercise_never_happened() -> None:
    """The option is held again, the shares are not."""
    log = holder("buy", "2", "3")
    sent = settled(4, **units("200"))
    log.when(sent)
    wrong = msgspec.json.decode(sent.data)["event_id"]
    said = {"event_id": wrong, "reason": "not exercised", "actor": "ann"}
    log.when(event("EventReversed", said, 5))
    assert (costs(log), log.state()["cash"]) == ({"ABC-C50": ("2", "6")}, {"USD": "99400"})


def test_alias_of_the_underlying_is_delivered_under_its_name_of_now() -> None:
    """The contract still says the old symbol."""
    log = holder("buy", "1", "3", shares="10")
    log.when(event("SymbolChanged", {"symbol": "ABC", "new_symbol": "XYZ"}, 5))
    log.when(settled(6, **units("100")))
    assert costs(log) == {"XYZ": ("110", "5700")}


def test_a_pair_that_is_delivered_is_two_assets() -> None:
    """The coin comes at its price for its quote, and costs what the option cost, too."""
    log = holder("buy", "2", "3")
    seen = log.when(COIN, settled(4, **units("2", "20000", "BTCUSD")))
    assert seen.outcome == "applied"
    state = log.state()
    assert (state["cash"], state["realized_pnl"]) == ({"BTC": "2", "USD": "59400"}, "0")
    assert state["assets"]["BTC"]["cost"] == "40600"
    assert costs(log) == {}


def test_coins_that_are_delivered_realize_with_the_cost_of_the_option() -> None:
    """A put of 600 on 2 coins that cost 15 000 each, delivered at 20 000: 9 400."""
    log = holder("buy", "2", "3", right="put")
    log.when(COIN, trade(4, "buy", "2", "15000", "BTCUSD"))
    assert log.when(settled(5, **units("2", "20000", "BTCUSD"))).outcome == "applied"
    state = log.state()
    assert (state["cash"], state["realized_pnl"]) == ({"BTC": "0", "USD": "109400"}, "9400")


@pytest.mark.parametrize("home", ["BTC", "EUR"])
def test_coins_of_another_account_currency(home: str) -> None:
    """The cost of the option is that of the account; the account currency costs its amount."""
    known = (
        COIN,
        mark(1, "20000", "BTCUSD"),
        option(multiplier="1"),
        EURUSD,
        mark(1, "2", "EURUSD"),
    )
    log = given(*known, opened(1, currency=home), deposit(2, "100000"))
    log.when(trade(3, "buy", "2", "400", "ABC-C50"))
    assert log.when(settled(4, **units("2", "20000", "BTCUSD"))).outcome == "applied"
    state = log.state()
    assert costs(log) == {}
    if home == "BTC":  # 2 coins for 40 000 dollars and 800 of the option, at 20 000 a coin
        assert (state["cash"]["BTC"], state["realized_pnl"]) == ("100002", "-0.04")
    else:  # a dollar is half a euro
        assert (state["assets"]["BTC"]["cost"], state["realized_pnl"]) == ("20400", "0")


def test_a_delivery_of_several_legs_says_whose_it_is() -> None:
    """Units come once: which leg they belong to is not guessed."""
    future = instrument(1, "F", kind="linear_future", quote="USD", settle="USD")
    log = given(share("ABC"), future, opened(1, currency="USD"), deposit(2, "100000"))
    log.when(event("PositionModeChanged", {"mode": "hedge"}, 3))
    for number, (side, leg) in enumerate((("buy", "long"), ("sell", "short")), 4):
        fill = {"symbol": "F", "side": side, "quantity": "1", "price": "5", "position_side": leg}
        log.when(event("TradeExecuted", fill, number))
    payload = {"symbol": "F", "settlement_price": "5", "kind": "expiry", **units("1")}
    seen = log.when(event("PositionSettled", payload, 6))
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
    assert seen.payload("EventRefused")["field"] == "payload.position_side"
    named = {**payload, "position_side": "long"}
    assert log.when(event("PositionSettled", named, 7)).outcome == "applied"
    assert costs(log) == {"ABC": ("1", "50"), "F#short": ("-1", "5")}


def test_what_is_paid_in_the_account_currency_is_worth_what_it_is() -> None:
    """An option quoted in dollars pays a fifth of a bitcoin, whatever a dollar is worth."""
    coin = instrument(1, "BTCUSD", kind="spot", base="BTC", quote="USD", settle="USD")
    log = given(option(), coin, opened(1, currency="BTC"), deposit(2, "10"))
    log.when(mark(1, "40000", "BTCUSD"), trade(3, "buy", "1", "20", "ABC-C50"))
    log.when(settled(4, price="100", settlement_currency="BTC", underlying_price="50000"))
    state = log.state()
    assert state["cash"] == {"BTC": "10.2", "USD": "-2000"}
    assert (state["realized_pnl"], state["equity"]) == ("0.15", "10.15")


def test_a_flat_option_in_a_foreign_currency_leaves_no_cash_of_its_own() -> None:
    """Nothing is delivered from it but the units that the venue says; it is no asset."""
    log = given(share("ABC"), option(), opened(1, currency="EUR"), deposit(2, "100000"))
    log.when(trade(3, "buy", "1", "3", "ABC-C50"), trade(4, "sell", "1", "3", "ABC-C50"))
    assert log.when(settled(5, **units("100"))).outcome == "applied"
    assert [*log.state()["cash"]] == ["EUR", "USD"]
