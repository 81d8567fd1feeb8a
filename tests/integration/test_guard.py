"""The comparison at a start where nothing is lost: it must let go on, and it must look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from tests.support.events import fee, trade, voided
from tests.support.workbench import WAIT_S, Bench, end, open_bench

from psm.adapters import postgres, telemetry
from psm.contracts.errors import LogDamagedError
from psm.projections.current_state import CURRENT_STATE
from psm.workers.partition.heads_check import Guard
from psm.workers.partition.heads_store import PostgresHeads
from psm.workers.partition.loop import Partition
from psm.workers.projector.follower import Projector

STREAM = "acc_001"
EVENTS = 30


class Scene:
    """A log of one partition; the heads know its first events."""

    def __init__(self, bench: Bench, dsn: str) -> None:
        self.bench = bench
        self.dsn = dsn
        self.metrics = telemetry.quiet().metrics

    async def project(self, events: int) -> None:
        """Follow PSM until the heads know this many events, then stop."""
        pool = await postgres.open_pool(self.dsn, name="test")
        projector = Projector(self.bench.nc, pool, [CURRENT_STATE], [0], self.metrics)
        task = asyncio.create_task(projector.run())
        query = "SELECT coalesce(sum(sequence_number), 0) FROM chain_heads"
        async with asyncio.timeout(WAIT_S):
            while await pool.fetchval(query) != events:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await end(task)
        pool.terminate()

    async def start(self, log_sequence: int) -> Partition:
        """Run a guarded partition until it folded a message; raise what it raises."""
        store = PostgresHeads(self.dsn)
        partition = Partition(
            0,
            self.bench.log(),
            self.bench.snapshots(),
            self.bench.tuning(),
            self.metrics,
            Guard(self.bench.nc, 0, self.metrics, store),
        )
        try:
            await self.bench.run_until(partition, log_sequence)
        finally:
            store.close()
        return partition


@pytest.fixture(params=["saved", "crashed"])
async def scene(
    nats_url: str, postgres_dsn: str, request: pytest.FixtureRequest
) -> AsyncIterator[Scene]:
    """The first owner saved its accounts, or crashed so that all is folded again."""
    async with open_bench(nats_url) as bench:
        last = await bench.publish(
            trade(1, "buy", "1", "100"), [fee(n, "0.5") for n in range(2, EVENTS + 1)]
        )
        scene = Scene(bench, postgres_dsn)
        first = bench.partition()
        if request.param == "saved":
            await bench.run_until(first, last)
        else:
            async with bench.crashing(first):
                await bench.judge()  # all is committed
        await scene.project(EVENTS)
        yield scene


async def test_database_behind(scene: Scene) -> None:
    """Heads that are behind what is committed are no loss, also where only the chain moved."""
    refused = voided(EVENTS + 5, EVENTS + 9)  # its hash enters the chain, no number is taken
    last = await scene.bench.publish(refused)
    await scene.bench.run_until(scene.bench.partition(), last)
    assert (await scene.start(last)).stats.live
    await scene.project(EVENTS)
    last = await scene.bench.publish(fee(EVENTS + 1, "0.5"))
    assert (await scene.start(last)).stats.live


async def test_other_history(scene: Scene) -> None:
    """A stream whose chain is not the one that the heads know stops the partition, unpublished."""
    connection = await asyncpg.connect(scene.dsn)
    changed = await connection.execute("UPDATE chain_heads SET chain_hash = repeat('0', 64)")
    await connection.close()
    assert changed == "UPDATE 1"
    before = await scene.bench.cursor()
    with pytest.raises(LogDamagedError, match=rf"{STREAM}: the hash chain up to event {EVENTS} "):
        await scene.start(EVENTS)
    assert await scene.bench.cursor() == before


async def test_account_ahead_of_the_log(scene: Scene) -> None:
    """A stream that the heads know longer than the log has it stops the partition."""
    connection = await asyncpg.connect(scene.dsn)
    await connection.execute("UPDATE chain_heads SET sequence_number = sequence_number + 1")
    await connection.close()
    with pytest.raises(LogDamagedError, match=f"(event {EVENTS + 1}|up to event {EVENTS} )"):
        await scene.start(EVENTS)
