"""Conditions of alerts, asked of broker and database: for monitoring systems without Prometheus.

Each is one number with two limits, or a share of something that runs out. What no process has to
count is not asked here; `alerts` asks a Prometheus for any alert by its name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec

from psm.adapters import postgres
from psm.adapters.broker_monitor import look_at
from psm.adapters.jetstream import last_for
from psm.adapters.jetstream.facts import server_facts
from psm.adapters.jetstream.streams_apply import REQUIRED, replicas_not_current
from psm.contracts.errors import ConfigError
from psm.contracts.subjects import HEALTH, HEALTH_LOG
from psm.projections.registry import kept
from psm.projections.sql import load
from psm.workers.archive.lag import archive_lag
from psm.workers.archive.reads import ArchiveReads
from psm.workers.doctor.itself import certificate_ends
from psm.workers.doctor.place import Installation
from psm.workers.doctor.verdict import Reading
from psm.workers.fleet.pace import FleetPace
from psm.workers.fleet.report import fleet_report
from psm.workers.projector.lag import PartitionLag, view_lag
from psm.workers.repair.blocked_streams import stopped_streams

_QUERIES = load("psm.workers.doctor", "doctor")
_OF_RISK = load("psm.projections.risk", "reads")["counts"]
_OF_BOOKS = load("psm.projections.market", "market")["counts"]
_SHOWN = 5
_NS = 1_000_000_000

Measure = Callable[[Installation], Awaitable[Reading]]


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """What can be asked.

    Attributes:
        name: as commands and docs call it.
        about: what is measured.
        measure: asks it now.
        warning, critical: from here on it is one; a share or an age that runs out: below it.
        falling: whether small is bad.
        unit: of the number, as monitoring systems write it: `s`, `%`, or nothing for a count.
        alerts: of the chart, whose condition this is.
    """

    name: str
    about: str
    measure: Measure
    warning: float
    critical: float
    falling: bool = False
    unit: str = ""
    alerts: tuple[str, ...] = ()


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


async def unowned(place: Installation) -> Reading:
    """Count partitions that nobody runs, or that stopped."""
    report = await fleet_report(place.nc)
    if not report.unowned:
        return Reading(0, f"{len(report.partitions)} partitions, {len(report.members)} workers")
    return Reading(len(report.unowned), f"nobody runs {_some(list(map(str, report.unowned)))}")


async def contested(place: Installation) -> Reading:
    """Count partitions that two workers say to run."""
    found = [row for row in (await fleet_report(place.nc)).partitions if row.state == "contested"]
    names = _some([f"{row.partition} ({row.owner})" for row in found])
    return Reading(len(found), f"more than one runs {names}" if found else "each has one owner")


async def lag(place: Installation) -> Reading:
    """Return the age of the oldest message that a worker has not taken in."""
    worst = max(await FleetPace(place.nc).look(), key=lambda pace: pace.lag_s)
    if worst.lag == 0:
        return Reading(0.0, "all of the log is folded")
    return Reading(worst.lag_s, f"partition {worst.partition} is {worst.lag} messages behind")


async def blocked(place: Installation) -> Reading:
    """Count accounts whose stream waits."""
    found = [f"{one.account_id} ({one.reason})" for one in await stopped_streams(place.nc)]
    return Reading(len(found), f"{_some(found)} wait" if found else "every stream is open")


async def writable(place: Installation) -> Reading:
    """Return the age of the last write that was made to see whether writes work."""
    last = await last_for(place.nc, HEALTH, HEALTH_LOG)
    if last is None:
        raise ConfigError("nobody ever looked whether the log takes writes: does a worker run?")
    age_s = max(0.0, place.now.timestamp() - last.time_ns / _NS)
    return Reading(round(age_s, 1), "since the last write that was tried")


async def replicas(place: Installation) -> Reading:
    """Count replicas that do not hold everything."""
    behind = await replicas_not_current(place.nc, REQUIRED, patience_s=5)
    return Reading(len(behind), behind[0] if behind else "all replicas are current")


async def disk(place: Installation) -> Reading:
    """Return the largest share of its store that a server uses, in percent."""
    urls = place.settings.nats_monitoring_url
    sights = await look_at(urls) if urls else []
    if not sights:
        raise ConfigError("no server's monitoring port answers; set PSM_NATS_MONITORING_URL")
    worst = max(sights, key=lambda sight: (not sight.takes_writes, sight.store_used))
    if not worst.takes_writes:
        return Reading(100.0, f"{worst.server} cannot write: {worst.problem}")
    return Reading(round(worst.store_used * 100, 1), f"of its store {worst.server} uses")


async def certificate(place: Installation) -> Reading:
    """Return the days that the first certificate to end still holds."""
    ends: dict[str, datetime] = certificate_ends(place)
    server = server_facts(place.nc).certificate_ends
    if server is not None:
        ends["the broker's"] = server
    if not ends:
        return Reading(None, "no certificate is used")
    whose = min(ends, key=lambda name: ends[name])
    return Reading(float((ends[whose] - place.now).days), f"days left of {whose}")


async def archive(place: Installation) -> Reading:
    """Return the largest share of a stream's retention that the archive is behind, in percent."""
    worst = max(await archive_lag(place.nc, place.pool), key=lambda one: one.retention_used)
    about = f"{worst.js_stream} is {worst.lag_events} messages, {worst.lag_s:g} s behind"
    if worst.lost:
        return Reading(100.0, f"{worst.js_stream} lost {worst.lost} messages")
    return Reading(round(worst.retention_used * 100, 2), about)


async def archive_late(place: Installation) -> Reading:
    """Return the age of the oldest message that is not archived."""
    worst = max(await archive_lag(place.nc, place.pool), key=lambda one: one.lag_s)
    return Reading(worst.lag_s, f"{worst.js_stream} is {worst.lag_events} messages behind")


async def incidents(place: Installation) -> Reading:
    """Count incidents of the archive."""
    found = await ArchiveReads(place.pool).incident_counts()
    kinds = [f"{row['incidents']} {row['kind']}" for row in found]
    return Reading(sum(row["incidents"] for row in found), _some(kinds) or "no incidents")


async def _lags(place: Installation) -> list[PartitionLag]:
    wanted = kept(analytics=place.settings.analytics).values()
    return [one for view in wanted for one in await view_lag(place.nc, place.pool, view)]


async def views(place: Installation) -> Reading:
    """Return the age of the oldest update that a view lacks."""
    worst = max(await _lags(place), key=lambda one: one.lag_s, default=None)
    if worst is None or worst.lag_events == 0:
        return Reading(0.0, "the views have everything")
    about = f"{worst.projection}, partition {worst.partition}, lacks {worst.lag_events}"
    return Reading(round(worst.lag_s, 3), about)


async def stale(place: Installation) -> Reading:
    """Count keys of views whose row could not be stored."""
    names = [
        f"{entry.view}: {entry.stream_id}" for one in await _lags(place) for entry in one.stale
    ]
    return Reading(len(names), _some(names) or "no key is stale")


async def audit(place: Installation) -> Reading:
    """Return the days since an audit found nothing."""
    async with postgres.acquired(place.pool) as connection:
        row = await connection.fetchrow(_QUERIES["audit"])
    if row is None or row["succeeded_at"] is None:
        raise ConfigError("no audit ever ended without a finding: run `psm audit`")
    age = place.now - row["succeeded_at"]
    about = f"since psm audit found nothing; the last one found {row['findings']}"
    return Reading(round(age.total_seconds() / 3600, 1), about)


async def _of_risk(place: Installation, kind: str) -> Reading:
    async with postgres.acquired(place.pool) as connection:
        rows = await connection.fetch(_OF_RISK)
    found = [f"{row['code']}: {row['entries']}" for row in rows if row["kind"] == kind]
    count = sum(row["entries"] for row in rows if row["kind"] == kind)
    return Reading(count, _some(found) or "none")


async def latched(place: Installation) -> Reading:
    """Count latches that hold: their scopes may only close positions."""
    return await _of_risk(place, "latch")


async def near(place: Installation) -> Reading:
    """Count limits of which little is left."""
    return await _of_risk(place, "near_limit")


async def books(place: Installation) -> Reading:
    """Return how long an order book to which changes come is not synced."""
    async with postgres.acquired(place.pool) as connection:
        rows = await connection.fetch(_OF_BOOKS)
    states = Counter({row["state"]: row["books"] for row in rows})
    about = _some([f"{count} {state}" for state, count in sorted(states.items())])
    return Reading(max((row["age_s"] for row in rows), default=0.0), about or "no books")


async def refusals(place: Installation) -> Reading:
    """Count messages of the last hour that changed nothing."""
    async with postgres.acquired(place.pool) as connection:
        rows = await connection.fetch(_QUERIES["refusals"])
    found = [f"{row['refused']} {row['reason']}" for row in rows]
    return Reading(sum(row["refused"] for row in rows), _some(found) or "none in the last hour")


async def reconciliation(place: Installation) -> Reading:
    """Count accounts whose last report differs from the books."""
    async with postgres.acquired(place.pool) as connection:
        rows = await connection.fetch(_QUERIES["differing"])
    names = [row["account_id"] for row in rows]
    return Reading(len(names), f"{_some(names)} differ" if names else "every report agrees")


_MINUTE, _DAY_H = 60.0, 24.0

CONDITIONS: tuple[Condition, ...] = (
    Condition(name="unowned", about="partitions that nobody runs", measure=unowned, warning=1,
              critical=1, alerts=("PsmPartitionUnowned", "PsmPartitionStopped")),
    Condition(name="contested", about="partitions that two workers run", measure=contested,
              warning=1, critical=2, alerts=("PsmPartitionContested",)),
    Condition(name="lag", about="age of the oldest message not folded", measure=lag, warning=5,
              critical=_MINUTE, unit="s", alerts=("PsmLate", "PsmWorkerLagging")),
    Condition(name="blocked", about="accounts whose stream waits", measure=blocked, warning=1,
              critical=10, alerts=("PsmAccountsBlocked", "PsmAccountsInGap")),
    Condition(name="writable", about="age of the last write that was tried", measure=writable,
              warning=10, critical=30, unit="s", alerts=("PsmLogNotWritable",)),
    Condition(name="replicas", about="replicas that are behind", measure=replicas, warning=1,
              critical=1, alerts=("PsmReplicaNotCurrent",)),
    Condition(name="disk", about="share of its store that a server uses", measure=disk, warning=80,
              critical=95, unit="%", alerts=("PsmBrokerStoreFailed", "PsmBrokerStoreFilling")),
    Condition(name="certificate", about="days that the first certificate to end holds",
              measure=certificate, warning=30, critical=14, falling=True,
              alerts=("PsmCertificateExpires", "PsmCertificateExpiresNow")),
    Condition(name="archive", about="share of the retention that the archive is behind",
              measure=archive, warning=2, critical=5, unit="%",
              alerts=("PsmArchiveLate", "PsmArchiveAbsent")),
    Condition(name="archive_lag", about="age of the oldest message not archived",
              measure=archive_late, warning=_MINUTE, critical=10 * _MINUTE, unit="s",
              alerts=("PsmArchiveLagging",)),
    Condition(name="incidents", about="incidents of the archive", measure=incidents, warning=1,
              critical=10, alerts=("PsmArchiveIncident",)),
    Condition(name="view_lag", about="age of the oldest update that a view lacks", measure=views,
              warning=5, critical=_MINUTE, unit="s", alerts=("PsmLate", "PsmViewLagging")),
    Condition(name="view_stale", about="keys of views that are stale", measure=stale, warning=1,
              critical=10, alerts=("PsmViewStale",)),
    Condition(name="audit_age", about="hours since an audit found nothing", measure=audit,
              warning=2 * _DAY_H, critical=7 * _DAY_H, alerts=("PsmAuditOld", "PsmAuditFindings")),
    Condition(name="risk_latched", about="latches of risk that hold", measure=latched, warning=1,
              critical=10, alerts=("PsmRiskLatched",)),
    Condition(name="risk_near", about="limits of risk of which little is left", measure=near,
              warning=1, critical=100, alerts=("PsmRiskLimitNear",)),
    Condition(name="books", about="how long an order book is not synced", measure=books,
              warning=5 * _MINUTE, critical=60 * _MINUTE, unit="s", alerts=("PsmBookNotSynced",)),
    Condition(name="refusals", about="messages of the last hour that changed nothing",
              measure=refusals, warning=1, critical=100, alerts=("PsmEventsRefused",)),
    Condition(name="reconciliation", about="accounts whose report differs from the books",
              measure=reconciliation, warning=1, critical=10,
              alerts=("PsmReconciliationDiffers",)),
)  # fmt: skip
