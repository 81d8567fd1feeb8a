"""The risk feed on three replicas, whose leader dies and takes what it had to say along."""

from __future__ import annotations

import asyncio
import itertools
from functools import partial
from pathlib import Path

from tests.integration.test_live_reads import process
from tests.integration.test_risk_feed import ACCOUNTS, PARTITIONS, settled
from tests.support import feed
from tests.support.events import deposit, mark, trade
from tests.support.nats_cluster import NatsCluster, make_streams
from tests.support.risk_follower import Follower, following
from tests.support.slots import even_slots, slots_settings
from tests.support.workbench import Bench, end, until

from psm.adapters.jetstream import connect
from psm.adapters.jetstream.streams_apply import apply
from psm.contracts.subjects import PSM
from psm.workers.process.settings import Settings

_BOTH = 2


def _went_on(follower: Follower, heard: int) -> bool:
    return follower.counted.get("FeedInput", 0) > heard


async def test_the_leader_of_updates_dies_under_load(tmp_path: Path) -> None:
    """Twice: what nobody republished any more is found, whoever the follower is connected to."""
    cluster, done = NatsCluster(tmp_path / "nats"), asyncio.Event()
    await cluster.start()
    nc = await connect(cluster.url, name="test")
    settings = Settings(
        nats_url=cluster.url, partitions=PARTITIONS, replicas=3, **slots_settings(even_slots(20))
    )
    bench = Bench(nc, settings)

    async def load() -> None:
        for number in itertools.count(1):
            if done.is_set():
                return
            sent = [mark(number, str(90 + number % 20))]
            for name in ACCOUNTS:
                first = deposit(1, "1000", stream=name)
                sent.append(first if number == 1 else trade(number, "buy", "1", "100", stream=name))
            await feed.press(nc, sent)

    try:
        await make_streams(nc, lambda: apply(nc, settings))
        await cluster.heal(nc)
        (tmp_path / "logs").mkdir()
        async with (
            process(bench, tmp_path / "logs", PSM_REPLICAS=3) as worker,
            following(cluster.url, PARTITIONS, ACCOUNTS) as follower,
        ):
            await worker.ready(PARTITIONS)
            task = asyncio.create_task(load())
            try:
                await until(lambda: len(follower.known) == len(ACCOUNTS), "all are known")
                for _ in range(_BOTH):
                    leader = await cluster.leader(nc, PSM)
                    await leader.kill()
                    heard = follower.counted.get("FeedInput", 0)
                    await until(partial(_went_on, follower, heard + 50), "it goes on")
                    await cluster.heal(nc)
                done.set()
                await asyncio.wait_for(task, 60)
                assert await settled(bench, follower) > 100
            finally:
                await end(task)
    finally:
        await nc.close()
        await cluster.stop()
