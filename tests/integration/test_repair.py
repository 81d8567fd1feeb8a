"""Operator events on real servers: blocked streams go on, whatever restarts or dies meanwhile."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.domain import given
from tests.support.events import (
    Sent,
    deposit,
    dismissed,
    event,
    retried,
    rules,
    unknown,
    voided,
)
from tests.support.workbench import Bench, open_bench, until
from tests.support.worker_process import WorkerProcess

from psm.adapters.jetstream import StoredMessage
from psm.contracts import registry
from psm.contracts.publisher import Publisher
from psm.domain.folding import table_events as table_fold
from psm.domain.market.slots import ValuationSlots
from psm.workers.log.reader import read_stored
from psm.workers.partition import jetstream as log_store

HELD = 10_000
NEW = "InterestAccrued"
"""Stands for an event type that only rules 2 know."""


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[Bench]:
    async with open_bench(nats_url) as opened:
        yield opened


def deposits(first: int, last: int) -> list[Sent]:
    return [deposit(number, "1") for number in range(first, last + 1)]


TROUBLES: dict[str, tuple[list[Sent], Sent, str]] = {
    "dismissed": ([deposit(1), unknown(2), *deposits(3, 6)], dismissed(2), "applied"),
    "voided": ([deposit(1), *deposits(4, 6)], voided(2, 3), "applied"),
    "retried": ([deposit(1), unknown(2), *deposits(3, 6)], retried(), "blocked"),
}
each_trouble = pytest.mark.parametrize("trouble", TROUBLES)


@each_trouble
@pytest.mark.parametrize("clean", [True, False], ids=["stopped", "crashed"])
async def test_repair_after_a_restart(bench: Bench, trouble: str, clean: bool) -> None:
    """A worker that starts from a snapshot, or from the log, repairs what an earlier one left."""
    before, operate, outcome = TROUBLES[trouble]
    last = await bench.publish(before)
    if clean:
        await bench.run_until(bench.partition(), last)
    else:
        async with bench.crashing(bench.partition()):
            await bench.judge()
    last = await bench.publish(operate, operate)
    await bench.run_until(bench.partition(), last)
    verdict = await bench.judge()
    assert verdict.outcomes["duplicate"] == 1
    assert verdict.books[0].accounts["acc_001"].delivery.version == (
        6 if outcome == "applied" else 1
    )
    resumed = [p["to_sequence"] for p in verdict.payloads("StreamResumed")]
    assert resumed == ([6] if outcome == "applied" else [])
    await bench.run_until(bench.partition(), last)
    assert (await bench.judge()).count == verdict.count, "a restart repeats nothing"


async def test_numbers_go_on_after_repairs(bench: Bench) -> None:
    """A producer that lets its numbers be assigned goes on behind what operators declared."""
    async with bench.worker():
        await bench.publish(deposit(1), unknown(2), deposit(5), dismissed(2), voided(3, 4))
        publisher = Publisher(bench.nc)
        body = deposit(6, sequence_number=None).data
        appended = await publisher.append(body)
        assert appended.sequence_number == 6
        verdict = await bench.judge()
    assert verdict.books[0].accounts["acc_001"].delivery.version == 6
    assert verdict.books[0].accounts["acc_001"].delivery.status == "open"


async def test_new_rules_release_streams_from_the_log(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One message resumes several streams; a restart in front of it changes nothing."""
    monkeypatch.setattr(registry, "_account_codecs", {})  # what it found before
    monkeypatch.setitem(registry._FROM_RULES, (NEW, 1), 2)
    monkeypatch.setattr(table_fold, "RULES_VERSION", 2)
    streams = ["a", "b", "c"]
    before = [
        sent
        for s in streams
        for sent in (
            deposit(1, stream=s),
            event(NEW, {"amount": "3"}, 2, stream=s),
            deposit(3, stream=s),
        )
    ]
    last = await bench.publish(before, unknown(1))
    await bench.run_until(bench.partition(), last)
    last = await bench.publish(rules(2), event(NEW, {"amount": "4"}, 4, stream="b"))
    log = bench.log()
    await bench.run_until(bench.partition(log=log), last)
    verdict = await bench.judge()
    assert [stream for stream, *_ in log.histories] == streams
    accounts = verdict.books[0].accounts
    assert [accounts[s].delivery.version for s in streams] == [3, 4, 3]
    assert accounts["acc_001"].delivery.status == "blocked"
    last = await bench.publish(event(NEW, {"amount": "5"}, 4, stream="c"))
    await bench.run_until(bench.partition(), last)  # the rules are in the checkpoint too
    assert (await bench.judge()).books[0].accounts["c"].delivery.version == 4


async def test_what_a_consumer_hides_is_in_the_release(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Places are taken from a consumer, messages from the leader: none is missing."""
    real, hidden = read_stored, 0

    async def hiding(*args: object, **more: object) -> AsyncIterator[list[StoredMessage]]:
        nonlocal hidden
        async for batch in real(*args, **more):  # type: ignore[arg-type]
            shown = [message for message in batch if message.sequence % 7]
            hidden += len(batch) - len(shown)
            yield shown

    monkeypatch.setattr(log_store, "read_stored", hiding)
    last = await bench.publish(deposit(1), unknown(2), deposits(3, 300), dismissed(2))
    partition = bench.partition()
    await bench.run_until(partition, last)
    assert hidden > 20
    assert (await bench.judge()).books[0].accounts["acc_001"].delivery.version == 300


@pytest.mark.timeout(240)
async def test_ten_thousand_held_and_a_kill_in_the_middle(nats_url: str, tmp_path: Path) -> None:
    """The real worker dies between two parts of the release; the next one goes on from there."""
    rest = deposits(3, 2 + HELD)
    own = {"PSM_PARTITIONS": 1}
    async with open_bench(nats_url, slots=ValuationSlots()) as bench:
        await bench.publish(deposit(1), unknown(2), rest, deposit(1, stream="other"))
        last = await bench.publish(dismissed(2), deposit(2, stream="other"))
        async with WorkerProcess(
            nats_url, tmp_path, **own, PSM_CRASH_POINT="worker.after_commit:5"
        ) as worker:
            assert await worker.ended(120) == -signal.SIGKILL, worker.text
        assert (await bench.cursor()).part > 0, "it did not die in the middle of the release"
        async with WorkerProcess(nats_url, tmp_path, **own) as worker:
            await worker.ready(1)
            for _ in range(600):
                if (await bench.cursor()).log_sequence >= last:
                    break
                await asyncio.sleep(0.1)
            verdict = await bench.judge(timeout_s=120)
            assert worker.returncode is None
    account = verdict.books[0].accounts["acc_001"]
    assert (account.delivery.version, account.delivery.status) == (2 + HELD, "open")
    assert verdict.parts > 5
    assert verdict.outcomes["held"] == HELD
    twin = given(deposit(1), deposit(2, "-1"), *rest)
    assert account.ledger_hash() == twin.account().ledger_hash()


async def test_repair_leaves_other_streams_running(bench: Bench) -> None:
    """While one stream is blocked and repaired, the others are folded as they come."""
    async with bench.worker() as worker:
        for number in range(1, 30):
            await bench.publish(deposit(number, stream="other"), unknown(number, stream="sick"))
        last = await bench.publish(dismissed(2, stream="sick"))
        await until(lambda: worker.readiness()[0], "the worker is ready")
        verdict = await bench.judge()
        assert last == 59
    accounts = verdict.books[0].accounts
    assert (accounts["other"].delivery.version, accounts["other"].delivery.status) == (29, "open")
    assert (accounts["sick"].delivery.version, accounts["sick"].delivery.status) == (1, "blocked")
