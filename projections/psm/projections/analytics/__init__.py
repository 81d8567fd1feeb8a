"""The projection `analytics`: buckets, trades and lots of every account, and where its fold stands.

Rows follow from a state per account, which is written with them: `writing` has the how.
"""

from __future__ import annotations

from functools import partial

from psm.analytics.year_days import EVERY_DAY, YearDays
from psm.projections.analytics.tables import TABLES
from psm.projections.analytics.writing import TimelineWriter
from psm.projections.projection import Projection
from psm.projections.source import COMMITTED_UPDATES


def analytics_of(year_days: YearDays) -> Projection:
    """Return the projection, with figures of days that are annual by these days a year."""
    return Projection(
        name="analytics",
        version=1,
        source=COMMITTED_UPDATES,
        views=TABLES,
        hashed=False,
        folding=partial(TimelineWriter, year_days=year_days),
    )


ANALYTICS = analytics_of(EVERY_DAY)
