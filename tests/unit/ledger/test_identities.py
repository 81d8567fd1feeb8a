"""What a venue's fact is known by: fills, references, and what came back."""

from __future__ import annotations

import pytest
from hypothesis import given as sampled
from hypothesis import strategies as st
from tests.support.domain import given
from tests.support.events import Sent, deposit, event, funding, opened, trade

from psm.contracts.updates import EventRefused
from psm.domain.messages import Outcome
from psm.domain.windows import WINDOW, FillWindow, fill_key


def fill(number: int, side: str, order_id: str | None = None, fill_id: str = "t1") -> Sent:
    named = {} if order_id is None else {"order_id": order_id}
    return trade(number, side, "1", "10", fill_id=fill_id, **named)


@pytest.mark.parametrize(
    ("first", "second", "applied"),
    [
        (("buy", "o1"), ("sell", "o2"), True),  # a self-trade: both legs have one id
        (("buy", "o1"), ("sell", "o1"), True),
        (("buy", "o1"), ("buy", "o2"), True),  # one trade fills two orders
        (("buy", "o1"), ("buy", "o1"), False),
        (("buy", "o1"), ("buy", None), False),
        (("buy", None), ("buy", "o1"), False),
        (("buy", None), ("buy", None), False),
        (("buy", None), ("sell", None), True),
        (("buy", "o1"), ("sell", None), True),
        (("sell", None), ("buy", "o1"), True),
    ],
)
def test_a_fill_is_its_symbol_id_side_and_order(
    first: tuple[str, str | None], second: tuple[str, str | None], applied: bool
) -> None:
    """Without an order it is the same as any remembered one, and conversely."""
    log = given(opened(1), deposit(2), fill(3, *first))
    size = log.position()["size"]
    seen = log.when(fill(4, *second))
    assert seen.reason == (None if applied else "duplicate_fill")
    assert (log.position()["size"] == size) is not applied


def test_a_fill_without_order_stands_for_the_order_that_completes_it() -> None:
    """Once its order is known, the same trade may fill another one, but not this one again."""
    log = given(opened(1), deposit(2), fill(3, "buy"))
    assert log.when(fill(4, "buy", "o1")).reason == "duplicate_fill"
    assert log.when(fill(5, "buy", "o1")).reason == "duplicate_fill"
    assert log.when(fill(6, "buy", "o2")).outcome is Outcome.APPLIED
    assert log.when(fill(7, "buy", "o2")).reason == "duplicate_fill"
    assert log.when(fill(8, "buy")).reason == "duplicate_fill"
    assert log.position()["size"] == "2"


@sampled(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from(["buy", "sell"]), st.integers(0, 3)),
        max_size=40,
    )
)
def test_fills_are_known_as_a_plain_list_knows_them(fills: list[tuple[str, str, int]]) -> None:
    """The packed window answers as a list of (id, side, order) that is searched through."""
    window, known = FillWindow(), list[tuple[str, str, str | None]]()
    for name, side, number in fills:
        order = f"o{number}" if number else None
        key = fill_key("S", name, side, order)
        same = [one for one in known if one[:2] == (name, side)]
        expected = any(None in (one[2], order) or one[2] == order for one in same)
        assert (key in window) is expected
        if not expected:
            window.add(key)
            known.append((name, side, order))
        elif order is not None and (name, side, order) not in known:
            window.complete(key)
            known[known.index((name, side, None))] = (name, side, order)


MOVES = {
    "CashDeposited": {"amount": "5"},
    "CashWithdrawn": {"amount": "5"},
    "CashAdjusted": {"amount": "5", "reason": "r", "actor": "a"},
    "InterestAccrued": {"amount": "5"},
    "DividendPaid": {"amount": "5", "symbol": "AAPL"},
    "FeeCharged": {"amount": "5"},
    "FundingApplied": {"funding_payment": "5", "symbol": "BTC-PERP"},
    "PositionAdjusted": {
        "symbol": "AAPL", "quantity": "1", "price": "5", "reason": "r", "actor": "a",
    },
    "PositionSettled": {"symbol": "BTC-PERP", "settlement_price": "5", "kind": "expiry"},
    "SplitApplied": {"symbol": "AAPL", "ratio": "2"},
}  # fmt: skip


@pytest.mark.parametrize("event_type", MOVES)
def test_a_reference_is_booked_once(event_type: str) -> None:
    """Under another event_id it is refused; another type or reference is another fact."""
    payload = {**MOVES[event_type], "reference": "tx-1"}
    log = given(opened(1), deposit(2, "100", reference="first"))
    assert log.when(event(event_type, payload, 3)).outcome is Outcome.APPLIED
    before = log.state()
    seen = log.when(event(event_type, payload, 4, salt="again"))
    assert (seen.outcome, seen.reason) == (Outcome.REFUSED, "duplicate_reference")
    assert log.state()["cash"] == before["cash"]
    assert log.state()["positions"] == before["positions"]
    again = {**payload, "reference": "tx-2"}
    assert log.when(event(event_type, again, 5)).outcome is Outcome.APPLIED
    other = "CashDeposited" if event_type == "FeeCharged" else "FeeCharged"
    assert log.when(event(other, {**MOVES[other], "reference": "tx-1"}, 6)).outcome == "applied"


def test_a_reference_belongs_to_its_asset() -> None:
    """One transaction may bring two assets."""
    log = given(opened(1), deposit(2, "1", reference="tx"))
    assert log.when(deposit(3, "1", currency="BTC", reference="tx")).outcome == "applied"
    assert log.when(deposit(4, "1", currency="USDT", reference="tx")).outcome == "refused"


@pytest.mark.parametrize(
    "reference", ["two words", "Überweisung", "a/b", "a" * 127 + "#", 128 * "汇"]
)
def test_a_reference_that_is_not_opaque_is_booked(reference: str) -> None:
    """Money is never refused for the look of its name; it is flagged, and still booked once."""
    log = given(opened(1))
    seen = log.when(deposit(2, "7", reference=reference))
    assert seen.payload("StateUpdated")["flags"] == ["reference_not_opaque"]
    seen = log.when(deposit(3, "7", reference=reference, salt="again"))
    assert seen.reason == "duplicate_reference"
    assert reference not in seen.payload("EventRefused")["detail"]
    assert "detail" in EventRefused.__struct_fields__


def test_fills_and_references_have_windows_of_their_own() -> None:
    """256 fills later a deposit is still known, and 256 references later a fill."""
    log = given(opened(1), deposit(2, "1", reference="tx"), fill(3, "buy", fill_id="f"))
    for n in range(4, 4 + WINDOW):
        log.when(fill(n, "buy", fill_id=f"x{n}"))
    number = log.account().delivery.version + 1
    assert log.when(deposit(number, "1", reference="tx")).reason == "duplicate_reference"
    assert log.when(fill(number + 1, "buy", fill_id="f")).outcome is Outcome.APPLIED
    for n in range(number + 2, number + 1 + WINDOW):
        log.when(deposit(n, "1", reference=f"x{n}"))
    last = log.account().delivery.version + 1
    assert log.when(fill(last, "buy", fill_id="f")).reason == "duplicate_fill"
    assert log.when(deposit(last + 1, "1", reference="tx")).reason == "duplicate_reference"
    assert log.when(deposit(last + 2, "1", reference="y")).outcome is Outcome.APPLIED
    assert log.when(deposit(last + 3, "1", reference="tx")).outcome is Outcome.APPLIED


def test_references_of_funding_and_deposit_do_not_meet() -> None:
    """The type is part of the identity."""
    log = given(opened(1), funding(2, "1", reference="x"))
    assert log.when(deposit(3, "1", reference="x")).outcome is Outcome.APPLIED


@pytest.mark.parametrize(
    ("event_type", "name", "direction", "total", "cash"),
    [
        ("TransferredIn", "transfer_id", "in", "transfers", "1000"),
        ("TransferredOut", "transfer_id", "out", "transfers", "1000"),
        ("CashDeposited", "reference", "in", "deposits", "1000"),
        ("CashWithdrawn", "reference", "out", "withdrawals", "1000"),
    ],
)
def test_what_came_back_reduces_the_total_it_was_in(
    event_type: str, name: str, direction: str, total: str, cash: str
) -> None:
    """In two parts; afterwards cash, total, peak and drawdown are as if it had never left."""
    log = given(opened(1), deposit(2))
    before = dict(log.account().ledger.totals)
    log.when(event(event_type, {"amount": "300", name: "r1"}, 3))
    back = "TransferReversed" if name == "transfer_id" else "CashReversed"
    payload = {name: "r1", "direction": direction}
    log.when(event(back, {**payload, "amount": "100", "reversal_reference": "b1"}, 4))
    log.when(event(back, {**payload, "amount": "200", "reversal_reference": "b2"}, 5))
    state = log.state()
    assert state["cash"] == {"USDT": cash}
    assert {k: v for k, v in log.account().ledger.totals.items() if v} == before
    assert (state["peak_equity"], state["drawdown"]) == ("1000", "0")
    seen = log.when(event(back, {**payload, "amount": "100", "reversal_reference": "b2"}, 6))
    assert seen.reason == "duplicate_reference"
    assert total in ("transfers", "deposits", "withdrawals")
