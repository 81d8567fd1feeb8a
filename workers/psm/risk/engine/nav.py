"""What a unit of a group is worth: flows change the number of units, not their value."""

from __future__ import annotations

from decimal import Decimal

from psm.domain.money import ONE, exact_text, quotient, scaled, subtract
from psm.risk.engine.path import Peak


def _plain(value: Decimal) -> Decimal:
    """Return a figure without zeros at its end: it is the same after a restart."""
    return Decimal(exact_text(value))


def first_peak(equity: Decimal) -> Peak:
    """Return where an epoch begins: a unit is worth 1; without equity there are no units."""
    return Peak(nav=ONE, peak=ONE, units=equity) if equity > 0 else Peak(nav=ONE, peak=ONE)


def next_peak(before: Peak, equity: Decimal) -> Peak:
    """Return the value of a unit at an equity, its flows counted, and the highest so far."""
    kept = subtract(equity, before.flows)
    ends = bool(before.flows) and (kept <= 0 or equity <= 0)
    if before.units <= 0 or ends:
        return first_peak(equity)
    units = before.units
    if before.flows:
        units = _plain(scaled(units, equity, kept))
    nav = _plain(quotient(equity, units))
    return Peak(nav=nav, peak=max(before.peak, nav), units=units)
