"""Excursions of a position: how far against and in favour of it one cycle went.

Looked at after every event and mark of the symbol: the cycle's realized PnL so far and what is
unrealized, together, 0 included. In the currency that the instrument settles in, before fees.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.domain.ledger.positions import Position
from psm.domain.money import ZERO


class Excursion(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Worst and best of one cycle, and of the one before: a flip ends it in the same message."""

    cycle: int
    worst: Decimal = ZERO
    best: Decimal = ZERO
    worst_before: Decimal = ZERO
    best_before: Decimal = ZERO

    def with_total(self, total: Decimal) -> Excursion:
        """Return the excursion after the cycle stood at `total`."""
        if self.worst <= total <= self.best:
            return self
        return msgspec.structs.replace(
            self, worst=min(self.worst, total), best=max(self.best, total)
        )


def moved(known: Excursion | None, cycle: int, total: Decimal) -> Excursion:
    """Return the excursion of a position's cycle after a message left it at `total`."""
    if known is None:
        known = Excursion(cycle=cycle)
    elif known.cycle != cycle:
        known = Excursion(cycle=cycle, worst_before=known.worst, best_before=known.best)
    return known.with_total(total)


def extremes(known: Excursion | None, position: Position) -> tuple[Decimal, Decimal]:
    """Return (worst, best) of the cycle that a position is in, or has ended."""
    if known is not None and known.cycle == position.cycle:
        return known.worst, known.best
    ended = Excursion(cycle=position.cycle)
    if known is not None and known.cycle > position.cycle:  # the closing half of a flip
        ended = Excursion(cycle=position.cycle, worst=known.worst_before, best=known.best_before)
    ended = ended.with_total(position.cycle_realized_pnl)
    return ended.worst, ended.best
