"""Whether each door of the service can do its work, and what else is worth knowing.

Reads answer from PostgreSQL, so their door depends on nothing else: with the broker away, what the
views have is still the truth up to the version that each answer names. Appending depends on the
broker's taking writes. A lagging view closes no door: its answers say which version they are, and
taking every instance away would make an outage of a delay. The lag is in the report and alarmed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Literal, Self

import msgspec
from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.jetstream import last_for, last_per_subject
from psm.adapters.metrics import Metrics
from psm.adapters.tasks import end_all
from psm.contracts.errors import PSMError
from psm.contracts.subjects import PSM, TRADES, last_token
from psm.projections.projection import Projection
from psm.projections.quarantine import StaleKey
from psm.workers.access.policy import Principal, names_of
from psm.workers.log.cursor import load_cursor
from psm.workers.process.canary import Canary, CanaryReport
from psm.workers.process.lateness import EVERY_S, Lateness
from psm.workers.projector.lag import PartitionLag, view_lag

HealthDoor = Literal["reads", "ingest"]
DOORS: tuple[HealthDoor, ...] = ("reads", "ingest")

COMMITS_LATE_S = 70.0
"""A worker commits the cursor of events that change nothing a minute later: that is no lateness."""
_COMMITS = "commits"
_CHECK_TIMEOUT_S = 3.0
_KEEP_S = 1.0
_OFF = "off; PSM_INGEST turns it on"


class ViewHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How far one projection is behind.

    Attributes:
        lag_events: updates that it has not applied.
        lag_s: age of the oldest of them.
        stale: keys whose last row PostgreSQL cannot hold; all others are right.
    """

    lag_events: int
    lag_s: float
    stale: list[StaleKey]


class Readiness(msgspec.Struct, frozen=True):
    """All that a stranger hears about readiness."""

    status: str


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `/health/ready` says.

    Attributes:
        status: `ready` when every door that this process has is open.
        doors: of `reads` and `ingest`, `ready` or what is wrong.
        postgres: `ok`, or what is wrong.
        nats: `ok`, or what is wrong.
        log: `writable`, or what the canary found; null where it is not asked.
        views: lag per projection; empty while it cannot be read.
        late: partitions that stay behind, as `projection/partition` and `commits/partition`.
        replicas: servers whose replica of a stream stays behind, by stream.
    """

    status: Literal["ready", "not ready"]
    doors: dict[str, str]
    postgres: str
    nats: str
    log: str | None
    views: dict[str, ViewHealth]
    late: list[str]
    replicas: dict[str, list[str]]


def told_to(principal: Principal, report: HealthReport) -> HealthReport:
    """Return a report with the stale keys of those accounts only that who asks may know of."""
    accounts = names_of(principal, "account")
    views = {
        name: msgspec.structs.replace(
            view, stale=[key for key in view.stale if accounts.has(key.stream_id)]
        )
        for name, view in report.views.items()
    }
    return msgspec.structs.replace(report, views=views)


class ServiceHealth:
    """Asks PostgreSQL at most once a second, and measures the views while the context is open."""

    def __init__(
        self,
        nc: Client,
        pool: postgres.Pool,
        projections: Sequence[Projection],
        metrics: Metrics,
        canary: Canary | None = None,
        partitions: int = 0,
    ) -> None:
        """Nothing is measured before the context is entered.

        Args:
            nc: connection.
            pool: of PostgreSQL.
            projections: whose lag is measured.
            metrics: where lateness goes.
            canary: of a service that appends; None where ingest is off.
            partitions: of the log, whose commits are judged, also while no worker lives.
        """
        self._nc = nc
        self._pool = pool
        self._projections = tuple(projections)
        self._metrics = metrics
        self._canary = canary
        self._partitions = partitions
        self._lateness = {projection.name: Lateness() for projection in projections}
        self._lateness[_COMMITS] = Lateness(COMMITS_LATE_S)
        self._lock = asyncio.Lock()
        self._database = ""
        self._checked_at: float | None = None
        self._views: dict[str, ViewHealth] = {}
        self._late: dict[str, list[str]] = {}
        self._unread: str | None = "not measured yet"
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Start to measure the views."""
        self._tasks = [asyncio.create_task(self._measure())]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop measuring."""
        await end_all(self._tasks)
        self._tasks = []

    async def report(self) -> HealthReport:
        """Return what holds now, or held a moment ago."""
        loop = asyncio.get_running_loop()
        async with self._lock:
            if self._checked_at is None or loop.time() - self._checked_at > _KEEP_S:
                self._database = await self._postgres()
                self._checked_at = loop.time()
        canary = self._canary.report() if self._canary else None
        doors = self._doors(canary)
        return HealthReport(
            status="ready" if {*doors.values()} <= {"ready", _OFF} else "not ready",
            doors=doors,
            postgres=self._database,
            nats=(self._unread or "ok") if self._nc.is_connected else "not connected",
            log=canary.log if canary else None,
            views=self._views,
            late=[f"{name}/{number}" for name, found in self._late.items() for number in found],
            replicas=canary.replicas if canary else {},
        )

    def _doors(self, canary: CanaryReport | None) -> dict[str, str]:
        """Return `ready`, or what keeps it shut, of each door."""
        reads = "ready" if self._database == "ok" else self._database
        if canary is None:
            return {"reads": reads, "ingest": _OFF}
        return {"reads": reads, "ingest": canary.problem or "ready"}

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

    async def _measure(self) -> None:
        """Beside the answers: a broker that is silent must not make them wait."""
        while True:
            try:
                async with asyncio.timeout(_CHECK_TIMEOUT_S):
                    lags = {p.name: await self._lags(p) for p in self._projections}
                    commits = await self._commits()
            except (PSMError, TimeoutError) as error:
                self._views = {}
                self._unread = f"the streams cannot be read: {error or 'no answer'}"
            else:
                self._unread = None
                self._judge(_COMMITS, commits)
                for name, found in lags.items():
                    self._take(name, found)
            await asyncio.sleep(EVERY_S)

    async def _lags(self, projection: Projection) -> list[PartitionLag]:
        return await view_lag(self._nc, self._pool, projection)

    async def _commits(self) -> dict[str, tuple[int, int]]:
        """Return cursor and last account event of each partition, as their leaders have them."""
        stored = await last_per_subject(self._nc, PSM, ["psm.cursor.*"])
        committed = {last_token(m.subject): load_cursor(m.data).log_sequence for m in stored}
        ends = {}
        for number in map(str, range(self._partitions)):
            last = await last_for(
                self._nc, TRADES, f"trades.{number}.*", timeout_s=_CHECK_TIMEOUT_S
            )
            ends[number] = committed.get(number, 0), last.sequence if last else 0
        return ends

    def _take(self, name: str, lags: Sequence[PartitionLag]) -> None:
        ends = {str(lag.partition): (lag.checkpoint, lag.last_sequence) for lag in lags}
        self._judge(name, ends)
        self._views[name] = ViewHealth(
            lag_events=sum(lag.lag_events for lag in lags),
            lag_s=round(max((lag.lag_s for lag in lags), default=0.0), 3),
            stale=[entry for lag in lags for entry in lag.stale],
        )

    def _judge(self, name: str, ends: Mapping[str, tuple[int, int]]) -> None:
        self._late[name] = self._lateness[name].look(asyncio.get_running_loop().time(), ends)
        self._metrics.late(name, len(self._late[name]))
