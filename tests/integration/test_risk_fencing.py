"""Owners of a risk slot: whoever lost it writes nothing more, and nothing is decided twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from tests.support.risk_bench import ACCOUNT, DESK, SLOT, RiskBench, open_risk_bench
from tests.support.risk_ledger import LedgerSlot
from tests.support.workbench import until, until_answer

from psm.adapters.jetstream import (
    UnknownOutcomeError,
    get,
    last_for,
    publish_expected,
    read_range,
    stream_info,
)
from psm.adapters.jetstream import publish_atomic as publish_atomic_really
from psm.adapters.jetstream.api import call
from psm.contracts import subjects
from psm.contracts.errors import LogDamagedError
from psm.contracts.subjects import RISK, SNAPSHOTS
from psm.risk.messages import RiskOutput
from psm.workers.risk import store as store_module
from psm.workers.risk.fences import append_and_fence, fence
from psm.workers.risk.loop import SlotLoop
from psm.workers.risk.owner import load_owner, with_checkpoint
from psm.workers.risk.ports import stored_of
from psm.workers.risk.store import NotStoredError, RiskStore


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[RiskBench]:
    async with open_risk_bench(nats_url) as opened:
        yield opened


async def owned(
    bench: RiskBench, owner: str, expected: int = 0, checkpoint: bytes = b"{}"
) -> RiskStore:
    """Return a store that has written an owner record."""
    store = RiskStore(bench.nc, SLOT)
    record, parts = with_checkpoint(
        slot=SLOT, owner=owner, reason="takeover", orders=0, n=0, previous="", checkpoint=checkpoint
    )
    await store.own(record, parts, expected)
    return store


def output(text: str) -> RiskOutput:
    return RiskOutput(kind="decision", key=ACCOUNT, data=text.encode())


async def stored(bench: RiskBench) -> list[bytes]:
    store = RiskStore(bench.nc, SLOT)
    store.fence = (await stream_info(bench.nc, RISK)).last_sequence
    last = await last_for(bench.nc, RISK, subjects.risk_owner(SLOT))
    assert last is not None
    found = []
    for sequence in range(1, store.fence + 1):
        message = await get(bench.nc, RISK, sequence)
        if message is not None and subjects.risk_kind(message.subject) == "decision":
            found.append(message.data)
    return found


@pytest.mark.parametrize("count", [1, 4, 5, 40])
async def test_old_owner_stores_nothing_behind_a_new_record(bench: RiskBench, count: int) -> None:
    """Singles and batches alike are refused, and the new owner's are stored."""
    old = await owned(bench, "old")
    await old.write([output(f"a{n}") for n in range(count)])
    new = await owned(bench, "new", old.fence)
    with pytest.raises(NotStoredError, match="10071"):
        await old.write([output(f"b{n}") for n in range(count)])
    await new.write([output(f"c{n}") for n in range(count)])
    assert await stored(bench) == [f"{x}{n}".encode() for x in "ac" for n in range(count)]


async def test_records_are_heard_once_they_are_stored(bench: RiskBench) -> None:
    """On `psm.risk.*.*`, and never what was refused."""
    heard: list[tuple[str, bytes]] = []

    async def hear(message: Any) -> None:
        heard.append((message.subject, message.data))

    await bench.nc.subscribe("psm.risk.*.*", cb=hear)
    old = await owned(bench, "old")
    await old.write([output("a")])
    await owned(bench, "new", old.fence)
    with pytest.raises(NotStoredError):
        await old.write([output("b")])
    await until(lambda: len(heard) >= 3, "all is heard")
    assert (f"psm.risk.decision.{ACCOUNT}", b"a") in heard
    assert all(data != b"b" for _, data in heard)


async def test_stored_subjects_cannot_be_published_to(bench: RiskBench) -> None:
    """Who may record on `risk.*.*` writes neither owner records nor decisions of a slot."""
    for subject in (subjects.risk_owner(SLOT), subjects.risk_record("decision", SLOT, ACCOUNT)):
        with pytest.raises(UnknownOutcomeError, match="nobody answers"):
            await publish_expected(bench.nc, RISK, subject, b"{}", expected=None)
    await publish_expected(bench.nc, RISK, f"risk.decision.{ACCOUNT}", b"{}", expected=None)


@pytest.mark.parametrize("size", [10, 64 * 1024, 64 * 1024 + 1, 400_000])
async def test_checkpoint_comes_back_whatever_its_size(bench: RiskBench, size: int) -> None:
    """In the record where it fits, in parts behind it otherwise; through later records, too."""
    checkpoint = bytes(i * 7 % 251 for i in range(size))
    first = await owned(bench, "one", 0, checkpoint)
    second = RiskStore(bench.nc, SLOT)
    newest = await second.newest()
    assert newest is not None
    await second.own(newest.record.following("two", "takeover", newest.sequence), (), first.fence)
    again = await second.newest()
    assert again is not None
    assert await second.checkpoint(again) == (first.fence, checkpoint)
    assert await second.recorded(first.fence) == []


async def test_unanswered_record_is_never_followed(
    bench: RiskBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write without an answer, stored late: the loop takes the record again; one decision each.

    It is the zombie: the first decision arrives behind the time-out, when its owner has already
    gone on. It finds the new record, and is refused; or it came before, and is read back.
    """
    late: list[asyncio.Task[Any]] = []
    lost = 0

    async def unanswered(nc: Any, stream: str, messages: Any, **more: Any) -> Any:
        nonlocal lost
        decision = messages[0].subject.startswith("_risk.decision")
        if not decision or lost >= 4:
            return await publish_atomic_really(nc, stream, messages, **more)
        lost += 1
        if lost % 2:  # stored now, nobody hears of it
            await publish_atomic_really(nc, stream, messages, **more)
        else:  # stored late, if at all

            async def send() -> None:
                await asyncio.sleep(0.2)
                await publish_atomic_really(nc, stream, messages, **more)

            late.append(asyncio.create_task(send()))
        raise UnknownOutcomeError("no answer")

    monkeypatch.setattr(store_module, "publish_atomic", unanswered)
    async with bench.worker(batch_records=4) as worker:
        await worker.owning()
        for _ in range(30):
            await bench.order()
        await bench.decided(30)
        assert lost == 4
        results = await asyncio.gather(*late, return_exceptions=True)
        assert [type(one).__name__ for one in results] == ["ApiConflictError"] * 2
    assert len(await bench.decided(30)) == 30


@pytest.mark.parametrize("count", [1, 4, 5, 40])
async def test_record_that_comes_twice_is_stored_once(bench: RiskBench, count: int) -> None:
    """A record expects its owner's, and would pass that twice; its id says that it is there.

    A single one is acknowledged again; a batch is refused, and read back like any other that is not
    acknowledged. Behind a new owner record both are.
    """
    outputs = [output(f"a{n}") for n in range(count)]
    owner = await owned(bench, "old")
    await owner.write(outputs)
    if count <= store_module.SINGLES_MAX:
        await owner.write(outputs)
    else:
        with pytest.raises(NotStoredError, match="10201"):
            await owner.write(outputs)
    await owned(bench, "new", owner.fence)
    with pytest.raises(NotStoredError):
        await owner.write(outputs)
    assert await stored(bench) == [f"a{n}".encode() for n in range(count)]


async def test_lost_acknowledgement_and_a_retry_leave_one_record(
    bench: RiskBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever sends a write again behind the same owner record: no record breaks the chain."""
    lost = 0

    async def sent_again(nc: Any, stream: str, messages: Any, **more: Any) -> Any:
        nonlocal lost
        ack = await publish_atomic_really(nc, stream, messages, **more)
        if messages[0].subject.startswith("_risk.decision"):
            lost += 1
            again = publish_atomic_really(nc, stream, messages, batch_id=f"again{lost}")
            await asyncio.gather(again, return_exceptions=True)
            if lost % 3 == 0:
                raise UnknownOutcomeError("no answer")
        return ack

    monkeypatch.setattr(store_module, "publish_atomic", sent_again)
    async with bench.worker(batch_records=20) as worker:
        await worker.owning()
        for _ in range(60):
            await bench.order()
        await bench.decided(60)
    assert lost >= 3
    everything = await stored(bench)
    assert len(everything) == len(set(everything)) == 60


async def test_takeover_goes_on_where_the_other_stopped(bench: RiskBench) -> None:
    """Orders before, between and after two owners: each decided once, in one chain."""
    for _ in range(5):
        await bench.order()
    async with bench.worker("one") as one:
        await one.owning()
        await bench.decided(5)
    for _ in range(5):
        await bench.order()
    async with bench.worker("two") as two:
        await two.owning()
        await bench.order()
        found = await bench.decided(11)
    assert [order["order_id"] for order in found] == [f"o{n}" for n in range(1, 12)]


async def test_two_owners_at_once_decide_everything_once(bench: RiskBench) -> None:
    """Each takes the record from the other; who is refused steps down, and may come again."""
    async with bench.worker("one") as one, bench.worker("two") as two:
        await one.owning()
        await two.owning()
        for _ in range(20):
            await bench.order()
            await asyncio.sleep(0.005)
        found = await bench.decided(20)
        await until(lambda: one.state() == "gone", "the first stepped down")
        assert two.state() == "live"
        await one.owning()
        await bench.order()
        await bench.decided(21)
        await until(lambda: two.state() == "gone", "the second stepped down")
    assert len(found) == 20


async def test_halt_stands_before_what_was_decided_before(
    bench: RiskBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Approvals that are in flight when the halt is answered are not stored behind it."""
    held, go_on = asyncio.Event(), asyncio.Event()

    async def slow(nc: Any, stream: str, messages: Any, **more: Any) -> Any:
        if messages[0].subject.startswith("_risk.decision") and not go_on.is_set():
            held.set()
            await go_on.wait()
        return await publish_atomic_really(nc, stream, messages, **more)

    async with bench.worker() as worker:
        await worker.owning()
        monkeypatch.setattr(store_module, "publish_atomic", slow)
        await bench.order()
        await held.wait()  # it is approved, and on its way
        subject, event = bench.halt_event()
        slots = bench.rules.book.slots_of(f"group:{DESK}")
        sequence, fences = await append_and_fence(bench.nc, subject, event, slots, "ada")
        assert [one.slot for one in fences] == [SLOT]
        go_on.set()
        (found,) = await bench.decided(1)
        assert (found["decision"], found["rulebook"]) == ("rejected", sequence)
    assert await bench.decisions() == [found]


async def test_no_approval_behind_a_halt_under_load(bench: RiskBench) -> None:
    """While orders pour in: behind the fence only what knows of the halt."""
    async with bench.worker() as worker:
        await worker.owning()
        for _ in range(20):
            await bench.order()

        async def pour() -> None:
            for _ in range(150):
                await bench.order()

        pouring = asyncio.create_task(pour())
        await until(lambda: len(worker.worker.holdings()) == 1, "held")
        await until_answer(bench.decisions, lambda found: len(found) > 30, "it decides")
        subject, event = bench.halt_event("firm", "firm")
        slots = bench.rules.book.slots_of("firm")
        sequence, (put,) = await append_and_fence(bench.nc, subject, event, slots, "ada")
        await pouring
        found = await bench.decided(170)
        behind = [
            msgspec.json.decode(message.data)["payload"]
            for at in range(put.sequence, (await stream_info(bench.nc, RISK)).last_sequence + 1)
            if (message := await get(bench.nc, RISK, at)) is not None
            and subjects.risk_kind(message.subject) == "decision"
        ]
    assert {one["decision"] for one in behind} == {"rejected"}
    assert {one["rulebook"] for one in behind} == {sequence}
    assert any(one["decision"] == "approved" for one in found), "the halt came before everything"


async def test_fence_of_a_slot_that_nobody_owned(bench: RiskBench) -> None:
    """There is nothing to fence: its first owner reads the rulebook before it decides."""
    assert [one.sequence for one in await fence(bench.nc, [SLOT, 3], "ada")] == [0, 0]


async def test_fence_while_its_owner_renews(bench: RiskBench) -> None:
    """Both write the record again and again: each fence stands in the end."""
    async with bench.worker(checkpoint_records=1) as worker:
        await worker.owning()
        for _ in range(10):
            await bench.order()
            (put,) = await fence(bench.nc, [SLOT], "ada")
            message = await get(bench.nc, RISK, put.sequence)
            assert message is not None
            assert load_owner(message.data).reason == "fence"
        await bench.decided(10)


async def shorten(bench: RiskBench, stream: str, seconds: int) -> None:
    """Let a stream forget what is older, as weeks would."""
    config = (await stream_info(bench.nc, stream)).config
    window = min(config.get("duplicate_window") or 1, seconds) * 1_000_000_000
    changed = {"max_age": seconds * 1_000_000_000, "duplicate_window": window}
    await call(bench.nc, f"STREAM.UPDATE.{stream}", {**config, **changed})


async def gone(bench: RiskBench) -> None:
    """Wait until RISK has forgotten everything."""
    await until_answer(
        lambda: stream_info(bench.nc, RISK), lambda info: info.messages == 0, "RISK forgot"
    )


async def test_owner_record_that_aged_out_stops_the_slot(bench: RiskBench) -> None:
    """Neither its owner nor a stranger may begin anew: both would write what nothing fences."""
    async with bench.worker() as worker:
        await worker.owning()
        await bench.order()
        await bench.decided(1)
        await shorten(bench, RISK, 1)
        await gone(bench)
        await bench.order()
        await until(lambda: worker.state() == "stopped", "the owner stopped")
        assert "owner record is gone" in worker.worker.failed[SLOT]
    async with bench.worker("stranger") as stranger:
        stranger.worker.take(SLOT)
        await until(lambda: stranger.state() == "stopped", "the stranger stopped")
    with pytest.raises(LogDamagedError, match=f"snapshots.risk.{SLOT} says"):
        await RiskStore(bench.nc, SLOT).newest()
    assert await last_for(bench.nc, SNAPSHOTS, subjects.risk_known(SLOT)) is not None


async def test_renewed_record_outlives_the_age_of_the_stream(bench: RiskBench) -> None:
    """Renewed in time, a slot that decides nothing for long goes on."""
    await shorten(bench, RISK, 3)
    async with bench.worker(renew_s=0.5) as worker:
        await worker.owning()
        await bench.order()
        first = await last_for(bench.nc, RISK, subjects.risk_owner(SLOT))
        assert first is not None
        await until_answer(
            lambda: get(bench.nc, RISK, first.sequence),
            lambda message: message is None,
            "the first record aged out",
        )
        await bench.order()
        await until_answer(
            bench.decisions, lambda found: any(one["n"] == 2 for one in found), "it decides"
        )


async def test_handover_saves_a_checkpoint(bench: RiskBench) -> None:
    """The next owner reads no record of the one before."""
    async with bench.worker("one") as one:
        await one.owning()
        for _ in range(8):
            await bench.order()
        await bench.decided(8)
    newest = await RiskStore(bench.nc, SLOT).newest()
    assert newest is not None
    assert (newest.record.reason, newest.record.n, newest.record.orders) == ("renewal", 8, 8)


async def test_recovery_equals_what_was_never_interrupted(bench: RiskBench) -> None:
    """From a checkpoint and the records behind it comes the state that wrote them."""
    async with bench.worker(checkpoint_records=7) as worker:
        await worker.owning()
        for _ in range(25):
            await bench.order()
        await bench.decided(25)
        loop = worker.inputs.loop_of(SLOT)
        assert isinstance(loop, SlotLoop)
        before = loop._slot.state_hash()
        await fence(bench.nc, [SLOT], "ada")
        await bench.order()
        await bench.decided(26)
        after = worker.inputs.loop_of(SLOT)
        assert after is loop
        assert after._slot.n == 26
        replayed = await RiskStoreReader(bench).state()
    assert replayed == loop._slot.state_hash() != before


class RiskStoreReader:
    """Reads a slot as a new owner would, without owning it."""

    def __init__(self, bench: RiskBench) -> None:
        self._bench = bench

    async def state(self) -> str:
        store = RiskStore(self._bench.nc, SLOT)
        newest = await store.newest()
        assert newest is not None
        at, checkpoint = await store.checkpoint(newest)
        slot = LedgerSlot.restored(checkpoint)
        info = await stream_info(self._bench.nc, RISK)
        async for batch in read_range(
            self._bench.nc, RISK, [f"risk.decision.{SLOT}.*"], at + 1, info.last_sequence
        ):
            for message in batch:
                slot.take_recorded(stored_of(message))
        return slot.state_hash()
