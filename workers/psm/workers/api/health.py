"""Whether the read service can answer truthfully: PostgreSQL, NATS, and how old the views are.

A lagging view does not make the service unready: its answers say which version they are, and
taking every instance away would make an outage of a delay. The lag is in the report and alarmed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

import msgspec
from nats.aio.client import Client

from psm.adapters import postgres
from psm.contracts.errors import PSMError
from psm.projections.projection import Projection
from psm.workers.view_lag import view_lag

_CHECK_TIMEOUT_S = 3.0
_KEEP_S = 1.0


class ViewHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How far one projection is behind."""

    lag_events: int
    lag_s: float


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `/health/ready` says.

    Attributes:
        status: `ready` when PostgreSQL and NATS answer.
        postgres: `ok`, or what is wrong.
        nats: `ok`, or what is wrong.
        views: lag per projection; empty while it cannot be read.
    """

    status: Literal["ready", "not ready"]
    postgres: str
    nats: str
    views: dict[str, ViewHealth]


class ServiceHealth:
    """Checks at most once a second, however often it is asked."""

    def __init__(self, nc: Client, pool: postgres.Pool, projections: Sequence[Projection]) -> None:
        self._nc = nc
        self._pool = pool
        self._projections = tuple(projections)
        self._lock = asyncio.Lock()
        self._report: HealthReport | None = None
        self._checked_at = 0.0

    async def report(self) -> HealthReport:
        """Return what holds now, or held less than a second ago."""
        loop = asyncio.get_running_loop()
        async with self._lock:
            if self._report is None or loop.time() - self._checked_at > _KEEP_S:
                self._report = await self._check()
                self._checked_at = loop.time()
            return self._report

    async def _check(self) -> HealthReport:
        database = await self._postgres()
        broker = "ok" if self._nc.is_connected else "not connected"
        views: dict[str, ViewHealth] = {}
        if database == broker == "ok":
            try:
                async with asyncio.timeout(_CHECK_TIMEOUT_S):
                    views = {p.name: await self._view(p) for p in self._projections}
            except (PSMError, TimeoutError) as error:
                broker = f"the stream PSM cannot be read: {error}"
        return HealthReport(
            status="ready" if database == broker == "ok" else "not ready",
            postgres=database,
            nats=broker,
            views=views,
        )

    async def _postgres(self) -> str:
        try:
            async with (
                asyncio.timeout(_CHECK_TIMEOUT_S),
                postgres.acquired(self._pool) as connection,
            ):
                found = await connection.fetchval("SELECT to_regclass('balances_view')::text")
        except (PSMError, TimeoutError) as error:
            return str(error) or "does not answer"
        return "ok" if found else "the schema is missing; run `psm migrate up`"

    async def _view(self, projection: Projection) -> ViewHealth:
        lags = await view_lag(self._nc, self._pool, projection)
        return ViewHealth(
            lag_events=sum(lag.lag_events for lag in lags),
            lag_s=round(max((lag.lag_s for lag in lags), default=0.0), 3),
        )
