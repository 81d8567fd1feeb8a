"""From publishing an event to its update: sixteen partitions of a worker beside one.

On one server every commit is a synced write; a worker's partitions share theirs, so that sixteen
of them do not queue where one does not.
"""

from __future__ import annotations

import statistics

from benchmarks.figures import Figure, Size, beside
from benchmarks.latency import ACCOUNTS, latencies, warm
from benchmarks.processes import psm
from benchmarks.rig import Rig, fill, rig

MEDIAN_RATIO_MAX = 1.3
_PARTITIONS = 16
_RATES = {100: None, 500: MEDIAN_RATIO_MAX, 1_500: None}
_SECONDS = 3


async def measure(size: Size) -> list[Figure]:
    """Alternate between a worker with one partition and one with sixteen, at each rate."""
    medians: dict[tuple[int, int], list[float]] = {}
    numbers = dict.fromkeys((1, _PARTITIONS), 1)
    async with (
        rig(1) as one,
        rig(_PARTITIONS) as many,
        psm("worker", **one.environment),
        psm("worker", **many.environment),
    ):
        await warm(one)
        await warm(many)
        for _ in range(size.rounds):
            for per_s in _RATES:
                rounds = size.of(per_s * _SECONDS, least=ACCOUNTS) // ACCOUNTS
                for partitions, broker in ((1, one), (_PARTITIONS, many)):
                    first = numbers[partitions] + 1
                    numbers[partitions] += rounds
                    median = await _median(broker, first, rounds, per_s)
                    medians.setdefault((per_s, partitions), []).append(median)
    return [
        beside(
            f"publish to update at {per_s}/s, {_PARTITIONS} partitions beside 1",
            "ms",
            medians[per_s, _PARTITIONS],
            medians[per_s, 1],
            target=target,
            better="at most",
        )
        for per_s, target in _RATES.items()
    ]


async def _median(broker: Rig, first: int, rounds: int, per_s: int) -> float:
    """Send so many events of each account from number `first` on; return the median in ms."""
    feed = [
        fill(f"acc_{place % ACCOUNTS}", first + place // ACCOUNTS, "S")
        for place in range(rounds * ACCOUNTS)
    ]
    return statistics.median(await latencies(broker, feed, "psm.position.updated", per_s=per_s))
