"""Every projection by its name: what processes, rebuilds and commands choose from."""

from __future__ import annotations

from psm.analytics.year_days import EVERY_DAY, YearDays
from psm.projections.analytics import ANALYTICS, analytics_of
from psm.projections.current_state import CURRENT_STATE
from psm.projections.market import MARKET
from psm.projections.projection import Projection
from psm.projections.risk import RISK, RULEBOOK

PROJECTIONS: dict[str, Projection] = {
    projection.name: projection for projection in (CURRENT_STATE, RISK, RULEBOOK, MARKET, ANALYTICS)
}


def kept(*, analytics: bool = True, year_days: YearDays = EVERY_DAY) -> dict[str, Projection]:
    """Return the projections that somebody follows, by their name.

    Args:
        analytics: whether those of analytics are among them.
        year_days: by which these write annual figures.
    """
    found = {**PROJECTIONS, ANALYTICS.name: analytics_of(year_days)}
    return {name: one for name, one in found.items() if analytics or name != ANALYTICS.name}
