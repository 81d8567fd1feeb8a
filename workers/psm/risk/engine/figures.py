"""What an account, or a group, is worth and has made today; and its highest unit value."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.domain.money import ONE, ZERO, exact_text, multiply, quotient, scaled, subtract
from psm.risk.engine.path import Peak


class DayFigures(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an account, or all of a group, is worth and has made today, in one currency.

    Attributes:
        equity: at the marks of now.
        opened: equity that the day began with.
        profit: of the day, flows apart; `realized` that part of it which is booked.
        flows: external ones, since ever.
    """

    equity: Decimal
    opened: Decimal | None
    profit: Decimal | None
    realized: Decimal | None
    flows: Decimal

    def scaled(self, rate: Decimal) -> DayFigures:
        """Return them in another currency."""
        return DayFigures(
            equity=multiply(self.equity, rate),
            opened=_times(self.opened, rate),
            profit=_times(self.profit, rate),
            realized=_times(self.realized, rate),
            flows=multiply(self.flows, rate),
        )


def _times(value: Decimal | None, rate: Decimal) -> Decimal | None:
    return None if value is None else multiply(value, rate)


def _plain(value: Decimal) -> Decimal:
    """Return a figure without zeros at its end: it is the same after a restart."""
    return Decimal(exact_text(value))


def first_peak(equity: Decimal) -> Peak:
    """Return the peak where an epoch begins: at 1."""
    return Peak(peak=ONE, units=equity if equity > 0 else ZERO)


def next_peak(before: Peak, equity: Decimal) -> Peak:
    """Return the peak at an equity, the flows that came with it in units from then on."""
    kept = subtract(equity, before.flows)
    ends = bool(before.flows) and (kept <= 0 or equity <= 0)
    if before.units <= 0 or ends:
        return first_peak(equity)
    units = before.units
    if before.flows:
        units = _plain(scaled(units, equity, kept))
    nav = _plain(quotient(equity, units))
    return Peak(peak=max(before.peak, nav), units=units)
