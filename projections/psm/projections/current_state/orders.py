"""`orders_view`: one row per account and order, open and ended."""

from __future__ import annotations

from psm.contracts.updates import OrderUpdated
from psm.projections.latest import LatestPerKey
from psm.projections.rows import Row


def _never_was(row: Row) -> bool:
    """Return whether a bust took the only fill of an order that no event had announced."""
    return bool(row["quantity"] == "0")


ORDERS_VIEW = LatestPerKey(
    "orders_view",
    "order.updated",
    OrderUpdated,
    key=("account_id", "order_id"),
    is_gone=_never_was,
)
"""The last `OrderUpdated` of every account and order."""
