"""`psm worker`: fold the log of some partitions."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

from cyclopts import Parameter

from psm.adapters import telemetry
from psm.adapters.jetstream import connect
from psm.adapters.jetstream.streams_apply import check
from psm.contracts.errors import ConfigError
from psm.workers.config import Settings, load_settings, partitions_of
from psm.workers.partition import PartitionSettings
from psm.workers.worker import Worker


def worker(
    *,
    partitions: Annotated[
        str | None, Parameter(help="Partitions to run, such as 0-7,9; default all of them.")
    ] = None,
) -> int:
    """Fold the log, commit updates, write snapshots. Runs until SIGINT or SIGTERM."""
    settings = load_settings()
    chosen = settings.worker_partitions if partitions is None else partitions_of(partitions)
    if beyond := [number for number in chosen if number >= settings.partitions]:
        raise ConfigError(
            f"--partitions {partitions}: partition {beyond[0]} does not exist; "
            f"the log has {settings.partitions}, numbered from 0"
        )
    return asyncio.run(run(settings, chosen))


async def run(settings: Settings, partitions: tuple[int, ...]) -> int:
    """Run a worker until it is told to stop; exit code 1 if a partition had to stop before."""
    instruments = telemetry.setup(
        "psm-worker",
        level=settings.log_level,
        format=settings.log_format,
        otlp_endpoint=settings.otlp_endpoint,
        env=settings.env,
    )
    log = telemetry.get_logger()
    nc = await connect(name="psm-worker", **settings.nats_options())
    health = None
    try:
        await check(nc, settings)
        worker = Worker(nc, partitions, partition_settings(settings), instruments.metrics)
        if settings.metrics_port:
            health = await telemetry.start_health_server(
                settings.metrics_host,
                settings.metrics_port,
                worker.readiness,
                instruments.registry,
            )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, worker.stop)
        log.info("worker.started", partitions=len(partitions))
        await worker.run()
        log.info("worker.stopped")
        return 1 if worker.failed else 0
    finally:
        if health is not None:
            await health.close()
        await nc.close()
        instruments.shutdown()


def partition_settings(settings: Settings) -> PartitionSettings:
    """Return what the partition loop takes of the settings."""
    return PartitionSettings(
        partitions=settings.partitions,
        valuation_interval_ns=settings.valuation_interval_ms * 1_000_000,
        batch_messages=settings.batch_messages,
        batch_wait_s=settings.batch_wait_ms / 1000,
        snapshot_interval_s=settings.snapshot_interval_s,
        snapshot_events=settings.snapshot_events,
    )
