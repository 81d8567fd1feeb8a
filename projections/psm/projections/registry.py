"""Every projection by its name: what processes, rebuilds and commands choose from."""

from __future__ import annotations

from psm.projections.current_state import CURRENT_STATE
from psm.projections.market import MARKET
from psm.projections.projection import Projection
from psm.projections.risk import RISK, RULEBOOK

PROJECTIONS: dict[str, Projection] = {
    projection.name: projection for projection in (CURRENT_STATE, RISK, RULEBOOK, MARKET)
}
