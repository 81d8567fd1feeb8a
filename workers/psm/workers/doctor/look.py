"""Asking one condition: whatever goes wrong on the way is UNKNOWN, never an error."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from psm.contracts.errors import PSMError
from psm.workers.doctor.conditions import Condition
from psm.workers.doctor.place import Installation, here
from psm.workers.doctor.prometheus import Prometheus
from psm.workers.doctor.verdict import CheckLine, Level, judged

_ASK_S = 30.0


async def checked(
    env: Mapping[str, str],
    condition: Condition,
    warning: float | None = None,
    critical: float | None = None,
) -> CheckLine:
    """Return how a condition stands here; limits that are given count instead of its own."""
    async with here(env) as place:
        return await measured(place, condition, warning, critical)


async def measured(
    place: Installation,
    condition: Condition,
    warning: float | None = None,
    critical: float | None = None,
) -> CheckLine:
    """Return the same of a place that is open."""
    try:
        async with asyncio.timeout(_ASK_S):
            found = await condition.measure(place)
    except (PSMError, TimeoutError) as error:
        text = str(error) or f"no answer within {_ASK_S:g} s"
        return CheckLine(check=condition.name, level=Level.UNKNOWN, text=text)
    return judged(
        condition.name,
        found,
        warning=condition.warning if warning is None else warning,
        critical=condition.critical if critical is None else critical,
        falling=condition.falling,
        unit=condition.unit,
    )


async def checked_alert(url: str, name: str) -> CheckLine:
    """Return how an alert stands in a Prometheus."""
    try:
        return await Prometheus(url).alert(name)
    except PSMError as error:
        return CheckLine(check=name, level=Level.UNKNOWN, text=str(error))
