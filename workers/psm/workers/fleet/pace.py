"""How fast each partition goes and how far it is behind, from cursors and the log alone."""

from __future__ import annotations

import asyncio
import time

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import last_for, unread
from psm.contracts.subjects import TRADES, partition_filters
from psm.workers.fleet.report import PartitionRow, fleet_report
from psm.workers.log.reader import last_log_sequence

_READS = 8  # at the same time


class PartitionPace(msgspec.Struct, frozen=True, kw_only=True):
    """One partition since the look before.

    Attributes:
        events_s: messages taken in per second, marks and definitions included; None at first.
        lag: messages of the log that its worker has not taken in, as it said at most 3 s ago.
        lag_s: age of the oldest of them.
    """

    partition: int
    state: str
    owner: str | None
    events_s: float | None
    lag: int
    lag_s: float


class FleetPace:
    """Looks at all partitions again and again."""

    def __init__(self, nc: Client) -> None:
        self._nc = nc
        self._before: dict[int, int] = {}
        self._looked_at = 0.0
        self._limit = asyncio.Semaphore(_READS)

    async def look(self) -> list[PartitionPace]:
        """Return how it stands now.

        Raises:
            ConfigError: there is no log, or no bucket of the fleet.
            TransientError: the broker does not answer.
        """
        report = await fleet_report(self._nc)
        now = time.monotonic()
        elapsed_s = now - self._looked_at
        end = await last_log_sequence(self._nc)
        paces = await asyncio.gather(*(self._pace(r, end, elapsed_s) for r in report.partitions))
        self._looked_at = now
        self._before = {row.partition: _reached(row) for row in report.partitions}
        return list(paces)

    async def _pace(self, row: PartitionRow, end: int, elapsed_s: float) -> PartitionPace:
        async with self._limit:
            reached = _reached(row)
            behind, age_s = await self._unread(row.partition, reached, end)
            before = self._before.get(row.partition)
            rate = None
            if before is not None:
                done = 0
                if before < reached:
                    done = (await self._unread(row.partition, before, end))[0] - behind
                rate = round(max(done, 0) / elapsed_s, 1)
        return PartitionPace(
            partition=row.partition,
            state=row.state,
            owner=row.owner,
            events_s=rate,
            lag=behind,
            lag_s=round(age_s, 3),
        )

    async def _unread(self, partition: int, position: int, end: int) -> tuple[int, float]:
        """Return messages after a position, and the age of the first; asks only where any is."""
        if position >= end:
            return 0, 0.0
        filters = partition_filters(partition)
        lasts = [await last_for(self._nc, TRADES, subject) for subject in filters]
        if all(last is None or last.sequence <= position for last in lasts):
            return 0, 0.0
        return await unread(self._nc, TRADES, filters, position)


def _reached(row: PartitionRow) -> int:
    """Return how far a partition is: what changed nothing is folded, and no cursor tells."""
    return max(row.committed, row.position or 0)
