"""`reconciliation_view`: one row per account, the answer to the last report about it."""

from __future__ import annotations

from psm.contracts.reconciliation import ReconciliationReported
from psm.projections.latest import LatestPerKey

RECONCILIATION_VIEW = LatestPerKey(
    "reconciliation_view",
    "reconciliation.reported",
    ReconciliationReported,
    key=("account_id",),
)
"""The last `ReconciliationReported` of every account that somebody reported about."""
