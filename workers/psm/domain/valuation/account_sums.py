"""Sums over all that an account holds, in its own currency."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.domain.money import add_wide, subtract_wide
from psm.domain.valuation.assets import AssetSums


class Figures(msgspec.Struct, frozen=True, gc=False):
    """Sums over what is held, in the account currency.

    Attributes:
        gain: unrealized PnL of contracts, which is not in cash.
        unrated_cost: known cost of what has no rate.
    """

    gross: Decimal
    net: Decimal
    unrealized: Decimal
    initial: Decimal
    gain: Decimal
    unrated_cost: Decimal

    def with_assets(self, assets: AssetSums) -> Figures:
        """Return the sums with those of assets: exposure, and margin of what is below zero."""
        return Figures(
            gross=add_wide(self.gross, assets.gross),
            net=add_wide(self.net, assets.value),
            unrealized=add_wide(self.unrealized, subtract_wide(assets.value, assets.cost)),
            initial=add_wide(self.initial, assets.initial),
            gain=self.gain,
            unrated_cost=add_wide(self.unrated_cost, assets.unrated_cost),
        )


def is_far_from_warning(collateral: Decimal, maintenance: Decimal) -> bool:
    """Return whether maintenance is surely below every level: less than a third of collateral.

    Spares the division; a third leaves room for its rounding.
    """
    if not maintenance:
        return collateral > 0
    return add_wide(add_wide(maintenance, maintenance), maintenance) < collateral
