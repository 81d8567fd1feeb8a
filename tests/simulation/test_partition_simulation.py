"""Owners of one partition that die, meet and take over at random: the log decides, they do not.

Every run follows from its seed. A failure names it: `pytest -k 'seed-17'` takes the same turns.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter

import pytest
from tests.support import feed
from tests.support.counted import CountedMoves
from tests.support.memory_broker import (
    CrashError,
    Faults,
    MemoryBroker,
    MemoryLog,
    MemorySnapshots,
)

from psm.adapters.logs import configure
from psm.contracts.errors import FencedError
from psm.domain.books import Books
from psm.domain.fold import fold
from psm.domain.messages import NeedHistory
from psm.workers.partition import commit_queue as commits
from psm.workers.partition.eviction import BadSnapshotError
from psm.workers.partition.loop import Partition
from psm.workers.partition.settings import PartitionSettings

SEEDS = range(int(os.environ.get("PSM_TEST_SEEDS", "150")))
TURNS_MAX = 200_000
FAULTS = {
    "crash_before_commit",
    "crash_after_commit",
    "crash_before_snapshot",
    "crash_after_snapshot",
    "evicted",
    "fenced",
    "garbage",
    "killed",
    "part",
    "returned",
}
_fired: Counter[str] = Counter()


class Simulation:
    """One seed: a log that grows, and owners that come and go."""

    def __init__(self, seed: int) -> None:
        self.faults = Faults(seed, 0.02)
        self.broker = MemoryBroker(self.faults)
        dice = self.faults.dice
        self.coming = feed.traffic(
            seed, accounts=dice.randint(1, 6), events=dice.randint(20, 70), mark_every=4
        )
        self.settings = PartitionSettings(
            partitions=1,
            batch_messages=dice.choice([1, 3, 10]),
            snapshot_interval_s=dice.choice([0.0, 0.0, 3600.0]),
            quiet_messages=dice.choice([1, 5, 1000]),
            quiet_s=3600.0,
            accounts_in_memory=dice.choice([0, 2, 200_000]),
        )
        self.metrics = CountedMoves(self.faults.fired)
        self.owners: dict[asyncio.Task[None], Partition] = {}

    async def run(self) -> None:
        """Play until everything is in the log, then let one owner finish."""
        dice = self.faults.dice
        while self.coming:
            match dice.choice(["publish", "publish", "start", "run", "run", "kill", "stop"]):
                case "publish":
                    for _ in range(dice.randint(1, 6)):
                        if self.coming:
                            self.broker.publish(self.coming.pop(0))
                case "start" if len(self.owners) < 2:
                    self.start()
                case "kill" if self.owners and dice.random() < 0.3:
                    self.faults.fired["killed"] += 1
                    await self.end(dice.choice(list(self.owners)))
                case "stop" if self.owners and dice.random() < 0.3:
                    self.owners[dice.choice(list(self.owners))].stop()
            for _ in range(dice.randint(0, 60)):
                await asyncio.sleep(0)
            self.reap()
        await self.finish()

    def start(self) -> None:
        """Start one more owner."""
        partition = Partition(
            0, MemoryLog(self.broker), MemorySnapshots(self.broker), self.settings, self.metrics
        )
        self.owners[asyncio.create_task(partition.run())] = partition

    async def end(self, task: asyncio.Task[None]) -> None:
        """Kill an owner."""
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        del self.owners[task]

    def reap(self) -> None:
        """Forget owners that ended; only some reasons are allowed."""
        for task in [task for task in self.owners if task.done()]:
            del self.owners[task]
            error = task.exception()
            allowed = FencedError | CrashError | BadSnapshotError
            if error is not None and not isinstance(error, allowed):
                raise error

    async def finish(self) -> None:
        """Let owners run without new faults until everything is committed."""
        self.faults._rate = 0.0
        for _ in range(TURNS_MAX):
            if not self.owners:
                self.start()
            await asyncio.sleep(0)
            self.reap()
            at_end = [p for p in self.owners.values() if p.stats.position == len(self.broker.log)]
            if at_end:
                at_end[0].stop()
            last = self.broker.batches[-1].cursor.log_sequence if self.broker.batches else 0
            if last == len(self.broker.log):
                break
        else:
            raise AssertionError("no progress")
        for task in list(self.owners):
            await self.end(task)

    def check(self) -> None:
        """Compare what was published with what the log says."""
        books = Books(partitions=1, partition=0)
        wanted = []
        for message in self.broker.log:
            result = fold(books, message)
            if isinstance(result, NeedHistory):
                history = {m.log_sequence: m for m in self.broker.log if result.holds(m, 1)}
                result = fold(books, message, history)
            assert not isinstance(result, NeedHistory)
            wanted += [(update.subject, update.data) for update in result.updates]
        assert self.broker.updates == wanted
        places = [(b.cursor.log_sequence, b.cursor.part) for b in self.broker.batches]
        assert places == sorted(places), "a cursor went backwards"
        self.faults.fired["part"] += sum(part > 0 for _, part in places)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
async def test_every_update_is_published_once_whoever_dies(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Crashes, kills, stops, two owners, bad snapshots: PSM is what the log says."""
    configure("error")
    monkeypatch.setattr(commits, "UPDATES_PER_COMMIT", 5)
    simulation = Simulation(seed)
    await simulation.run()
    simulation.check()
    _fired.update(simulation.faults.fired)


def test_every_fault_has_happened() -> None:
    """A simulation in which nothing goes wrong shows nothing."""
    if len(SEEDS) >= 100:
        assert set(_fired) >= FAULTS, f"never happened: {FAULTS - set(_fired)}"
