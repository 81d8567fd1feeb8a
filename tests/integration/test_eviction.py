"""Accounts that wait in their snapshots: on a real broker, with kills, repairs and heads."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.support.events import Sent, deposit, event, fee, mark, trade, unknown
from tests.support.slots import slots_env
from tests.support.twins import FaultySnapshots
from tests.support.workbench import WAIT_S, Bench, end, open_bench, until
from tests.support.worker_process import WorkerProcess

from psm.adapters import postgres, telemetry
from psm.contracts import subjects
from psm.contracts.errors import LogDamagedError
from psm.projections.current_state import CURRENT_STATE
from psm.workers.partition.eviction import BadSnapshotError
from psm.workers.partition.heads_check import Guard
from psm.workers.partition.heads_store import PostgresHeads
from psm.workers.partition.loop import Partition
from psm.workers.projector.follower import Projector

IDLE = [f"idle_{n:02d}" for n in range(20)]
HELD, STOPPED = "held", "stopped"
_KNOWN = "SELECT count(*) FROM chain_heads"


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[Bench]:
    async with open_bench(nats_url) as opened:
        yield opened


def opening() -> Iterator[Sent]:
    """Accounts with money; one with a position, one whose stream is blocked."""
    for stream in (*IDLE, HELD, STOPPED):
        yield deposit(1, "1000", stream=stream)
    yield trade(2, "buy", "1", "100", stream=HELD, fill_id="f1")
    yield trade(2, "buy", "1", "100", stream=IDLE[0], fill_id="f1")
    yield trade(3, "sell", "1", "110", stream=IDLE[0], fill_id="f2")
    yield unknown(2, stream=STOPPED)


def later() -> Iterator[Sent]:
    """Everything that may concern an account that is not in memory."""
    yield mark(1, "120")
    yield fee(2, "1", stream=IDLE[1])
    yield fee(2, "1", stream=IDLE[1])  # the same bytes again
    yield deposit(1, "7", stream=IDLE[2])  # another event under a taken number
    yield fee(3, "1", stream=IDLE[3])  # parked
    yield event("TradeBusted", {"fill_id": "f2", "reason": "r"}, 4, stream=IDLE[0])
    yield deposit(1, "5", stream="new")
    yield fee(2, "2", stream=IDLE[3])  # closes the gap
    yield fee(3, "1", stream=STOPPED)  # held
    yield trade(2, "buy", "2", "100", stream=IDLE[4])
    yield mark(2, "130")


def evicting(bench: Bench, **more: Any) -> Partition:
    """Return a partition that keeps nobody it may let go."""
    return bench.partition(accounts_in_memory=0, snapshot_interval_s=0.05, **more)


async def left(partition: Partition, *streams: str) -> None:
    """Wait until only these are in memory."""
    wanted = {*streams}
    await until(lambda: {*partition._books.accounts} == wanted, "the idle accounts leave")


async def test_published_alike_with_and_without_eviction(bench: Bench) -> None:
    """Marks, repeats, conflicts, gaps and corrections of evicted accounts: the log decides."""
    last = await bench.publish(opening())
    partition = evicting(bench)
    async with bench.running(partition):
        await until(lambda: partition.stats.position >= last, "it is folded")
        await left(partition, HELD, STOPPED)
        await bench.publish(later())
        await left(partition, HELD, STOPPED, IDLE[0], IDLE[4])
        last = await bench.publish(fee(2, "3", stream=n) for n in IDLE[5:])
        await until(lambda: partition.stats.position >= last, "they came back")
    verdict = await bench.judge()
    assert {"applied", "duplicate", "conflict", "parked", "held"} <= {*verdict.outcomes}
    assert verdict.books[0].accounts[IDLE[0]].ledger.positions["BTC-PERP"].size == 1


async def test_start_without_room_keeps_only_who_must_stay(bench: Bench) -> None:
    """A new owner checks all snapshots but keeps idle accounts only while there is room."""
    await bench.run_until(bench.partition(), await bench.publish(opening()))
    partition = evicting(bench)
    async with bench.running(partition):
        await until(lambda: partition.stats.live, "it recovered")
        assert {*partition._books.accounts} == {HELD, STOPPED}
        last = await bench.publish(later())
        await until(lambda: partition.stats.position >= last, "it is folded")
    await bench.judge()
    roomy = bench.partition()
    async with bench.running(roomy):
        await until(lambda: roomy.stats.live, "it recovered")
        assert len(roomy._books.accounts) == len(IDLE) + 3


async def test_tail_of_an_account_that_was_not_loaded(bench: Bench) -> None:
    """Messages between its snapshot and the cursor bring an account back while it recovers."""
    await bench.run_until(bench.partition(), await bench.publish(opening()))
    crashed = bench.partition()
    last = await bench.publish(later())
    async with bench.crashing(crashed):
        await until(lambda: crashed.stats.position >= last, "all is folded")
        commits = crashed._commits
        await until(lambda: crashed.stats.commits > 0 and not commits._updates, "committed")
    partition = evicting(bench)
    await bench.run_until(partition, await bench.publish(fee(3, "1", stream=IDLE[1])))
    await bench.judge()


async def test_unreadable_snapshot_of_an_evicted_account(bench: Bench) -> None:
    """The partition starts over, falls back to the version before, and saves the account anew."""
    store = FaultySnapshots(bench.nc, 0)
    last = await bench.publish(opening())
    await bench.run_until(bench.partition(store=store), last)
    subject = subjects.snapshot(0, IDLE[6])
    store.garbled.add(subject)
    partition = evicting(bench, store=store)
    async with bench.crashing(partition) as task:
        last = await bench.publish(fee(2, "1", stream=IDLE[6]))
        await until(lambda: store.written.count(subject) == 2, "garbage is saved")
        await left(partition, HELD, STOPPED)
        await bench.publish(fee(3, "1", stream=IDLE[6]))
        await until(task.done, "it notices")
        with pytest.raises(BadSnapshotError, match=IDLE[6]):
            await task
    store.garbled.clear()
    again = evicting(bench, store=store)
    async with bench.running(again):
        last = await bench.publish(fee(4, "1", stream=IDLE[6]))
        await until(lambda: again.stats.position >= last, "it goes on")
        await until(lambda: store.written.count(subject) >= 3, "it is saved anew")
    await bench.judge()


@pytest.mark.parametrize(
    "point", ["worker.after_fetch", "worker.before_commit", "worker.after_snapshot"]
)
async def test_killed_while_accounts_come_and_go(bench: Bench, tmp_path: Path, point: str) -> None:
    """SIGKILL of the process between eviction and return: each update is published once."""
    own = {
        "PSM_PARTITIONS": 1,
        "PSM_WORKER_PARTITIONS": "0",
        **slots_env(bench.settings.valuation_slots),
        "PSM_SNAPSHOT_INTERVAL_S": 1,
        "PSM_SNAPSHOT_EVENTS": 1,
        "PSM_ACCOUNTS_IN_MEMORY": 0,
    }
    url = bench.settings.nats_url
    await bench.publish(opening())
    async with WorkerProcess(url, tmp_path, **own) as worker:
        await worker.logged("accounts.evicted")
        worker.kill()
        assert await worker.ended() == -signal.SIGKILL
    await bench.publish(later())
    async with WorkerProcess(url, tmp_path, PSM_CRASH_POINT=f"{point}:1", **own) as worker:
        await bench.publish(fee(2, "1", stream=name) for name in IDLE[8:])
        assert await worker.ended() == -signal.SIGKILL, worker.text
        (reached,) = worker.events("crash_point.reached")
        assert reached["point"] == point
    async with WorkerProcess(url, tmp_path, **own) as worker:
        await worker.logged("partition.recovered")
        assert worker.events("partition.acquired")[0]["evicted"] > 0
        await bench.publish(fee(3, "1", stream=name) for name in IDLE[8:])
        await bench.judge()


@pytest.mark.parametrize(
    ("change", "damage"),
    [
        (None, None),
        ("chain_hash = repeat('0', 64)", f"{IDLE[2]}: the hash chain up to event 1 "),
        ("sequence_number = 5", f"{IDLE[2]}: .*up to event 1 "),
        ("sequence_number = 5, log_sequence = 999", f"{IDLE[2]} has events up to 1 in the log"),
    ],
    ids=["agreed", "altered", "shortened", "shortened tail"],
)
async def test_heads_of_accounts_that_were_not_loaded(
    bench: Bench, postgres_dsn: str, change: str | None, damage: str | None
) -> None:
    """What PostgreSQL remembers of them is compared with their snapshots."""
    await bench.run_until(bench.partition(), await bench.publish(opening()))
    metrics = telemetry.quiet().metrics
    pool = await postgres.open_pool(postgres_dsn, name="test")
    projecting = asyncio.create_task(Projector(bench.nc, pool, [CURRENT_STATE], [0], metrics).run())
    connection = await asyncpg.connect(postgres_dsn)
    heads = PostgresHeads(postgres_dsn)
    try:
        async with asyncio.timeout(WAIT_S):
            while await connection.fetchval(_KNOWN) != len(IDLE) + 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        if change is not None:
            query = f"UPDATE chain_heads SET {change} WHERE stream_id = $1"
            assert await connection.execute(query, IDLE[2]) == "UPDATE 1"
        partition = Partition(
            0,
            bench.log(),
            bench.snapshots(),
            bench.tuning(accounts_in_memory=0),
            metrics,
            Guard(bench.nc, 0, metrics, heads),
        )
        last = await bench.publish(fee(2, "1", stream=IDLE[3]))
        if damage is None:
            await bench.run_until(partition, last)
            await bench.judge()
        else:
            with pytest.raises(LogDamagedError, match=damage):
                await bench.run_until(partition, last)
    finally:
        await end(projecting)
        pool.terminate()
        heads.close()
        await connection.close()
