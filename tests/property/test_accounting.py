"""Accounting identities over random logs, and agreement with an independent reference."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.domain import Log
from tests.support.domain import given as log_of
from tests.support.events import Sent, changed, deposit, mark, trade, withdrawal
from tests.support.reference import Reference
from tests.support.strategies import Story, stories

from psm.domain.account import Account
from psm.domain.ledger.positions import entry_price
from psm.domain.money import absolute
from psm.domain.valuation.performance import drawdown

ROUNDING = Fraction(1, 10**26)
"""34 significant digits of amounts below 10^8."""


def cash_flow(messages: list[Sent], stream: str, symbol: str) -> Fraction:
    """Return what the fills of one symbol cost and brought, without multiplier."""
    total = Fraction(0)
    for sent in messages:
        body = msgspec.json.decode(sent.data)
        payload = body["payload"]
        if body["event_type"] != "TradeExecuted" or body["stream_id"] != stream:
            continue
        if payload["symbol"] == symbol:
            value = Fraction(payload["quantity"]) * Fraction(payload["price"])
            total += -value if payload["side"] == "buy" else value
    return total


def trades(account: Account) -> list[str]:
    """Return the symbols the account ever traded."""
    return sorted(account.ledger.positions)


@given(stories(refusals=False))
def test_realized_plus_unrealized_is_cash_flow_plus_position_value(story: Story) -> None:
    """Exactly, at every price: what rounding takes from one side it gives to the other."""
    messages = story.messages()
    log = log_of(*messages)
    for stream, account in log.books.accounts.items():
        for position in account.ledger.positions.values():
            price = Fraction(31337, 7)
            multiplier = Fraction(position.instrument.multiplier)
            size, cost = Fraction(position.size), Fraction(position.cost)
            basis = cost if size > 0 else -cost
            unrealized = (size * price - basis) * multiplier
            flow = cash_flow(messages, stream, position.symbol)
            assert Fraction(position.realized_pnl) + unrealized == multiplier * (
                flow + size * price
            )


@given(stories())
def test_cash_is_the_sum_of_its_entries(story: Story) -> None:
    """Deposits - withdrawals + realized - fees + funding, and what fully paid instruments cost."""
    messages = story.messages()
    for account in log_of(*messages).books.accounts.values():
        total = {
            name: Fraction(account.ledger.total(name))
            for name in ("deposits", "withdrawals", "realized_pnl", "fees", "funding")
        }
        paid = sum(
            (Fraction(p.cost) * (1 if p.size > 0 else -1) * Fraction(p.instrument.multiplier))
            for p in account.ledger.positions.values()
            if p.instrument.full_notional
        )
        flows = total["deposits"] - total["withdrawals"]
        earned = total["realized_pnl"] - total["fees"] + total["funding"]
        assert Fraction(account.ledger.cash["USDT"]) == flows + earned - paid


@given(stories(symbols=2))
def test_equity_is_cash_plus_unrealized(story: Story) -> None:
    """After every message, for derivatives."""
    log = Log()
    for sent in story.messages():
        log.when(sent)
        for account in log.books.accounts.values():
            valuation = account.value()
            assert valuation.equity is not None
            assert valuation.unrealized_pnl is not None
            cash = account.ledger.cash.get("USDT", Decimal(0))
            assert Fraction(valuation.equity) == Fraction(cash) + Fraction(valuation.unrealized_pnl)


@given(stories(refusals=False))
def test_reference_agrees(story: Story) -> None:
    """Fractions and textbook formulas give the same account."""
    messages = story.messages()
    log, reference = log_of(*messages), Reference(messages)
    for stream, account in log.books.accounts.items():
        valuation = account.value()
        assert Fraction(account.ledger.total("fees")) == reference.fees[stream]
        assert Fraction(account.ledger.total("funding")) == reference.funding[stream]
        for symbol, held in reference.positions(stream).items():
            assert Fraction(account.ledger.positions[symbol].size) == held.size
        pairs = [
            (account.ledger.cash["USDT"], reference.cash[stream]),
            (account.ledger.total("realized_pnl"), reference.realized(stream)),
            (valuation.unrealized_pnl, reference.unrealized(stream)),
        ]
        for ours, theirs in pairs:
            assert ours is not None
            assert abs(Fraction(ours) - theirs) <= ROUNDING
        assert valuation.equity is not None
        assert Fraction(valuation.equity) == reference.equity(stream)


@given(stories(flows=False), st.integers(1, 10**9), st.booleans())
def test_flows_leave_drawdown_unchanged(story: Story, amount: int, out: bool) -> None:
    """As long as equity is positive before and after, a flow neither creates nor hides any."""
    log = log_of(*story.messages())
    account = log.account("acc_000")
    equity = account.value().equity
    assert equity is not None
    before = drawdown(account.valuation.peak_equity, equity)
    text = f"{amount}.01"
    if before is None or equity <= 0 or (out and equity <= Decimal(text)):
        return
    make = withdrawal if out else deposit
    log.when(make(account.delivery.version + 1, text, stream="acc_000"))
    after = drawdown(account.valuation.peak_equity, account.value().equity)
    assert after is not None
    assert abs(Fraction(after) - Fraction(before)) <= ROUNDING


@given(stories(costs=False, refusals=False, symbols=2))
def test_mirror(story: Story) -> None:
    """With every side turned round, realized and unrealized change only their sign."""
    messages = story.messages()
    one, two = log_of(*messages), log_of(*map(mirrored, messages))
    for stream, account in one.books.accounts.items():
        other = two.account(stream)
        for symbol, position in account.ledger.positions.items():
            twin = other.ledger.positions[symbol]
            assert twin.size == position.size.copy_negate()
            assert (twin.cost, twin.cycle) == (position.cost, position.cycle)
            assert twin.realized_pnl == position.realized_pnl.copy_negate()
        ours, theirs = (a.value() for log, a in ((one, account), (two, other)))
        assert ours.unrealized_pnl is not None
        assert theirs.unrealized_pnl == ours.unrealized_pnl.copy_negate()


def mirrored(sent: Sent) -> Sent:
    """Return the message with its side turned round."""
    body = msgspec.json.decode(sent.data)
    if body["event_type"] != "TradeExecuted":
        return sent
    side = "sell" if body["payload"]["side"] == "buy" else "buy"
    return changed(sent, payload={**body["payload"], "side": side})


def close(ours: Decimal | None, theirs: Decimal | None) -> bool:
    """Return whether two figures agree but for rounding."""
    if ours is None or theirs is None:
        return ours is theirs
    return abs(Fraction(ours) - Fraction(theirs)) <= ROUNDING


@given(stories(accounts=1, symbols=2, refusals=False), st.integers(2, 5))
def test_split_fills_are_one_fill(story: Story, parts: int) -> None:
    """The same fill in k pieces at the same price changes nothing but counters."""
    whole, pieces = [], []
    numbers = {"whole": 0, "pieces": 0}
    for sent in story.messages():
        body = msgspec.json.decode(sent.data)
        if not sent.subject.startswith("trades."):
            whole.append(sent)
            pieces.append(sent)
            continue
        payload = {name: v for name, v in body["payload"].items() if name != "fill_id"}
        numbers["whole"] += 1
        whole.append(changed(sent, sequence_number=numbers["whole"], payload=payload))
        for piece in split(payload, parts) if body["event_type"] == "TradeExecuted" else [payload]:
            numbers["pieces"] += 1
            number = numbers["pieces"]
            unique = f"{number:08x}-0000-4000-8000-000000000000"
            pieces.append(changed(sent, sequence_number=number, payload=piece, event_id=unique))
    one, two = log_of(*whole), log_of(*pieces)
    account, other = one.account("acc_000"), two.account("acc_000")
    assert close(account.ledger.cash["USDT"], other.ledger.cash["USDT"])
    assert account.ledger.total("fees") == other.ledger.total("fees")
    for symbol in trades(account):
        position, twin = account.ledger.positions[symbol], other.ledger.positions[symbol]
        assert (position.size, position.cycle) == (twin.size, twin.cycle)
        assert close(position.cost, twin.cost)
        assert close(position.realized_pnl, twin.realized_pnl)
    assert close(account.value().equity, other.value().equity)


def split(payload: dict[str, str], parts: int) -> list[dict[str, str]]:
    """Return a fill in parts: equal ones, and the rest; the commission goes with the first."""
    quantity = Decimal(payload["quantity"])
    share = (quantity / parts).quantize(Decimal("1e-9"))
    shares = [share] * (parts - 1) + [quantity - share * (parts - 1)]
    first = [payload.get("commission", "0")] + ["0"] * (parts - 1)
    return [
        {**payload, "quantity": format(share, "f"), "commission": commission}
        for share, commission in zip(shares, first, strict=True)
        if share > 0
    ]


@given(stories(accounts=1, symbols=2, refusals=False, costs=False), st.integers(2, 1000))
def test_pnl_scales_with_quantity(story: Story, factor: int) -> None:
    """Twice the size, twice the gain."""
    messages = story.messages()
    scaled = []
    for sent in messages:
        body = msgspec.json.decode(sent.data)
        if body["event_type"] == "TradeExecuted":
            payload = body["payload"]
            larger = format(Decimal(payload["quantity"]) * factor, "f")
            scaled.append(changed(sent, payload={**payload, "quantity": larger}))
        else:
            scaled.append(sent)
    one, two = log_of(*messages), log_of(*scaled)
    rounding = ROUNDING * factor * len(messages)  # each reduction rounds its share of the cost once
    account, other = one.account("acc_000"), two.account("acc_000")
    for symbol in trades(account):
        ours = Fraction(account.ledger.positions[symbol].realized_pnl) * factor
        assert abs(ours - Fraction(other.ledger.positions[symbol].realized_pnl)) <= rounding
    u, v = (account.value(), other.value())
    assert u.unrealized_pnl is not None
    assert v.unrealized_pnl is not None
    gap = abs(Fraction(u.unrealized_pnl) * factor - Fraction(v.unrealized_pnl))
    assert gap <= rounding


@given(stories(accounts=1), st.integers(1, 99))
def test_partial_close_keeps_the_entry(story: Story, percent: int) -> None:
    """Reducing realizes; the entry price of what is left stays."""
    log = log_of(*story.messages())
    account = log.account("acc_000")
    for position in [p for _, p in sorted(account.ledger.positions.items()) if p.size]:
        quantity = (absolute(position.size) * percent / 100).quantize(Decimal("1e-9"))
        side = "sell" if position.size > 0 else "buy"
        if not 0 < quantity < absolute(position.size):
            continue
        number = account.delivery.version + 1
        sent = trade(number, side, format(quantity, "f"), "77.7", position.symbol, stream="acc_000")
        log.when(sent)
        after = account.ledger.positions[position.symbol]
        assert after.cycle == position.cycle
        assert close(entry_price(after), entry_price(position))


@given(stories(accounts=1))
def test_closing_at_the_mark_leaves_equity_unchanged(story: Story) -> None:
    """Without a fee, closing everything at its mark turns unrealized into realized exactly."""
    log = log_of(*story.messages())
    account = log.account("acc_000")
    for position in [p for _, p in sorted(account.ledger.positions.items()) if p.size]:
        log.when(mark(10_000, "4321.09", position.symbol))
        before = account.value().equity
        side = "sell" if position.size > 0 else "buy"
        quantity = format(absolute(position.size), "f")
        number = account.delivery.version + 1
        log.when(trade(number, side, quantity, "4321.09", position.symbol, stream="acc_000"))
        assert account.ledger.positions[position.symbol].side == "flat"
        assert account.value().equity == before


@settings(max_examples=20)
@given(stories(length=150, refusals=False))
def test_long_stories_agree_with_the_reference(story: Story) -> None:
    """Rounding does not add up: 150 messages are as exact as ten."""
    test_reference_agrees.hypothesis.inner_test(story)  # type: ignore[attr-defined]
