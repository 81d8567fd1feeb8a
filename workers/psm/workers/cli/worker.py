"""`psm worker`: fold the log of some partitions."""

from __future__ import annotations

import asyncio
from typing import Annotated

from cyclopts import Parameter

from psm.adapters import telemetry
from psm.adapters.jetstream.streams_apply import check
from psm.workers.cli.process import chosen_partitions, on_stop, process
from psm.workers.config import Settings, load_settings
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
    chosen = chosen_partitions(partitions, settings, settings.worker_partitions)
    return asyncio.run(run(settings, chosen))


async def run(settings: Settings, partitions: tuple[int, ...]) -> int:
    """Run a worker until it is told to stop; exit code 1 if a partition had to stop before."""
    async with process(settings, "psm-worker") as own:
        await check(own.nc, settings)
        heads = own.open_heads()
        worker = Worker(
            own.nc, partitions, partition_settings(settings), own.instruments.metrics, heads
        )
        await own.serve_health(worker.readiness)
        on_stop(worker.stop)
        log = telemetry.get_logger()
        log.info("worker.started", partitions=len(partitions))
        await worker.run()
        log.info("worker.stopped")
        return 1 if worker.failed else 0


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
