"""Performance of an account: unitised net asset value, its peak, and the deepest fall from it.

An account issues units: at its first positive equity one for each unit of its currency, later for
every external flow at the value of then. Net asset value per unit, `nav`, therefore moves with
gains and losses alone: flows neither create nor hide drawdown. Where a flow finds or leaves nothing
to share, the epoch of these units ends, and the next one starts at 1.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.domain.money import (
    ONE,
    ZERO,
    add_wide,
    multiply_wide,
    plain,
    quotient,
    scaled,
    subtract_wide,
)


class Performance(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Units of an account, and what its equity was at best and at worst.

    Attributes:
        units: issued in this epoch; None before the first positive equity, and where a flow left
            nothing.
        peak: highest net asset value per unit so far, times the units of now.
        epoch: how often units were issued afresh.
        trough_equity, trough_peak: equity and peak of the moment when their ratio was lowest; None
            as long as equity never fell in this epoch.
        flows: sum of external flows at market value, in the account currency.
    """

    units: Decimal | None = None
    peak: Decimal | None = None
    epoch: int = 0
    trough_equity: Decimal | None = None
    trough_peak: Decimal | None = None
    flows: Decimal = ZERO

    def after_flow(self, equity: Decimal | None, flow: Decimal) -> Performance:
        """Return the performance after an external flow at this equity before it.

        With equity V and flow F, units and peak are scaled by (V + F) / V where both V and V + F
        are positive. Else the epoch ends, and a new one starts where V + F is positive.
        """
        if not flow:
            return self
        flows = add_wide(self.flows, flow)
        if equity is None:
            return msgspec.structs.replace(self, flows=flows)
        after = add_wide(equity, flow)  # what marks are worth must not refuse a venue fact
        if equity > 0 and after > 0:
            if self.units is None or self.peak is None:
                return msgspec.structs.replace(self, flows=flows)
            units, peak = scaled(self.units, after, equity), scaled(self.peak, after, equity)
            return msgspec.structs.replace(self, units=units, peak=peak, flows=flows)
        ended = Performance(epoch=self.epoch, flows=flows)
        return ended.after_equity(after)

    def after_equity(self, equity: Decimal | None) -> Performance:
        """Return the performance after equity became `equity` without a flow."""
        peak = self.peak
        if peak is None or self.units is None:
            if equity is None or equity <= 0:
                return self
            return Performance(units=equity, peak=equity, epoch=self.epoch + 1, flows=self.flows)
        if equity is None or equity == peak:
            return self
        if equity > peak:
            return msgspec.structs.replace(self, peak=equity)
        lowest, highest = self.trough_equity, self.trough_peak
        if (
            lowest is not None
            and highest is not None
            and not _deeper(equity, peak, lowest, highest)
        ):
            return self
        return msgspec.structs.replace(self, trough_equity=equity, trough_peak=peak)

    def reset(self, peak_nav: Decimal, max_drawdown: Decimal) -> Performance:
        """Return the performance whose peak and deepest fall an operator stated."""
        assert self.units is not None, "there is something to reset"
        return msgspec.structs.replace(
            self,
            peak=multiply_wide(peak_nav, self.units),
            trough_equity=subtract_wide(ONE, max_drawdown) if max_drawdown else None,
            trough_peak=ONE if max_drawdown else None,
        )

    def plain(self) -> Performance:
        """Return the same with plain figures, as a snapshot keeps them."""
        return msgspec.structs.replace(
            self,
            units=plain(self.units),
            peak=plain(self.peak),
            trough_equity=plain(self.trough_equity),
            trough_peak=plain(self.trough_peak),
        )

    def nav(self, equity: Decimal | None) -> Decimal | None:
        """Return net asset value per unit, with 34 significant digits; None without units."""
        return _ratio(equity, self.units)

    def drawdown(self, equity: Decimal | None) -> Decimal | None:
        """Return 1 - equity / peak, with 34 significant digits; None without a peak."""
        return drawdown(self.peak, equity)

    def max_drawdown(self) -> Decimal | None:
        """Return the deepest drawdown of the epoch; None without a peak."""
        if self.peak is None:
            return None
        return drawdown(self.trough_peak, self.trough_equity) or ZERO


NOTHING_YET = Performance()
"""The performance of an account that had no equity so far."""


def drawdown(peak: Decimal | None, equity: Decimal | None) -> Decimal | None:
    """Return 1 - equity / peak, with 34 significant digits; None without a peak."""
    if peak is None or equity is None:
        return None
    return _ratio(subtract_wide(peak, equity), peak)


def _ratio(value: Decimal | None, of: Decimal | None) -> Decimal | None:
    if value is None or of is None:
        return None
    try:
        return quotient(value, of)
    except ArithmeticError:
        return None


def _deeper(equity: Decimal, peak: Decimal, lowest: Decimal, highest: Decimal) -> bool:
    """Return whether `equity` of `peak`, never 0, is a deeper fall than `lowest` of `highest`."""
    if highest == peak:  # the usual case
        return equity < lowest
    return multiply_wide(equity, highest) < multiply_wide(lowest, peak)
