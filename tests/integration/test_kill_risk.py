"""SIGKILL of the real risk worker, anywhere: each order has exactly one decision."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.risk_bench import ACCOUNT, SLOT, RiskBench, RiskProcess, open_risk_bench
from tests.support.workbench import end
from tests.support.worker_process import WorkerProcess

from psm.risk.rulebook import slot_of
from psm.workers.process.crash_points import CRASH_POINTS
from psm.workers.risk.fences import fence

POINTS = [point for point in CRASH_POINTS if point.startswith("risk.")]
KILLS = int(os.environ.get("PSM_TEST_KILLS", "6"))


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[RiskBench]:
    async with open_risk_bench(nats_url) as opened:
        yield opened


async def pour(bench: RiskBench, count: int, pause_s: float) -> None:
    for _ in range(count):
        await bench.order()
        await asyncio.sleep(pause_s)


def start(bench: RiskBench, folder: Path, **settings: object) -> RiskProcess:
    own: dict[str, Any] = {"PSM_RISK_CHECKPOINT_RECORDS": 20, **settings}
    return RiskProcess(bench.settings.nats_url, folder, **own)


@pytest.mark.timeout(90)
@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_every_crash_point(
    bench: RiskBench, tmp_path: Path, point: str, nth: int
) -> None:
    """Whichever gap between two effects the kill falls into, the next owner closes it."""
    taking_over = point in {"risk.after_owner_record", "risk.after_recovery"}
    load = None
    try:
        async with start(bench, tmp_path, PSM_CRASH_POINT=f"{point}:{nth}") as worker:
            if not taking_over or nth > 1:
                await worker.logged("slot.acquired")
            # Only now: what waits for a start is one write, and one pass of the point.
            load = asyncio.create_task(pour(bench, 120, 0.004))
            if taking_over and nth > 1:  # one more takeover for each fence
                await fence_until_ended(bench, worker)
            assert await worker.ended() == -signal.SIGKILL, worker.text
            (reached,) = worker.events("crash_point.reached")
            assert reached["point"] == point
        await load
    finally:
        if load is not None:
            await end(load)
    last = await bench.order()
    async with start(bench, tmp_path) as worker:
        found = await bench.decided(last)
        worker.terminate()
        assert await worker.ended() == 0, worker.text
    assert [one["orders"] for one in found] == list(range(1, last + 1))
    assert len(await bench.decisions()) == last, "nothing came afterwards"


async def fence_until_ended(bench: RiskBench, worker: WorkerProcess) -> None:
    """Fence, and order: an owner that is fenced sees it when it writes."""
    while worker.returncode is None:
        await fence(bench.nc, [SLOT], "ada")
        await bench.order()
        await asyncio.sleep(0.1)


@pytest.mark.timeout(90)
async def test_killed_at_random_moments_under_load(bench: RiskBench, tmp_path: Path) -> None:
    """Kill after kill while orders flow: one decision each, in one chain."""
    dice = random.Random(13)
    for _ in range(KILLS):
        load = asyncio.create_task(pour(bench, 60, 0.002))
        try:
            async with start(bench, tmp_path) as worker:
                await worker.logged("slot.acquired")
                await asyncio.sleep(dice.uniform(0.0, 0.15))
                worker.kill()
                assert await worker.ended() == -signal.SIGKILL
            await load
        finally:
            await end(load)
    async with start(bench, tmp_path) as worker:
        await bench.decided(60 * KILLS)
        await worker.logged("slot.acquired")
        worker.terminate()
        assert await worker.ended() == 0


@pytest.mark.timeout(120)
async def test_two_processes_share_the_slots(bench: RiskBench, tmp_path: Path) -> None:
    """The second takes its share; when the first is killed the other has all, and goes on."""
    names = [f"desk_{n}" for n in range(12)]
    for n, name in enumerate(names):
        await bench.group(name, (f"acc_{n}",))
    async with start(bench, tmp_path) as one:
        await one.logged("slot.acquired", len(names) // 2)
        async with start(bench, tmp_path) as two:
            await two.logged("slot.acquired", 2)
            for n in range(len(names)):
                await bench.order(account=f"acc_{n}")
            await bench.order(account=ACCOUNT)
            one.kill()
            await one.ended()
            for n in range(len(names)):
                await bench.order(account=f"acc_{n}")
            await bench.order(account=ACCOUNT)
            await bench.decided(2)
            for slot in {slot_of(name) for name in names}:
                expected = 2 * sum(slot_of(name) == slot for name in names)
                await bench.decided(expected + 2 * (slot == SLOT), slot)
            two.terminate()
            assert await two.ended() == 0, two.text


async def test_starts_without_a_rulebook(nats_url: str, tmp_path: Path) -> None:
    """Where no group is defined it owns slots without a record; a group is taken at once."""
    async with open_risk_bench(nats_url, group=False) as bench:
        async with start(bench, tmp_path) as worker:
            await worker.logged("risk.started")
            await asyncio.sleep(1.0)
            await bench.group()
            await bench.order()
            await bench.decided(1)
            worker.terminate()
            assert await worker.ended() == 0, worker.text
        assert await bench.decisions(SLOT)
