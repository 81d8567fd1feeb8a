"""First in, first out: which purchase a sale closed, and what it gained, before fees.

Average cost and lots disagree while a position is open and agree once it is flat.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from psm.domain.money import (
    ONE,
    ZERO,
    absolute,
    add_wide,
    multiply_wide,
    negate,
    quotient,
    scaled,
    subtract_wide,
)


class OpenLot(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What is left of one fill; signed as the position is."""

    opened: int
    size: Decimal
    price: Decimal


class ClosedLot(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a fill that a later one closed.

    Attributes:
        side: of the position.
        opened, closed: log times, nanoseconds.
        pnl: in the settle currency, before fees; exact but for inverse contracts, whose quotients
            have 34 digits.
    """

    symbol: str
    side: str
    opened: int
    closed: int
    quantity: Decimal
    open_price: Decimal
    close_price: Decimal
    pnl: Decimal

    @property
    def days_held(self) -> int:
        """Whole days between both, for tax rules that ask."""
        return (self.closed - self.opened) // 86_400_000_000_000


class LotBook:
    """Lots of one position, oldest first.

    Args:
        symbol: of the position.
        multiplier: of the contract.
        inverse: it settles in its base currency.
        open_lots: what is open already, oldest first.
    """

    def __init__(
        self,
        symbol: str,
        multiplier: Decimal = ONE,
        *,
        inverse: bool = False,
        open_lots: Sequence[OpenLot] = (),
    ) -> None:
        self._symbol, self._multiplier, self._inverse = symbol, multiplier, inverse
        self._open = list(open_lots)

    @property
    def open_lots(self) -> Sequence[OpenLot]:
        """What is open, oldest first."""
        return tuple(self._open)

    def fill(self, size: Decimal, price: Decimal, time: int) -> list[ClosedLot]:
        """Book a fill, bought above zero; return the lots that it closed."""
        closed: list[ClosedLot] = []
        while size and self._open and (self._open[0].size > 0) != (size > 0):
            oldest = self._open[0]
            quantity = min(absolute(size), absolute(oldest.size))
            taken = quantity if oldest.size > 0 else negate(quantity)
            closed.append(self._closed(oldest, taken, price, time))
            rest = subtract_wide(oldest.size, taken)
            size = subtract_wide(size, negate(taken))
            self._open[:1] = [msgspec.structs.replace(oldest, size=rest)] if rest else []
        if size:
            self._open.append(OpenLot(opened=time, size=size, price=price))
        return closed

    def split(self, numerator: Decimal, denominator: Decimal, size: Decimal | None = None) -> None:
        """Divide each lot: more of it at a lower price, worth the same.

        Args:
            numerator: units after it,
            denominator: for so many before.
            size: of the position after it; what the lots together miss of it is the newest's.
        """
        self._open = [
            msgspec.structs.replace(
                lot,
                size=scaled(lot.size, numerator, denominator),
                price=scaled(lot.price, denominator, numerator),
            )
            for lot in self._open
        ]
        if size is not None and self._open:
            *others, newest = self._open
            for lot in others:
                size = subtract_wide(size, lot.size)
            self._open = [*others, msgspec.structs.replace(newest, size=size)]

    def shift(self, change: Decimal, *, by_cost: bool) -> None:
        """Let units cost so much more each, or the more the more they cost."""
        cost, size = ZERO, ZERO
        for lot in self._open:
            cost = add_wide(cost, multiply_wide(lot.size, lot.price))
            size = add_wide(size, lot.size)
        whole = add_wide(cost, multiply_wide(size, change))
        self._open = [
            msgspec.structs.replace(
                lot,
                price=scaled(lot.price, whole, cost)
                if by_cost and cost
                else add_wide(lot.price, change),
            )
            for lot in self._open
        ]

    def _closed(self, lot: OpenLot, taken: Decimal, price: Decimal, time: int) -> ClosedLot:
        if self._inverse:
            gain = subtract_wide(quotient(ONE, lot.price), quotient(ONE, price))
        else:
            gain = subtract_wide(price, lot.price)
        return ClosedLot(
            symbol=self._symbol,
            side="long" if taken > ZERO else "short",
            opened=lot.opened,
            closed=time,
            quantity=absolute(taken),
            open_price=lot.price,
            close_price=price,
            pnl=multiply_wide(multiply_wide(gain, taken), self._multiplier),
        )
