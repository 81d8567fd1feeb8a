"""Accounts that hold shares when their issuer acts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.support.domain import Log, given
from tests.support.events import Sent, deposit, event, instrument, opened, trade

SHARE: dict[str, Any] = {"kind": "equity", "quote": "USD", "settle": "USD"}


def share(symbol: str, **more: Any) -> Sent:
    """Return the definition of a share."""
    return instrument(1, symbol, **{**SHARE, "base": symbol, **more})


def holder(quantity: str, price: str, symbol: str = "OLD", side: str = "buy") -> Log:
    """Return an account of 10 000 USD that traded a share once."""
    return given(
        share(symbol),
        opened(1, currency="USD"),
        deposit(2, "10000"),
        trade(3, side, quantity, price, symbol, fill_id="f3"),
    )


def act(event_type: str, number: int = 4, **payload: Any) -> Sent:
    """Return an event of an issuer."""
    return event(event_type, payload, number)


def cost_less_realized(log: Log) -> Decimal:
    """Return what no corporate action changes but by cash: signed cost less realized PnL."""
    ledger = log.account().ledger
    signed = [p.cost * p.instrument.multiplier * (1 if p.size > 0 else -1)
              for p in ledger.positions.values()]  # fmt: skip
    realized = ledger.total("realized_pnl")
    return sum(signed, Decimal(0)) - realized


def costs(log: Log) -> dict[str, tuple[str, str]]:
    """Return (size, cost) of the open positions by symbol, short below zero."""
    found = {}
    for symbol, position in sorted(log.account().ledger.positions.items()):
        if position.size:
            found[symbol] = (_text(position.size), _text(position.cost))
    return found


def _text(value: Decimal) -> str:
    text = format(value.normalize(), "f")
    return "0" if text == "-0" else text
