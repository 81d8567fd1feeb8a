"""Search of the value at which margins are not covered any more, tier by tier."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.domain.market.margin_tiers import Tier
from psm.domain.money import add_wide, multiply_wide, quotient, subtract, subtract_wide


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """Search of the value at which what is left equals the maintenance margin.

    With value v the account has slack + slope x (v - worth) beyond the other positions' margin, and
    needs v x rate - amount of the tier that v is in.

    Attributes:
        slope: what it gains as the value grows: 1 or -1 for one position.
        falls: whether what is left beyond all margins falls as the value grows.
        worth: the value now.
    """

    slope: Decimal
    falls: bool
    worth: Decimal
    slack: Decimal
    tiers: tuple[Tier, ...]

    def adverse(self) -> Decimal | None:
        """Return the nearest value on the losing side at which the margin is not covered.

        Where margins jump at a tier's border that border is an answer: beyond it, or at it, they
        are not covered any more.
        """
        down = not self.falls
        own = self._tier_now()
        ahead = range(own, -1, -1) if down else range(own, len(self.tiers))
        for number in ahead:
            tier = self.tiers[number]
            border = tier.floor if down else tier.ceiling
            entered = self.worth if number == own else tier.ceiling if down else tier.floor
            assert entered is not None, "the last tier is entered from below"
            if number != own and self._left(entered, tier) <= 0:
                return entered
            level = self._level(tier)
            if level is not None and _between(level, entered, border, down=down):
                return level
        return None

    def recovery(self) -> Decimal | None:
        """Return the value at which margins would be covered again, if one lies in its own tier."""
        for tier in self.tiers:
            level = self._level(tier)
            if level is None or level <= 0:
                continue
            if level >= tier.floor and (tier.ceiling is None or level < tier.ceiling):
                return level
        return None

    def _tier_now(self) -> int:
        found = 0
        for number, tier in enumerate(self.tiers):
            if tier.floor <= self.worth:
                found = number
        return found

    def _left(self, value: Decimal, tier: Tier) -> Decimal:
        """Return what is left beyond all margins, by one tier's terms."""
        gain = subtract_wide(value, self.worth)
        equity = add_wide(self.slack, multiply_wide(self.slope, gain))
        return subtract_wide(equity, subtract_wide(multiply_wide(value, tier.rate), tier.amount))

    def _level(self, tier: Tier) -> Decimal | None:
        """Return the value at which nothing is left, by one tier's terms."""
        slope = subtract(tier.rate, self.slope)
        if not slope:
            return None
        worth = multiply_wide(self.slope, self.worth)
        return quotient(add_wide(subtract_wide(self.slack, worth), tier.amount), slope)


def _between(level: Decimal, entered: Decimal, border: Decimal | None, *, down: bool) -> bool:
    """Return whether a value lies in a tier on the way from where it was entered to its border."""
    if down:
        return level <= entered and (border is None or level >= border)
    return level >= entered and (border is None or level < border)
