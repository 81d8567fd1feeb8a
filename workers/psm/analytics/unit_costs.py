"""What an event that is no fill did to the units of a position and to their cost.

Updates tell the position before and after: size, cost, and what its cycle realized. From these
follows at which price units went or came; so lots, which cost something else than the average,
gain in sum what the position gained.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.analytics.worth import Held, HeldChange, value_of
from psm.domain.money import (
    ZERO,
    absolute,
    add,
    multiply_wide,
    negate,
    quotient,
    scaled,
    subtract,
)

SAME_COST = ("SplitApplied", "StockDividend")
"""Events after which a position has another size and cost what it cost before."""

_NO_FRACTION = Decimal("1e-12")
"""Part of the cost below which it differs only because it is told rounded."""


class UnitCosts(msgspec.Struct, frozen=True, kw_only=True):
    """What an event did to the units of a position, in the currency it settles in.

    Attributes:
        exit: price at which units went, those of a fraction that was paid out too.
        came: price at which units came.
        grown: units for each one before, with a fraction that was paid out; None for none.
        shift: by how much more a unit cost afterwards.
    """

    exit: Decimal | None = None
    came: Decimal | None = None
    grown: Decimal | None = None
    shift: Decimal = ZERO


NOTHING = UnitCosts()


def unit_costs(event_type: str, steps: list[HeldChange]) -> UnitCosts:
    """Return what an event that is no fill did.

    Args:
        event_type: of the event.
        steps: what it did to one position; where it changed sides, first to flat.
    """
    before, kept = steps[0].before, _kept(steps[0])
    held = before or kept
    if held is None:
        return NOTHING
    cost, left, came_in = _cost(before), _cost(kept), _came_in(steps[0], held)
    gone, received = subtract(_units(before), _units(kept)), add(subtract(cost, left), came_in)
    if before is not None and kept is not None and (event_type in SAME_COST or not gone):
        return _restated(event_type, before, kept, cost, left, came_in)
    if gone > 0:
        rest = None if kept is not None else steps[-1].after
        return UnitCosts(exit=_price(held, gone, received), came=_entry(rest))
    return UnitCosts(came=_price(held, negate(gone), negate(received)))


def _kept(step: HeldChange) -> Held | None:
    """Return what a step left of the side that there was; an adjustment may cross to the other."""
    before, after = step.before, step.after
    if step.update.change == "closed" or after is None:
        return None
    crossed = before is not None and (before.size > 0) != (after.size > 0)
    return None if crossed else after


def _came_in(step: HeldChange, held: Held) -> Decimal:
    """Return what a position gained by a step, as a long would have received it with what went."""
    before = ZERO if step.before is None else Decimal(step.before.realized)
    gained = subtract(Decimal(step.update.cycle_realized_pnl or "0"), before)
    return gained if (held.size > 0) != held.inverse else negate(gained)


def _restated(
    event_type: str, before: Held, after: Held, cost: Decimal, left: Decimal, came_in: Decimal
) -> UnitCosts:
    released = subtract(cost, left)
    if absolute(released) <= absolute(multiply_wide(cost, _NO_FRACTION)):
        released = ZERO
    received = add(released, came_in)
    new = _units(after)
    if event_type in SAME_COST and left and released > 0:
        whole = scaled(new, cost, left)
        exit_price = _price(after, subtract(whole, new), received)
        return UnitCosts(grown=quotient(whole, _units(before)), exit=exit_price)
    return UnitCosts(shift=negate(quotient(quotient(received, new), after.multiplier)))


def _units(held: Held | None) -> Decimal:
    return ZERO if held is None else absolute(held.size)


def _cost(held: Held | None) -> Decimal:
    """Return the magnitude of what a position cost, in the currency it settles in."""
    if held is None:
        return ZERO
    if held.cost_quote is not None:
        return absolute(held.cost_quote)
    return value_of(held, absolute(held.size), held.entry or ZERO)


def _entry(held: Held | None) -> Decimal | None:
    return None if held is None else _price(held, absolute(held.size), _cost(held))


def _price(held: Held, units: Decimal, value: Decimal) -> Decimal | None:
    """Return the price at which units have a value; None where there is none."""
    if held.inverse:
        return scaled(units, held.multiplier, value) if value else None
    return quotient(quotient(value, units), held.multiplier)
