"""Units after a corporate action, and the cost that a missing fraction of one leaves behind."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from psm.contracts.corporate_actions import Merged, SpinOff
from psm.domain.booking.context import EventContext
from psm.domain.money import ONE, ZERO, absolute, scaled, subtract, truncated

VOID = "void_in_correction"


class NewUnits(NamedTuple):
    """How many units there are, their cost, what left the cost, and flags."""

    size: Decimal
    cost: Decimal
    released: Decimal
    flags: tuple[str, ...]


def in_new_units(
    exact: Decimal, cost: Decimal, event: SpinOff | Merged, context: EventContext
) -> NewUnits:
    """Return the units that there are for `exact` ones, and their part of the cost.

    Without `quantity_after` what 18 decimals cannot hold is cut off and the cost stays whole. With
    it the cost stays whole too, unless cash is named, zero included: then the share of the cost
    that the missing fraction has leaves against that cash. In a corrected past the stated size
    holds only where it is still the exact one but for a fraction.
    """
    stated, flags = event.quantity_after, tuple[str, ...]()
    if stated is not None and is_void(stated, exact, context):
        stated, flags = None, (VOID,)
    size = truncated(exact) if stated is None else stated
    kept = cost
    if not size:
        kept = ZERO
    elif stated is not None and event.cash_in_lieu is not None and size < exact:
        kept = scaled(cost, size, exact)
    return NewUnits(size, kept, subtract(cost, kept), flags)


def is_void(stated: Decimal, exact: Decimal, context: EventContext) -> bool:
    """Return whether a stated size holds no more: it is off by one or more in a corrected past."""
    return context.corrected and absolute(subtract(stated, exact)) >= ONE
