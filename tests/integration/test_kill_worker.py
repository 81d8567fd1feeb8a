"""SIGKILL of the real worker process, anywhere: each update is published exactly once."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support import feed
from tests.support.events import Sent, deposit, mark
from tests.support.slots import slots_env
from tests.support.workbench import Bench, end, open_bench, until, until_answer
from tests.support.worker_process import WorkerProcess

from psm.adapters.jetstream import stream_info
from psm.contracts import subjects
from psm.domain.books import Books
from psm.domain.publication.figures import state_document
from psm.domain.snapshot import load_checkpoint
from psm.workers.process.crash_points import CRASH_POINTS

PARTITIONS = 4
WORKER_POINTS = [point for point in CRASH_POINTS if point.startswith("worker.")]
SAVES = re.compile("snapshot|checkpoint")
KILLS = int(os.environ.get("PSM_TEST_KILLS", "10"))


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[Bench]:
    async with open_bench(nats_url, partitions=PARTITIONS) as opened:
        yield opened


def start(bench: Bench, folder: Path, **settings: object) -> WorkerProcess:
    """Start a worker that saves as often as it may."""
    own = {
        "PSM_PARTITIONS": bench.settings.partitions,
        # Told what to run, it starts at once: most kills must fall into its work.
        "PSM_WORKER_PARTITIONS": ",".join(map(str, range(bench.settings.partitions))),
        **slots_env(bench.settings.valuation_slots),
        "PSM_SNAPSHOT_INTERVAL_S": 1,
        "PSM_SNAPSHOT_EVENTS": 5,
        **settings,
    }
    return WorkerProcess(bench.settings.nats_url, folder, **own)


async def psm_end(bench: Bench) -> int:
    """Return the last sequence of PSM."""
    return (await stream_info(bench.nc, "PSM")).last_sequence


@pytest.mark.timeout(300)
async def test_killed_at_random_moments_under_load(bench: Bench, tmp_path: Path) -> None:
    """Ten kills while trades, gaps and marks flow: nothing is lost, doubled or different."""
    dice = random.Random(20)
    messages = feed.traffic(20, accounts=20, events=40 * KILLS)
    share = len(messages) // KILLS
    reached = [0]
    for turn in range(KILLS):
        part = messages[turn * share : (turn + 1) * share]
        load = asyncio.create_task(feed.press(bench.nc, part, pause_s=0.005))
        try:
            async with start(bench, tmp_path) as worker:
                await worker.logged("worker.started")
                if turn % 2:  # at work, however slow the machine is; else at any moment
                    await until_answer(
                        lambda: psm_end(bench), lambda end: end > reached[-1], "it commits"
                    )
                await asyncio.sleep(dice.uniform(0.0, 0.6))
                worker.kill()
                assert await worker.ended() == -signal.SIGKILL
            await load
        finally:
            await end(load)
        reached.append(await psm_end(bench))
    progress = sum(after > before for before, after in itertools.pairwise(reached))
    assert progress >= KILLS // 2, "most kills came before there was anything to lose"
    last = await bench.publish(messages[KILLS * share :])
    async with start(bench, tmp_path) as worker:
        verdict = await bench.judge()
        worker.terminate()
        assert await worker.ended() == 0
    assert verdict.count > last
    assert (await bench.judge()).count == verdict.count, "nothing came afterwards"


@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("point", WORKER_POINTS)
async def test_killed_at_every_crash_point(
    bench: Bench, tmp_path: Path, point: str, nth: int
) -> None:
    """Whichever gap between two effects the kill falls into, the next start closes it."""
    messages = feed.traffic(21, accounts=12, events=120)
    half = len(messages) // 2
    await bench.publish(messages[:half])
    load = None
    try:
        async with start(bench, tmp_path, PSM_CRASH_POINT=f"{point}:{nth}") as worker:
            # From its start on: what is there before is one batch, and one pass of the point.
            await until(
                lambda: worker.returncode is not None or worker.events("worker.started"),
                "it has started",
            )
            load = asyncio.create_task(feed.press(bench.nc, messages[half:], pause_s=0.02))
            assert await worker.ended() == -signal.SIGKILL, worker.text
            (reached,) = worker.events("crash_point.reached")
            assert reached["point"] == point
        await load
    finally:
        if load is not None:
            await end(load)
    async with start(bench, tmp_path) as worker:
        verdict = await bench.judge()
    assert verdict.outcomes["parked"] > 0
    assert any(p["change"] == "closed" for p in verdict.payloads("PositionUpdated"))
    assert any(p["cause"] == "mark" for p in verdict.payloads("StateUpdated"))


@pytest.mark.parametrize("point", [point for point in WORKER_POINTS if SAVES.search(point)])
async def test_killed_while_some_are_saved_by_records(
    nats_url: str, tmp_path: Path, point: str
) -> None:
    """Between snapshots of some, and the checkpoint with the records of the others: the same."""
    async with open_bench(nats_url) as bench:
        await bench.run_until(bench.partition(), await bench.publish(feed.holders(20)))
        load = None
        try:
            async with start(bench, tmp_path, PSM_CRASH_POINT=f"{point}:2") as worker:
                await worker.ready(1)
                messages = marks_and_deposits()
                load = asyncio.create_task(feed.press(bench.nc, messages, pause_s=0.02))
                assert await worker.ended() == -signal.SIGKILL, worker.text
            await load
        finally:
            if load is not None:
                await end(load)
        saved = await bench.snapshots().newest(subjects.checkpoint(0))
        assert saved is not None
        assert load_checkpoint(saved.data).records, "the last kept checkpoint has records"
        async with start(bench, tmp_path) as worker:
            verdict = await bench.judge()
            worker.terminate()
            assert await worker.ended() == 0
        assert any(p["cause"] == "mark" for p in verdict.payloads("StateUpdated"))
        partition = bench.partition()
        async with bench.running(partition):
            await until(lambda: partition.stats.live, "it recovered once more")
            recovered = partition._books
            assert {s: hashes(recovered, s) for s in recovered.accounts} == {
                s: hashes(verdict.books[0], s) for s in verdict.books[0].accounts
            }


def marks_and_deposits() -> list[Sent]:
    """Return marks that move all holders, and events of a few of them, for some seconds."""
    found = []
    for number in range(2, 152):
        found.append(mark(number, str(100 + number % 17)))
        if number % 5 == 0:
            account = feed.account(1 + number // 5 % 4)
            found.append(deposit(2 + (number // 5 - 1) // 4, stream=account))
    return found


def hashes(books: Books, stream_id: str) -> object:
    """Return everything that is said of an account."""
    return state_document(books, books.accounts[stream_id])


@pytest.mark.parametrize("nth", [2, 3])
@pytest.mark.parametrize("point", ["worker.before_commit", "worker.after_commit"])
async def test_killed_between_the_parts_of_an_input(
    nats_url: str, tmp_path: Path, point: str, nth: int
) -> None:
    """A mark of 400 holders is committed in parts; a kill between them is closed too."""
    async with open_bench(nats_url) as bench:
        await bench.run_until(bench.partition(), await bench.publish(feed.holders(400)))
        await bench.publish(deposit(2, stream=feed.account(1)), mark(1, "120"))
        async with start(bench, tmp_path, PSM_CRASH_POINT=f"{point}:{nth}") as worker:
            assert await worker.ended() == -signal.SIGKILL, worker.text
        committed_in_part = (await bench.cursor()).part > 0
        assert committed_in_part == ((point, nth) in PART_IS_COMMITTED)
        async with start(bench, tmp_path):
            assert (await bench.judge()).parts == 1


# The commits are: the deposit, the mark's first 999 updates, its rest.
PART_IS_COMMITTED = {("worker.after_commit", 2), ("worker.before_commit", 3)}
