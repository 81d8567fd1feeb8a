"""Units that come or go with a cost instead of a price: received, exchanged, delivered.

Cost less realized PnL is conserved: what covers a position of the other side realizes the
difference of both costs, and nothing else does.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.domain.ledger.positions import Position, PositionStep
from psm.domain.money import ZERO, absolute, add, multiply, negate, scaled, subtract


def receive(
    position: Position, units: Decimal, cost: Decimal, price: Decimal
) -> list[PositionStep]:
    """Return the position after `units` came, long above zero and short below, with their cost.

    Args:
        position: before.
        units: that come; not zero.
        cost: of all of them, without multiplier.
        price: own last fill of a position that is flat.
    """
    held = absolute(position.size)
    if not held or (position.size > 0) == (units > 0):
        return [_added(position, units, cost, price)]
    count = absolute(units)
    if count <= held:
        return [_covered(position, units, cost)]
    part = scaled(cost, held, count)
    closed = _covered(position, negate(position.size), part)
    rest = add(units, position.size)
    return [closed, _added(closed.position, rest, subtract(cost, part), price)]


def emptied(position: Position) -> Position:
    """Return the position after all of it went with its cost; nothing is realized."""
    return msgspec.structs.replace(position, size=ZERO, cost=ZERO)


def realizing(position: Position, realized: Decimal) -> Position:
    """Return the position with more realized PnL, lifetime and cycle."""
    if not realized:
        return position
    return msgspec.structs.replace(
        position,
        realized_pnl=add(position.realized_pnl, realized),
        cycle_realized_pnl=add(position.cycle_realized_pnl, realized),
    )


def _added(position: Position, units: Decimal, cost: Decimal, price: Decimal) -> PositionStep:
    opening = not position.size
    size = add(position.size, units)
    after = msgspec.structs.replace(
        position,
        size=size,
        cost=add(position.cost, cost),
        last_fill=price if opening else position.last_fill,
        cycle=position.cycle + opening,
        cycle_realized_pnl=ZERO if opening else position.cycle_realized_pnl,
        cycle_fees=ZERO if opening else position.cycle_fees,
        cycle_funding=ZERO if opening else position.cycle_funding,
        peak_size=absolute(size) if opening else max(position.peak_size, absolute(size)),
        margin=None if opening else position.margin,
    )
    return PositionStep(position=after, change="opened" if opening else "increased")


def _covered(position: Position, units: Decimal, cost: Decimal) -> PositionStep:
    held, count = absolute(position.size), absolute(units)
    whole = count == held
    leaving = position.cost if whole else scaled(position.cost, count, held)
    after = msgspec.structs.replace(
        position,
        size=ZERO if whole else add(position.size, units),
        cost=ZERO if whole else subtract(position.cost, leaving),
    )
    gains = (position.size > 0) != position.instrument.inverse
    gain = subtract(cost, leaving) if gains else subtract(leaving, cost)
    realized = multiply(gain, position.instrument.multiplier)
    return PositionStep(
        position=realizing(after, realized), change="closed" if whole else "reduced"
    )
