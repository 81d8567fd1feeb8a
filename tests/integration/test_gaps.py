"""Gaps, blocks and their release on a real broker, through restarts and hiding replicas."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest
from tests.support.events import (
    SYMBOL,
    Sent,
    changed,
    deposit,
    dismissed,
    envelope,
    instrument,
    mark,
    retried,
    rules,
    trade,
    unknown,
    voided,
)
from tests.support.twins import CrashError, FaultyLog
from tests.support.workbench import WAIT_S, Bench, open_bench, until

from psm.adapters.jetstream.pull import PullConsumer
from psm.contracts import codec
from psm.contracts.errors import InvariantError
from psm.domain.delivery.parked import PARKED_MAX
from psm.domain.messages import LogMessage
from psm.workers.fleet import worker as worker_module
from psm.workers.partition.hidden import HiddenMessageError


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[Bench]:
    async with open_bench(nats_url) as opened:
        yield opened


def deposits(first: int, last: int) -> list[Sent]:
    return [deposit(number) for number in range(first, last + 1)]


async def test_gap_closes_with_what_waited(bench: Bench) -> None:
    """Events beyond a gap wait; the missing one releases them, all at its log sequence."""
    log = bench.log()
    partition = bench.partition(log=log)
    async with bench.running(partition):
        await bench.publish(deposit(1), deposits(3, 6))
        await until(lambda: partition.stats.position == 5, "the events are parked")
        last = await bench.publish(deposit(2))
        await until(lambda: partition.stats.position == last, "the gap is closed")
        verdict = await bench.judge()
    assert verdict.outcomes == {"applied": 2, "parked": 4}
    assert log.histories == [("acc_001", 2, 5)]
    released = verdict.payloads("StateUpdated")[1:]
    assert [p["sequence_number"] for p in released] == [2, 3, 4, 5, 6]
    assert {p["log_sequence"] for p in released} == {last}
    (blocked,) = verdict.payloads("StreamBlocked")
    (resumed,) = verdict.payloads("StreamResumed")
    assert (blocked["reason"], resumed["to_sequence"]) == ("sequence_gap", 6)


@pytest.mark.parametrize("clean", [True, False], ids=["stopped", "crashed"])
async def test_restart_in_the_middle_of_a_gap(bench: Bench, clean: bool) -> None:
    """What is parked is still parked after a restart, from the snapshot or from the log."""
    last = await bench.publish(deposit(1), deposits(3, 5))
    partition = bench.partition()
    if clean:
        await bench.run_until(partition, last)
    else:
        async with bench.crashing(partition):
            await bench.judge()
    last = await bench.publish(deposit(2))
    await bench.run_until(bench.partition(), last)
    verdict = await bench.judge()
    assert verdict.books[0].accounts["acc_001"].delivery.version == 5


async def test_overflowing_gap_blocks_and_releases_everything(bench: Bench) -> None:
    """The 1 001st waiting event blocks the stream; the missing number releases all, in parts."""
    waiting = PARKED_MAX + 5
    log = bench.log()
    partition = bench.partition(log=log)
    async with bench.running(partition):
        await bench.publish(deposit(1), deposits(3, 2 + waiting), deposit(1, stream="other"))
        last = await bench.publish(deposit(2), deposit(3 + waiting), deposit(2, stream="other"))
        await until(lambda: partition.stats.position == last, "everything is folded")
        verdict = await bench.judge()
    reasons = [payload["reason"] for payload in verdict.payloads("StreamBlocked")]
    assert reasons == ["sequence_gap", "gap_overflow"]
    assert verdict.outcomes["held"] == 4
    assert verdict.books[0].accounts["acc_001"].delivery.version == 3 + waiting
    assert verdict.books[0].accounts["other"].delivery.version == 2
    assert verdict.parts > 0, "the release is one input with more than 999 updates"


async def test_crash_in_the_middle_of_a_large_release(bench: Bench) -> None:
    """A release that was committed in part goes on after a restart in the middle of it."""
    await bench.publish(deposit(1), deposits(3, 802))
    last = await bench.publish(deposit(2))
    log = bench.log()
    log.crash_after_part = True
    with pytest.raises(CrashError):
        await bench.partition(log=log).run()
    assert (await bench.cursor()).part > 0
    await bench.run_until(bench.partition(), last)
    assert (await bench.judge()).parts > 0


async def test_hidden_event_is_found_before_its_follower_is_parked(bench: Bench) -> None:
    """A gap that only this consumer sees is no gap: the leader has the event, so read again."""
    log = bench.log()
    log.hidden[2] = 1
    last = await bench.publish(deposits(1, 4))
    with pytest.raises(HiddenMessageError, match="acc_001: log sequence 2 was not delivered"):
        await bench.partition(log=log).run()
    assert log.hits == 1
    await bench.run_until(bench.partition(), last)
    verdict = await bench.judge()
    assert verdict.outcomes == {"applied": 4}
    assert verdict.payloads("StreamBlocked") == []


async def test_hidden_first_event_of_an_account_is_found(bench: Bench) -> None:
    """The same for an account that was never seen; junk on its subject is no event."""
    junk = Sent(subject="trades.acc_001", data=b"junk")
    log = bench.log()
    log.hidden[2] = 1
    await bench.publish(junk, deposits(1, 2))
    with pytest.raises(HiddenMessageError, match="log sequence 2"):
        await bench.partition(log=log).run()


async def test_junk_in_a_gap_is_not_taken_for_a_hidden_event(bench: Bench) -> None:
    """A message that is no event and was not delivered either explains no gap."""
    log = bench.log()
    log.hidden[2] = 1
    last = await bench.publish(deposit(1), Sent(subject="trades.acc_001", data=b"junk"), deposit(3))
    partition = bench.partition(log=log)
    async with bench.running(partition):
        await until(lambda: partition.stats.position == last, "the event is parked")
    assert log.hits == 1


TABLES = {
    "mark": (mark(1, "100"), mark(2, "110"), mark(3, "120")),
    "instrument": tuple(instrument(number, margin_tiers=[]) for number in (1, 2, 3)),
    "rules": tuple(rules(number=number) for number in (1, 2, 3)),
}


@pytest.mark.parametrize("kind", TABLES)
async def test_hidden_table_message_is_found_before_its_follower_is_committed(
    bench: Bench, kind: str
) -> None:
    """A mark that only this consumer misses would make another state; so with definitions."""
    log = bench.log()
    log.hidden[3] = 1
    last = await bench.publish(deposit(1), *TABLES[kind], deposit(2))
    subject = TABLES[kind][0].subject
    with pytest.raises(HiddenMessageError, match=f"{subject}: log sequence 3 was not delivered"):
        await bench.partition(log=log).run()
    assert log.hits == 1
    assert all(commit.cursor.log_sequence < 4 for commit in log.commits)
    await bench.run_until(bench.partition(), last)
    assert (await bench.judge()).outcomes == {"applied": 5}


async def test_hidden_mark_is_found_behind_one_that_was_refused(bench: Bench) -> None:
    """What was seen and had no effect neither explains a gap nor is taken for hidden."""
    wrong = changed(mark(3, "110"), payload={"symbol": SYMBOL, "price": "-1"})
    junk = Sent(subject=f"marks.{SYMBOL}", data=b"junk")
    marks = [
        mark(1, "100"),
        mark(2, "105"),
        wrong,
        junk,
        mark(1, "1"),
        mark(7, "120"),
        mark(9, "1"),
    ]
    log = bench.log()
    log.hidden[2] = 1
    last = await bench.publish(*marks)
    with pytest.raises(HiddenMessageError, match="log sequence 2 was not delivered"):
        await bench.partition(log=log).run()
    await bench.run_until(bench.partition(), last)
    outcomes = (await bench.judge()).outcomes
    assert (outcomes["applied"], outcomes["refused"], outcomes["stale"]) == (4, 1, 1)


async def test_hidden_mark_is_found_after_a_restart(bench: Bench) -> None:
    """The number before it comes from the checkpoint then."""
    first = await bench.publish(mark(1, "100"))
    await bench.run_until(bench.partition(), first)
    log = bench.log()
    log.hidden[first + 1] = 1
    await bench.publish(mark(2, "110"), mark(3, "120"))
    with pytest.raises(HiddenMessageError, match=f"log sequence {first + 1} was not delivered"):
        await bench.partition(log=log).run()


WAITING = {
    "blocked": (unknown(2), dismissed(2, salt="a"), deposit(3)),
    "gap": (deposit(3), voided(2, 2, salt="a"), deposit(4)),
}


@pytest.mark.parametrize("kind", WAITING)
async def test_hidden_operator_event_is_found_at_the_streams_next_message(
    bench: Bench, kind: str
) -> None:
    """It has no number that could be missing; without it the next event would wait."""
    log = bench.log()
    log.hidden[3] = 1
    last = await bench.publish(deposit(1), *WAITING[kind])
    with pytest.raises(HiddenMessageError, match="acc_001: log sequence 3 was not delivered"):
        await bench.partition(log=log).run()
    assert all(commit.cursor.log_sequence < 4 for commit in log.commits)
    await bench.run_until(bench.partition(), last)
    verdict = await bench.judge()
    assert verdict.books[0].accounts["acc_001"].delivery.status == "open"


UNNUMBERED = {
    "repair": retried(salt="in vain"),
    "rules": rules(),
    "log": Sent(
        subject="control.log",
        data=codec.encode(envelope("LogRestored", {"through": 1}, None, stream="log")),
    ),
}


@pytest.mark.parametrize("kind", UNNUMBERED)
async def test_hidden_unnumbered_event_is_found_within_a_second(bench: Bench, kind: str) -> None:
    """Where no later message tells of it, the leader's list does."""
    log = bench.log()
    log.hidden[2] = 1
    last = await bench.publish(deposit(1), UNNUMBERED[kind], deposit(2))
    with pytest.raises(HiddenMessageError, match="log sequence 2 was not delivered"):
        await asyncio.wait_for(bench.partition(log=log).run(), WAIT_S)
    await bench.run_until(bench.partition(), last)


@pytest.mark.parametrize("kind", ["rules", "log"])
async def test_hidden_control_message_is_found_at_the_next_one(bench: Bench, kind: str) -> None:
    """Before its effect is committed, also where neither has a number."""
    log = bench.log()
    log.hidden[2] = 1
    again = changed(UNNUMBERED[kind], event_id=str(uuid.uuid4()))
    last = await bench.publish(deposit(1), UNNUMBERED[kind], again)
    with pytest.raises(HiddenMessageError, match=r"control\.\w+: log sequence 2"):
        await bench.partition(log=log).run()
    assert all(commit.cursor.log_sequence < 3 for commit in log.commits)
    await bench.run_until(bench.partition(), last)


async def test_unnumbered_events_that_were_shown_are_no_alarm(bench: Bench) -> None:
    """Repairs, rules, junk among them, over looks of the leader and a restart."""
    junk = Sent(subject="control.log", data=b"junk")
    sent = [deposit(1), unknown(2), *UNNUMBERED.values(), junk, dismissed(2), deposit(3)]
    await compared(bench, await bench.publish(*sent))
    await compared(bench, await bench.publish(retried(salt="again"), deposit(4)))


async def compared(bench: Bench, last: int) -> None:
    """Run a partition until it asked the leader about everything up to a log sequence."""
    partition = bench.partition()
    async with bench.running(partition):
        await until(lambda: partition._hidden._compared >= last, "the leader was asked")


async def test_worker_starts_over_when_an_event_was_hidden(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs nobody: the partition is read again, and the account goes on without a gap."""
    logs: list[FaultyLog] = []

    def hiding(nc: object, partition: int, on_reset: object, committer: object) -> FaultyLog:
        logs.append(bench.log(partition))
        if len(logs) == 1:
            logs[0].hidden[3] = 1
        return logs[-1]

    monkeypatch.setattr(worker_module, "JetStreamLog", hiding)
    async with bench.worker():
        await bench.publish(deposits(1, 6))
        verdict = await bench.judge()
    assert [log.hits for log in logs] == [1, 0]
    assert verdict.payloads("StreamBlocked") == []


async def test_released_events_are_read_from_the_leader(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a consumer hides must not be missing from a release: single reads do not hide it."""
    await bench.publish(deposit(1), deposits(3, 6))

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a consumer was opened")

    partition = bench.partition()
    async with bench.running(partition):
        await until(lambda: partition.stats.position == 5, "the events are parked")
        with monkeypatch.context() as patched:
            patched.setattr(PullConsumer, "open", refused)
            last = await bench.publish(deposit(2))
            await until(lambda: partition.stats.position == last, "the gap is closed")
    await bench.judge()


async def test_released_event_with_other_bytes_stops(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that is not what was parked is never applied."""
    log = bench.log()
    real = log.history

    async def changed(stream_id: str, first: int, last: int) -> dict[int, LogMessage]:
        found = await real(stream_id, first, last)
        found[3] = found[2]
        return found

    monkeypatch.setattr(log, "history", changed)
    await bench.publish(deposit(1), deposits(3, 6), deposit(2))
    with pytest.raises(InvariantError, match="the waiting message 3 is missing or has other bytes"):
        await bench.partition(log=log).run()


async def test_blocked_stream_leaves_the_others_running(bench: Bench) -> None:
    """An event of an unknown type stops its own stream; later events of it are held."""
    async with bench.worker():
        await bench.publish(
            trade(1, "buy", "1", "100"),
            unknown(2),
            trade(3, "sell", "1", "100"),
            *(deposit(n, stream="other") for n in range(1, 6)),
        )
        verdict = await bench.judge()
    accounts = verdict.books[0].accounts
    assert (accounts["acc_001"].delivery.version, accounts["other"].delivery.version) == (1, 5)
    assert verdict.outcomes["held"] == 1
