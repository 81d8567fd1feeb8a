"""A broker with the streams of PSM on it, and partitions and workers to run there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
from nats.aio.client import Client
from tests.support import feed, log_oracle
from tests.support.events import Sent
from tests.support.log_oracle import Verdict
from tests.support.slots import even_slots, slots_settings
from tests.support.twins import FaultyLog

from psm.adapters import telemetry
from psm.adapters.jetstream import connect, last_for
from psm.adapters.jetstream.streams_apply import apply
from psm.domain.market.slots import ValuationSlots
from psm.workers.fleet.worker import Worker
from psm.workers.log.cursor import Cursor, load_cursor
from psm.workers.partition import loop as partition_module
from psm.workers.partition.jetstream import JetStreamSnapshots
from psm.workers.partition.loop import Partition
from psm.workers.partition.ports import EventLog, SnapshotStore
from psm.workers.partition.settings import PartitionSettings
from psm.workers.process.settings import Settings

WAIT_S = 60.0  # a limit for what never comes, with room for a very slow machine
_METRICS = telemetry.quiet().metrics
T = TypeVar("T")


class Bench:
    """One broker; the partitions it runs share a connection."""

    def __init__(self, nc: Client, settings: Settings) -> None:
        self.nc = nc
        self.settings = settings

    async def publish(self, *messages: Sent | Iterable[Sent]) -> int:
        """Publish in order; return the last log sequence."""
        flat = [m for one in messages for m in ([one] if isinstance(one, Sent) else one)]
        return await feed.publish(self.nc, flat)

    def tuning(self, **changed: Any) -> PartitionSettings:
        """Return settings of the loop: no snapshots by themselves unless told."""
        fields: dict[str, Any] = {
            "partitions": self.settings.partitions,
            "slots": self.settings.valuation_slots,
            "snapshot_interval_s": 3600.0,
            **changed,
        }
        return PartitionSettings(**fields)

    def log(self, number: int = 0) -> FaultyLog:
        """Return the log of a partition."""
        return FaultyLog(self.nc, number)

    def snapshots(self, number: int = 0) -> JetStreamSnapshots:
        """Return the snapshots of a partition."""
        return JetStreamSnapshots(self.nc, number)

    def partition(
        self,
        number: int = 0,
        log: EventLog | None = None,
        store: SnapshotStore | None = None,
        **tuning: Any,
    ) -> Partition:
        """Return a partition that was not started."""
        return Partition(
            number,
            log or self.log(number),
            store or self.snapshots(number),
            self.tuning(**tuning),
            _METRICS,
        )

    @asynccontextmanager
    async def running(self, partition: Partition) -> AsyncIterator[asyncio.Task[None]]:
        """Run a partition while the block runs, then stop it cleanly and raise what it raised."""
        task = asyncio.create_task(partition.run())
        try:
            yield task
            partition.stop()
            await asyncio.wait_for(task, WAIT_S)
        finally:
            await end(task)

    @asynccontextmanager
    async def crashing(self, partition: Partition) -> AsyncIterator[asyncio.Task[None]]:
        """Run a partition while the block runs, then end it without any farewell."""
        task = asyncio.create_task(partition.run())
        try:
            yield task
        finally:
            await end(task)

    async def run_until(self, partition: Partition, log_sequence: int) -> None:
        """Run a partition until it folded a message; then stop it cleanly."""
        async with self.running(partition) as task:
            await until(
                lambda: task.done() or partition.stats.position >= log_sequence,
                f"log sequence {log_sequence} is folded",
            )

    @asynccontextmanager
    async def worker(self, **tuning: Any) -> AsyncIterator[Worker]:
        """Run all partitions while the block runs, then stop them cleanly."""
        worker = Worker(self.nc, range(self.settings.partitions), self.tuning(**tuning), _METRICS)
        task = asyncio.create_task(worker.run())
        try:
            await until(lambda: worker.readiness()[0], "the worker is ready")
            yield worker
            worker.stop()
            await asyncio.wait_for(task, WAIT_S)
        finally:
            await end(task)

    async def cursor(self, number: int = 0) -> Cursor:
        """Return the committed cursor of a partition."""
        stored = await last_for(self.nc, "PSM", f"psm.cursor.{number}")
        assert stored is not None
        return load_cursor(stored.data)

    async def judge(self, **more: Any) -> Verdict:
        """Ask the oracle."""
        return await log_oracle.judge(self.nc, self.settings, **more)


@asynccontextmanager
async def open_bench(
    url: str, *, partitions: int = 1, slots: ValuationSlots | None = None
) -> AsyncIterator[Bench]:
    """Connect, make the streams, give the bench; by default each mark after 20 ms publishes."""
    settings = Settings(
        nats_url=url, partitions=partitions, **slots_settings(slots or even_slots(20))
    )
    nc = await connect(url, name="test")
    try:
        await apply(nc, settings)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(partition_module, "_FETCH_WAIT_S", 0.05)  # tests stop often
            yield Bench(nc, settings)
    finally:
        await nc.close()


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they are done; what they raised is not looked at.

    In Python 3.11 `asyncio.wait_for` forgets a cancellation that comes together with the result.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=1.0)


async def until(found: Callable[[], object], what: str, timeout_s: float = WAIT_S) -> None:
    """Wait until `found` returns something true.

    Raises:
        AssertionError: it did not become true in time.
    """
    deadline = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        await asyncio.sleep(0.01)


async def until_answer(
    ask: Callable[[], Awaitable[T]],
    wanted: Callable[[T], object],
    what: str,
    timeout_s: float = WAIT_S,
) -> T:
    """Ask until the answer is as wanted; return it.

    Raises:
        AssertionError: it was not in time; it says what the last answer was.
    """
    deadline = time.monotonic() + timeout_s
    while not wanted(answer := await ask()):
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}: {answer!r}"
        await asyncio.sleep(0.02)
    return answer
