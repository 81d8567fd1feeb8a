"""`positions_view`: a row per asset held and per position, flat ones with a history included."""

from __future__ import annotations

from psm.contracts.updates import PositionUpdated
from psm.projections.latest import LatestPerKey
from psm.projections.rows import Row


def _is_gone(row: Row) -> bool:
    """Return whether nothing is left: of an asset, or of a position whose only fill is busted."""
    return bool(row["side"] == "flat" and not row["cycle"])


POSITIONS_VIEW = LatestPerKey(
    "positions_view",
    "position.updated",
    PositionUpdated,
    key=("account_id", "class", "symbol", "position_side"),
    is_gone=_is_gone,
)
"""The last `PositionUpdated` of every position; of a flip, that of the new one."""
