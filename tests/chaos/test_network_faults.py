"""What a network does between PSM and NATS: connections cut, silent and slow, messages lost,
doubled and swapped. The worker and the projector see the broker through a proxy."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support import events
from tests.support.chaos_load import Load
from tests.support.chaos_report import LONG, Row
from tests.support.chaos_stage import Process, Stage, staged
from tests.support.nats_cluster import NatsCluster
from tests.support.tcp_proxy import Direction, TcpProxy, proxied

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

TURNS = 5 if LONG else 1
WAIT_S = 60.0


class Scene:
    """A worker and a projector behind a proxy, and the load that goes past it."""

    def __init__(self, stage: Stage, load: Load, proxy: TcpProxy, parts: list[Process]) -> None:
        self.stage = stage
        self.load = load
        self.proxy = proxy
        self.parts = parts

    async def goes_on(self) -> None:
        """Wait until all parts are ready and commits go on."""
        await asyncio.gather(*(part.until_ready() for part in self.parts))
        await self.load.more()
        await self.stage.commits()


@asynccontextmanager
async def behind_proxy(nats_url: str, folder: Path, dsn: str, seed: int) -> AsyncIterator[Scene]:
    async with (
        proxied(nats_url, frames=True) as proxy,
        staged(nats_url, folder, dsn, seen_url=f"nats://127.0.0.1:{proxy.port}") as stage,
    ):
        parts = [stage.start("worker"), stage.start("projector")]
        load = Load(stage.nc, seed)
        try:
            scene = Scene(stage, load, proxy, parts)
            await scene.goes_on()
            yield scene
        except BaseException:
            print(*(part.log for part in parts), sep="\n")
            raise
        finally:
            await load.cancel()


@pytest.mark.chaos_long
async def test_connections_cut(nats_url: str, postgres_dsn: str, tmp_path: Path, row: Row) -> None:
    """Reset at random moments: before, inside and after batches and their acknowledgements."""
    async with behind_proxy(nats_url, tmp_path, postgres_dsn, row.seeded(51)) as scene:
        dice = random.Random(51)
        for _ in range(4 * TURNS):
            await asyncio.sleep(dice.uniform(0.1, 1.0))
            row.fire("connection cut", scene.proxy.cut())
            since = time.time_ns()
            await scene.goes_on()
            row.measure("resumed", await scene.stage.longest_pause(since))
        await scene.stage.judge(scene.load)


class Mangler:
    """Loses, doubles and swaps messages; everything else goes through as it is.

    Attributes:
        lost, doubled, swapped: how many messages.
    """

    def __init__(self, seed: int, rate: float) -> None:
        self.lost = self.doubled = self.swapped = 0
        self._dice = random.Random(seed)
        self._rate = rate
        self._held: dict[Direction, bytes] = {}

    def __call__(self, direction: Direction, frame: bytes) -> list[bytes]:
        if not frame[:5].upper().startswith((b"MSG ", b"HMSG ", b"PUB ", b"HPUB ")):
            return [frame]
        if direction in self._held:
            self.swapped += 1
            return [frame, self._held.pop(direction)]
        chance = self._dice.random() / self._rate
        if chance < 1:
            self.lost += 1
            return []
        if chance < 2:
            self.doubled += 1
            return [frame, frame]
        if chance < 3:
            self._held[direction] = frame
            return []
        return [frame]


async def test_messages_lost_doubled_and_swapped(
    nats_url: str, postgres_dsn: str, tmp_path: Path, row: Row
) -> None:
    """One message in a hundred, in both directions: deliveries, batches, acknowledgements."""
    async with behind_proxy(nats_url, tmp_path, postgres_dsn, row.seeded(52)) as scene:
        mangler = scene.proxy.change = Mangler(52, 0.003)
        await scene.load.more(200 * TURNS)
        deadline = time.monotonic() + WAIT_S
        while min(mangler.lost, mangler.doubled, mangler.swapped) < 3 * TURNS:
            assert time.monotonic() < deadline, "too little goes through the proxy"
            await asyncio.sleep(0.1)
        scene.proxy.change = None
        row.fire("message lost", mangler.lost)
        row.fire("message doubled", mangler.doubled)
        row.fire("messages swapped", mangler.swapped)
        await scene.goes_on()
        await scene.stage.judge(scene.load)


@pytest.mark.chaos_long
async def test_connections_fall_silent(
    nats_url: str, postgres_dsn: str, tmp_path: Path, row: Row
) -> None:
    """A half-open connection is given up, and a new one is made, without anybody's help."""
    async with behind_proxy(nats_url, tmp_path, postgres_dsn, row.seeded(53)) as scene:
        for _ in range(2):
            since = time.time_ns()
            row.fire("connection silenced", scene.proxy.silence())
            told = [part.until_ready(ready=False) for part in scene.parts]
            row.measure("told not ready", max(await asyncio.gather(*told)))
            await scene.goes_on()
            row.measure("resumed", await scene.stage.longest_pause(since))
        await scene.stage.judge(scene.load)


@pytest.mark.chaos_long
async def test_slow_line(nats_url: str, postgres_dsn: str, tmp_path: Path, row: Row) -> None:
    """Every piece takes 20 ms in each direction; the line is cut now and then."""
    async with behind_proxy(nats_url, tmp_path, postgres_dsn, row.seeded(54)) as scene:
        scene.proxy.delay_s = 0.02
        for _ in range(3):
            await asyncio.sleep(5)
            row.fire("slow line cut", scene.proxy.cut())
        scene.proxy.delay_s = 0.0
        await scene.goes_on()
        await scene.stage.judge(scene.load)


@pytest.mark.chaos_long
async def test_slow_consumer(
    cluster: NatsCluster, postgres_dsn: str, tmp_path: Path, row: Row
) -> None:
    """A worker that sleeps while large events arrive is cut off, and loses nothing."""
    async with staged(cluster.url, tmp_path, postgres_dsn, replicas=3) as stage:
        worker, projector = stage.start("worker"), stage.start("projector")
        load = Load(stage.nc, row.seeded(55))
        try:
            await asyncio.gather(worker.until_ready(), projector.until_ready())
            await load.more()
            before = cluster.logged("Slow Consumer")
            worker.freeze()
            try:
                await _flood(stage)
                await asyncio.sleep(3)
            finally:
                worker.thaw()
            row.fire("slow consumer cut off", cluster.logged("Slow Consumer") - before)
            await worker.until_ready()
            await load.more()
            await stage.commits()
            await stage.judge(load)
        finally:
            await load.cancel()


async def _flood(stage: Stage) -> None:
    """Publish 50 MB of large events."""
    for number in range(1, 1001):
        large = {"metadata": {"note": "x" * 50_000}}
        sent = events.deposit(number, "1", stream="large", **large)
        await stage.nc.jetstream().publish(sent.subject, sent.data)
