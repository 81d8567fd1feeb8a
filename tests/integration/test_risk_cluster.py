"""Risk slots on three replicas: the leader of RISK dies, or sleeps on a decision, under load."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.support.nats_cluster import NatsCluster, make_streams
from tests.support.risk_bench import RiskBench
from tests.support.workbench import end, until_answer

from psm.adapters.jetstream import connect
from psm.adapters.jetstream.streams_apply import apply
from psm.contracts.errors import PSMError
from psm.contracts.subjects import RISK
from psm.workers.process.settings import Settings

ORDERS = 150


@pytest.mark.timeout(240)
async def test_each_order_is_decided_once_whoever_leads(tmp_path: Path) -> None:
    """Killed, then frozen and woken: what its clients had sent is stored once, or refused."""
    cluster = NatsCluster(tmp_path)
    await cluster.start()
    nc = await connect(cluster.url, name="test")
    settings = Settings(nats_url=cluster.url, replicas=3)
    bench = RiskBench(nc, settings)

    async def decided() -> int:
        """Return how many decisions there are; 0 while nobody answers."""
        try:
            return len(await bench.decisions())
        except PSMError:
            return 0

    async def load() -> None:
        for number in range(ORDERS):
            while True:
                try:
                    await bench.order(f"o{number}")
                except PSMError:  # sent again under its id: the same order, decided once
                    await asyncio.sleep(0.1)
                else:
                    break
            await asyncio.sleep(0.02)

    try:
        await make_streams(nc, lambda: apply(nc, settings))
        await cluster.heal(nc)
        await bench.say()
        await bench.group()
        async with bench.worker(checkpoint_records=25) as worker:
            await worker.owning()
            task = asyncio.create_task(load())
            try:
                before = await until_answer(decided, lambda count: count > 20, "it decides")
                await (await cluster.leader(nc, RISK)).kill()
                await until_answer(decided, lambda count: count > before + 30, "it goes on", 60)
                await cluster.heal(nc)
                leader = await cluster.leader(nc, RISK)
                leader.freeze()
                await asyncio.sleep(3)
                leader.thaw()
                await asyncio.wait_for(task, 90)
            finally:
                await end(task)
            await cluster.heal(nc)
            await until_answer(decided, lambda count: count >= ORDERS, "all are decided", 60)
            assert len(await bench.decided(ORDERS)) == ORDERS
    finally:
        await nc.close()
        await cluster.stop()
