"""Equity at other marks than those that an account was published at.

What is published of an account differs in age: a position may be older than the equity. Adding what
a mark moved since a position's row would count moves twice that the equity already has. So all
unrealized PnL goes out, as it was in that equity, and that of every position at the new marks comes
in.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

_EXACT = Context(prec=100, rounding=ROUND_HALF_EVEN)
_QUOTIENT = Context(prec=34, rounding=ROUND_HALF_EVEN)


def unrealized_at(position: Mapping[str, Any], price: Decimal) -> Decimal:
    """Return the unrealized PnL of a position at a price, in the position's `currency`.

    Args:
        position: a `PositionUpdated`, or a position of a document; texts as they were read.
        price: mark of its symbol.
    """
    if position["entry_price"] is None:
        return Decimal(0)
    size, entry = Decimal(position["size"]), Decimal(position["entry_price"])
    units = _EXACT.multiply(size, Decimal(position["multiplier"]))
    if position["kind"].startswith("inverse"):
        one = Decimal(1)
        gain = _EXACT.subtract(_QUOTIENT.divide(one, entry), _QUOTIENT.divide(one, price))
    else:
        gain = _EXACT.subtract(price, entry)
    return _EXACT.multiply(units, gain if position["side"] == "long" else -gain)


def equity_at(
    state: Mapping[str, Any],
    prices: Mapping[str, Decimal],
    rates: Mapping[str, Decimal] | None = None,
) -> Decimal | None:
    """Return an account's equity at these marks; None where the equity or something is unknown.

    Args:
        state: the document of `GET /psm/state/{account_id}` or `psm.get.state`, as it was read.
        prices: mark by symbol, of every open position.
        rates: account currency per unit of a position's currency, where that is another one. Cash
            in other currencies keeps the rate of the published equity.
    """
    if state["equity"] is None or state["unrealized_pnl"] is None:
        return None
    equity = _EXACT.subtract(Decimal(state["equity"]), Decimal(state["unrealized_pnl"]))
    for position in state["positions"].values():
        if position["side"] == "flat":
            continue
        price = prices.get(position["symbol"])
        own = position["currency"] == state["currency"]
        rate = Decimal(1) if own else (rates or {}).get(position["currency"])
        if price is None or rate is None:
            return None
        worth = _EXACT.multiply(unrealized_at(position, price), rate)
        equity = _EXACT.add(equity, worth)
    return equity
