"""`psm projector`: write the views in PostgreSQL."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated, Any

from cyclopts import Parameter

from psm.adapters import postgres, telemetry
from psm.adapters.jetstream import connect
from psm.contracts.errors import ConfigError
from psm.projections.current_state import PROJECTIONS
from psm.workers.config import Settings, load_settings, partitions_of
from psm.workers.projector import Projector


def projector(
    *,
    partitions: Annotated[
        str | None, Parameter(help="Partitions to follow, such as 0-7,9; default all of them.")
    ] = None,
) -> int:
    """Follow the committed updates into the views. Runs until SIGINT or SIGTERM."""
    settings = load_settings()
    chosen = tuple(range(settings.partitions))
    if partitions is not None:
        chosen = partitions_of(partitions)
    if beyond := [number for number in chosen if number >= settings.partitions]:
        raise ConfigError(
            f"--partitions {partitions}: partition {beyond[0]} does not exist; "
            f"the log has {settings.partitions}, numbered from 0"
        )
    return asyncio.run(run(settings, chosen))


async def run(settings: Settings, partitions: tuple[int, ...]) -> int:
    """Run a projector until it is told to stop."""
    instruments = telemetry.setup(
        "psm-projector",
        level=settings.log_level,
        format=settings.log_format,
        otlp_endpoint=settings.otlp_endpoint,
        env=settings.env,
    )
    log = telemetry.get_logger()
    nc = await connect(name="psm-projector", **settings.nats_options())
    pool = health = None
    try:
        pool = await postgres.open_pool(
            settings.require_postgres_dsn(),
            name="psm-projector",
            size_max=settings.postgres_pool_max,
        )
        views = Projector(nc, pool, tuple(PROJECTIONS.values()), partitions, instruments.metrics)
        if settings.metrics_port:
            health = await telemetry.start_health_server(
                settings.metrics_host,
                settings.metrics_port,
                lambda: readiness(views),
                instruments.registry,
            )
        running = asyncio.create_task(views.run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, running.cancel)
        log.info("projector.started", partitions=len(partitions))
        await asyncio.wait([running])
        if not running.cancelled():
            running.result()
        log.info("projector.stopped")
        return 0
    finally:
        if health is not None:
            await health.close()
        if pool is not None:
            pool.terminate()
        await nc.close()
        instruments.shutdown()


def readiness(views: Projector) -> tuple[bool, dict[str, Any]]:
    """Return whether every partition is followed, and those that are not, with the reason."""
    statuses = views.statuses()
    return views.is_ready(), {
        "partitions": len(statuses),
        "lag_events": sum(status.lag_events for status in statuses),
        "lag_s": round(max((status.lag_s for status in statuses), default=0.0), 3),
        "waiting": {
            str(status.partition): status.detail or status.state
            for status in statuses
            if status.state != "running"
        },
    }
