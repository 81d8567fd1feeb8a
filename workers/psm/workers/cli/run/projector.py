"""`psm projector`: write the views in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from psm.adapters import telemetry
from psm.adapters.tasks import end_all
from psm.contracts.errors import ConfigError
from psm.projections.projection import Projection
from psm.projections.registry import PROJECTIONS, kept
from psm.projections.risk import RISK
from psm.workers.cli.shared.process import chosen_partitions, process
from psm.workers.process.config import Settings, load_settings
from psm.workers.process.lease import Lease
from psm.workers.process.readiness import Pulse, all_of, database_answers, leader_answers
from psm.workers.projector.follower import FollowerStatus, Projector
from psm.workers.projector.sources import reader_of
from psm.workers.projector.view_counts import ViewCounts


def projector(
    *,
    partitions: Annotated[
        str | None, Parameter(help="Partitions to follow, such as 0-7,9; default all of them.")
    ] = None,
    only: Annotated[
        str | None,
        Parameter(help="Projections to follow, such as analytics; default all that are kept."),
    ] = None,
    without: Annotated[
        str | None, Parameter(help="Projections that another projector follows.")
    ] = None,
) -> int:
    """Follow the committed updates into the views. Runs until SIGINT or SIGTERM.

    Of several that follow the same, one is active, and another takes over when it is gone.
    """
    settings = load_settings()
    chosen = chosen_partitions(partitions, settings, tuple(range(settings.partitions)))
    return asyncio.run(run(settings, chosen, chosen_projections(settings, only, without)))


def chosen_projections(
    settings: Settings, only: str | None, without: str | None
) -> tuple[Projection, ...]:
    """Return the projections to follow, of those that are kept.

    Args:
        settings: which say whether those of analytics are.
        only: names, separated by commas; None for all.
        without: names to leave out; None for none.

    Raises:
        ConfigError: there is no such projection, or none is left.
    """
    named, left_out = _named_in("--only", only), _named_in("--without", without)
    chosen = tuple(
        projection
        for name, projection in kept(
            analytics=settings.analytics, year_days=settings.year_days
        ).items()
        if (only is None or name in named) and name not in left_out
    )
    if not chosen:
        raise ConfigError("no projection is left to follow")
    return chosen


def _named_in(option: str, text: str | None) -> tuple[str, ...]:
    names = tuple((text or "").split(",")) if text is not None else ()
    for name in names:
        if name not in PROJECTIONS:
            there = ", ".join(PROJECTIONS)
            raise ConfigError(f"{option}: there is no projection {name!r}; there is {there}")
    return names


async def run(
    settings: Settings, partitions: tuple[int, ...], projections: tuple[Projection, ...]
) -> int:
    """Run a projector until it is asked to stop."""
    async with process(settings, "psm-projector") as own:
        pool = await own.open_pool()
        views = Projector(
            own.nc, pool, projections, partitions, own.instruments.metrics, settings.market_rules
        )
        sources = dict.fromkeys(projection.source for projection in projections)
        leaders = [leader_answers(own.nc, s.js_stream, reader_of(s).probe) for s in sources]
        pulse = await own.watch({"postgres": database_answers(pool), "nats": all_of(leaders)})
        lease = await own.open_lease(work_of(partitions, projections))
        await own.serve_health(lambda: readiness(views, pulse, lease))
        counts = ViewCounts(pool, own.instruments)
        counted = 0 in partitions and RISK in projections
        log = telemetry.get_logger()

        async def follow() -> None:
            counting = [asyncio.create_task(counts.run())] if counted else []
            log.info("projector.started", partitions=len(partitions))
            try:
                await views.run()
            finally:
                await end_all(counting)

        running = asyncio.create_task(lease.run(follow))
        own.on_stop(running.cancel)
        await asyncio.wait([running])
        if not running.cancelled():
            running.result()
        log.info("projector.stopped")
        return 0


def work_of(partitions: tuple[int, ...], projections: tuple[Projection, ...]) -> str:
    """Return what projectors share that follow the same: then one of them is enough."""
    names = ",".join(projection.name for projection in projections)
    return f"projector {names} of {','.join(map(str, partitions))}"


def readiness(views: Projector, pulse: Pulse, lease: Lease) -> tuple[bool, dict[str, Any]]:
    """Return whether every partition is followed, and those that are not, with the reason.

    A follower that waits for messages does not notice that PostgreSQL or the stream's leader is
    away, so the pulse is asked too. Who stands by is ready when it could begin.
    """
    away = pulse.problems
    if not lease.active.is_set():
        return not away, {"standby": True, "away": away}
    statuses = views.statuses()
    return views.is_ready() and not away, {
        "partitions": len(statuses),
        "away": away,
        "lag_events": sum(status.lag_events for status in statuses),
        "lag_s": round(max((status.lag_s for status in statuses), default=0.0), 3),
        "stale": [msgspec.to_builtins(entry) for status in statuses for entry in status.stale],
        "waiting": {
            name: status.detail or status.state
            for name, status in _named(statuses).items()
            if status.state != "running"
        },
    }


def _named(statuses: Sequence[FollowerStatus]) -> dict[str, FollowerStatus]:
    """Return statuses by partition; where there are several projections, by theirs too."""
    if len({status.projection for status in statuses}) == 1:
        return {str(status.partition): status for status in statuses}
    return {f"{status.projection}/{status.partition}": status for status in statuses}
