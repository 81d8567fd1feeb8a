"""Small inputs with the right figures beside them: the steps of one account, booked in turn."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
from tests.support.domain import Log
from tests.support.events import Sent, changed, event, instrument, mark, opened

Figures = dict[str, Any]
"""Dotted path in the state document -> what stands there, such as `assets.BTC.cost`."""


class Step(msgspec.Struct, frozen=True):
    """A message whose number is set when its turn comes, and what becomes of it.

    Attributes:
        sent: the message.
        refused: its reason code; None: it is applied.
    """

    sent: Sent
    refused: str | None = None


def check(currency: str, steps: list[Step], figures: Figures) -> None:
    """Book the steps of an account in this currency; compare every figure to its last digit."""
    state = played(currency, steps).state()
    assert {path: _look(state, path) for path in figures} == figures


def played(currency: str, steps: list[Step]) -> Log:
    """Return the log after the steps; each is applied, or refused as it says."""
    log, numbers = Log(), {"trades.acc_001": 1}
    log.when(opened(1, currency=currency))
    for step in steps:
        subject = step.sent.subject
        numbers[subject] = number = numbers.get(subject, 0) + 1
        seen = log.when(changed(step.sent, sequence_number=number))
        assert seen.reason == step.refused, (step.sent, seen.updates)
        assert seen.outcome == ("refused" if step.refused else "applied")
    return log


def _look(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document[name]
    return document


_NUMBER = 1
"""Any: `played` sets it."""
_count = itertools.count()


def act(event_type: str, **payload: Any) -> Step:
    """Return an event of the account; a field may end in `_`, as `from_`."""
    said = {name.rstrip("_"): value for name, value in payload.items()}
    return Step(event(event_type, said, _NUMBER, salt=f"{next(_count)}"))


def buy(quantity: str, price: str, symbol: str, **more: Any) -> Step:
    """Return a fill; fields of its payload by name."""
    fill = {"symbol": symbol, "side": "buy", "quantity": quantity, "price": price}
    return act("TradeExecuted", **fill, **more)


def sell(quantity: str, price: str, symbol: str, **more: Any) -> Step:
    """Return a fill; fields of its payload by name."""
    fill = {"symbol": symbol, "side": "sell", "quantity": quantity, "price": price}
    return act("TradeExecuted", **fill, **more)


def deposit(amount: str, currency: str | None = None, **more: Any) -> Step:
    """Return a deposit, of the account currency unless told."""
    return act("CashDeposited", amount=amount, **_money(currency), **more)


def withdraw(amount: str, currency: str | None = None, **more: Any) -> Step:
    """Return a withdrawal, of the account currency unless told."""
    return act("CashWithdrawn", amount=amount, **_money(currency), **more)


def bust(fill_id: str) -> Step:
    """Return the bust of a fill."""
    return act("TradeBusted", fill_id=fill_id, reason="erroneous")


def amend(fill_id: str, **changes: str) -> Step:
    """Return the amendment of a fill."""
    return act("TradeAmended", fill_id=fill_id, reason="wrong", **changes)


def marked(symbol: str, price: str) -> Step:
    """Return a mark."""
    return Step(mark(_NUMBER, price, symbol, salt=f"{next(_count)}"))


def pair(base: str, quote: str = "USDT") -> Step:
    """Return the definition of a spot pair."""
    terms = {"kind": "spot", "base": base, "quote": quote, "settle": quote}
    return Step(instrument(_NUMBER, f"{base}{quote}", **terms))


def share(symbol: str, quote: str = "USD", **more: Any) -> Step:
    """Return the definition of a share, or of what is paid and held like one."""
    terms = {"kind": "equity", "base": symbol, "quote": quote, "settle": quote}
    return Step(instrument(_NUMBER, symbol, **terms, **more))


def contract(symbol: str, kind: str = "linear_perp", settle: str = "USDT", **more: Any) -> Step:
    """Return the definition of a contract; an inverse one is quoted in dollars."""
    base = symbol.partition("-")[0]
    quote = "USD" if kind.startswith("inverse") else settle
    terms = {"kind": kind, "base": base, "quote": quote, "settle": settle}
    return Step(instrument(_NUMBER, symbol, **{**terms, **more}))


def refused(step: Step, reason: str) -> Step:
    """Return the step as one that is refused."""
    return Step(step.sent, reason)


def _money(currency: str | None) -> dict[str, str]:
    return {} if currency is None else {"currency": currency}
