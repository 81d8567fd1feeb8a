"""Equity at other marks than those that an account was published at.

What is published of an account differs in age: a position may be older than the equity. Adding what
a mark moved since a position's row would count moves twice that the equity already has. So all
unrealized PnL goes out, as it was in that equity, and that of every holding at the new marks comes
in. No row's own age matters then: what is left is cash and costs, which no mark changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

_EXACT = Context(prec=100, rounding=ROUND_HALF_EVEN)
_QUOTIENT = Context(prec=34, rounding=ROUND_HALF_EVEN)
_ZERO, _ONE = Decimal(0), Decimal(1)


def unrealized_at(position: Mapping[str, Any], price: Decimal) -> Decimal | None:
    """Return the unrealized PnL of a position at a price, in the position's `currency`.

    Args:
        position: a `PositionUpdated` of a contract or a share, or a position of a document; texts
            as they were read.
        price: mark of its symbol; above zero where the position is inverse.

    Returns:
        Its own figure, moved from its own mark; None where it has none.
    """
    if position["side"] == "flat":
        return _ZERO
    if position["unrealized_pnl"] is None or position["mark_price"] is None:
        return None
    was, mark = Decimal(position["unrealized_pnl"]), Decimal(position["mark_price"])
    if position["kind"].startswith("inverse"):
        moved = _EXACT.subtract(_QUOTIENT.divide(_ONE, mark), _QUOTIENT.divide(_ONE, price))
    else:
        moved = _EXACT.subtract(price, mark)
    return _EXACT.add(was, _EXACT.multiply(_units(position), moved))


def equity_at(
    state: Mapping[str, Any],
    prices: Mapping[str, Decimal],
    rates: Mapping[str, Decimal | None] | None = None,
) -> Decimal | None:
    """Return an account's equity at these marks; None where the equity or something is unknown.

    Right for contracts of every kind (linear, inverse, quanto), in cross margin, with wallets of
    their own, and as legs of hedge mode; for shares and options, long and short; and for assets.
    What has no rate is left out of it, as it is out of the published equity.

    Args:
        state: the document of `GET /psm/state/{account_id}` or `psm.get.state`, as it was read.
            Positions alone do not do: the cost of what is held is in the whole account only.
        prices: mark by symbol, of every open position, in the account's own units. One whose
            symbol has no mark yet keeps the price of its own last fill.
        rates: account currency per unit of another asset or currency, None where it has no rate.
            One that is held and is not named keeps the rate of its row in `assets`.
    """
    if state["equity"] is None or state["unrealized_pnl"] is None:
        return None
    rated = _rates(state, rates or {})
    equity = _EXACT.subtract(Decimal(state["equity"]), Decimal(state["unrealized_pnl"]))
    # Of what had no rate the cost is in no figure; so all costs are in now, and come out below.
    equity = _EXACT.add(equity, Decimal(state["unrated_cost"]))
    for asset, held in state["assets"].items():
        gained = _gained(Decimal(held["quantity"]), rated[asset], Decimal(held["cost"]))
        equity = _EXACT.add(equity, gained)
    for position in state["positions"].values():
        if position["side"] != "flat":
            price = prices.get(position["symbol"])
            if price is None and position["mark_source"] == "fill":
                price = Decimal(position["mark_price"])
            gain = _gain_at(position, price, rated, state["currency"])
            if gain is None:
                return None
            equity = _EXACT.add(equity, gain)
    return equity


def _rates(
    state: Mapping[str, Any], rates: Mapping[str, Decimal | None]
) -> dict[str, Decimal | None]:
    """Return account currency per unit of all that is held or named; None where it has no rate."""
    marks = {asset: held["mark_price"] for asset, held in state["assets"].items()}
    kept = {asset: None if mark is None else Decimal(mark) for asset, mark in marks.items()}
    return {**kept, **rates, state["currency"]: _ONE}


def _gain_at(
    position: Mapping[str, Any],
    price: Decimal | None,
    rated: Mapping[str, Decimal | None],
    home: str,
) -> Decimal | None:
    """Return what an open position gained in the account currency; None where it is unknown."""
    currency = position["currency"]
    if currency not in rated and position["unrealized_pnl_account"] is not None:
        return None
    if price is None:
        return None
    rate = rated.get(currency)
    if position["class"] == "share" and currency != home:
        # Its cost is in the account currency, at the rate of then.
        worth = _EXACT.multiply(_units(position), price)
        return _gained(worth, rate, Decimal(position["cost"]))
    gained = unrealized_at(position, price)
    return None if gained is None else _gained(gained, rate, _ZERO)


def _gained(quantity: Decimal, rate: Decimal | None, cost: Decimal) -> Decimal:
    """Return what a quantity is worth beyond its cost; without a rate it is worth nothing."""
    worth = _ZERO if rate is None else _EXACT.multiply(quantity, rate)
    return _EXACT.subtract(worth, cost)


def _units(position: Mapping[str, Any]) -> Decimal:
    """Return size and multiplier, below zero for a short."""
    units = _EXACT.multiply(Decimal(position["size"]), Decimal(position["multiplier"]))
    return units if position["side"] == "long" else -units
