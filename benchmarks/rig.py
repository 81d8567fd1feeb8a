"""A broker of the benchmark's own with the streams of PSM, filled, and one worker's partition."""

from __future__ import annotations

import asyncio
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import msgspec
import nats
from nats.aio.client import Client
from tests.support.nats_cluster import NatsCluster, make_streams

from psm.adapters import telemetry
from psm.adapters.embedded import EmbeddedNats
from psm.adapters.jetstream import connect
from psm.adapters.jetstream.streams_apply import apply
from psm.contracts.codec import encode
from psm.workers.partition.jetstream import JetStreamLog, JetStreamSnapshots
from psm.workers.partition.loop import Partition
from psm.workers.partition.settings import PartitionSettings
from psm.workers.process.settings import Settings
from psm.workers.projector.follower import Follower

_FILL = 500
_WAIT_S = 60.0
_IDS = uuid.UUID("0e7a1a52-6f43-4f0c-9a52-6a1a3b1de001")
_METRICS = telemetry.quiet().metrics


class Message(msgspec.Struct, frozen=True):
    """One message to publish."""

    subject: str
    data: bytes


class Rig:
    """The broker.

    Attributes:
        nc: PSM's own connection.
        bare: a plain connection of nats-py, for baselines.
    """

    def __init__(self, nc: Client, bare: Client, settings: Settings) -> None:
        self.nc = nc
        self.bare = bare
        self.settings = settings

    @property
    def environment(self) -> dict[str, object]:
        """Return the settings of a process on this broker."""
        return {
            "NATS_URL": self.settings.nats_url,
            "PSM_PARTITIONS": self.settings.partitions,
            "PSM_REPLICAS": self.settings.replicas,
        }

    async def fill(self, messages: Iterable[Message]) -> int:
        """Publish to the log; return its last sequence."""
        js = self.bare.jetstream(publish_async_max_pending=_FILL)
        last = None
        for message in messages:
            last = await js.publish_async(message.subject, message.data)
        await js.publish_async_completed()
        return (await last).seq if last else 0

    async def anew(self, *streams: str) -> None:
        """Make streams empty, as if they had never been written."""
        js = self.bare.jetstream()
        for stream in streams:
            await js.delete_stream(stream)
        await apply(self.nc, self.settings)

    def partition(self) -> Partition:
        """Return partition 0, with the settings of production."""
        fresh = PartitionSettings(partitions=self.settings.partitions)
        log, store = JetStreamLog(self.nc, 0), JetStreamSnapshots(self.nc, 0)
        return Partition(0, log, store, fresh, _METRICS)


@asynccontextmanager
async def rig(partitions: int = 1, *, servers: Literal[1, 3] = 1) -> AsyncIterator[Rig]:
    """Start brokers that sync every write to disk, make the streams, give the rig."""
    with tempfile.TemporaryDirectory(prefix="psm-bench-") as folder:
        async with _brokers(Path(folder), servers) as url:
            settings = Settings(nats_url=url, partitions=partitions, replicas=servers)
            nc = await connect(url, name="benchmark")
            bare = await nats.connect(url.split(","))
            try:
                await make_streams(nc, lambda: apply(nc, settings))
                yield Rig(nc, bare, settings)
            finally:
                await bare.close()
                await nc.close()


@asynccontextmanager
async def _brokers(folder: Path, servers: int) -> AsyncIterator[str]:
    """Run one server or a cluster; give the addresses, separated by commas."""
    if servers == 1:
        async with EmbeddedNats(folder) as server:
            yield server.url
        return
    cluster = NatsCluster(folder)
    await cluster.start()
    try:
        yield cluster.url
    finally:
        await cluster.stop()


@asynccontextmanager
async def running(runner: Partition | Follower) -> AsyncIterator[None]:
    """Run a partition, stopped cleanly at the end, or a follower of the projector."""
    task = asyncio.create_task(runner.run())
    try:
        yield
        if isinstance(runner, Partition):
            runner.stop()
            await task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(found: Callable[[], object], what: str, wait_s: float = _WAIT_S) -> None:
    """Wait until `found` returns something true.

    Raises:
        TimeoutError: it did not in so many seconds.
    """
    deadline = time.perf_counter() + wait_s
    while not found():
        if time.perf_counter() > deadline:
            raise TimeoutError(f"not within {wait_s:g} s: {what}")
        await asyncio.sleep(0.002)


def fills(events: int, accounts: int, *, first: int = 1, funded: bool = True) -> list[Message]:
    """Return trades, the accounts in turn; each makes one position, margin and state update.

    Where they are `funded`, number 1 of each is a deposit: an overdrawn account is beyond every
    warning level, which takes a valuation at every event that a trading house does not need.
    """
    return [
        deposit(f"acc_{place % accounts}")
        if funded and place // accounts + first == 1
        else fill(f"acc_{place % accounts}", place // accounts + first, "BTC-PERP")
        for place in range(events)
    ]


def update_count(events: int, accounts: int) -> int:
    """Return how many updates those of funded accounts make: three a trade, two a deposit."""
    return 3 * events - min(events, accounts)


def deposit(account: str) -> Message:
    """Return the first event of an account: enough cash for all that follows."""
    return _message(account, 1, "CashDeposited", {"amount": "10000000"})


def fill(account: str, number: int, symbol: str) -> Message:
    """Return the n-th event of an account: a trade that changes its position."""
    payload = {
        "symbol": symbol,
        "side": "sell" if number % 3 == 0 else "buy",
        "quantity": "0.5",
        "price": f"{42000 + number % 50}.5",
        "commission": "2.10",
    }
    return _message(account, number, "TradeExecuted", payload)


def _message(account: str, number: int, event_type: str, payload: dict[str, str]) -> Message:
    body = {
        "event_id": str(uuid.uuid5(_IDS, f"{account}/{number}")),
        "event_type": event_type,
        "stream_id": account,
        "sequence_number": number,
        "timestamp": "2025-12-12T10:30:00Z",
        "schema_version": "1.0.0",
        "payload": payload,
    }
    return Message(f"trades.{account}", encode(body))
