"""`psm worker`: fold the log of some partitions, as many as the fleet has for it."""

from __future__ import annotations

import asyncio
import time
from importlib.metadata import version
from typing import Annotated, Any

from cyclopts import Parameter

from psm.adapters import telemetry
from psm.adapters.jetstream.streams_apply import check
from psm.workers.cli.shared.process import chosen_partitions, process
from psm.workers.fleet import Fleet, NatsMembers, NatsProber, this_member
from psm.workers.fleet.heads import answer_heads
from psm.workers.fleet.live_reads import LiveAnswers
from psm.workers.fleet.worker import Worker
from psm.workers.partition.settings import PartitionSettings
from psm.workers.process.config import Settings, load_settings


def worker(
    *,
    partitions: Annotated[
        str | None,
        Parameter(
            help="Partitions to run whatever other workers do, such as 0-7,9; by default the "
            "workers share all of them."
        ),
    ] = None,
) -> int:
    """Fold the log, commit updates, write snapshots. Runs until SIGINT or SIGTERM."""
    settings = load_settings()
    chosen = chosen_partitions(partitions, settings, settings.worker_partitions)
    return asyncio.run(run(settings, chosen or None))


async def run(settings: Settings, pinned: tuple[int, ...] | None) -> int:
    """Run a worker until it is told to stop; exit code 1 if a partition had to stop before.

    Args:
        settings: of this process.
        pinned: partitions to run in any case; None for this worker's share.
    """
    async with process(settings, "psm-worker") as own:
        await check(own.nc, settings)
        worker = Worker(
            own.nc,
            (),
            partition_settings(settings),
            own.instruments.metrics,
            own.open_heads(),
            steps_down=pinned is None,
        )
        me = this_member(version("portfolio-state-manager"), pinned)
        store, prober = NatsMembers(own.nc), NatsProber(own.nc, time.monotonic)
        fleet = Fleet(me, settings.partitions, store, prober, worker, own.instruments.metrics)
        worker.on_change(fleet.wake)
        canary = await own.open_canary()

        def readiness() -> tuple[bool, dict[str, Any]]:
            ready, detail = fleet.readiness()
            held = worker.readiness()[1]
            # What the fleet calls live may hear nothing of a leader.
            answered = own.nc.is_connected and not held["unanswered"]
            seen = canary.report()
            log = {"log": seen.log, "brokers": seen.brokers, "replicas": seen.replicas}
            return ready and answered, {**held, **detail, **log}

        await own.serve_health(readiness)
        own.on_stop(fleet.leave)
        log = telemetry.get_logger()
        log.info("worker.started", member=me.id, pinned=None if pinned is None else len(pinned))
        await prober.listen(me.id)
        await store.listen(fleet.hear)
        await answer_heads(own.nc, worker)
        await LiveAnswers(own.nc, worker, own.instruments.metrics).listen(me.id)
        running = asyncio.create_task(worker.run())
        try:
            await fleet.run()
        finally:
            worker.stop()
            if worker.holdings():  # had their time to drain, or the fleet failed
                running.cancel()
            await asyncio.wait([running])
        log.info("worker.stopped")
        return 1 if worker.failed else 0


def partition_settings(settings: Settings) -> PartitionSettings:
    """Return what the partition loop takes of the settings."""
    return PartitionSettings(
        partitions=settings.partitions,
        slots=settings.valuation_slots,
        batch_messages=settings.batch_messages,
        snapshot_interval_s=settings.snapshot_interval_s,
        snapshot_events=settings.snapshot_events,
        accounts_in_memory=settings.accounts_in_memory,
    )
