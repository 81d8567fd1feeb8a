"""What a year of operation brings to the risk engine, on real servers.

An account that moves while orders pour in, a backlog that nobody decided in time, a log that is
older than its rulebook.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.events import deposit, event, instrument, mark, opened, trade
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
    order_event,
    result_event,
)
from tests.support.workbench import end, until, until_answer
from tests.support.worker_process import WorkerProcess

from psm.adapters.jetstream import StoredMessage, publish_expected, read_range, stream_info
from psm.contracts import subjects
from psm.contracts.subjects import ORDERS, RISK
from psm.risk.engine import Slot
from psm.risk.rulebook import slot_of
from psm.workers.log.shape import log_shape
from psm.workers.proof.risk.live import Range, prove_risk
from psm.workers.risk import store as store_module
from psm.workers.risk.fences import fence

OTHER = "other"
OTHER_SLOT = slot_of(OTHER)
BESIDE = next(f"desk_{n}" for n in range(1000) if slot_of(f"desk_{n}") == SLOT)
"""A group in the same slot."""
STAYS = "acc_stays"


async def log(bench: RiskBench, *messages: Any) -> None:
    for sent in messages:
        await publish_expected(bench.nc, "TRADES", sent.subject, sent.data, expected=None)


def psm_worker(bench: RiskBench, folder: Path) -> WorkerProcess:
    url, partitions = bench.settings.nats_url, bench.settings.partitions
    return WorkerProcess(url, folder, PSM_PARTITIONS=partitions)


async def limit(bench: RiskBench, limits: dict[str, Any], group: str = DESK) -> None:
    """Set the limits of a group, by two."""
    bench.rules.approve(BOB, bench.rules.propose(ADA, limits, name=group), name=group)
    await bench.say()


async def order(bench: RiskBench, order_id: str, **fields: Any) -> int:
    """Publish an order; return its sequence in ORDERS."""
    account = fields.pop("account", ACCOUNT)
    data = order_event(order_id, account, **fields)
    subject = subjects.order_command(account)
    return (await publish_expected(bench.nc, ORDERS, subject, data, expected=None)).sequence


async def payloads(bench: RiskBench, pattern: str) -> list[dict[str, Any]]:
    """Return what is stored in RISK under a pattern, oldest first."""
    last = (await stream_info(bench.nc, RISK)).last_sequence
    batches = read_range(bench.nc, RISK, [pattern], 1, last)
    return [msgspec.json.decode(m.data)["payload"] async for b in batches for m in b]


async def decided(bench: RiskBench, count: int) -> list[dict[str, Any]]:
    """Wait for so many decisions of all slots."""
    return await until_answer(
        lambda: payloads(bench, "risk.decision.*.*"),
        lambda found: len(found) >= count,
        f"{count} decisions",
        60,
    )


async def proved(bench: RiskBench) -> int:
    """Prove all decisions; return how many there are."""
    prover = await prove_risk(bench.nc, log_shape(bench.settings), Range())
    assert prover.deviations == []
    return prover.decisions


def was_approved(decision: dict[str, Any], group: str) -> bool:
    return (decision["group"], decision["decision"]) == (group, "approved")


def hold_rules(worker: OwnWorker) -> asyncio.Event:
    """Let a process read nothing more of the rulebook until this is set."""
    go_on, reader = asyncio.Event(), worker.inputs._rules
    fetch = reader.fetch

    async def held(*args: Any, **more: Any) -> list[StoredMessage]:
        found = await fetch(*args, **more)
        if found:
            await go_on.wait()
        return found

    reader.fetch = held  # type: ignore[method-assign]
    return go_on


@pytest.fixture
async def bench(nats_url: str, tmp_path: Path) -> AsyncIterator[RiskBench]:
    """A log with two accounts with money, which one group decides for, and another group."""
    async with open_risk_bench(nats_url, group=False) as found:
        await found.group(DESK, (ACCOUNT, STAYS))
        await found.group(OTHER, ("acc_else",))
        async with psm_worker(found, tmp_path) as worker:
            await worker.ready(found.settings.partitions)
            await log(found, instrument(), mark(1, "100"))
            for account in (ACCOUNT, STAYS, "acc_else"):
                await log(found, deposit(1, "100000", stream=account))
            yield found


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("target", "processes", "late"),
    [(OTHER, 1, 0), (OTHER, 2, 0), (OTHER, 2, 1), (OTHER, 2, 2), (BESIDE, 1, 0)],
)
async def test_an_account_moves_under_load(
    bench: RiskBench, target: str, processes: int, late: int
) -> None:
    """What the old group approved counts in the new one, and each order has one answer.

    Also where one of the processes reads of the move late: the old one's answers what the new one
    takes for its own, or both leave an order to each other.
    """
    pouring: asyncio.Task[None] | None = None
    sent = 0

    async def pour() -> None:
        nonlocal sent
        while True:
            sent += 1
            await order(bench, f"o{sent}", quantity="0.01")
            await asyncio.sleep(0.002)

    async with (
        bench.worker("one", engine=Slot) as one,
        bench.worker("two", engine=Slot) as two,
    ):
        await one.owning(SLOT)
        await (one if processes == 1 else two).owning(OTHER_SLOT)
        try:
            pouring = asyncio.create_task(pour())
            await decided(bench, 40)
            read = hold_rules((one, two)[late - 1]) if late else asyncio.Event()
            await bench.group(target, (ACCOUNT,) if target == BESIDE else (ACCOUNT, "acc_else"))
            behind = sent + 30
            await until(lambda: sent >= behind, "orders came while one did not know")
            read.set()
            await until_answer(
                lambda: payloads(bench, f"risk.decision.{slot_of(target)}.*"),
                lambda found: sum(was_approved(x, target) for x in found) >= 20,
                "the new group approves",
                10,
            )
        finally:
            assert pouring is not None
            await end(pouring)
        marker = await order(bench, "last", quantity="0.01")
        everything = await until_answer(
            lambda: payloads(bench, "risk.decision.*.*"),
            lambda found: any(x["orders_sequence"] == marker for x in found) and len(found) >= sent,
            "the last order is decided",
            60,
        )
        (release,) = await payloads(bench, f"risk.release.{SLOT}.*")
    old = [x for x in everything if x["group"] == DESK]
    new = [x for x in everything if x["group"] == target]
    approved = [x["order_id"] for x in everything if x["decision"] == "approved"]
    assert len(set(approved)) == len(approved), "an order was approved twice"
    once = [x["order_id"] for x in everything]
    missing = {f"o{n}" for n in range(1, sent + 1)} - set(once)
    assert len(set(once)) == len(once), "an order was answered twice"
    assert len(missing) <= 1  # the last of the load may never have been published
    answered = release["orders_sequence"]
    assert max(x["orders_sequence"] for x in old) <= answered
    assert min(x["orders_sequence"] for x in new) > answered
    # What was approved and not shown goes along, order by order.
    carried = {n.rpartition("/")[2] for n in release["memory"] if n.startswith("reservation/")}
    assert carried == {x["order_id"] for x in old if x["decision"] == "approved"}
    assert await proved(bench) == len(everything)


@pytest.mark.timeout(120)
async def test_a_loss_beside_stops_a_group_in_another_process(bench: RiskBench) -> None:
    """Each process hears what the other's groups are worth; the parent's cap is on the sum."""
    house = {"members": [], "currency": "USDT"}
    bench.rules.both("GroupDefined", group="house", **house)
    for name, members in ((DESK, [ACCOUNT, STAYS]), (OTHER, ["acc_else"])):
        await limit(bench, {"daily_loss_money": "1000"}, name)
        more = {"members": members, "currency": "USDT", "parent": "house"}
        bench.rules.both("GroupDefined", group=name, **more)
    await limit(bench, {"daily_loss_money": "2000"}, "house")
    await log(bench, trade(2, "buy", "100", "100", stream=ACCOUNT))
    price = 1

    async def latches() -> list[dict[str, Any]]:
        nonlocal price
        price += 1
        await log(bench, mark(price, "100" if price < 10 else "70"))
        await asyncio.sleep(0.2)
        return await payloads(bench, f"risk.halt.{OTHER_SLOT}.*")

    async with (
        bench.worker("one", engine=Slot) as one,
        bench.worker("two", engine=Slot) as two,
    ):
        await one.owning(SLOT)
        await two.owning(OTHER_SLOT)
        (latch,) = await until_answer(latches, lambda found: len(found) > 0, "it latches", 60)
        await order(bench, "o1", account="acc_else", quantity="0.01")
        (found,) = await decided(bench, 1)
    assert (latch["scope"], latch["code"]) == ("group:house", "daily_loss")
    mode = next(one for one in found["checks"] if one["name"] == "mode")
    assert (found["reason"], mode["scope"], mode["passed"]) == ("mode", "group:house", False)
    assert await proved(bench) == 1


@pytest.mark.timeout(120)
async def test_an_end_at_the_venue_frees_what_was_reserved(bench: RiskBench) -> None:
    """Before and behind a takeover, while the log shows nothing of the order."""
    await limit(bench, {"open_orders_count": 1})
    async with bench.worker("one", engine=Slot) as one:
        await one.owning()
        await order(bench, "o1", quantity="0.01")
        await order(bench, "o2", quantity="0.01")
        found = await decided(bench, 2)
    await ended(bench, "o1", "rejected")
    async with bench.worker("two", engine=Slot) as two:
        await two.owning()
        await order(bench, "o3", quantity="0.01")
        await decided(bench, 3)
        await ended(bench, "o3", "cancelled", filled_quantity="0")
        await order(bench, "o4", quantity="0.01")
        found = await decided(bench, 4)
    outcomes = ["approved", "open_orders_count", "approved", "approved"]
    assert [one["reason"] for one in found] == outcomes
    assert await proved(bench) == 4


async def ended(bench: RiskBench, order_id: str, status: str, **fields: Any) -> None:
    """Let the venue say what became of an order."""
    data = result_event(order_id, ACCOUNT, status, **fields)
    subject = subjects.order_status(order_id)
    await publish_expected(bench.nc, ORDERS, subject, data, expected=None)


@pytest.mark.timeout(120)
async def test_a_backlog_of_expired_orders(bench: RiskBench, tmp_path: Path) -> None:
    """A worker that starts behind it refuses each of them once, and decides what is fresh."""
    count, fresh = 1_500, 20
    late = order_event("late", expires_at="2026-01-02T04:00:00Z")
    fields = msgspec.json.decode(late)
    subject = subjects.order_command(ACCOUNT)
    js = bench.nc.jetstream()
    waiting = []
    for number in range(count):
        fields["payload"]["order_id"] = f"late{number}"
        fields["event_id"] = f"7f0c2a34-3f5e-4f27-9d5e-{number:012d}"
        waiting.append(await js.publish_async(subject, msgspec.json.encode(fields)))
    await asyncio.gather(*waiting)
    for number in range(fresh):
        await order(bench, f"fresh{number}", quantity="0.01")
    settings: dict[str, Any] = {"PSM_PARTITIONS": bench.settings.partitions}
    url = bench.settings.nats_url
    async with RiskProcess(url, tmp_path, module=PSM_RISK_WORKER, **settings) as worker:
        await worker.logged("slot.acquired")
        started = time.monotonic()
        found = await decided(bench, count + fresh)
        seconds = time.monotonic() - started
        worker.terminate()
        assert await worker.ended() == 0, worker.text
    assert Counter(x["reason"] for x in found) == {"expired": count, "approved": fresh}
    assert len({x["order_id"] for x in found}) == len(found)
    assert seconds < 30


@pytest.mark.timeout(120)
async def test_the_last_decision_is_hidden_by_a_replica(
    bench: RiskBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who takes over has no record behind it that tells: the leader does, so it reads again.

    Else what was approved is forgotten, and approved once more.
    """
    await limit(bench, {"open_orders_count": 1})
    hidden = 0

    async def without_last(*args: Any, **more: Any) -> AsyncIterator[list[StoredMessage]]:
        nonlocal hidden
        found = [message async for batch in read_range(*args, **more) for message in batch]
        decisions = [m for m in found if subjects.risk_kind(m.subject) == "decision"]
        if decisions and hidden < 2:
            hidden += 1
            found.remove(decisions[-1])
        if found:
            yield found

    async with bench.worker("one", engine=Slot) as one:
        await one.owning()
        await order(bench, "o1", quantity="0.01")
        (approved,) = await decided(bench, 1)
        monkeypatch.setattr(store_module, "read_range", without_last)
        await fence(bench.nc, [SLOT], "ada")
        await order(bench, "o2", quantity="0.01")
        await order(bench, "o1", quantity="0.01")
        await order(bench, "o3", quantity="0.01")
        found = await decided(bench, 3)
    assert hidden == 2
    reasons = [(x["order_id"], x["reason"]) for x in found]
    assert reasons == [("o1", "approved"), *((o, "open_orders_count") for o in ("o2", "o3"))]
    assert found[0] == approved
    assert await proved(bench) == 3


@pytest.mark.timeout(120)
async def test_risk_on_an_old_log(nats_url: str, tmp_path: Path) -> None:
    """Orders that were there before count; nothing is approved before they are known."""
    async with open_risk_bench(nats_url, group=False) as bench:
        partitions = bench.settings.partitions
        async with psm_worker(bench, tmp_path) as worker:
            await worker.ready(partitions)
            await log(bench, instrument(), mark(1, "100"), opened(1), deposit(2, "100000"))
            await log(bench, trade(3, "buy", "2", "100"))
            for number in (4, 5):
                payload = {
                    "order_id": f"old{number}", "symbol": "BTC-PERP", "side": "buy",
                    "type": "limit", "quantity": "1", "price": "100",
                }  # fmt: skip
                await log(bench, event("OrderSubmitted", payload, number))
            for number in range(2, 40):
                await log(bench, mark(number, "100"))
            # Only now, and only at the end of the log, is there a rulebook.
            await order(bench, "before")
            await bench.group()
            await limit(bench, {"open_orders_count": 3, "max_order_quantity": "9"})
            async with bench.worker(engine=Slot) as risk:
                await risk.owning()
                for number in range(3):
                    await order(bench, f"o{number}")
                found = await decided(bench, 3)
                await until(lambda: not risk.inputs.unknown_members(), "the account is known")
        reasons = [(x["order_id"], x["reason"]) for x in found]
        assert reasons == [
            ("o0", "approved"), ("o1", "open_orders_count"), ("o2", "open_orders_count"),
        ]  # fmt: skip
        assert found[0]["vector"][ACCOUNT][0] == 5, "it is decided on the account as it is"
        assert await payloads(bench, "risk.alert.*.error") == [], "old orders are nobody's fault"
        # Nobody answers for accounts: what is not known is refused, never approved.
        async with bench.worker(engine=Slot) as risk:
            await risk.owning()
            await order(bench, "blind")
            found = await decided(bench, 4)
            assert (found[3]["order_id"], found[3]["reason"]) == ("blind", "account_unknown")
            async with psm_worker(bench, tmp_path) as worker:
                await worker.ready(partitions)
                await until(lambda: not risk.inputs.unknown_members(), "known again")
                await log(bench, mark(40, "100"))
                await order(bench, "seen", side="sell", reduce_only=True)
                found = await decided(bench, 5)
        assert found[4]["reason"] == "open_orders_count"
        assert await proved(bench) == 5
