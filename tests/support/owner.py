"""An owner of a small log: a real worker in this process, which answers for heads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from nats.aio.client import Client
from tests.support.workbench import WAIT_S, end, until

from psm.adapters import telemetry
from psm.workers.fleet.heads import answer_heads
from psm.workers.fleet.worker import Worker
from psm.workers.partition.settings import PartitionSettings


@asynccontextmanager
async def owning(nc: Client, partitions: int = 4, **tuning: Any) -> AsyncIterator[Worker]:
    """Own all partitions while the block runs."""
    settings = PartitionSettings(partitions=partitions, **tuning)
    worker = Worker(nc, range(partitions), settings, telemetry.quiet().metrics)
    await answer_heads(nc, worker)
    task = asyncio.create_task(worker.run())
    try:
        await until(lambda: worker.readiness()[0], "the worker is ready")
        yield worker
        worker.stop()
        await asyncio.wait_for(task, WAIT_S)
    finally:
        await end(task)
