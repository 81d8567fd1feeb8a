"""The projection `analytics`: buckets, trades and lots of every account, and where its fold stands.

Rows follow from a state per account, which is written with them: `writing` has the how.
"""

from __future__ import annotations

from psm.projections.analytics.tables import TABLES
from psm.projections.analytics.writing import TimelineWriter
from psm.projections.projection import Projection
from psm.projections.source import COMMITTED_UPDATES

ANALYTICS = Projection(
    name="analytics",
    version=1,
    source=COMMITTED_UPDATES,
    views=TABLES,
    hashed=False,
    folding=TimelineWriter,
)
