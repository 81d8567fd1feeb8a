"""Three NATS servers, of which some die, freeze or restart while everything is at work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nats.aio.client import Client
from tests.support.chaos_load import Load
from tests.support.chaos_report import LONG, Row
from tests.support.chaos_stage import Process, Stage, check_acknowledged, staged
from tests.support.nats_cluster import NatsCluster
from tests.support.workbench import until_answer

from psm.adapters.jetstream import read_range
from psm.adapters.jetstream.api import call
from psm.adapters.jetstream.streams_apply import replicas_not_current
from psm.contracts.errors import TransientError

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

TURNS = 5 if LONG else 1
STREAMS = ("TRADES", "PSM")
KILLS = 10 if LONG else 1
CURRENT_S = 20.0


class Scene:
    """A worker and a projector under load on streams with three replicas."""

    def __init__(self, stage: Stage, load: Load, worker: Process, projector: Process) -> None:
        self.stage = stage
        self.load = load
        self.worker = worker
        self.projector = projector

    async def goes_on(self) -> None:
        """Wait until events are taken, committed and projected again, and both say ready."""
        await asyncio.gather(self.worker.until_ready(), self.projector.until_ready())
        await self.load.more()
        await self.stage.commits()


@asynccontextmanager
async def at_work(cluster: NatsCluster, folder: Path, dsn: str, seed: int) -> AsyncIterator[Scene]:
    async with staged(cluster.url, folder, dsn, replicas=3) as stage:
        worker, projector = stage.start("worker"), stage.start("projector")
        load = Load(stage.nc, seed)
        scene = Scene(stage, load, worker, projector)
        try:
            await scene.goes_on()
            yield scene
        except BaseException:
            print(worker.log, projector.log, sep="\n")
            raise
        finally:
            await load.cancel()


async def test_leaders_killed(
    cluster: NatsCluster, postgres_dsn: str, tmp_path: Path, row: Row
) -> None:
    """SIGKILL of the node that leads the log, then of the one that leads the updates."""
    async with at_work(cluster, tmp_path, postgres_dsn, row.seeded(31)) as scene:
        for stream in STREAMS * TURNS:
            node = await cluster.leader(scene.stage.nc, stream)
            since = time.time_ns()
            await node.kill()
            row.fire(f"{stream} leader killed")
            await scene.goes_on()
            pause_s = await scene.stage.longest_pause(since)
            row.measure(f"resumed after {stream} leader kill", pause_s)
            await cluster.heal(scene.stage.nc)
        await scene.stage.judge(scene.load)


async def test_killed_replicas_become_current(
    cluster: NatsCluster, tmp_path: Path, row: Row
) -> None:
    """Each of three servers is killed under load, again and again: each comes back by itself.

    With a compressed log ten of fifteen did not.
    """
    async with staged(cluster.url, tmp_path, replicas=3) as stage:
        load = Load(stage.nc, row.seeded(36), accounts=16, pause_s=0.002)
        try:
            await load.more()
            for node in cluster.nodes * KILLS:
                await node.kill()
                row.fire("server killed")
                await load.more(100)
                since = time.monotonic()
                await cluster.heal(stage.nc)
                current_s = time.monotonic() - since
                row.measure("current again", current_s)
                assert current_s < CURRENT_S
                await load.more(100)
            assert await replicas_not_current(stage.nc) == []
            await load.stop()
            stored = [m async for b in read_range(stage.nc, "TRADES", [">"], 1, 10**9) for m in b]
            check_acknowledged(load, stored)
        finally:
            await load.cancel()


async def _behind(nc: Client) -> list[str]:
    """Return who is behind; nobody known while the server that died was the one we talked to."""
    try:
        return await replicas_not_current(nc, ["TRADES"], patience_s=0)
    except TransientError:
        return []


async def test_replica_that_is_away_is_named(
    cluster: NatsCluster, tmp_path: Path, row: Row
) -> None:
    """`psm streams check` says which server, and what to do."""
    async with staged(cluster.url, tmp_path, replicas=3) as stage:
        leader = await cluster.leader(stage.nc, "TRADES")
        node = next(one for one in cluster.nodes if one is not leader)
        await node.kill()
        row.fire("server killed")
        behind = await until_answer(lambda: _behind(stage.nc), bool, "it is missed")
        assert len(behind) == 1
        assert f"the replica on {node.server_name} is" in behind[0]
        assert f"peer-remove TRADES {node.server_name}" in behind[0]
        await cluster.heal(stage.nc)
        assert await replicas_not_current(stage.nc, ["TRADES"]) == []


@pytest.mark.chaos_long
async def test_leader_frozen(
    cluster: NatsCluster, postgres_dsn: str, tmp_path: Path, row: Row
) -> None:
    """A frozen leader keeps its connections; when it thaws it believes that it leads."""
    async with at_work(cluster, tmp_path, postgres_dsn, row.seeded(32)) as scene:
        for turn in range(TURNS):
            node = await cluster.leader(scene.stage.nc, STREAMS[1 - turn % 2])
            since = time.time_ns()
            node.freeze()
            row.fire("leader frozen")
            await scene.goes_on()
            row.measure("resumed after freeze", await scene.stage.longest_pause(since))
            node.thaw()
            await scene.goes_on()
            await cluster.heal(scene.stage.nc)
        await scene.stage.judge(scene.load)


@pytest.mark.chaos_long
async def test_leaders_step_down(
    cluster: NatsCluster, postgres_dsn: str, tmp_path: Path, row: Row
) -> None:
    """Leaders give way again and again, as in maintenance; commits are refused half way."""
    async with at_work(cluster, tmp_path, postgres_dsn, row.seeded(33)) as scene:
        for stream in STREAMS * (3 * TURNS):
            since = time.time_ns()
            await cluster.leader(scene.stage.nc, stream)
            await cluster.step_down(scene.stage.nc, stream)
            row.fire(f"{stream} leader stepped down")
            await scene.load.more(10)
            await scene.stage.commits()
            row.measure("resumed after step-down", await scene.stage.longest_pause(since))
        await scene.stage.judge(scene.load)


@pytest.mark.chaos_long
async def test_rolling_restart(
    cluster: NatsCluster, postgres_dsn: str, tmp_path: Path, row: Row
) -> None:
    """Each node is stopped cleanly and started again, as in an upgrade."""
    async with at_work(cluster, tmp_path, postgres_dsn, row.seeded(34)) as scene:
        for node in cluster.nodes:
            since = time.time_ns()
            await node.stop()
            row.fire("node restarted")
            await scene.load.more()
            await cluster.heal(scene.stage.nc)
            await scene.goes_on()
            row.measure("longest pause", await scene.stage.longest_pause(since))
        await scene.stage.judge(scene.load)


async def test_no_quorum(cluster: NatsCluster, postgres_dsn: str, tmp_path: Path, row: Row) -> None:
    """With two of three nodes gone nothing is acknowledged, and nobody says that it is ready."""
    async with at_work(cluster, tmp_path, postgres_dsn, row.seeded(35)) as scene:
        first, second, _ = cluster.nodes
        await first.kill()
        second.freeze()
        row.fire("quorum lost")
        told_s = max(
            await asyncio.gather(
                scene.worker.until_ready(ready=False), scene.projector.until_ready(ready=False)
            )
        )
        row.measure("told not ready", told_s)
        acked = len(scene.load.acked)
        await asyncio.sleep(2)
        assert len(scene.load.acked) == acked, "acknowledged without a quorum"
        # A connection that comes back may look well until the next write is not answered.
        await scene.worker.until_ready(ready=False)
        since = time.time_ns()
        await cluster.heal(scene.stage.nc)
        await scene.goes_on()
        row.measure("resumed after quorum", await scene.stage.longest_pause(since))
        await scene.stage.judge(scene.load)


@pytest.mark.chaos_long
async def test_whole_cluster_killed(
    cluster: NatsCluster, postgres_dsn: str, tmp_path: Path, row: Row
) -> None:
    """SIGKILL of all nodes at once; they come back one after the other."""
    async with at_work(cluster, tmp_path, postgres_dsn, row.seeded(36)) as scene:
        for _ in range(TURNS):
            await asyncio.gather(*(node.kill() for node in cluster.nodes))
            row.fire("cluster killed")
            since = time.time_ns()
            for node in cluster.nodes:
                await node.start()
                await asyncio.sleep(1)
            await scene.goes_on()
            row.measure("resumed after restart", await scene.stage.longest_pause(since))
            await cluster.heal(scene.stage.nc)
        await scene.stage.judge(scene.load)


@pytest.mark.chaos_long
async def test_consumers_deleted(
    cluster: NatsCluster, postgres_dsn: str, tmp_path: Path, row: Row
) -> None:
    """Every consumer is deleted while it is being read, over and over."""
    async with at_work(cluster, tmp_path, postgres_dsn, row.seeded(37)) as scene:
        for _ in range(4 * TURNS):
            for stream in STREAMS:
                listed = await call(scene.stage.nc, f"CONSUMER.NAMES.{stream}")
                for name in listed["consumers"] or []:
                    await call(scene.stage.nc, f"CONSUMER.DELETE.{stream}.{name}")
                    row.fire("consumer deleted")
            await scene.goes_on()
        await scene.stage.judge(scene.load)
