"""Two owners of one partition, and commits nobody answered: everything is committed once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support import feed
from tests.support.events import deposit, trade
from tests.support.twins import FaultySnapshots
from tests.support.workbench import WAIT_S, Bench, end, open_bench, until

from psm.adapters.jetstream import UnknownOutcomeError, connect, last_for, publish_expected
from psm.adapters.jetstream import publish_atomic as publish_atomic_really
from psm.contracts import subjects
from psm.contracts.errors import FencedError, LogDamagedError, TransientError
from psm.workers.log.cursor import Cursor
from psm.workers.partition import committer
from psm.workers.partition import jetstream as log_store
from psm.workers.partition.loop import Partition
from psm.workers.partition.ports import Commit


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[Bench]:
    async with open_bench(nats_url) as opened:
        yield opened


async def live(*partitions: Partition) -> None:
    await until(lambda: all(p.stats.live for p in partitions), "the partitions are live")


async def test_one_of_two_owners_commits_and_the_other_steps_down(bench: Bench) -> None:
    """Both fold the same event; one stores it, the other is fenced, with nothing more to do."""
    first, second = bench.partition(), bench.partition()
    tasks = [asyncio.create_task(p.run()) for p in (first, second)]
    try:
        await live(first, second)
        await bench.publish(deposit(1))
        first_done = asyncio.FIRST_COMPLETED
        done, running = await asyncio.wait(tasks, timeout=WAIT_S, return_when=first_done)
        assert (len(done), len(running)) == (1, 1)
        assert isinstance(done.pop().exception(), FencedError)
        await until(lambda: first.stats.commits + second.stats.commits, "the other one knows")
        assert first.stats.commits + second.stats.commits == 1
        await bench.publish(deposit(n) for n in range(2, 10))
        await bench.judge()
    finally:
        await end(*tasks)


async def test_two_owners_under_load_publish_everything_once(bench: Bench) -> None:
    """Two workers on all partitions fence each other again and again: no effect is doubled."""
    fenced = 0

    async def own() -> None:
        nonlocal fenced
        while True:
            try:
                await bench.partition(snapshot_interval_s=0.1).run()
            except (FencedError, TransientError):
                fenced += 1
                await asyncio.sleep(0.02)

    owners = [asyncio.create_task(own()) for _ in range(2)]
    try:
        for message in feed.traffic(7, accounts=5, events=150):
            await bench.publish(message)
        await bench.judge()
    finally:
        await end(*owners)
    assert fenced > 1, "the owners never met"
    assert (await bench.judge()).count > 150


async def test_owner_that_slept_is_fenced_when_it_wakes(bench: Bench) -> None:
    """A worker that was paused while another took over cannot write a thing."""
    sleeper, log = bench.log(), bench.log()
    asleep = bench.partition(log=sleeper)
    async with bench.running(bench.partition(log=log)) as owner:
        await bench.publish(deposit(1))
        await until(lambda: log.commits, "the event is committed")
        task = asyncio.create_task(asleep.run())
        await live(asleep)
        sleeper.held_back = 1
        last = await bench.publish(deposit(2))
        await until(lambda: len(log.commits) == 2, "the other one went on")
        sleeper.held_back = None
        with pytest.raises(FencedError, match="partition 0: another worker committed"):
            await asyncio.wait_for(task, WAIT_S)
        assert sleeper.commits == []
        assert not owner.done()
    assert (await bench.cursor()).log_sequence == last
    await bench.judge()


async def test_snapshot_of_another_owner_fences(bench: Bench) -> None:
    """Snapshots expect their predecessor too: who finds another one there steps down."""
    partition = bench.partition(snapshot_interval_s=0.1)
    task = asyncio.create_task(partition.run())
    await live(partition)
    subject = subjects.snapshot(0, "acc_001")
    await publish_expected(bench.nc, "SNAPSHOTS", subject, b"{}", expected=0)
    await bench.publish(deposit(1))
    with pytest.raises(FencedError, match=f"another worker wrote {subject}"):
        await asyncio.wait_for(task, WAIT_S)
    last = await bench.publish(deposit(2))
    await bench.run_until(bench.partition(), last)
    await bench.judge()


async def test_checkpoint_of_another_owner_fences(bench: Bench) -> None:
    """The same for the checkpoint; the snapshots before it are good and stay."""
    partition = bench.partition(snapshot_interval_s=0.1)
    task = asyncio.create_task(partition.run())
    await live(partition)
    subject = subjects.checkpoint(0)
    await publish_expected(bench.nc, "SNAPSHOTS", subject, b"{}", expected=0)
    await bench.publish(deposit(1))
    with pytest.raises(FencedError, match="another worker wrote snapshots"):
        await asyncio.wait_for(task, WAIT_S)
    last = await bench.publish(deposit(2))
    await bench.run_until(bench.partition(), last)
    await bench.judge()


async def test_snapshots_wait_for_their_commit(bench: Bench) -> None:
    """Nothing is saved of a state whose commit is not acknowledged, nor of one refused."""
    log, store = bench.log(), FaultySnapshots(bench.nc, 0)
    log.gate.clear()
    loser = bench.partition(log=log, store=store, snapshot_interval_s=0.01)
    task = asyncio.create_task(loser.run())
    await live(loser)
    last = await bench.publish(deposit(1))
    await until(lambda: log.waiting, "the checkpoint's own commit is on its way")
    await asyncio.sleep(0.2)
    assert store.written == []
    await bench.run_until(bench.partition(), last)
    log.gate.set()
    with pytest.raises(FencedError):
        await asyncio.wait_for(task, WAIT_S)
    assert store.written == []


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "not_stored"])
@pytest.mark.parametrize("sized", [1, 3])
async def test_commit_without_an_answer_is_settled_by_the_cursor(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, stored: bool, sized: int
) -> None:
    """A reply that is lost, before or after the batch was stored, leaves one effect."""
    lost = 0

    async def publish(*args: Any, **more: Any) -> Any:
        nonlocal lost
        if lost < 3:
            lost += 1
            if stored and lost == 1:
                await publish_atomic_really(*args, **more)
            raise UnknownOutcomeError("the answer is lost")
        return await publish_atomic_really(*args, **more)

    last = await bench.publish(deposit(n) for n in range(1, sized + 1))
    for where in (committer, log_store):
        monkeypatch.setattr(where, "publish_atomic", publish)
    await bench.run_until(bench.partition(), last)
    assert lost == 3
    await bench.judge()


async def test_batch_that_arrives_late_is_the_same_batch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit given up as lost may be stored while it is sent again: it is recognised."""
    late: list[asyncio.Task[Any]] = []

    async def publish(*args: Any, **more: Any) -> Any:
        if not late:
            late.append(asyncio.create_task(publish_atomic_really(*args, **more)))
            raise UnknownOutcomeError("the answer is late")
        return await publish_atomic_really(*args, **more)

    last = await bench.publish(deposit(n) for n in range(1, 4))
    for where in (committer, log_store):
        monkeypatch.setattr(where, "publish_atomic", publish)
    await bench.run_until(bench.partition(), last)
    await asyncio.gather(*late, return_exceptions=True)
    await bench.judge()


async def test_snapshot_without_an_answer_is_settled_by_reading(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot whose acknowledgement was lost is there once, and its successor expects it."""
    lost = 0

    async def publish(*args: Any, **more: Any) -> Any:
        nonlocal lost
        answer = await publish_expected(*args, **more)
        if lost < 2:
            lost += 1
            raise UnknownOutcomeError("the answer is lost")
        return answer

    monkeypatch.setattr(log_store, "publish_expected", publish)
    last = await bench.publish(deposit(1))
    await bench.run_until(bench.partition(), last)
    assert lost == 2
    stored = await last_for(bench.nc, "SNAPSHOTS", "snapshots.>")
    assert stored is not None
    assert stored.sequence == 2, "one snapshot and one checkpoint"
    last = await bench.publish(deposit(2))
    await bench.run_until(bench.partition(), last)
    await bench.judge()


async def test_refused_for_a_write_in_flight_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10164 and 10176 say that nothing was stored: the same batch is sent again."""
    from psm.adapters.jetstream import BATCH_INCOMPLETE, WRITE_IN_FLIGHT
    from psm.adapters.jetstream.errors import api_error

    codes = [WRITE_IN_FLIGHT, BATCH_INCOMPLETE]

    async def publish(*args: Any, **more: Any) -> Any:
        if codes:
            raise api_error({"err_code": codes.pop(), "code": 400}, "commit")
        return await publish_atomic_really(*args, **more)

    for where in (committer, log_store):
        monkeypatch.setattr(where, "publish_atomic", publish)
    last = await bench.publish(trade(1, "buy", "1", "10"))
    await bench.run_until(bench.partition(), last)
    assert codes == []
    await bench.judge()


async def test_cursor_that_went_back_is_damage(bench: Bench) -> None:
    """A cursor behind the one that this worker wrote means that PSM lost what it acknowledged."""
    last = await bench.publish(deposit(1))
    await bench.run_until(bench.partition(), last)
    commit = Commit(cursor=Cursor(log_sequence=2), updates=(), traceparents={})
    with pytest.raises(LogDamagedError, match="cursor at PSM sequence 99 is gone"):
        await bench.log().commit(commit, 99)


async def test_fenced_worker_goes_on_when_the_other_is_gone(nats_url: str) -> None:
    """A worker that was fenced recovers afresh; nothing is lost when the other one stops."""
    async with open_bench(nats_url, partitions=2) as bench, bench.worker():
        nc = await connect(nats_url, name="second")
        try:
            other = Bench(nc, bench.settings)
            async with other.worker():
                await bench.publish(feed.traffic(8, accounts=6, events=60))
                await bench.judge()
        finally:
            await nc.close()
        await bench.publish(deposit(n, stream="later") for n in range(1, 11))
        await bench.judge()
