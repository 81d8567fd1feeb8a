"""The one liquidation price that all legs of a symbol share in cross margin.

Gains of the legs net, their maintenance margins add up, each by its own tiers. So the search is
over the price, of an inverse contract over its reciprocal, between the borders of all their tiers.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from psm.domain.ledger.positions import Position
from psm.domain.market.margin_tiers import Tier
from psm.domain.money import (
    ONE,
    ZERO,
    absolute,
    add_wide,
    multiply,
    multiply_wide,
    negate,
    quotient,
    subtract_wide,
)
from psm.domain.valuation.liquidation_search import Search
from psm.domain.valuation.position_value import PositionValue

Leg = tuple[Position, PositionValue]


def legs_maintenance(legs: Sequence[Leg]) -> Decimal:
    """Return the maintenance margin of legs together, in the settle currency."""
    own = ZERO
    for _, value in legs:
        own = add_wide(own, value.margin_maintenance)
    return own


def solve_legs(legs: Sequence[Leg], slack: Decimal, drift: Decimal = ZERO) -> Decimal | None:
    """Return the price at which the legs' maintenance margin is not covered any more.

    Args:
        legs: open positions of one symbol.
        slack: collateral beyond the margins of all other symbols, in the settle currency.
        drift: what it gains per unit of the price beside the legs' own gains.

    Raises:
        ArithmeticError: it does not compute.
    """
    first, value = legs[0]
    inverse = first.instrument.inverse
    here = quotient(ONE, value.price) if inverse else value.price
    slope = drift
    for position, _ in legs:
        units = _units(position)
        slope = add_wide(slope, units if (position.size > 0) != inverse else negate(units))
    tiers = _common_tiers(legs)
    rate = next(tier.rate for tier in reversed(tiers) if tier.floor <= here)
    search = Search(slope=slope, falls=slope <= rate, worth=here, slack=slack, tiers=tiers)
    safe = subtract_wide(slack, legs_maintenance(legs)) > 0
    found = search.adverse() if safe else search.recovery()
    if found is None or found <= 0:
        return None
    return quotient(ONE, found) if inverse else found


def _units(position: Position) -> Decimal:
    return multiply(absolute(position.size), position.instrument.multiplier)


def _common_tiers(legs: Sequence[Leg]) -> tuple[Tier, ...]:
    """Return the tiers of the legs together, per unit of the price (or of its reciprocal)."""
    borders = {ZERO: None}
    for position, _ in legs:
        for tier in position.instrument.tiers:
            borders[quotient(tier.floor, _units(position)) if tier.floor else ZERO] = None
    floors = sorted(borders)
    found = []
    for number, floor in enumerate(floors):
        ceiling = floors[number + 1] if number + 1 < len(floors) else None
        rate = amount = ZERO
        for position, _ in legs:
            units = _units(position)
            tier = _tier_at(position, multiply_wide(floor, units))
            rate = add_wide(rate, multiply_wide(tier.rate, units))
            amount = add_wide(amount, tier.amount)
        found.append(Tier(floor=floor, ceiling=ceiling, rate=rate, amount=amount))
    return tuple(found)


def _tier_at(position: Position, worth: Decimal) -> Tier:
    """Return the tier of a value at a border, which is the one that begins there."""
    tiers = position.instrument.tiers
    for tier in reversed(tiers):
        if tier.floor <= multiply_wide(worth, _JUST_ABOVE):
            return tier
    return tiers[0]


_JUST_ABOVE = Decimal("1.000000000000000000000000000001")
"""A border divided by the units and multiplied again may lie a little below itself."""
