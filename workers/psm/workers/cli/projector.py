"""`psm projector`: write the views in PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from cyclopts import Parameter

from psm.adapters import telemetry
from psm.projections.current_state import PROJECTIONS
from psm.workers.cli.process import chosen_partitions, on_stop, process
from psm.workers.config import Settings, load_settings
from psm.workers.projector import STREAM, Projector
from psm.workers.pulse import Pulse, database_answers, leader_answers


def projector(
    *,
    partitions: Annotated[
        str | None, Parameter(help="Partitions to follow, such as 0-7,9; default all of them.")
    ] = None,
) -> int:
    """Follow the committed updates into the views. Runs until SIGINT or SIGTERM."""
    settings = load_settings()
    chosen = chosen_partitions(partitions, settings, tuple(range(settings.partitions)))
    return asyncio.run(run(settings, chosen))


async def run(settings: Settings, partitions: tuple[int, ...]) -> int:
    """Run a projector until it is told to stop."""
    async with process(settings, "psm-projector") as own:
        pool = await own.open_pool()
        projections = tuple(PROJECTIONS.values())
        views = Projector(own.nc, pool, projections, partitions, own.instruments.metrics)
        pulse = await own.watch(
            {
                "postgres": database_answers(pool),
                "nats": leader_answers(own.nc, STREAM, "psm.cursor.*"),
            }
        )
        await own.serve_health(lambda: readiness(views, pulse))
        running = asyncio.create_task(views.run())
        on_stop(running.cancel)
        log = telemetry.get_logger()
        log.info("projector.started", partitions=len(partitions))
        await asyncio.wait([running])
        if not running.cancelled():
            running.result()
        log.info("projector.stopped")
        return 0


def readiness(views: Projector, pulse: Pulse) -> tuple[bool, dict[str, Any]]:
    """Return whether every partition is followed, and those that are not, with the reason.

    A follower that waits for messages does not notice that PostgreSQL or the stream's leader is
    away, so the pulse is asked too.
    """
    statuses = views.statuses()
    away = pulse.problems
    return views.is_ready() and not away, {
        "partitions": len(statuses),
        "away": away,
        "lag_events": sum(status.lag_events for status in statuses),
        "lag_s": round(max((status.lag_s for status in statuses), default=0.0), 3),
        "waiting": {
            str(status.partition): status.detail or status.state
            for status in statuses
            if status.state != "running"
        },
    }
