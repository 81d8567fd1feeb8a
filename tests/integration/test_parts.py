"""An input with more updates than one atomic batch takes: committed in parts, once each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.support import feed
from tests.support.events import deposit, mark
from tests.support.twins import CrashError, FaultySnapshots
from tests.support.workbench import WAIT_S, Bench, open_bench, until

from psm.adapters.jetstream import Outgoing, publish_atomic
from psm.contracts import subjects
from psm.contracts.errors import InvariantError
from psm.workers.log.cursor import dump_cursor
from psm.workers.partition.commit_queue import UPDATES_PER_COMMIT

HOLDERS = 400  # by one mark three updates of each: position, margin and state


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[Bench]:
    async with open_bench(nats_url) as opened:
        last = await opened.publish(feed.holders(HOLDERS))
        await opened.run_until(opened.partition(), last)
        yield opened


async def test_large_input_is_committed_in_parts(bench: Bench) -> None:
    """A mark that concerns 400 holders is two batches; only the last one moves the position."""
    log = bench.log()
    partition = bench.partition(log=log)
    async with bench.running(partition):
        last = await bench.publish(mark(1, "120"))
        await until(lambda: partition.stats.position == last, "the mark is folded")
    first, second, *_ = [commit.cursor for commit in log.commits if commit.updates]
    assert (first.log_sequence, first.part) == (last - 1, UPDATES_PER_COMMIT)
    assert (second.log_sequence, second.part, second.digest) == (last, 0, None)
    assert (await bench.judge()).parts == 1


@pytest.mark.parametrize("when", ["before_second", "after_first", "after_second"])
async def test_crash_between_the_parts_loses_and_doubles_nothing(bench: Bench, when: str) -> None:
    """Whoever comes next commits exactly the rest, and goes on."""
    last = await bench.publish(mark(1, "120"))
    log = bench.log()
    match when:
        case "before_second":
            log.crash_before = 2
        case "after_first":
            log.crash_after = 1
        case _:
            log.crash_after = 2
    with pytest.raises(CrashError):
        await asyncio.wait_for(bench.partition(log=log).run(), WAIT_S)
    assert (await bench.cursor()).part == (0 if when == "after_second" else UPDATES_PER_COMMIT)
    follower = bench.log()
    last = await bench.publish(mark(2, "90"), mark(3, "91"))
    await bench.run_until(bench.partition(log=follower), last)
    await bench.judge()


@pytest.mark.parametrize("saves", [False, True])
async def test_stop_between_the_parts_keeps_the_part(bench: Bench, saves: bool) -> None:
    """A worker that recovers in the middle of an input must not commit or save before its rest.

    A cursor with part 0 there would let the next owner publish the first part again.
    """
    last = await bench.publish(deposit(2, stream=feed.account(7)), mark(1, "120"))
    log = bench.log()
    log.crash_after = 2
    with pytest.raises(CrashError):
        await bench.partition(log=log).run()
    # This one recovers, but is not shown the mark before it is stopped.
    log, store = bench.log(), FaultySnapshots(bench.nc, 0)
    log.held_back = last - 1
    interval = 0.05 if saves else 3600.0  # the account of the deposit is not saved yet
    partition = bench.partition(log=log, store=store, snapshot_interval_s=interval, idle_s=0.1)
    async with bench.running(partition):
        await until(lambda: partition.stats.live, "the partition recovered")
        await asyncio.sleep(0.3)
    assert log.commits == []
    assert store.written == []
    assert (await bench.cursor()).part == UPDATES_PER_COMMIT
    await bench.run_until(bench.partition(), last)
    assert (await bench.judge()).parts == 1


async def test_part_that_is_not_what_was_committed_stops(bench: Bench) -> None:
    """The first updates of an input are compared with what an earlier owner committed of it."""
    await bench.publish(mark(1, "120"))
    log = bench.log()
    log.crash_after = 1
    with pytest.raises(CrashError):
        await bench.partition(log=log).run()
    (committed,) = log.commits
    forged = dump_cursor(
        type(committed.cursor)(
            log_sequence=committed.cursor.log_sequence,
            part=UPDATES_PER_COMMIT,
            digest="00" * 32,
            event_hash=committed.cursor.event_hash,
        )
    )
    subject = subjects.entrance(subjects.cursor(0))
    await publish_atomic(bench.nc, "PSM", [Outgoing(subject, forged)], batch_id="forged")
    with pytest.raises(InvariantError, match="its first 999 updates are not those"):
        await bench.partition().run()


async def test_snapshots_are_never_of_a_state_between_parts(bench: Bench) -> None:
    """A checkpoint that falls due while an input is committed in parts is of before or after."""
    log, store = bench.log(), FaultySnapshots(bench.nc, 0)
    partition = bench.partition(log=log, store=store, snapshot_interval_s=0.01)
    async with bench.running(partition):
        for number in range(1, 6):
            last = await bench.publish(mark(number, str(100 + number)))
            await asyncio.sleep(0.03)
        await until(lambda: partition.stats.position == last, "the marks are folded")
        await until(lambda: partition.stats.checkpoints >= 2, "checkpoints are written")
    assert (await bench.judge()).parts >= 5
    recovered = bench.log()
    await bench.run_until(bench.partition(log=recovered), last)
    assert recovered.delivered == []
