"""How long a partition takes to come back, by length of its log, with and without snapshots."""

from __future__ import annotations

import time

from benchmarks.figures import Figure, Size
from benchmarks.rig import Rig, fills, rig, running, until

LENGTHS = (2_000, 10_000)
_ACCOUNTS = 200


async def measure(size: Size) -> list[Figure]:
    """Recover each log once from its snapshots and once from its beginning."""
    figures = []
    async with rig() as broker:
        stored = 0
        for place, full in enumerate(LENGTHS, start=1):
            length = size.of(full, least=_ACCOUNTS * place)
            rounds = [1 + n // _ACCOUNTS for n in (stored, length)]
            events = _ACCOUNTS * (rounds[1] - rounds[0])
            await broker.fill(fills(events, _ACCOUNTS, first=rounds[0]))
            stored += events
            await _fold(broker, stored)  # ends with a checkpoint of all accounts
            with_snapshots = await _recover(broker)
            await broker.anew("SNAPSHOTS")
            without = await _recover(broker)
            name = f"recovery of {stored:,} events"
            figures += [
                Figure(name=f"{name}, snapshots", unit="s", value=with_snapshots),
                Figure(name=f"{name}, none", unit="s", value=without),
            ]
    return figures


async def _fold(broker: Rig, last: int) -> None:
    partition = broker.partition()
    async with running(partition):
        await until(lambda: partition.stats.position >= last, "the log is folded")


async def _recover(broker: Rig) -> float:
    partition = broker.partition()
    started = time.perf_counter()
    async with running(partition):
        await until(lambda: partition.stats.live, "the partition is live")
        return time.perf_counter() - started
