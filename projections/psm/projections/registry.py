"""Every projection by its name: what processes, rebuilds and commands choose from."""

from __future__ import annotations

from psm.projections.analytics import ANALYTICS
from psm.projections.current_state import CURRENT_STATE
from psm.projections.market import MARKET
from psm.projections.projection import Projection
from psm.projections.risk import RISK, RULEBOOK

PROJECTIONS: dict[str, Projection] = {
    projection.name: projection for projection in (CURRENT_STATE, RISK, RULEBOOK, MARKET, ANALYTICS)
}


def kept(*, analytics: bool) -> dict[str, Projection]:
    """Return the projections that somebody follows, by their name.

    Args:
        analytics: whether those of analytics are among them.
    """
    return {
        name: projection
        for name, projection in PROJECTIONS.items()
        if analytics or projection is not ANALYTICS
    }
