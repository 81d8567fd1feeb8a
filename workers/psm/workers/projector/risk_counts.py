"""How many latches hold and limits are near, as the views have it: for alarms."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from psm.adapters import postgres
from psm.adapters.logs import get_logger
from psm.adapters.risk_metrics import RiskMetrics
from psm.contracts.errors import PSMError
from psm.projections.sql import load

EVERY_S = 5.0
_COUNTS = load("psm.projections.risk", "reads")["counts"]
_log = get_logger()


class RiskCounts:
    """Counts again and again, and tells the metrics."""

    def __init__(self, pool: postgres.Pool, metrics: RiskMetrics) -> None:
        self._pool = pool
        self._metrics = metrics

    async def run(self) -> None:
        """Count until cancelled; while PostgreSQL is away the metrics stay as they were."""
        while True:
            try:
                await self.count()
            except PSMError as error:
                _log.debug("risk.not_counted", detail=str(error))
            await asyncio.sleep(EVERY_S)

    async def count(self) -> None:
        """Set the metrics to what the views have now.

        Raises:
            PSMError: PostgreSQL is away, or has no such views.
        """
        async with postgres.acquired(self._pool) as connection:
            rows = await connection.fetch(_COUNTS)
        found: dict[str, dict[str, int]] = defaultdict(dict)
        for row in rows:
            found[row["kind"]][row["code"]] = row["entries"]
        self._metrics.held(latches=found["latch"], near=found["near_limit"])
