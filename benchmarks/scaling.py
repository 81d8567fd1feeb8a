"""What more workers bring: the rate at which 1, 2 and 4 processes fold and commit one log."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

from benchmarks.figures import Figure, Size
from benchmarks.processes import psm
from benchmarks.rig import Rig, fills, rig, update_count
from psm.adapters.jetstream import stream_info

WORKERS = (1, 2, 4)
_PARTITIONS = 4
_ACCOUNTS = 100
_DEADLINE_S = 90.0


async def measure(size: Size) -> list[Figure]:
    """Give each number of workers the same log, new to them."""
    events = size.of(8_000, least=200)
    figures: list[Figure] = []
    async with rig(_PARTITIONS) as broker:
        await broker.fill(fills(events, _ACCOUNTS))
        for count in WORKERS:
            await broker.anew("PSM", "SNAPSHOTS")
            async with AsyncExitStack() as stack:
                for number in range(count):
                    mine = ",".join(str(p) for p in range(number, _PARTITIONS, count))
                    await stack.enter_async_context(
                        psm("worker", "--partitions", mine, **broker.environment)
                    )
                rate = await _rate(broker, update_count(events, _ACCOUNTS))
            figures.append(
                Figure(
                    name=f"{count} workers" if count > 1 else "1 worker",
                    unit="updates/s",
                    value=rate,
                    baseline=figures[0].value if figures else None,
                    ratio=rate / figures[0].value if figures else None,
                )
            )
    return figures


async def _rate(broker: Rig, updates: int) -> float:
    """Return updates per second from the first commit seen to the last."""
    first, began = 0, time.perf_counter()
    deadline = began + _DEADLINE_S
    while (stored := (await stream_info(broker.nc, "PSM")).messages) < updates:
        now = time.perf_counter()
        if not first:
            first, began = stored, now
        if now > deadline:
            raise TimeoutError(f"{stored} of {updates} updates after {_DEADLINE_S:g} s")
        await asyncio.sleep(0.01)
    return (updates - first) / (time.perf_counter() - began)
