"""The commit path of one worker, beside the same bytes in bare atomic batches of nats-py."""

from __future__ import annotations

import time

from nats.aio.client import Client

from benchmarks.figures import Figure, Size, beside
from benchmarks.rig import Rig, fills, rig, running, until, update_count
from psm.adapters.jetstream import StoredMessage, read_range, stream_info
from psm.workers.log.cursor import load_cursor

Batches = list[list[StoredMessage]]

TARGET = 0.8
_ACCOUNTS = 100


async def measure(size: Size) -> list[Figure]:
    """Fold a log of trades and commit it; publish what was committed again, barely."""
    events = size.of(8_000)
    measured: list[float] = []
    bare: list[float] = []
    async with rig() as broker:
        await broker.fill(fills(events, accounts=_ACCOUNTS))
        updates = update_count(events, _ACCOUNTS)
        for _ in range(size.rounds):
            await broker.anew("PSM", "SNAPSHOTS")
            measured.append(updates / await _worker(broker, updates))
            batches = await _batches(broker)
            await broker.anew("PSM", "SNAPSHOTS")
            bare.append(updates / await _bare(broker.bare, batches))
    name = "commit path, 1 event in, 3 updates out"
    return [beside(name, "updates/s", measured, bare, target=TARGET)]


async def _worker(broker: Rig, updates: int) -> float:
    partition = broker.partition()
    started = time.perf_counter()
    async with running(partition):
        await until(lambda: partition.stats.updates >= updates, "everything is committed")
        return time.perf_counter() - started


async def _batches(broker: Rig) -> Batches:
    """Return what is in PSM, a list per batch."""
    found: Batches = []
    last = (await stream_info(broker.nc, "PSM")).last_sequence
    filters = ["psm.cursor.0", "psm.*.*.0.*"]
    async for messages in read_range(broker.nc, "PSM", filters, 1, last):
        for message in messages:
            if message.subject == "psm.cursor.0":
                load_cursor(message.data)
                found.append([])
            found[-1].append(message)
    return found


async def _bare(nc: Client, batches: Batches) -> float:
    started = time.perf_counter()
    for number, (*body, last) in enumerate(batches):
        for place, message in enumerate(body, start=1):
            headers = {"Nats-Batch-Id": f"b{number}", "Nats-Batch-Sequence": str(place)}
            await nc.publish(f"_{message.subject}", message.data, headers=headers)
        if body:
            headers = {"Nats-Batch-Id": f"b{number}", "Nats-Batch-Sequence": str(len(body) + 1)}
            headers["Nats-Batch-Commit"] = "1"
        else:
            headers = {}
        answer = await nc.request(f"_{last.subject}", last.data, headers=headers, timeout=10)
        if b'"error"' in answer.data:
            raise RuntimeError(answer.data.decode())
    return time.perf_counter() - started
