"""How large a position may be: the largest multiple of a lot that a rule allows, never rounded up.

A size is an input of an order, never a substitute for the checks. It is 0 where equity, price,
volatility or the distance to the stop is not above zero.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from typing import Literal

import msgspec

from psm.domain.money import ONE, ZERO, absolute, add, multiply, subtract

SMALLEST_LOT = Decimal("1E-18")
"""The grid of a size without a lot: the last published decimal."""

KELLY_LEAST = 30
"""Closed trades below which Kelly's fraction is 0: less says nothing of the odds."""

_WIDE = Context(
    400, ROUND_FLOOR, -9999, 9999, 1, 0, [], [InvalidOperation, DivisionByZero, Overflow]
)

Rule = Literal[
    "fixed_fractional", "fixed_notional", "volatility_target", "atr", "kelly_capped", "inverse"
]


class SizingInputs(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules take; each rule says which it needs.

    Attributes:
        equity: money, in the quote currency; of an inverse contract in the coin.
        multiplier: contract multiplier m.
        lot: smallest step of a size.
        inverse: the contract is quoted in money and settled in the coin.
        price: P, at which a notional is taken.
        entry, stop: E and S, of the risk per trade.
        risk: r, fraction of equity that may be lost.
        fee: fraction of the notional, paid on both ways.
        weight: w, fraction of equity to hold; `money` instead: an amount.
        sigma: annual volatility of the price.
        target: annual volatility of equity that is wanted.
        atr, atr_multiple: average true range and k.
        win_rate, average_win, average_loss, trades: W, both averages and n of closed trades.
        fraction, cap: of Kelly's fraction, and at most, as fractions of equity.
    """

    equity: Decimal
    multiplier: Decimal = ONE
    lot: Decimal = SMALLEST_LOT
    inverse: bool = False
    price: Decimal = ZERO
    entry: Decimal = ZERO
    stop: Decimal = ZERO
    risk: Decimal = ZERO
    fee: Decimal = ZERO
    weight: Decimal = ZERO
    money: Decimal | None = None
    sigma: Decimal = ZERO
    target: Decimal = ZERO
    atr: Decimal = ZERO
    atr_multiple: Decimal = ONE
    win_rate: Decimal = ZERO
    average_win: Decimal = ZERO
    average_loss: Decimal = ZERO
    trades: int = KELLY_LEAST
    fraction: Decimal = ONE
    cap: Decimal = ONE


def size(rule: Rule, given: SizingInputs) -> Decimal:
    """Return the size that a rule allows; see each rule for what it takes."""
    if given.equity <= 0:
        return ZERO
    return _RULES[rule](given)


def fixed_fractional(given: SizingInputs) -> Decimal:
    """Lose at most `risk` of the equity between `entry` and `stop`, fees of both ways included.

    x m |E - S| + x m (E + S) fee <= equity r; of inverse contracts 1/E and 1/S in their place.
    """
    entry, stop = given.entry, given.stop
    if entry <= 0 or stop <= 0 or entry == stop:
        return ZERO
    distance = absolute(subtract(entry, stop))
    lost = multiply(given.multiplier, add(distance, multiply(add(entry, stop), given.fee)))
    budget = multiply(given.equity, given.risk)
    if given.inverse:  # both sides times E S: 1/E - 1/S and 1/E + 1/S without a quotient
        budget = multiply(budget, multiply(entry, stop))
    return _largest(budget, lost, given.lot)


def fixed_notional(given: SizingInputs) -> Decimal:
    """Hold `weight` of the equity, or `money`: x m P <= w equity."""
    budget = multiply(given.weight, given.equity) if given.money is None else given.money
    return _of_notional(given, budget, ONE)


def volatility_target(given: SizingInputs) -> Decimal:
    """Hold what moves the equity by `target` a year: x m P sigma <= equity target."""
    return _of_notional(given, multiply(given.equity, given.target), given.sigma)


def average_true_range(given: SizingInputs) -> Decimal:
    """Lose at most `risk` of the equity in `atr_multiple` average ranges: x m k ATR <= equity r."""
    if given.atr <= 0:
        return ZERO
    distance = multiply(given.atr_multiple, given.atr)
    budget = multiply(given.equity, given.risk)
    if not given.inverse:
        return _largest(budget, multiply(given.multiplier, distance), given.lot)
    stop = subtract(given.price, distance)
    if given.price <= 0 or stop <= 0:
        return ZERO
    budget = multiply(budget, multiply(given.price, stop))
    return _largest(budget, multiply(given.multiplier, distance), given.lot)


def kelly_capped(given: SizingInputs) -> Decimal:
    """Hold Kelly's fraction of the equity, times `fraction`, at most `cap`.

    f = W - (1 - W) / (average win / |average loss|); 0 for fewer than 30 trades, or without wins
    or losses. Trades that broke even are in neither W nor n.
    """
    win, loss = given.average_win, absolute(given.average_loss)
    if given.trades < KELLY_LEAST or win <= 0 or not loss:
        return ZERO
    # f x win = W win - (1 - W) |loss|: no quotient, so no rounding
    edge = subtract(multiply(given.win_rate, win), multiply(subtract(ONE, given.win_rate), loss))
    edge = multiply(edge, given.fraction)
    if edge <= 0 or given.cap <= 0:
        return ZERO
    capped = multiply(given.cap, win)
    share = min(capped, edge)
    return _of_notional(given, multiply(given.equity, share), win)


def _inverse(given: SizingInputs) -> Decimal:
    return fixed_notional(msgspec.structs.replace(given, inverse=True))


def _of_notional(given: SizingInputs, budget: Decimal, factor: Decimal) -> Decimal:
    """Return the largest x with x m P factor <= budget; of inverse contracts m / P."""
    if given.price <= 0:
        return ZERO
    each = multiply(given.multiplier, factor)
    if given.inverse:
        return _largest(multiply(budget, given.price), each, given.lot)
    return _largest(budget, multiply(each, given.price), given.lot)


def _largest(budget: Decimal, each: Decimal, lot: Decimal) -> Decimal:
    """Return the largest multiple x of `lot` with x `each` <= `budget`, exactly."""
    if budget <= 0 or each <= 0 or lot <= 0:
        return ZERO
    return multiply(_WIDE.divide_int(budget, multiply(each, lot)), lot)


def floor_to(value: Decimal, lot: Decimal) -> Decimal:
    """Return the largest multiple of `lot` that is not above a value of zero or more."""
    return multiply(_WIDE.divide_int(value, lot), lot)


def whole_lots(value: Decimal, lot: Decimal) -> int:
    """Return how many lots are in a value of zero or more."""
    return int(_WIDE.divide_int(value, lot))


_RULES = {
    "fixed_fractional": fixed_fractional,
    "fixed_notional": fixed_notional,
    "volatility_target": volatility_target,
    "atr": average_true_range,
    "kelly_capped": kelly_capped,
    "inverse": _inverse,
}
