"""Maintenance margin by tiers of notional. Source: exchange tier tables."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from psm.contracts.table_events import MarginTier
from psm.domain.money import ZERO, add, multiply, subtract


class Tier(msgspec.Struct, frozen=True, gc=False):
    """From `floor` up to `ceiling` (None: without end) the margin is notional x rate - amount."""

    floor: Decimal
    ceiling: Decimal | None
    rate: Decimal
    amount: Decimal


def tiers_of(tiers: Sequence[MarginTier]) -> tuple[Tier, ...]:
    """Return the tiers ascending, from notional 0 on.

    A tier without `maintenance_amount` gets the one that makes the margin continuous:
    floor_n x (rate_n - rate_n-1) + amount_n-1.
    """
    ordered = sorted(tiers, key=lambda tier: tier.notional_floor)
    found: list[Tier] = []
    rate = amount = floor = ZERO
    for tier in ordered:
        if tier.notional_floor > floor:
            found.append(Tier(floor, tier.notional_floor, rate, amount))
        if tier.maintenance_amount is not None:
            amount = tier.maintenance_amount
        else:
            rise = subtract(tier.maintenance_rate, rate)
            amount = add(multiply(tier.notional_floor, rise), amount)
        rate, floor = tier.maintenance_rate, tier.notional_floor
    found.append(Tier(floor, None, rate, amount))
    return tuple(found)


_known: dict[str, tuple[Sequence[MarginTier], tuple[Tier, ...]]] = {}
_KNOWN_MAX = 16_384


def known_tiers(symbol: str, tiers: Sequence[MarginTier]) -> tuple[Tier, ...]:
    """Return `tiers_of`, remembering the last answer for each symbol."""
    known = _known.get(symbol)
    if known is not None and known[0] is tiers:
        return known[1]
    found = tiers_of(tiers)
    if len(_known) >= _KNOWN_MAX:
        _known.clear()
    _known[symbol] = (tiers, found)
    return found


def maintenance_margin(value: Decimal, tiers: Sequence[Tier]) -> Decimal:
    """Return notional x rate - amount of the tier that `value` falls in; 0 without tiers."""
    rate = amount = ZERO
    for tier in tiers:
        if tier.floor > value:
            break
        rate, amount = tier.rate, tier.amount
    margin = multiply(value, rate)
    return subtract(margin, amount) if amount else margin
