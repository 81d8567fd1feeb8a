"""Workers that join, leave, die and freeze: nothing is lost or doubled, and soon all goes on."""

from __future__ import annotations

import asyncio
import random
import signal
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import pytest
from tests.support import fleet_watch
from tests.support.chaos_load import Load
from tests.support.chaos_report import LONG, Row
from tests.support.chaos_stage import PARTITIONS, Process, Stage, staged
from tests.support.nats_cluster import NatsCluster
from tests.support.workbench import until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

KILLS = 20 if LONG else 5
HANDOVERS = 10 if LONG else 2
STORM_S = 120 if LONG else 15
MOST_WORKERS = 4


class Scene:
    """Workers on one log under load."""

    def __init__(self, stage: Stage, load: Load) -> None:
        self.stage = stage
        self.load = load
        self.workers: list[Process] = []
        self.everybody: list[Process] = []

    def join(self, *arguments: str, **environment: object) -> Process:
        """Start a worker."""
        worker = self.stage.start("worker", *arguments, **environment)
        self.workers.append(worker)
        self.everybody.append(worker)
        return worker

    async def leave(self, worker: Process) -> None:
        """Ask a worker to leave, wait for its end."""
        self.workers.remove(worker)
        worker.running.process.terminate()
        # The second: it was still so young that Python itself took the signal.
        await ended(worker, 0, -signal.SIGTERM)

    async def kill(self, worker: Process) -> None:
        """End a worker with SIGKILL."""
        self.workers.remove(worker)
        worker.running.process.kill()
        await ended(worker, -signal.SIGKILL)

    async def settled(self) -> None:
        """Wait until those that are there share everything."""
        await fleet_watch.settled(self.stage.nc, PARTITIONS, len(self.workers))

    async def present(self) -> list[Process]:
        """Return the workers that have joined; a process needs its time to start."""
        pids = {member.pid for member in await fleet_watch.members(self.stage.nc)}
        return [worker for worker in self.workers if worker.running.process.pid in pids]

    def lost(self, reason: str) -> int:
        """Return how often a worker told for this reason that another one is gone."""
        lines = [n for one in self.everybody for n in one.running.log.read_text().splitlines()]
        told = [line for line in lines if '"event":"fleet.member_lost"' in line]
        return sum(f'"reason":"{reason}"' in line for line in told)

    async def partitions_of(self, worker: Process) -> list[int]:
        """Return what a worker has."""
        pid = worker.running.process.pid
        (found,) = [m for m in await fleet_watch.members(self.stage.nc) if m.pid == pid]
        return sorted(found.holds)


async def ended(worker: Process, *codes: int) -> None:
    assert await asyncio.to_thread(worker.running.process.wait, 60) in codes, worker.log


@asynccontextmanager
async def at_work(url: str, folder: Path, seed: int, *, replicas: int = 1) -> AsyncIterator[Scene]:
    async with staged(url, folder, replicas=replicas) as stage:
        load = Load(stage.nc, seed)
        scene = Scene(stage, load)
        try:
            yield scene
        except BaseException:
            print(*(worker.log for worker in scene.everybody), sep="\n")
            raise
        finally:
            await load.cancel()


async def test_workers_killed(nats_url: str, tmp_path: Path, row: Row) -> None:
    """SIGKILL of one of three: the others commit for it long before its key could end."""
    dice = random.Random(row.seeded(41))
    first: list[float] = []
    last: list[float] = []
    async with at_work(nats_url, tmp_path, 41) as scene:
        for _ in range(3):
            scene.join()
        for _ in range(KILLS):
            await scene.settled()
            await scene.load.more(10)
            worker = dice.choice(scene.workers)
            orphans = await scene.partitions_of(worker)
            since = time.time_ns()
            await scene.kill(worker)
            row.fire("worker killed")
            took = await asyncio.gather(
                *(fleet_watch.takeover(scene.stage.nc, scene.workers, p, since) for p in orphans)
            )
            first.append(min(took))
            last.append(max(took))
            scene.join()
        await scene.settled()
        await scene.stage.judge(scene.load)
        found, expired = scene.lost("no_responders"), scene.lost("expired")
    fleet_watch.report(row, "kill to first commit of the next owner", first)
    fleet_watch.report(row, "kill to first commit on every partition", last)
    assert found >= KILLS, "the dead were not found by probing"
    assert expired == 0, "a key had to end first"
    if LONG:
        assert median(first) <= 2.0
        assert max(first) <= 5.0


async def test_clean_handovers(nats_url: str, tmp_path: Path, row: Row) -> None:
    """A worker comes and leaves again: nobody is fenced, and no stream stands still."""
    async with at_work(nats_url, tmp_path, row.seeded(42)) as scene:
        scene.join()
        await scene.settled()
        await scene.load.more()
        since = time.time_ns()
        for _ in range(HANDOVERS):
            worker = scene.join()
            await scene.settled()
            await scene.load.more()
            await scene.leave(worker)
            await scene.settled()
            await scene.load.more()
            row.fire("worker joined and left")
        await scene.stage.judge(scene.load)
        waited = await fleet_watch.all_latencies(scene.stage.nc, range(PARTITIONS), since)
        took = fleet_watch.handovers(scene.everybody)
        assert len(took) >= HANDOVERS * PARTITIONS // 2
        assert [fleet_watch.fenced(worker) for worker in scene.everybody] == [0] * (HANDOVERS + 1)
    fleet_watch.report(row, "release to next owner live", took)
    fleet_watch.report(row, "event to its commit", waited)
    if LONG:
        assert max(took) < 0.5


async def test_storm_of_joins_and_leaves(nats_url: str, tmp_path: Path, row: Row) -> None:
    """Every second a worker comes, leaves or dies, under load."""
    dice = random.Random(row.seeded(43))
    async with at_work(nats_url, tmp_path, 43) as scene:
        scene.join()
        await scene.settled()
        leaving: list[asyncio.Task[None]] = []
        since, end = time.time_ns(), time.monotonic() + STORM_S
        while time.monotonic() < end:
            what = dice.choice(("join", "join", "leave", "kill"))
            if what == "join" and len(scene.workers) < MOST_WORKERS:
                scene.join()
                row.fire("joined")
            elif len(present := await scene.present()) > 1:
                worker = dice.choice(present)
                go = scene.kill if what == "kill" else scene.leave
                leaving.append(asyncio.create_task(go(worker)))
                row.fire("killed" if what == "kill" else "left")
            await asyncio.sleep(1.0)
        await asyncio.gather(*leaving)
        await scene.settled()
        await scene.load.more()
        await scene.stage.judge(scene.load)
        waited = await fleet_watch.all_latencies(scene.stage.nc, range(PARTITIONS), since)
        took = fleet_watch.handovers(scene.everybody)
    fleet_watch.report(row, "release to next owner live", took)
    fleet_watch.report(row, "event to its commit", waited)


async def test_frozen_worker_wakes_as_a_zombie(nats_url: str, tmp_path: Path, row: Row) -> None:
    """SIGSTOP for longer than its key lives: others take over, and it cannot write a thing."""
    async with at_work(nats_url, tmp_path, row.seeded(44)) as scene:
        frozen, other = scene.join(), scene.join()
        await scene.settled()
        await scene.load.more()
        orphans = await scene.partitions_of(frozen)
        since = time.time_ns()
        frozen.freeze()
        row.fire("worker frozen")
        try:
            others = [other]
            took = [await fleet_watch.takeover(scene.stage.nc, others, p, since) for p in orphans]
            assert "expired" in other.running.log.read_text()
            await scene.load.more()
        finally:
            frozen.thaw()
        await scene.settled()
        await scene.load.more()
        await scene.stage.judge(scene.load)
        count = fleet_watch.fenced(frozen)
        assert await metric(frozen, "psm_partitions_fenced_total") == count > 0
        assert frozen.running.process.poll() is None
    row.fire("zombie fenced", count)
    fleet_watch.report(row, "freeze to first commit of the next owner", took)


async def test_two_workers_forced_onto_the_same_partitions(
    nats_url: str, tmp_path: Path, row: Row
) -> None:
    """Both insist; the cursor lets one commit at a time, and the other steps down."""
    async with at_work(nats_url, tmp_path, row.seeded(45)) as scene:
        every = ("--partitions", f"0-{PARTITIONS - 1}")
        first = scene.join(*every)
        await first.until_ready()
        second = scene.join(*every)

        def meetings() -> int:
            return fleet_watch.fenced(first) + fleet_watch.fenced(second)

        # Not until both are ready: of two that insist, one is always stepping down.
        await until(meetings, "one was fenced", timeout_s=60.0)
        await scene.load.more(200)
        await scene.stage.judge(scene.load)
        count = meetings()
        assert count > 0
    row.fire("fenced", count)


@pytest.mark.chaos_long
async def test_worker_killed_in_a_cluster(cluster: NatsCluster, tmp_path: Path, row: Row) -> None:
    """Three workers on three nodes: a death on one is seen from the others."""
    async with at_work(cluster.url, tmp_path, row.seeded(46), replicas=3) as scene:
        for node in cluster.nodes:
            scene.join(NATS_URL=node.url)
        took: list[float] = []
        for node in cluster.nodes:
            await scene.settled()
            await scene.load.more(10)
            worker = scene.workers[0]
            orphans = await scene.partitions_of(worker)
            since = time.time_ns()
            await scene.kill(worker)
            row.fire("worker killed")
            for number in orphans:
                took.append(
                    await fleet_watch.takeover(scene.stage.nc, scene.workers, number, since)
                )
            scene.join(NATS_URL=node.url)
        await scene.settled()
        await scene.stage.judge(scene.load)
        expired = scene.lost("expired")
    fleet_watch.report(row, "kill to first commit of the next owner", took)
    assert expired == 0, "a key had to end first"


async def metric(worker: Process, name: str) -> float:
    """Return the sum of a metric over its labels."""
    address = worker.health.replace("/health/ready", "/metrics")

    def scrape() -> str:
        with urllib.request.urlopen(address) as answer:
            text: str = answer.read().decode()
            return text

    lines = (await asyncio.to_thread(scrape)).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))
