"""The worker: runs partitions, each on its own, and tells how they are.

Which ones is said at the start, or by the fleet while it runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from nats.aio.client import Client

from psm.adapters.logs import get_logger
from psm.adapters.metrics import Metrics
from psm.adapters.tasks import BackOff, end_all
from psm.contracts.heads import SubjectHead
from psm.contracts.live import LiveQuestion
from psm.contracts.subjects import log_subject, partition_of
from psm.workers.fleet.keeper import Keepers
from psm.workers.fleet.partition_runner import PartitionKeeper
from psm.workers.partition.committer import Committer
from psm.workers.partition.eviction import Census
from psm.workers.partition.heads_check import Guard
from psm.workers.partition.heads_store import HeadStore
from psm.workers.partition.jetstream import JetStreamLog, JetStreamSnapshots
from psm.workers.partition.live_budget import LiveBudget
from psm.workers.partition.live_reads import LiveRefusedError
from psm.workers.partition.loop import Partition
from psm.workers.partition.settings import PartitionSettings
from psm.workers.process.lateness import EVERY_S, Lateness

_DRAIN_S = 20.0
_log = get_logger()


class Worker(Keepers[PartitionKeeper]):
    """Runs partitions on one connection."""

    def __init__(
        self,
        nc: Client,
        partitions: Sequence[int],
        settings: PartitionSettings,
        metrics: Metrics,
        heads: HeadStore | None = None,
        *,
        steps_down: bool = False,
    ) -> None:
        """Nothing runs yet.

        Args:
            nc: connection.
            partitions: what to run from the start; more may be taken later.
            settings: of the partitions.
            metrics: where counts go.
            heads: what the log is compared with before a partition goes on, beyond the broker.
            steps_down: whether a partition that was fenced ends instead of trying again.
        """
        super().__init__(self._keeper)
        self._nc = nc
        self._partitions = tuple(partitions)
        self._settings = settings
        self._census = Census(settings.accounts_in_memory)
        self._metrics = metrics
        self._live_budget = LiveBudget(metrics)
        self._committer = Committer(nc, metrics)
        self._heads = heads
        self._steps_down = steps_down
        self._lateness = Lateness()
        self._late: list[str] = []
        self._told_to_stop = asyncio.Event()

    async def run(self) -> None:
        """Run until `stop` is called; partitions that stopped for good keep it from being ready."""
        for number in self._partitions:
            self.take(number)
        stopping = asyncio.create_task(self._told_to_stop.wait())
        looking = asyncio.create_task(self._look())
        try:
            await asyncio.wait([stopping])
            if late := await self.drained(_DRAIN_S):
                _log.warning("worker.drain_timed_out", partitions=late, seconds=_DRAIN_S)
        finally:
            await end_all((*self.tasks(), stopping, looking))
            await self._committer.end()

    def stop(self) -> None:
        """Drain, commit, snapshot and end."""
        self._told_to_stop.set()
        super().stop()

    async def head(self, subject: str) -> SubjectHead | None:
        """Return the head of a subject; None if another worker is to answer.

        Raises:
            PSMError: it cannot be read now.
        """
        kind, token = log_subject(subject)
        owner = partition_of(token, self._settings.partitions)
        for number, keeper in self.items():
            if kind != "trades" or number == owner:
                found = await keeper.head(subject)
                if found is not None:
                    return found
        return None

    async def live(self, question: LiveQuestion) -> bytes:
        """Return a document from the books of the account's partition, as JSON.

        Raises:
            LiveRefusedError: it cannot be answered here, or not now.
            PSMError: the log, or a snapshot, cannot be read.
        """
        owner = partition_of(question.account_id, self._settings.partitions)
        keeper = self.get(owner)
        if keeper is None:
            raise LiveRefusedError("handover", f"partition {owner} is not this worker's")
        return await keeper.live(question)

    # --- how it is ------------------------------------------------------------------------------

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Return whether every partition is live, and what is not as it should be."""
        held = {n: k.stats for n, k in self.items() if k.state == "live"}
        live = [stats for stats in held.values() if stats is not None and stats.is_serving()]
        silent = [n for n, stats in held.items() if stats is not None and not stats.is_serving()]
        waiting = [n for n, k in self.items() if k.state == "recovering"]
        detail = {
            "partitions": len(self),
            "live": len(live),
            "recovering": waiting,
            "unanswered": silent,
            "late": self._late,
            "stopped": {str(n): k.failure for n, k in self.items() if k.failure},
            "accounts": sum(stats.accounts for stats in live),
            "connected": self._nc.is_connected,
        }
        ready = self._nc.is_connected and len(live) == max(len(self), len(self._partitions))
        return ready, detail

    async def _look(self) -> None:
        """Judge, every few seconds, who stays behind; tell how many stopped."""
        loop = asyncio.get_running_loop()
        while True:
            held = {str(n): keeper.stats for n, keeper in self.items()}
            ends = {n: stats.progress() for n, stats in held.items() if stats is not None}
            self._late = self._lateness.look(loop.time(), ends)
            self._metrics.late("commits", len(self._late))
            self._metrics.partitions_stopped(sum(bool(k.failure) for _, k in self.items()))
            await asyncio.sleep(EVERY_S)

    def _keeper(self, number: int, back_off: BackOff) -> PartitionKeeper:
        return PartitionKeeper(
            number, self._partition, self._metrics.fenced, back_off, steps_down=self._steps_down
        )

    def _partition(self, number: int) -> Partition:
        return Partition(
            number,
            JetStreamLog(self._nc, number, self._metrics.reader_reset, self._committer),
            JetStreamSnapshots(self._nc, number),
            self._settings,
            self._metrics,
            Guard(self._nc, number, self._metrics, self._heads),
            self._census,
            self._live_budget,
        )
