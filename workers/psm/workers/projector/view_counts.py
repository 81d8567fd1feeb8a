"""What PostgreSQL knows and nobody else tells, for alarms: what the views hold, its size, jobs."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from psm.adapters import postgres
from psm.adapters.logs import get_logger
from psm.adapters.telemetry import Telemetry
from psm.contracts.errors import PSMError
from psm.projections.sql import load

EVERY_S = 5.0
_OF_RISK = load("psm.projections.risk", "reads")["counts"]
_OF_BOOKS = load("psm.projections.market", "market")["counts"]
_OF_ACCOUNTS = load("psm.projections.current_state", "reads")["counts"]
_OF_JOBS = load("psm.projections.jobs", "jobs")
_SIZE = "SELECT pg_database_size(current_database())"
_log = get_logger()


class ViewCounts:
    """Counts again and again, and tells the metrics."""

    def __init__(self, pool: postgres.Pool, instruments: Telemetry) -> None:
        self._pool = pool
        self._database = instruments.database_metrics
        self._risk = instruments.risk_metrics
        self._market = instruments.market_metrics

    async def run(self) -> None:
        """Count until cancelled; while PostgreSQL is away the metrics stay as they were."""
        while True:
            try:
                await self.count()
            except PSMError as error:
                _log.debug("views.not_counted", detail=str(error))
            await asyncio.sleep(EVERY_S)

    async def count(self) -> None:
        """Set the metrics to what the views have now.

        Raises:
            PSMError: PostgreSQL is away, or has no such views.
        """
        async with postgres.acquired(self._pool) as connection:
            of_risk = await connection.fetch(_OF_RISK)
            of_books = await connection.fetch(_OF_BOOKS)
            of_accounts = await connection.fetch(_OF_ACCOUNTS)
            of_jobs = await connection.fetch(_OF_JOBS["list"])
            size = await connection.fetchval(_SIZE)
        self._database.size(size)
        self._database.accounts({row["status"]: row["accounts"] for row in of_accounts})
        for row in of_jobs:
            self._database.job(row["job"], row["succeeded_at"], row["findings"])
        found: dict[str, dict[str, int]] = defaultdict(dict)
        for row in of_risk:
            found[row["kind"]][row["code"]] = row["entries"]
        self._risk.held(latches=found["latch"], near=found["near_limit"])
        self._market.books(
            {row["state"]: row["books"] for row in of_books},
            max((row["age_s"] for row in of_books), default=0.0),
        )
