"""The commit that a worker's partitions share, under fire: killed, fenced, frozen, its broker dead.

Afterwards there is no half batch, and nothing is lost, doubled or out of order.
"""

from __future__ import annotations

import asyncio
import random
import re
import signal
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from nats.aio.client import Client
from tests.support.chaos_load import Load
from tests.support.chaos_report import LONG, Row
from tests.support.chaos_stage import Process, Stage, staged
from tests.support.tcp_proxy import Direction, TcpProxy, proxied
from tests.support.workbench import until

from psm.adapters.embedded import EmbeddedNats
from psm.adapters.jetstream import read_range
from psm.contracts.errors import FencedError
from psm.workers.log.cursor import Cursor
from psm.workers.partition.jetstream import JetStreamLog
from psm.workers.partition.ports import Commit

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600 if LONG else 600)]

PARTITIONS = 8
EVERY = ("--partitions", f"0-{PARTITIONS - 1}")
START_S = SETTLE_S = 240.0
FENCES = 40 if LONG else 4
FREEZES = 10 if LONG else 1
KILLS = 200 if LONG else 6
PASSES = (2, 3, 7, 20) if LONG else (3,)
POINTS = (
    "worker.before_commit",
    "worker.before_batch",
    "worker.after_batch",
    "worker.after_commit",
)
_END = 2**62
_CURSOR = re.compile(rb"^H?PUB _psm\.cursor\.(\d+) ")
_REFUSED = re.compile(r'"event":"batch.refused".*?"parts":(\d+)|"parts":(\d+).*?"batch.refused"')


@asynccontextmanager
async def at_work(
    url: str, folder: Path, seed: int, dsn: str | None = None
) -> AsyncIterator[tuple[Stage, Load]]:
    """Events of many accounts, close together, so that partitions have something at once."""
    async with staged(url, folder, dsn, partitions=PARTITIONS) as stage:
        load = Load(stage.nc, seed, accounts=12, pause_s=0.02)
        try:
            yield stage, load
        finally:
            await load.cancel()


async def parts_of_batches(nc: Client) -> list[int]:
    """Return how many partitions each batch in PSM is of, in order."""
    found: defaultdict[str, int] = defaultdict(int)
    async for batch in read_range(nc, "PSM", ["psm.cursor.*"], 1, _END):
        for message in batch:
            # A cursor without updates that was alone is no batch to the broker.
            found[message.header("Nats-Batch-Id") or str(message.sequence)] += 1
    return list(found.values())


def refused(worker: Process) -> list[int]:
    """Return of how many partitions the batches were that a worker had refused."""
    return [int(one or other) for one, other in _REFUSED.findall(worker.running.log.read_text())]


def shared(parts: list[int]) -> int:
    """Return how many batches are of several partitions."""
    return sum(count > 1 for count in parts)


@pytest.mark.parametrize("point", POINTS)
async def test_killed_in_a_shared_commit(
    nats_url: str, tmp_path: Path, row: Row, point: str
) -> None:
    """SIGKILL around the one batch of several partitions; who comes next closes the gap for all."""
    async with at_work(nats_url, tmp_path, row.seeded(71)) as (stage, load):
        for nth in PASSES:
            await load.more(PARTITIONS * 4)  # unread when it starts: its first batches are shared
            before = len(await parts_of_batches(stage.nc))
            doomed = stage.start("worker", *EVERY, PSM_CRASH_POINT=f"{point}:{nth}")
            assert await asyncio.to_thread(doomed.running.process.wait, 120) == -signal.SIGKILL
            assert doomed.logged("crash_point.reached") == 1
            stored = await parts_of_batches(stage.nc)
            row.fire(f"killed at {point}")
            row.fire("shared batch stored before the kill", shared(stored[before:]))
        stage.start("worker", *EVERY)
        await stage.commits(START_S)
        await load.more()
        await stage.judge(load, SETTLE_S)
        await parts_until_shared(stage, load)


async def fence(nc: Client, partition: int) -> bool:
    """Commit nothing in a partition, as another owner; return whether that was first."""
    log = JetStreamLog(nc, partition)
    found = await log.cursor()
    cursor, expected = (found.cursor, found.sequence) if found else (Cursor(log_sequence=0), 0)
    same = msgspec.structs.replace(cursor, updates=0)
    try:
        await log.commit(Commit(cursor=same, updates=(), traceparents={}), expected)
    except FencedError:
        return False
    return True


class Hold:
    """Holds a batch of several partitions back on its way to the broker.

    Attributes:
        partitions: of the batch that is held; empty before there is one.
        released: let go what is held with the next frame.
        then: called once it is held.
    """

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.partitions: list[int] = []
        self.released = False
        self.then = then
        self._held: list[bytes] = []

    def __call__(self, direction: Direction, frame: bytes) -> list[bytes]:
        if direction == "down":
            return [frame]
        if self.released:
            return [*self._let_go(), frame]
        if not (self._held or b"Nats-Batch-Sequence: 1\r\n" in frame):
            return [frame]
        self._held.append(frame)
        if self.partitions or b"Nats-Batch-Commit" not in frame:
            return []
        found = [int(one[1]) for held in self._held for one in _CURSOR.finditer(held)]
        if len(found) < 2:
            return self._let_go()
        self.partitions = found
        self.then()
        return []

    def _let_go(self) -> list[bytes]:
        held, self._held = self._held, []
        return held


async def take_from_a_batch(stage: Stage, proxy: TcpProxy, worker: Process) -> int:
    """Commit in one partition of a batch on its way; return how many it is of."""
    fences = worker.logged("partition.fenced")
    hold = proxy.change = Hold()
    await until(lambda: hold.partitions, "a shared batch is on its way", START_S)
    taken = await fence(stage.nc, hold.partitions[0])
    hold.released = True
    assert taken, "nobody else commits there"
    await until(
        lambda: worker.logged("partition.fenced") > fences, "its partition is fenced", START_S
    )
    return len(hold.partitions)


async def test_one_partition_fenced_in_a_shared_batch(
    nats_url: str, tmp_path: Path, row: Row
) -> None:
    """Another owner takes one partition while the batch is on its way: that one alone is fenced."""
    async with (
        proxied(nats_url, frames=True) as proxy,
        at_work(nats_url, tmp_path, row.seeded(72)) as (stage, load),
    ):
        worker = stage.start("worker", *EVERY, NATS_URL=f"nats://127.0.0.1:{proxy.port}")
        await stage.commits(START_S)
        for _ in range(FENCES):
            row.fire("partitions in the batch", await take_from_a_batch(stage, proxy, worker))
            row.fire("partition taken in a shared batch")
            await load.more(PARTITIONS)
        assert worker.logged("partition.fenced") == FENCES, "another one was fenced, too"
        assert worker.logged("partition.stopped") == worker.logged("partition.failed") == 0
        assert shared(refused(worker)) >= FENCES
        await stage.judge(load, SETTLE_S)


async def freeze_with_a_batch(stage: Stage, load: Load, proxy: TcpProxy, row: Row) -> None:
    """Freeze a worker whose batch is on the way, let another take over, then let both go on."""
    proxy.change = None
    zombie = stage.start("worker", *EVERY, NATS_URL=f"nats://127.0.0.1:{proxy.port}")
    await stage.commits(START_S)
    hold = proxy.change = Hold(then=zombie.freeze)
    await until(lambda: hold.partitions, "a shared batch is on its way", START_S)
    row.fire("frozen with a shared batch in flight")
    heir = stage.start("worker", *EVERY)
    await stage.commits(START_S)
    await load.more(PARTITIONS * 4)
    await stage.commits()
    hold.released = True
    zombie.thaw()
    await until(lambda: shared(refused(zombie)), "its batch is refused")
    await until(lambda: zombie.logged("partition.fenced"), "it is fenced")
    row.fire("zombie fenced", zombie.logged("partition.fenced"))
    zombie.running.process.kill()
    heir.running.process.terminate()
    await asyncio.to_thread(heir.running.process.wait, 60)


async def test_zombie_with_a_shared_batch_in_flight(
    nats_url: str, tmp_path: Path, row: Row
) -> None:
    """A worker freezes with its batch on the way; the batch comes after others took over."""
    async with (
        proxied(nats_url, frames=True) as proxy,
        at_work(nats_url, tmp_path, row.seeded(73)) as (stage, load),
    ):
        for _ in range(FREEZES):
            await freeze_with_a_batch(stage, load, proxy, row)
        stage.start("worker", *EVERY)
        await stage.commits(START_S)
        await stage.judge(load, SETTLE_S)


async def kill_broker(stage: Stage, load: Load, server: EmbeddedNats, folder: Path) -> int:
    """Kill the broker and start it again; return how many batches it was about to store."""
    await server.kill()
    cut = sum(any(redo.iterdir()) for redo in folder.rglob("batches"))
    await server.start()
    await load.more(PARTITIONS)
    await stage.commits()
    return cut


async def parts_until_shared(stage: Stage, load: Load) -> list[int]:
    """Return the parts of all batches; on a machine too slow to share any yet, after more load."""
    for _ in range(20):
        parts = await parts_of_batches(stage.nc)
        if shared(parts):
            return parts
        await load.more(4 * PARTITIONS)
        await stage.commits()
    pytest.fail("nothing was shared")


async def test_broker_killed_again_and_again(postgres_dsn: str, tmp_path: Path, row: Row) -> None:
    """SIGKILL of the one broker under load: a batch is there as a whole or not at all."""
    dice, folder = random.Random(row.seeded(74)), tmp_path / "broker"
    async with (
        EmbeddedNats(folder) as server,
        at_work(server.url, tmp_path, 74, postgres_dsn) as (stage, load),
    ):
        stage.start("worker", *EVERY)
        stage.start("projector")
        await stage.commits(START_S)
        for _ in range(KILLS):
            await load.more(PARTITIONS)
            await asyncio.sleep(dice.uniform(0.0, 0.05))
            began = time.monotonic()
            cut = await kill_broker(stage, load, server, folder)
            row.measure("killed to commits again", time.monotonic() - began)
            row.fire("broker killed")
            row.fire("killed within a batch", cut)
        await stage.commits(START_S)
        await stage.judge(load, SETTLE_S)
        parts = await parts_until_shared(stage, load)
        row.figures["parts of batches"] = str(dict(sorted(Counter(parts).items())))
