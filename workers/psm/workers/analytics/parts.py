"""What a symbol or a strategy brought."""

from __future__ import annotations

from decimal import Decimal

import msgspec


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the buckets of one symbol or strategy; fees are positive where paid."""

    name: str
    realized: Decimal
    unrealized_change: Decimal | None
    fees: Decimal
    funding: Decimal
    other: Decimal
    pnl: Decimal | None
    turnover: Decimal
    fills: int
