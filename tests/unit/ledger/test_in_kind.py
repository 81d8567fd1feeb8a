"""What comes or goes without a fill: transfers in kind, stock dividends, capital, taxes, cover."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given as sampled
from hypothesis import strategies as st
from tests.support.domain import Log, given
from tests.support.events import Sent, deposit, event, instrument, mark, opened, trade

SHARE = {"kind": "equity", "base": "ABC", "quote": "USD", "settle": "USD"}
PERP = {"kind": "linear_perp", "base": "X", "quote": "USD", "settle": "USD"}


def moved(number: int, way: str, symbol: str, quantity: str, **more: str) -> Sent:
    payload = {"symbol": symbol, "quantity": quantity, "transfer_id": f"t{number}", **more}
    return event(f"PositionTransferred{way}", payload, number)


def account(*sent: Sent) -> Log:
    """Return an account of 10 000 USD."""
    return given(
        instrument(1, "ABC", **SHARE),
        instrument(1, "X-PERP", **PERP),
        opened(1, currency="USD"),
        deposit(2, "10000"),
        *sent,
    )


def figures(log: Log, *names: str) -> tuple[Any, ...]:
    state = log.state()
    return tuple(state[name] for name in names)


def test_shares_that_leave_are_a_flow_at_market_value() -> None:
    """100 shares worth 5000 of 10 000 leave: equity 5000, no loss, no drawdown."""
    log = account(trade(3, "buy", "100", "50", "ABC"), mark(1, "50", "ABC"))
    seen = log.when(moved(4, "Out", "ABC", "100"))
    assert seen.outcome == "applied"
    names = ("equity", "realized_pnl", "drawdown", "nav", "flows", "transfers")
    assert figures(log, *names) == ("5000", "0", "0", "1", "5000", "-5000")


def test_shares_leave_at_cost_for_the_ledger_and_at_market_for_the_nav() -> None:
    """Bought at 50, marked at 80: the gain stays in nav; a part takes its share of the cost."""
    log = account(trade(3, "buy", "100", "50", "ABC"), mark(1, "80", "ABC"))
    assert figures(log, "equity", "nav") == ("13000", "1.3")
    log.when(moved(4, "Out", "ABC", "25"))
    assert figures(log, "equity", "nav", "drawdown") == ("11000", "1.3", "0")
    assert figures(log, "flows", "transfers", "realized_pnl") == ("8000", "-1250", "0")
    assert (log.position("ABC")["size"], log.position("ABC")["entry_price"]) == ("75", "50")


@pytest.mark.parametrize(
    ("more", "entry", "transfers"),
    [({"cost": "300"}, "30", "300"), ({"cost": "0"}, "0", "0"), ({"cost": "400"}, "40", "400")],
)
def test_shares_come_with_their_cost(more: dict[str, str], entry: str, transfers: str) -> None:
    """The flow is at market value: nav does not move, whatever they cost."""
    log = account(mark(1, "40", "ABC"))
    log.when(moved(3, "In", "ABC", "10", **more))
    assert log.position("ABC")["entry_price"] == entry
    assert figures(log, "equity", "nav", "flows") == ("10400", "1", "10400")
    assert figures(log, "transfers", "realized_pnl") == (transfers, "0")


def test_shares_that_come_need_a_cost() -> None:
    """Where neither a rate nor a mark says what they are worth; then it is what they cost."""
    log = account()
    seen = log.when(moved(3, "In", "ABC", "10"))
    assert (seen.reason, seen.payload("EventRefused")["field"]) == (
        "invalid_payload",
        "payload.cost",
    )
    log.when(moved(4, "In", "ABC", "10", cost="70"))
    assert figures(log, "equity", "nav") == ("10070", "1")


def test_shares_that_cover_a_short_are_a_trade() -> None:
    """Sold at 60, covered in kind by what cost 50: realized; the rest opens at its cost."""
    log = account(trade(3, "sell", "10", "60", "ABC"), mark(1, "50", "ABC"))
    before = figures(log, "equity", "nav")
    log.when(moved(4, "In", "ABC", "15", cost="750"))
    assert figures(log, "realized_pnl", "cash") == ("100", {"USD": "10600"})
    assert (log.position("ABC")["size"], log.position("ABC")["entry_price"]) == ("5", "50")
    assert figures(log, "nav") == before[1:]
    assert figures(log, "equity") == (str(int(before[0]) + 15 * 50),)


def test_what_covers_a_short_is_a_trade_at_the_mark() -> None:
    """4 sold at 60 are covered at 50; what is added beyond zero costs its value, too."""
    log = account(trade(3, "sell", "10", "60", "ABC"), mark(1, "50", "ABC"))
    log.when(moved(4, "In", "ABC", "4"))
    assert figures(log, "realized_pnl", "transfers", "nav") == ("40", "200", "1.01")
    log.when(moved(5, "In", "ABC", "7"))
    assert figures(log, "realized_pnl", "transfers", "nav") == ("100", "550", "1.01")
    assert (log.position("ABC")["size"], log.position("ABC")["entry_price"]) == ("1", "50")


def test_a_contract_enters_at_its_entry_price() -> None:
    """The flow is its unrealized gain; the ledger's flow is nothing."""
    log = account(mark(1, "120", "X-PERP"))
    log.when(moved(3, "In", "X-PERP", "2", entry_price="100"))
    assert figures(log, "equity", "nav", "flows", "transfers") == ("10040", "1", "10040", "0")
    log.when(moved(4, "Out", "X-PERP", "1"))
    assert figures(log, "equity", "nav", "unrealized_pnl") == ("10020", "1", "20")
    log.when(moved(5, "In", "X-PERP", "3", side="short", entry_price="110"))
    assert figures(log, "realized_pnl", "cash", "nav") == ("10", {"USD": "10010"}, "1")
    assert (log.position("X-PERP")["side"], log.position("X-PERP")["size"]) == ("short", "2")


@pytest.mark.parametrize(
    ("way", "more", "field"),
    [
        ("In", {}, "payload.entry_price"),
        ("In", {"entry_price": "5", "cost": "5"}, "payload.cost"),
        ("Out", {"side": "short"}, "payload.entry_price"),
        ("In", {"entry_price": "-5"}, "payload.entry_price"),
    ],
)
def test_a_contract_says_where_it_enters(way: str, more: dict[str, str], field: str) -> None:
    """In, and where Out crosses zero."""
    log = account(mark(1, "120", "X-PERP"), trade(3, "buy", "1", "100", "X-PERP"))
    seen = log.when(moved(4, way, "X-PERP", "3", **more))
    assert (seen.reason, seen.payload("EventRefused")["field"]) == ("invalid_payload", field)


def test_a_move_in_kind_is_booked_once() -> None:
    """Its transfer_id is its identity."""
    log = account(trade(3, "buy", "10", "50", "ABC"))
    log.when(moved(4, "Out", "ABC", "1"))
    again = {"symbol": "ABC", "quantity": "1", "transfer_id": "t4"}
    seen = log.when(event("PositionTransferredOut", again, 5))
    assert (seen.reason, log.position("ABC")["size"]) == ("duplicate_transfer", "9")


def test_a_stock_dividend_comes_on_top() -> None:
    """1 for 10 of 55 held: 60.5, of which the venue shows 60 and pays for the half."""
    log = account(trade(3, "buy", "55", "44", "ABC"), mark(1, "44", "ABC"))
    payload = {"symbol": "ABC", "numerator": "1", "denominator": "10"}
    log.when(event("StockDividend", {**payload, "reference": "d1"}, 4))
    assert (log.position("ABC")["size"], log.position("ABC")["entry_price"]) == ("60.5", "40")
    assert figures(log, "equity", "dividends", "realized_pnl") == ("10000", "0", "0")
    assert log.when(event("StockDividend", {**payload, "reference": "d1"}, 5)).reason
    paid = {**payload, "quantity_after": "66", "cash_in_lieu": "30"}
    log.when(event("StockDividend", paid, 6))
    assert log.position("ABC")["size"] == "66"
    released = Fraction(2420) * (1 - Fraction(66) / (Fraction("60.5") * Fraction(11, 10)))
    assert abs(Fraction(figures(log, "realized_pnl")[0]) - (30 - released)) < Fraction(1, 10**15)


def test_capital_paid_back_lowers_the_cost() -> None:
    """What the cost cannot cover is realized; a short pays; a flat account has a dividend."""
    log = account(trade(3, "buy", "10", "5", "ABC"), mark(1, "5", "ABC"))
    log.when(event("ReturnOfCapital", {"symbol": "ABC", "amount": "20"}, 4))
    assert (log.position("ABC")["entry_price"], log.state()["realized_pnl"]) == ("3", "0")
    log.when(event("ReturnOfCapital", {"symbol": "ABC", "amount": "45"}, 5))
    assert (log.position("ABC")["entry_price"], log.state()["realized_pnl"]) == ("0", "15")
    log.when(trade(6, "sell", "10", "5", "ABC"))
    assert figures(log, "cash", "realized_pnl", "equity") == ({"USD": "10065"}, "65", "10065")
    log.when(event("ReturnOfCapital", {"symbol": "ABC", "amount": "1"}, 7))
    assert figures(log, "dividends") == ("1",)
    log.when(trade(8, "sell", "10", "5", "ABC"))
    log.when(event("ReturnOfCapital", {"symbol": "ABC", "amount": "-20"}, 9))
    assert log.position("ABC")["entry_price"] == "3"
    seen = log.when(trade(10, "buy", "1", "5", "X-PERP"))
    seen = log.when(event("ReturnOfCapital", {"symbol": "X-PERP", "amount": "1"}, 11))
    assert seen.reason == "invalid_payload"


def test_taxes_and_covered_losses_have_totals_of_their_own() -> None:
    """Neither is a fee, a gain or a flow."""
    log = account()
    log.when(event("TaxCharged", {"amount": "30", "kind": "withholding", "reference": "x"}, 3))
    log.when(event("TaxCharged", {"amount": "-10", "kind": "refund"}, 4))
    log.when(event("LossCovered", {"symbol": "X-PERP", "amount": "7", "reference": "y"}, 5))
    names = ("cash", "taxes", "losses_covered", "fees", "flows")
    assert figures(log, *names) == ({"USD": "9987"}, "20", "7", "0", "10000")
    for event_type, payload in (
        ("TaxCharged", {"amount": "30", "kind": "withholding", "reference": "x"}),
        ("LossCovered", {"symbol": "X-PERP", "amount": "7", "reference": "y"}),
    ):
        number = log.account().delivery.version + 1
        assert log.when(event(event_type, payload, number)).reason == "duplicate_reference"


def test_a_move_in_kind_comes_back() -> None:
    """Shares that went return with their cost, those that came leave; nav does not move."""
    log = account(trade(3, "buy", "10", "50", "ABC"), mark(1, "80", "ABC"))
    log.when(moved(4, "Out", "ABC", "4"))
    before = figures(log, "nav", "realized_pnl")
    back = {"transfer_id": "t4", "symbol": "ABC", "direction": "out", "quantity": "4"}
    named = {**back, "reversal_reference": "b1"}
    log.when(event("TransferReversed", named, 5))
    assert (log.position("ABC")["size"], log.position("ABC")["entry_price"]) == ("10", "50")
    assert figures(log, "nav", "realized_pnl", "transfers") == (*before, "0")
    assert log.when(event("TransferReversed", named, 6)).reason == "duplicate_reference"
    log.when(moved(7, "In", "ABC", "5", cost="100"))
    came = {"transfer_id": "t7", "symbol": "ABC", "direction": "in", "quantity": "5"}
    log.when(event("TransferReversed", came, 8))
    assert (log.position("ABC")["size"], log.position("ABC")["entry_price"]) == ("10", "50")
    assert figures(log, "transfers", "realized_pnl") == ("0", "0")
    for wrong in ({"symbol": "ABC"}, {"quantity": "1"}, {**came, "amount": "1"}, {}):
        payload = {"transfer_id": "x", "direction": "in", **wrong}
        number = log.account().delivery.version + 1
        assert log.when(event("TransferReversed", payload, number)).reason == "invalid_payload"


STEP = st.tuples(
    st.sampled_from(["buy", "sell", "In", "Out", "mark", "split", "capital"]),
    st.integers(1, 40),
    st.integers(1, 90),
    st.sampled_from(["ABC", "X-PERP"]),
    st.sampled_from(["long", "short"]),
)


@sampled(st.lists(STEP, max_size=25))
def test_equity_is_what_came_in_and_what_was_made(steps: list[Any]) -> None:
    """equity = flows at cost + realized + unrealized + income - costs, exactly, at every step.

    And moves in kind leave the net asset value where it was.
    """
    log = account(mark(1, "50", "ABC"), mark(1, "50", "X-PERP"))
    marks = {"ABC": 1, "X-PERP": 1}
    for kind, quantity, price, symbol, side in steps:
        number = log.account().delivery.version + 1
        nav = Fraction(log.state()["nav"] or 0)
        if kind == "mark":
            marks[symbol] += 1
            log.when(mark(marks[symbol], str(price), symbol))
        elif kind in ("buy", "sell"):
            log.when(trade(number, kind, str(quantity), str(price), symbol, commission="1"))
        elif kind == "split":
            terms = {"numerator": str(quantity), "denominator": str(price)}
            log.when(event("SplitApplied", {"symbol": symbol, **terms}, number))
        elif kind == "capital":
            log.when(event("ReturnOfCapital", {"symbol": "ABC", "amount": str(quantity)}, number))
        else:
            stated = {"cost": str(price * 7)} if symbol == "ABC" else {"entry_price": str(price)}
            before = Fraction(log.state()["equity"] or 0)
            log.when(moved(number, kind, symbol, str(quantity), side=side, **stated))
            after = Fraction(log.state()["equity"] or 0)
            if min(before, after) > 1 and log.state()["nav_epoch"] == 1:
                assert abs(Fraction(log.state()["nav"]) - nav) < Fraction(1, 10**12)
        state, total = log.state(), log.account().ledger.total
        parts = Fraction(total("deposits")) + Fraction(total("transfers"))
        parts += Fraction(total("realized_pnl")) + Fraction(total("dividends"))
        parts -= Fraction(total("fees"))
        valuation = log.account().value()
        assert valuation.equity is not None
        assert valuation.unrealized_pnl is not None
        difference = Fraction(valuation.equity) - Fraction(valuation.unrealized_pnl) - parts
        assert difference == 0, (kind, symbol, state)
