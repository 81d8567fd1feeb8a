"""SIGKILL of the risk worker at every crash point under 500 orders/s: the long form.

The short form, at half the rate and on the smallest engine, is tests/integration/test_kill_risk.py.
Here the engine that decides live runs beside a PSM, and all it decided is proved afterwards.
"""

from __future__ import annotations

import asyncio
import signal
from functools import partial
from operator import eq
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.chaos_report import Row
from tests.support.events import deposit, instrument, mark
from tests.support.risk_bench import (
    ACCOUNT,
    ADA,
    BOB,
    PSM_RISK_WORKER,
    SLOT,
    RiskBench,
    RiskProcess,
    open_risk_bench,
    order_event,
)
from tests.support.workbench import end, until_answer
from tests.support.worker_process import WorkerProcess

from psm.adapters.jetstream import last_for, publish_expected
from psm.contracts import subjects
from psm.contracts.subjects import ORDERS, RISK
from psm.workers.log.shape import log_shape
from psm.workers.process.crash_points import CRASH_POINTS
from psm.workers.proof.risk.live import Range, prove_risk
from psm.workers.risk.fences import fence

pytestmark = [pytest.mark.chaos, pytest.mark.chaos_long, pytest.mark.timeout(900)]

POINTS = [point for point in CRASH_POINTS if point.startswith("risk.")]
TAKEOVERS = ("risk.after_owner_record", "risk.after_recovery")
PASSES = (1, 3)
OPEN_MAX = 50
"""Orders that may be open; nobody reports one, so no approval ever ends."""
RATE = 500
"""Orders per second."""
KILLED_S = 300.0
"""Until a point is passed for the third time, on a machine that is busy besides."""
SETTLE_S = 600.0


class Orders:
    """A producer of orders, a batch every 20 ms on the clock of the loop."""

    def __init__(self, bench: RiskBench) -> None:
        self.sent: list[str] = []
        self._bench = bench
        self._task = asyncio.create_task(self._pour())

    async def _pour(self) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        while True:
            due = int((loop.time() - started) * RATE)
            await asyncio.gather(*(self._order() for _ in range(due - len(self.sent))))
            await asyncio.sleep(0.02)

    async def _order(self) -> None:
        self.sent.append(f"o{len(self.sent)}")
        data = order_event(self.sent[-1], quantity="0.001")
        subject = subjects.order_command(ACCOUNT)
        await publish_expected(self._bench.nc, ORDERS, subject, data, expected=None)

    async def stop(self) -> int:
        """Stop, once what is on its way has arrived; return how many there are."""
        task, self._task = self._task, asyncio.create_task(asyncio.sleep(0))
        await end(task)
        return len(self.sent)


async def settled(bench: RiskBench, orders: Orders) -> list[dict[str, Any]]:
    """Wait until the last order that ORDERS has is decided; return all decisions."""
    data = order_event("last", quantity="0.001")
    subject = subjects.order_command(ACCOUNT)
    last = (await publish_expected(bench.nc, ORDERS, subject, data, expected=None)).sequence
    # The newest one alone: reading tens of thousands again and again is what would be slow.
    ask = partial(newest_decided, bench)
    await until_answer(ask, partial(eq, last), "all are decided", SETTLE_S)
    found = await bench.decisions()
    assert len(found) == last, "ORDERS holds nothing but these"
    return found


async def newest_decided(bench: RiskBench) -> int:
    """Return the order that was decided last, by its sequence in ORDERS; 0 for none."""
    newest = await last_for(bench.nc, RISK, f"risk.decision.{SLOT}.*")
    if newest is None:
        return 0
    found: int = msgspec.json.decode(newest.data)["payload"]["orders_sequence"]
    return found


@pytest.mark.parametrize("point", POINTS)
async def test_killed(nats_url: str, tmp_path: Path, row: Row, point: str) -> None:
    """At the first and a later pass: one decision each, one chain, and each can be made again."""
    async with open_risk_bench(nats_url) as bench:
        bench.rules.approve(BOB, bench.rules.propose(ADA, {"open_orders_count": OPEN_MAX}))
        await bench.say()
        partitions = bench.settings.partitions
        async with WorkerProcess(nats_url, tmp_path, PSM_PARTITIONS=partitions) as worker:
            await worker.ready(partitions)
            for sent in (instrument(), mark(1, "100"), deposit(1, "1000000")):
                await publish_expected(bench.nc, "TRADES", sent.subject, sent.data, expected=None)
            orders = Orders(bench)
            try:
                for nth in PASSES:
                    await _killed(bench, tmp_path, point, nth)
                    row.fire(point)
            finally:
                count = await orders.stop()
            async with _started(bench, tmp_path) as heir:
                found = await settled(bench, orders)
                heir.terminate()
                assert await heir.ended() == 0, heir.text
            prover = await prove_risk(bench.nc, log_shape(bench.settings), Range())
    assert prover.deviations == []
    assert prover.decisions == len(found)
    names = [one["order_id"] for one in found]
    assert sum(one["decision"] == "approved" for one in found) == OPEN_MAX
    assert len(set(names)) == len(names), "an order was decided twice"
    assert {*names} <= {*orders.sent, "last"}
    assert len(names) >= count - RATE // 10, "only what was on its way at the end may be missing"


async def _killed(bench: RiskBench, folder: Path, point: str, nth: int) -> None:
    async with _started(bench, folder, PSM_CRASH_POINT=f"{point}:{nth}") as worker:
        if point in TAKEOVERS and nth > 1:  # one more takeover for each fence
            while worker.returncode is None:
                await fence(bench.nc, [SLOT], "ada")
                await asyncio.sleep(0.2)
        assert await worker.ended(KILLED_S) == -signal.SIGKILL, worker.text
        assert [one["point"] for one in worker.events("crash_point.reached")] == [point]


def _started(bench: RiskBench, folder: Path, **settings: object) -> RiskProcess:
    own = {
        "PSM_RISK_CHECKPOINT_RECORDS": 100,
        "PSM_PARTITIONS": bench.settings.partitions,
        **settings,
    }
    return RiskProcess(bench.settings.nats_url, folder, module=PSM_RISK_WORKER, **own)
