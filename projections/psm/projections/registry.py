"""Every projection by its name: what processes, rebuilds and commands choose from."""

from __future__ import annotations

from psm.projections.current_state import CURRENT_STATE
from psm.projections.projection import Projection

PROJECTIONS: dict[str, Projection] = {CURRENT_STATE.name: CURRENT_STATE}
