"""Levels of the margin ratio: crossed upwards once, armed again well below."""

from __future__ import annotations

from decimal import Decimal

from psm.contracts.updates import Level
from psm.domain.money import multiply

WARNING_LEVELS: tuple[tuple[Level, Decimal], ...] = (
    ("0.5", Decimal("0.5")),
    ("0.8", Decimal("0.8")),
    ("1.0", Decimal(1)),
)
REARM = Decimal("0.95")
"""Below this part of itself a level is armed again."""


def margin_levels(
    ratio: Decimal, warned: tuple[Level, ...], *, ruined: bool
) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
    """Return (margin levels crossed upwards now, those that stay disarmed), both ascending.

    Args:
        ratio: maintenance margin over what covers it.
        warned: levels that are disarmed.
        ruined: nothing is left to cover it.
    """
    crossed: list[Level] = []
    disarmed: list[Level] = []
    for name, level in WARNING_LEVELS:
        if ruined or ratio >= level:
            disarmed.append(name)
            if name not in warned and (not ruined or name == "1.0"):
                crossed.append(name)
        elif name in warned and ratio >= multiply(level, REARM):
            disarmed.append(name)
    return tuple(crossed), tuple(disarmed)
