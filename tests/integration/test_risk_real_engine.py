"""The engine that decides live, killed and taken over: what was approved counts once."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.events import deposit, event, instrument, mark
from tests.support.risk_bench import (
    ACCOUNT,
    ADA,
    BOB,
    DESK,
    PSM_RISK_WORKER,
    SLOT,
    OwnWorker,
    RiskBench,
    RiskProcess,
    open_risk_bench,
)
from tests.support.workbench import until, until_answer
from tests.support.worker_process import WorkerProcess

from psm.adapters.jetstream import publish_expected, read_range, stream_info
from psm.contracts.subjects import RISK
from psm.risk.engine import Slot
from psm.workers.log.shape import log_shape
from psm.workers.proof.risk.live import Range, prove_risk
from psm.workers.risk.fences import append_and_fence, fence
from psm.workers.risk.loop import SlotLoop
from psm.workers.risk.missed import newest_update
from psm.workers.risk.ports import stored_of
from psm.workers.risk.store import RiskStore

ORDERS_MAX = 12
"""So many orders may be open at once; nobody reports one, so no approval ever ends."""


@pytest.fixture
async def bench(nats_url: str, tmp_path: Path) -> AsyncIterator[RiskBench]:
    async with open_risk_bench(nats_url) as opened:
        nc, partitions = opened.nc, opened.settings.partitions
        proposed = opened.rules.propose(ADA, {"open_orders_count": ORDERS_MAX})
        opened.rules.approve(BOB, proposed)
        await opened.say()
        async with WorkerProcess(nats_url, tmp_path, PSM_PARTITIONS=partitions) as worker:
            await worker.ready(partitions)
            for sent in (instrument(), mark(1, "100"), deposit(1, "10000")):
                await publish_expected(nc, "TRADES", sent.subject, sent.data, expected=None)
            yield opened


def start(bench: RiskBench, folder: Path, **settings: object) -> RiskProcess:
    partitions = bench.settings.partitions
    own = {"PSM_RISK_CHECKPOINT_RECORDS": 9, "PSM_PARTITIONS": partitions, **settings}
    return RiskProcess(bench.settings.nats_url, folder, module=PSM_RISK_WORKER, **own)


@pytest.mark.timeout(150)
async def test_killed_again_and_again(bench: RiskBench, tmp_path: Path) -> None:
    """Each order one decision, and never more approvals than may be open: none is forgotten."""
    count = 0
    for point in ("risk.after_decide:4", "risk.before_write:4", "risk.after_write:4"):
        async with start(bench, tmp_path, PSM_CRASH_POINT=point) as worker:
            await worker.logged("slot.acquired")
            while worker.returncode is None:
                await bench.order()
                count += 1
                await asyncio.sleep(0.02)
            assert await worker.ended() == -signal.SIGKILL, worker.text
    async with start(bench, tmp_path) as worker:
        await worker.logged("slot.acquired")
        for _ in range(ORDERS_MAX):
            await bench.order()
            count += 1
        found = await orders_decided(bench, count)
        worker.terminate()
        assert await worker.ended() == 0, worker.text
    approved = [one["order_id"] for one in found if one["decision"] == "approved"]
    assert len(approved) == len(set(approved)) == ORDERS_MAX
    assert len(found) == count


async def test_a_halt_asks_whoever_executes_to_cancel(bench: RiskBench) -> None:
    """On the subject of halts, before any decision under it, while orders pour in."""
    heard = await bench.nc.subscribe("psm.risk.halt.*")
    async with bench.worker(engine=Slot) as worker:
        await worker.owning()
        for _ in range(5):
            await bench.order()
        subject, event = bench.halt_event()
        slots = bench.rules.book.slots_of(f"group:{DESK}")
        sequence, _ = await append_and_fence(bench.nc, subject, event, slots, "ada")
        for _ in range(5):
            await bench.order()
        found = await orders_decided(bench, 10)
    asked = msgspec.json.decode((await heard.next_msg(10)).data)
    assert (asked["event_type"], heard.pending_msgs) == ("cancel_all", 0)
    assert asked["payload"]["halt_hash"] == hashlib.sha256(event).hexdigest()
    assert asked["payload"]["accounts"] == [ACCOUNT]
    knew = [one for one in found if one["rulebook_sequence"] >= sequence]
    assert {one["decision"] for one in knew} == {"rejected"}
    assert min(one["n"] for one in knew) > asked["payload"]["n"]
    prover = await prove_risk(bench.nc, log_shape(bench.settings), Range())
    assert prover.deviations == []


async def orders_decided(bench: RiskBench, count: int) -> list[dict[str, Any]]:
    """Wait for a decision on each order; each has one."""
    deadline = asyncio.get_running_loop().time() + 60
    while len(found := await bench.decisions()) < count:
        assert asyncio.get_running_loop().time() < deadline, f"{len(found)} of {count}"
        await asyncio.sleep(0.05)
    assert len({one["order_id"] for one in found}) == len(found), "an order was decided twice"
    return found


@pytest.mark.timeout(120)
async def test_recovery_is_what_was_never_interrupted(bench: RiskBench) -> None:
    """The memory that comes from a checkpoint and the records behind it is the one that wrote them.

    It is fenced in between, so that it was read back once already.
    """
    async with bench.worker(engine=Slot, checkpoint_records=7) as worker:
        await worker.owning()
        for number in range(30):
            await bench.order()
            if number in {10, 20}:
                await fence(bench.nc, [SLOT], "ada")
        await orders_decided(bench, 30)
        loop = worker.inputs.loop_of(SLOT)
        assert isinstance(loop, SlotLoop)
        assert loop.stats.takeovers == 3
        live, again = memory(loop._slot), memory(await reread(bench))
    assert again == live
    assert live["n"] >= 30


def memory(slot: Slot) -> dict[str, Any]:
    """Return what a slot remembers; its clock goes on with every mark."""
    return {name: value for name, value in slot._state().items() if name != "clock"}


async def reread(bench: RiskBench) -> Slot:
    """Read a slot as a new owner would, without owning it."""
    store = RiskStore(bench.nc, SLOT)
    newest = await store.newest()
    assert newest is not None
    at, checkpoint = await store.checkpoint(newest)
    slot = Slot.restored(checkpoint)
    last = (await stream_info(bench.nc, RISK)).last_sequence
    kinds = [f"risk.{kind}.{SLOT}.*" for kind in ("decision", "alert", "halt", "release")]
    async for batch in read_range(bench.nc, RISK, kinds, at + 1, last):
        for message in batch:
            slot.take_recorded(stored_of(message))
    return slot


async def test_an_order_that_ended_while_nobody_followed_is_reserved_no_more(
    bench: RiskBench,
) -> None:
    """The account as a whole shows open orders alone: what was told of it meanwhile is read."""
    async with bench.worker(engine=Slot) as first:
        await first.owning()
        await bench.order("o1")
        (found,) = await orders_decided(bench, 1)
        assert found["decision"] == "approved"
        assert reserved(first) is not None
    order = {"order_id": "o1", "symbol": "BTC-PERP", "side": "buy", "type": "limit",
             "quantity": "1", "price": "100"}  # fmt: skip
    told = event("OrderSubmitted", order, 2), event("OrderCancelled", {"order_id": "o1"}, 3)
    acks = [
        await publish_expected(bench.nc, "TRADES", one.subject, one.data, expected=None)
        for one in told
    ]
    last = acks[-1].sequence
    await until_answer(
        lambda: newest_update(bench.nc, ACCOUNT),
        lambda newest: newest.log_sequence >= last,
        "PSM tells of both",
    )
    async with bench.worker("two", engine=Slot) as second:
        await second.owning()
        await until(lambda: reserved(second) is None, "the order is over")


def reserved(worker: OwnWorker) -> int | None:
    """Return since when something is reserved that PSM does not show."""
    loop = worker.inputs.loop_of(SLOT)
    assert loop is not None
    return loop.reserved_since(ACCOUNT)
