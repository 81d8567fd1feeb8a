"""Replay from the log, beside the same ordered pull without a fold."""

from __future__ import annotations

import time

from benchmarks.figures import Figure, Size, beside
from benchmarks.rig import Rig, fills, rig
from psm.adapters.jetstream import read_range
from psm.contracts import subjects
from psm.domain.books import Books
from psm.workers.replay import refold_partition

TARGET = 0.35


async def measure(size: Size) -> list[Figure]:
    """Read a log of trades and fold it; read it again only."""
    events = size.of(8_000)
    measured: list[float] = []
    bare: list[float] = []
    async with rig() as broker:
        last = await broker.fill(fills(events, accounts=100))
        for _ in range(size.rounds):
            bare.append(events / await _pull(broker, last))
            measured.append(events / await _fold(broker, last))
    return [beside("replay from the log", "events/s", measured, bare, target=TARGET)]


async def _fold(broker: Rig, last: int) -> float:
    books = Books(partitions=1, partition=0)
    books.publishing = "nothing"  # as a partition that recovers
    started = time.perf_counter()
    async for _ in refold_partition(broker.nc, books, 0, last):
        pass
    return time.perf_counter() - started


async def _pull(broker: Rig, last: int) -> float:
    started = time.perf_counter()
    async for _ in read_range(broker.nc, "TRADES", subjects.partition_filters(0), 1, last):
        pass
    return time.perf_counter() - started
