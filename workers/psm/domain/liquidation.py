"""The liquidation price of a position: informational, the venue decides."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from psm.domain.money import (
    ONE,
    absolute,
    add,
    multiply,
    negate,
    quotient,
    subtract,
    subtract_wide,
)
from psm.domain.positions import Position
from psm.domain.valuation import Valuation, is_rate
from psm.domain.worth import PositionValue, Rates

if TYPE_CHECKING:
    from psm.domain.account import Account


_MINUS_ONE = negate(ONE)


def liquidation_price(
    account: Account, position: Position, valuation: Valuation, rates: Rates
) -> Decimal | None:
    """Return the mark of this position at which equity equals maintenance margin, or None.

    All other marks are taken as frozen; no closing fee. Of the solutions per margin tier the one
    that lies in its own tier counts: the margin is continuous, so there is at most one.
    None where there is no positive price, or the symbol also serves as a rate of the account.
    """
    value = valuation.positions.get(position.symbol)
    if value is None or valuation.equity is None or valuation.margin_maintenance is None:
        return None
    settle = position.instrument.settle
    rate = ONE if settle == account.currency else rates(settle)
    # An undefined instrument may have become a spot one since the position opened.
    convertible = position.instrument.kind == "spot" or not position.instrument.defined
    if rate is None or (account.rates and convertible and is_rate(account, position.symbol)):
        return None
    try:
        own = value.margin_maintenance
        if rate is not ONE:
            own = multiply(own, rate)
        others = subtract_wide(valuation.margin_maintenance, own)
        slack = quotient(subtract_wide(valuation.equity, others), rate)
        return _solve(position, value, slack)
    except ArithmeticError:
        return None


def _solve(position: Position, value: PositionValue, slack: Decimal) -> Decimal | None:
    """Solve equity(x) - other maintenance = maintenance(x) in the settle currency.

    Value at x is size x multiplier x x; for an inverse contract size x multiplier x (1/x), which
    falls as x rises, so its side is mirrored and the solution is a reciprocal.
    """
    instrument = position.instrument
    units = multiply(absolute(position.size), instrument.multiplier)
    if (position.size > 0) != instrument.inverse:
        side, fixed = ONE, subtract(slack, value.notional)
    else:
        side, fixed = _MINUS_ONE, add(slack, value.notional)
    for tier in instrument.tiers:
        denominator = multiply(units, subtract(tier.rate, side))
        if not denominator:
            continue
        level = quotient(add(fixed, tier.amount), denominator)
        at = multiply(units, level)
        if level > 0 and at >= tier.floor and (tier.ceiling is None or at < tier.ceiling):
            return quotient(ONE, level) if instrument.inverse else level
    return None
