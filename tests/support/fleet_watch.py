"""How partitions change hands, read from the keys, the commit times and the logs of the workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from statistics import median, quantiles
from typing import Any

import msgspec
from nats.aio.client import Client
from tests.support.chaos_report import Row
from tests.support.chaos_stage import SETTLE_S, Process

from psm.adapters.jetstream import read_range
from psm.contracts.errors import TransientError
from psm.workers.fleet import Member, NatsMembers
from psm.workers.log.cursor import load_cursor

_END = 2**62


async def members(nc: Client) -> list[Member]:
    """Return the members that have a key, however long a busy machine takes to tell."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        try:
            entries = await NatsMembers(nc).entries()
        except TransientError:
            assert time.monotonic() < deadline, "nobody tells the members"
            await asyncio.sleep(0.05)
        else:
            return [entry.member for entry in entries if entry.member is not None]


async def settled(nc: Client, partitions: int, workers: int) -> list[Member]:
    """Wait until so many workers share all partitions, each live in exactly one place."""
    began = time.monotonic()
    while True:
        found = await members(nc)
        held = sorted(
            holding.partition
            for member in found
            for holding in member.holdings
            if holding.state == "live" and not member.leaving
        )
        sizes = [len(member.holdings) for member in found]
        fair = bool(sizes) and max(sizes) - min(sizes) <= 1
        if len(found) == workers and held == list(range(partitions)) and fair:
            return found
        waited = time.monotonic() - began
        assert waited < SETTLE_S, f"not settled after {waited:.0f} s: {found}"
        await asyncio.sleep(0.05)


async def commit_times(nc: Client, partition: int, since_ns: int) -> list[int]:
    """Return when a partition was committed since then, by the broker's clock."""
    return [
        message.time_ns
        async for batch in read_range(nc, "PSM", [f"psm.cursor.{partition}"], 1, _END)
        for message in batch
        if message.time_ns >= since_ns
    ]


async def takeover(nc: Client, workers: Sequence[Process], partition: int, since_ns: int) -> float:
    """Wait until one of `workers` takes a partition and commits; return seconds from `since_ns`."""
    began = time.monotonic()
    while True:
        # Only from then on: what the one before had sent may be stored a little later.
        taken = [
            at
            for at, event, number in _changes(workers)
            if event == "partition.acquired" and number == partition and at * 1e9 > since_ns
        ]
        times = await commit_times(nc, partition, int(taken[0] * 1e9)) if taken else []
        if times:
            return (times[0] - since_ns) / 1e9
        waited = time.monotonic() - began
        assert waited < SETTLE_S, f"partition {partition}: no commit for {waited:.0f} s"
        await asyncio.sleep(0.05)


async def latencies(nc: Client, partition: int, since_ns: int) -> list[float]:
    """Return for each event of a partition since then the seconds from the log to its commit."""
    cursors = [
        (load_cursor(message.data).log_sequence, message.time_ns)
        async for batch in read_range(nc, "PSM", [f"psm.cursor.{partition}"], 1, _END)
        for message in batch
    ]
    found, place = [], 0
    async for batch in read_range(nc, "TRADES", [f"trades.{partition}.*"], 1, _END):
        for event in batch:
            while place < len(cursors) and cursors[place][0] < event.sequence:
                place += 1
            if event.time_ns >= since_ns and place < len(cursors):
                found.append((cursors[place][1] - event.time_ns) / 1e9)
    assert found, f"partition {partition} had no event"
    return found


async def all_latencies(nc: Client, partitions: Iterable[int], since_ns: int) -> list[float]:
    """Return the seconds from the log to the commit of every event since then."""
    return [s for number in partitions for s in await latencies(nc, number, since_ns)]


def handovers(workers: Iterable[Process]) -> list[float]:
    """Return for each clean handover the seconds from the release to the next owner being live."""
    released: dict[int, float] = {}
    found = []
    for at, event, partition in _changes(workers):
        if event == "partition.released":
            released[partition] = at
        elif event == "partition.recovered" and partition in released:
            found.append(at - released.pop(partition))
    return found


def fenced(worker: Process) -> int:
    """Return how often a worker was fenced, by its own log."""
    return worker.logged("partition.fenced")


def report(row: Row, what: str, seconds: list[float]) -> None:
    """Put median, 99th percentile and maximum into the table."""
    high = quantiles(seconds, n=100)[-1] if len(seconds) > 1 else seconds[0]
    row.figures[what] = (
        f"p50 {median(seconds):.3f} s, p99 {min(high, max(seconds)):.3f} s, "
        f"max {max(seconds):.3f} s of {len(seconds)}"
    )


def _changes(workers: Iterable[Process]) -> list[tuple[float, str, int]]:
    """Return (time, log event, partition) of what the workers took and let go, in order."""
    return sorted(
        (datetime.fromisoformat(line["timestamp"]).timestamp(), line["event"], line["partition"])
        for worker in workers
        for line in _lines(worker)
        if line["event"] in {"partition.acquired", "partition.recovered", "partition.released"}
    )


def _lines(worker: Process) -> Iterable[dict[str, Any]]:
    for line in worker.running.log.read_text().splitlines(keepends=True):
        if '"partition.' in line and line.endswith("\n"):
            yield msgspec.json.decode(line, type=dict[str, Any])
