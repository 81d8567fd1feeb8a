"""Warning levels of margin and leverage: crossed upwards once, armed again well below."""

from __future__ import annotations

from decimal import Decimal

from psm.contracts.updates import Level
from psm.domain.money import (
    ZERO,
    multiply,
)
from psm.domain.valuation.levels import REARM, margin_levels
from psm.domain.valuation.valuation import Valuation

LEVERAGE_LIMIT: Level = "leverage_limit"


def crossings(
    valuation: Valuation, warned: tuple[Level, ...], leverage_limit: Decimal | None
) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
    """Return (levels crossed upwards now, levels that stay disarmed), both ascending.

    A level arms again below 0.95 of itself. Where no collateral is left for what is owed that is
    beyond every level, and is reported as level 1.0 alone.
    """
    if valuation.equity is None:
        return (), warned
    ruined = valuation.ruined
    found, kept = margin_levels(valuation.margin_ratio or ZERO, warned, ruined=ruined)
    crossed, disarmed = list(found), list(kept)
    if leverage_limit is not None:
        ruined = valuation.equity <= 0 and bool(valuation.positions)
        used = valuation.leverage or ZERO
        if ruined or used > leverage_limit:
            disarmed.append(LEVERAGE_LIMIT)
            if LEVERAGE_LIMIT not in warned and not ruined:
                crossed.append(LEVERAGE_LIMIT)
        elif LEVERAGE_LIMIT in warned and used >= multiply(leverage_limit, REARM):
            disarmed.append(LEVERAGE_LIMIT)
    return tuple(crossed), tuple(disarmed)
