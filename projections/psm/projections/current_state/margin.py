"""`margin_view`: one row per account, its last `MarginUpdated`."""

from __future__ import annotations

from psm.contracts.updates import MarginUpdated
from psm.projections.latest import LatestPerKey

MARGIN_VIEW = LatestPerKey("margin_view", "margin.updated", MarginUpdated, key=("account_id",))
"""The last margin figures of every account. Warnings are events, not state."""
