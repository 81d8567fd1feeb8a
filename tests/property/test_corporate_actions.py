"""Corporate actions over random logs: the rules written twice agree, and cost is conserved."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from tests.support.domain import Log, restarted
from tests.support.domain import given as log_of
from tests.support.events import Sent, event, mark
from tests.support.reference_actions import ActionsReference
from tests.support.shares import OPTION, Shares

from psm.domain.account import Account
from psm.domain.ledger.effect import TotalName

seeds = st.integers(0, 2**32)
CLOSE = Fraction(1, 10**22)
"""34 significant digits of amounts below 10^8, times a few roundings."""


def signed_costs(account: Account) -> Fraction:
    """Return the cost of everything held, with multiplier, of shorts below zero."""
    return sum(
        (
            Fraction(p.cost) * Fraction(p.instrument.multiplier) * (1 if p.size > 0 else -1)
            for p in account.ledger.positions.values()
        ),
        Fraction(0),
    )


def realized(account: Account) -> Fraction:
    """Return what was realized in dollars."""
    return Fraction(account.ledger.total("realized_pnl"))


@given(seeds)
def test_reference_agrees(seed: int) -> None:
    """Fractions and the rules as they are written give the same account, by log and symbol."""
    sent = Shares(seed).sent
    log = log_of(*sent)
    account, theirs = log.account(), ActionsReference(_applied(sent))
    for currency, amount in theirs.cash.items():
        assert abs(Fraction(account.ledger.cash[currency]) - amount) <= CLOSE, currency
    for symbol, (size, cost) in theirs.held.items():
        position = account.ledger.positions.get(symbol)
        if position is None:
            assert not size, symbol
            continue
        signed = Fraction(position.cost) * (1 if position.size > 0 else -1)
        assert abs(Fraction(position.size) - size) <= CLOSE, symbol
        own = signed * Fraction(position.instrument.multiplier)
        assert abs(own - cost) <= CLOSE, symbol
    gained = theirs.sums.get("realized_pnl", Fraction(0))
    assert abs(realized(account) - gained) <= CLOSE
    names: tuple[TotalName, ...] = ("dividends", "taxes", "deposits", "fees")
    for name in names:
        ours = account.ledger.total(name)
        assert abs(Fraction(ours) - theirs.sums.get(name, Fraction(0))) <= CLOSE, name
    owed = {asset: amount for asset, amount in theirs.borrowed.items() if amount}
    assert {a: Fraction(v) for a, v in account.ledger.borrowed.items()} == owed


@given(seeds)
def test_exposure_is_by_delta_and_survives_a_restart(seed: int) -> None:
    """Of options by what they are on, under its name of now, and the delta of their last mark."""
    log, delta = Log(), Fraction(1)
    for message in Shares(seed).sent:
        log.when(message)
        if _type(message) == "MarkPriceUpdated" and _payload(message)["symbol"] == OPTION:
            delta = Fraction(_payload(message).get("delta", 1))
    account, net = log.account(), Fraction(0)
    aliases = account.ledger.renames.aliases
    for symbol, position in account.ledger.positions.items():
        if not position.size:
            continue
        underlying = account.prices.mark(aliases.get("AAA", "AAA"))
        price = Fraction(account.prices.price_of(position)[0])
        if symbol == OPTION and underlying is not None:
            price = Fraction(underlying) * delta
        net += Fraction(position.size) * Fraction(position.instrument.multiplier) * price
    found = account.value().exposure_net
    assert found is not None
    assets = account.valuation.totals.assets
    assert Fraction(found) - Fraction(assets.figures.value if assets else 0) == net
    assert restarted(log).end() == log.end()


def _applied(sent: list[Sent]) -> list[Sent]:
    """Return the messages that the fold applied: refused ones have rules of their own."""
    log, kept = Log(), []
    for message in sent:
        if log.when(message).outcome == "applied":
            kept.append(message)
    return kept


@given(seeds)
def test_cost_less_realized_moves_by_cash_alone(seed: int) -> None:
    """Whatever an issuer does: no cost is lost, and none is made."""
    log = Log()
    actions = ("SplitApplied", "StockDividend", "SymbolChanged", "SpinOff", "Merged")
    for message in Shares(seed).sent:
        body = msgspec.json.decode(message.data)
        account = log.books.accounts.get("acc_001")
        before = _sums(account)
        log.when(message)
        if body["event_type"] in (*actions, "ReturnOfCapital", "PositionSettled"):
            after = _sums(log.account())
            assert after == before, body


def _sums(account: Account | None) -> Fraction:
    """Return cost - realized + cash - dividends: what no action changes."""
    if account is None:
        return Fraction(0)
    paid = Fraction(account.ledger.total("dividends"))
    cash = Fraction(account.ledger.cash.get("USD", 0))
    return signed_costs(account) - realized(account) + cash - paid


@given(seeds)
def test_bust_is_the_log_without_the_fill(seed: int) -> None:
    """Corporate actions between them see the corrected past: every figure, peak included."""
    author = Shares(seed, length=25)
    log = log_of(*author.sent)
    if not author.fills:
        return
    wrong = author.fills[seed % len(author.fills)]
    named = {"fill_id": wrong, "reason": "error"}
    seen = log.when(event("TradeBusted", named, author.number + 1))
    assert seen.outcome == "applied"
    if "void_in_correction" in seen.payload("StateUpdated")["flags"]:
        return  # a stated size no longer fits: the cut one is taken
    plain = log_of(
        *_without(author.sent, wrong), event("FeeCharged", {"amount": "0"}, author.number + 1)
    )
    ours, theirs = _figures(log), _figures(plain)
    assert ours == theirs


def _without(sent: list[Sent], fill_id: str) -> list[Sent]:
    """Return the messages with nothing in place of a fill."""
    kept = []
    for message in sent:
        body = msgspec.json.decode(message.data)
        if body["payload"].get("fill_id") == fill_id and body["event_type"] == "TradeExecuted":
            message = event("FeeCharged", {"amount": "0"}, body["sequence_number"])
        kept.append(message)
    return kept


def _figures(log: Log) -> dict[str, Any]:
    state = log.state()
    hashes = ("event_hash", "chain_hash", "ledger_hash", "state_hash")
    for name in (*hashes, "sequence_number", "log_sequence", "flags"):
        state.pop(name)
    state["cash"] = {c: v for c, v in state["cash"].items() if v != "0"}
    for position in state["positions"].values():
        position.pop("cycle_opened_at")
    return state


@given(seeds, st.sampled_from(["AAA", "BBB"]))
def test_symbol_change_is_a_relabelling(seed: int, symbol: str) -> None:
    """Whatever came before and comes after, under either name: the figures are the same."""
    author = Shares(seed, length=24)
    moved = [m for m in author.sent if _type(m) not in ("SymbolChanged", "InstrumentDefined")]
    # Into the old name would come another thing.
    plain = [m for m in moved if _payload(m).get("new_symbol") != symbol]
    tables = [m for m in author.sent if _type(m) == "InstrumentDefined"]
    cut = 2 + (seed % max(1, len(plain) - 2))
    noop = event("FeeCharged", {"amount": "0"}, 1)
    change = event("SymbolChanged", {"symbol": symbol, "new_symbol": "ZZZ"}, 1)
    one = log_of(*tables, *_numbered([*plain[:cut], noop, *plain[cut:]]))
    after = [_marked_as(m, symbol, "ZZZ") for m in plain[cut:]]
    other = log_of(*tables, *_numbered([*plain[:cut], change, *after]))
    ours, theirs = _figures(one), _figures(other)
    positions = {("ZZZ" if s == symbol else s): p for s, p in ours.pop("positions").items()}
    for place, position in positions.items():
        position["symbol"] = place
    assert positions == theirs.pop("positions")
    assert ours == theirs


def _type(message: Sent) -> str:
    return str(msgspec.json.decode(message.data)["event_type"])


def _payload(message: Sent) -> dict[str, Any]:
    payload: dict[str, Any] = msgspec.json.decode(message.data)["payload"]
    return payload


def _numbered(sent: list[Sent]) -> list[Sent]:
    """Return the events as a stream of their own, numbered from 1."""
    again = []
    number = 0
    for message in sent:
        body = msgspec.json.decode(message.data)
        if body["event_type"] == "MarkPriceUpdated":
            again.append(message)
        else:
            number += 1
            again.append(event(body["event_type"], body["payload"], number))
    return again


def _marked_as(message: Sent, symbol: str, new: str) -> Sent:
    """Return a mark of a symbol as one of another; anything else as it is."""
    body = msgspec.json.decode(message.data)
    if body["event_type"] != "MarkPriceUpdated" or body["payload"]["symbol"] != symbol:
        return message
    return mark(body["sequence_number"], body["payload"]["price"], new)
