"""Marks: the current price of a symbol, which values positions and orders."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

Source = Literal["mark", "fill"]


class Mark(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The current mark of a symbol, the number that must rise, and where the log has it."""

    price: Decimal
    sequence_number: int
    log_sequence: int = 0
    time: int = 0
    index_price: Decimal | None = None
    delta: Decimal | None = None

    @property
    def is_positive(self) -> bool:
        """Whether all its prices are above zero: a rate made of it stays a rate."""
        return self.price > 0 and (self.index_price is None or self.index_price > 0)

    def has_prices_of(self, other: Mark) -> bool:
        """Return whether nothing is worth more or less at this mark than at another."""
        ours = (self.price, self.index_price, self.delta)
        return ours == (other.price, other.index_price, other.delta)
