"""The service's objectives, and whether what the processes recorded meets them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from psm.workers.doctor.histograms import Histogram

_SHARES = (0.5, 0.99, 0.999)

Labels = Mapping[str, str]
"""Label -> regular expression of its whole value."""


class Objective(msgspec.Struct, frozen=True, kw_only=True):
    """How fast something has to be.

    Attributes:
        name: as reports and recording rules call it.
        about: what is measured.
        metric: histogram, in seconds.
        labels: which of its series.
        goals: seconds by share: so many must be at most so slow.
        from_specification: whether the goals are the specification's; else the house's own.
    """

    name: str
    about: str
    metric: str
    labels: dict[str, str] = {}
    goals: dict[float, float]
    from_specification: bool = False


class Availability(msgspec.Struct, frozen=True, kw_only=True):
    """How often something has to work.

    Attributes:
        goal: share of all that must be well.
    """

    name: str
    about: str
    goal: float


OBJECTIVES: tuple[Objective, ...] = (
    Objective(
        name="update",
        about="from the log's time of a batch's oldest event to its committed updates",
        metric="psm_event_latency_seconds",
        goals={0.99: 0.01},
    ),
    Objective(
        name="view",
        about="from a committed update to its row in PostgreSQL",
        metric="psm_row_latency_seconds",
        labels={"view": "current_state"},
        goals={0.99: 0.2},
    ),
    Objective(
        name="decision",
        about="from an order's arrival to its decision, written and synced",
        metric="psm_risk_decision_duration_seconds",
        goals={0.99: 0.02},
    ),
    Objective(
        name="risk_check",
        about="the same against the specification of risk checks, which knows no synced record",
        metric="psm_risk_decision_duration_seconds",
        goals={0.5: 0.0005, 0.99: 0.002, 0.999: 0.01},
        from_specification=True,
    ),
    Objective(
        name="read",
        about="HTTP reads of state, positions, margin and orders",
        metric="psm_http_request_duration_seconds",
        labels={"route": "/psm/(state|positions|margin|orders).*"},
        goals={0.99: 0.1},
    ),
)
HTTP = Availability(name="http", about="requests that were not answered 5xx", goal=0.999)
LOG = Availability(name="log", about="time in which the log took writes", goal=0.999)
REQUESTS = "psm_http_request_duration_seconds"
WRITABLE = "psm_log_writable"


class RecordedObjective(Protocol):
    """Where recorded histograms come from."""

    async def histogram(self, metric: str, labels: Labels) -> Histogram:
        """Return the measurements of all series that match; none without any."""

    async def writable(self) -> float | None:
        """Return the share of time in which the log took writes; None where nobody says."""


class SloRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the report; times are in milliseconds.

    Attributes:
        count: measurements.
        p50, p99, p999: None where there are too few to tell.
        goal: in words.
        reached: share that was within the goal, the worst of them; None without measurements.
        met: None without measurements.
    """

    objective: str
    about: str
    count: int
    p50: float | None = None
    p99: float | None = None
    p999: float | None = None
    goal: str
    reached: float | None
    met: bool | None


async def report(source: RecordedObjective) -> list[SloRow]:
    """Return the table of objectives.

    Raises:
        TransientError: the source does not answer.
    """
    rows = [latency_row(one, await source.histogram(one.metric, one.labels)) for one in OBJECTIVES]
    asked = await source.histogram(REQUESTS, {})
    failed = await source.histogram(REQUESTS, {"status": "5.."})
    share = 1 - failed.count / asked.count if asked.count else None
    return [
        *rows,
        _availability_row(HTTP, share, int(asked.count)),
        _availability_row(LOG, await source.writable(), 0),
    ]


def latency_row(objective: Objective, found: Histogram) -> SloRow:
    """Return the line of a latency."""
    shares = {share: found.within(limit) for share, limit in objective.goals.items()}
    known = {share: reached for share, reached in shares.items() if reached is not None}
    worst = min(known, key=lambda share: known[share] - share, default=None)
    p50, p99, p999 = (_ms(found.quantile(share)) for share in _SHARES)
    names = {0.5: "p50", 0.99: "p99", 0.999: "p999"}
    return SloRow(
        objective=objective.name,
        about=objective.about,
        count=int(found.count),
        p50=p50,
        p99=p99,
        p999=p999,
        goal=", ".join(f"{names[s]} {limit * 1000:g} ms" for s, limit in objective.goals.items()),
        reached=None if worst is None else round(known[worst], 5),
        met=all(reached >= share for share, reached in known.items()) if known else None,
    )


def _availability_row(one: Availability, share: float | None, count: int) -> SloRow:
    return SloRow(
        objective=one.name,
        about=one.about,
        count=count,
        goal=f"{one.goal:.1%}",
        reached=None if share is None else round(share, 5),
        met=None if share is None else share >= one.goal,
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
