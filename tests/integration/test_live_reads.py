"""Live reads on a real broker: true to the log, through handovers, bounded and refused clearly."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support import feed
from tests.support.events import deposit, event, mark, trade
from tests.support.live import Given, answering, assert_folds
from tests.support.slots import slots_env
from tests.support.twins import FaultyLog
from tests.support.workbench import WAIT_S, Bench, end, open_bench, until, until_answer
from tests.support.worker_process import WorkerProcess

from psm.adapters.jetstream import connect
from psm.contracts.live import LiveQuestion, LiveRead
from psm.contracts.subjects import partition_of
from psm.workers.fleet import Holding, NatsMembers, live_reads, this_member
from psm.workers.fleet.live_reads import Owners
from psm.workers.fleet.worker import Worker
from psm.workers.partition.live_budget import LiveBudget
from psm.workers.partition.live_reads import LiveRefusedError

PARTITIONS = 4
ACCOUNTS = 12
READS: tuple[LiveRead, ...] = ("state", "positions", "margin", "orders")


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[Bench]:
    async with open_bench(nats_url, partitions=PARTITIONS) as opened:
        yield opened


def owners(bench: Bench) -> Owners:
    return Owners(bench.nc, NatsMembers(bench.nc), PARTITIONS)


def process(bench: Bench, folder: Path, **settings: object) -> WorkerProcess:
    slots = slots_env(bench.settings.valuation_slots)
    own = {"PSM_PARTITIONS": PARTITIONS, **slots, **settings}
    return WorkerProcess(bench.settings.nats_url, folder, **own)


@asynccontextmanager
async def owning(bench: Bench, **tuning: Any) -> AsyncIterator[Worker]:
    """Own all partitions in this process, as the fleet's table says; answer live reads."""
    async with bench.worker(**tuning) as worker, answering(bench.nc, worker, PARTITIONS):
        yield worker


async def refused(owner: Owners, question: LiveQuestion) -> LiveRefusedError:
    with pytest.raises(LiveRefusedError) as caught:
        await owner.ask(question)
    return caught.value


# --- what is answered -----------------------------------------------------------------------------


async def test_answers_are_the_fold_of_the_log(bench: Bench) -> None:
    """Every document of every account, while the log grows, is the fold's to the byte."""
    given: list[Given] = []
    async with owning(bench):
        owner = owners(bench)
        sent = feed.traffic(3, accounts=ACCOUNTS, events=600)
        for start in range(0, len(sent), 60):
            last = await bench.publish(sent[start : start + 60])
            for number, read in itertools.product(range(ACCOUNTS), READS):
                question = LiveQuestion(
                    account_id=feed.account(number), read=read, min_log_sequence=last // 2
                )
                try:
                    given.append(Given(question, await owner.ask(question)))
                except LiveRefusedError as error:
                    assert error.outcome == "unknown_account"  # noqa: PT017
    assert len(given) > 300
    await assert_folds(bench.nc, PARTITIONS, bench.settings.valuation_slots, given)


async def test_mark_is_seen_that_nothing_published(bench: Bench) -> None:
    """Between two slots the views stand still; a live read has the mark of a moment ago."""
    async with owning(bench):
        owner = owners(bench)
        await bench.publish(deposit(1, "1000", stream="a"), trade(2, "buy", "1", "100", stream="a"))
        seen = []
        for number in range(1, 4):
            last = await bench.publish(mark(number, str(100 + number)))
            question = LiveQuestion(account_id="a", min_log_sequence=last)
            body = json.loads(await owner.ask(question))
            assert body["as_of"]["log_sequence"] == last
            seen.append(body["equity"])
        assert seen == ["1001", "1002", "1003"]
        assert body["cause"] == "mark"


async def test_waits_for_versions_and_places(bench: Bench) -> None:
    """`min_sequence` and `min_log_sequence` wait; in time the answer is the first that has it."""
    async with owning(bench):
        owner = owners(bench)
        asked = [
            asyncio.create_task(owner.ask(question))
            for question in (
                LiveQuestion(account_id="a", min_sequence=2),
                LiveQuestion(account_id="a", min_log_sequence=2),
            )
        ]
        await bench.publish(deposit(1, stream="a"))
        last = await bench.publish(deposit(2, stream="a"))
        for body in await asyncio.gather(*asked):
            answer = json.loads(body)
            assert (answer["sequence_number"], answer["as_of"]["log_sequence"]) == (2, last)
            assert answer["cause"] == "event"
        late = await refused(owner, LiveQuestion(account_id="a", min_sequence=3, timeout_ms=100))
        assert (late.outcome, late.reached) == ("not_reached", 2)
        assert "version 2, not yet 3" in late.detail
        ahead = LiveQuestion(account_id="a", min_log_sequence=last + 1, timeout_ms=300)
        late = await refused(owner, ahead)
        assert f"at {last}, not yet at log sequence {last + 1}" in late.detail


async def test_as_of_of_one_account_holds_for_all(bench: Bench) -> None:
    """A quiet partition answers as of another one's place: nothing of its own lies before it."""
    first = "a"
    second = next(
        name
        for name in map(feed.account, range(100))
        if partition_of(name, PARTITIONS) != partition_of(first, PARTITIONS)
    )
    given = []
    async with owning(bench):
        owner = owners(bench)
        await bench.publish(deposit(1, stream=second))
        last = await bench.publish(deposit(n, stream=first) for n in range(1, 30))
        for name in (first, second, first, second):
            question = LiveQuestion(account_id=name, min_log_sequence=last)
            given.append(Given(question, await owner.ask(question)))
            assert given[-1].as_of.log_sequence == last
        assert json.loads(given[1].body)["cause"] == "mark"
    await assert_folds(bench.nc, PARTITIONS, bench.settings.valuation_slots, given)


async def test_evicted_accounts_are_read_where_they_are(bench: Bench) -> None:
    """An account that waits in its snapshot is answered for, and does not come back for it."""
    async with owning(bench, accounts_in_memory=0, snapshot_interval_s=0.01) as worker:
        await bench.publish(deposit(n, stream="a") for n in range(1, 4))
        numbers = itertools.count(1)

        async def idle() -> int:
            await bench.publish(deposit(next(numbers), stream="other"))
            return int(worker.readiness()[1]["accounts"])

        await until_answer(idle, lambda accounts: accounts == 0, "all are evicted")
        last = await bench.publish(mark(1, "5"))
        question = LiveQuestion(account_id="a", min_log_sequence=last)
        given = Given(question, await owners(bench).ask(question))
        assert json.loads(given.body)["cash"] == {"USDT": "3000"}
        assert worker.readiness()[1]["accounts"] == 0
    await assert_folds(bench.nc, PARTITIONS, bench.settings.valuation_slots, [given])


async def test_place_of_books_that_were_loaded_has_its_time(bench: Bench, tmp_path: Path) -> None:
    """After a start without a new message `as_of` names the last one and its log time."""
    async with owning(bench):
        question = LiveQuestion(account_id="a", min_log_sequence=1)
        await bench.publish(deposit(1, stream="a"))
        before = await owners(bench).ask(question)
    async with owning(bench):
        given = Given(question, await owners(bench).ask(question))
    assert given.body == before
    await assert_folds(bench.nc, PARTITIONS, bench.settings.valuation_slots, [given])


# --- handovers ------------------------------------------------------------------------------------


async def test_handovers_under_load_change_no_byte(bench: Bench, tmp_path: Path) -> None:
    """Workers come, leave and are killed: same `as_of`, same bytes; `as_of` never falls."""
    given: dict[tuple[str, LiveRead, int], set[bytes]] = defaultdict(set)
    outcomes: dict[str, int] = defaultdict(int)
    answers: list[Given] = []
    done = asyncio.Event()

    async def client(number: int) -> None:
        """Two look at the same accounts, each with the `as_of` of its own last answer."""
        owner, last = owners(bench), 0
        for turn in itertools.count():
            if done.is_set():
                return
            account_id, read = feed.account(turn % ACCOUNTS), READS[turn % 3]
            question = LiveQuestion(account_id=account_id, read=read, min_log_sequence=last)
            try:
                answer = Given(question, await owner.ask(question))
            except LiveRefusedError as error:
                outcomes[error.outcome] += 1
                continue
            place = answer.as_of.log_sequence
            assert place >= last, f"client {number}: {place} after {last}"
            last = place
            given[(account_id, read, place)].add(answer.body)
            answers.append(answer)
            outcomes["answered"] += 1

    async def load() -> None:
        owner = owners(bench)
        nc = await connect(bench.settings.nats_url, name="load")
        try:
            for n in range(ACCOUNTS):
                await feed.publish(nc, [deposit(1, "1000", stream=feed.account(n))])
            for number in itertools.count(2):
                if done.is_set():
                    return
                trades = [
                    trade(number, "buy", "1", "100", stream=feed.account(n))
                    for n in range(ACCOUNTS)
                ]
                last = await feed.publish(nc, [mark(number, str(90 + number % 20)), *trades])
                # No faster than it is folded, on however slow a machine.
                with contextlib.suppress(LiveRefusedError):
                    await owner.ask(LiveQuestion(account_id="a", min_log_sequence=last))
        finally:
            await nc.close()

    async def goes_on(what: str) -> None:
        """Wait for more answers; a client that failed ends the test with its reason."""
        enough = outcomes["answered"] + 40
        await until(
            lambda: outcomes["answered"] >= enough or any(task.done() for task in tasks),
            f"{what}: {dict(outcomes)}",
        )
        for task in tasks:
            if task.done():
                task.result()

    async with process(bench, tmp_path) as first:
        await first.ready(PARTITIONS)
        tasks = [asyncio.create_task(load()), *(asyncio.create_task(client(n)) for n in range(4))]
        try:
            await goes_on("the first answers")
            async with process(bench, tmp_path) as second:
                await second.ready(PARTITIONS // 2)
                await goes_on("both answer")
                first.terminate()
                assert await first.ended() == 0
                await second.ready(PARTITIONS)
                await goes_on("the second answers alone")
                async with process(bench, tmp_path) as third:
                    await third.ready(PARTITIONS // 2)
                    second.kill()
                    await third.ready(PARTITIONS)
                    await goes_on("the third answers alone")
                    done.set()
                    await asyncio.gather(*tasks)
        finally:
            await end(*tasks)
    assert set(outcomes) <= {"answered", "handover", "silent", "not_reached", "unknown_account"}
    assert all(len(bodies) == 1 for bodies in given.values())
    assert outcomes["answered"] > 120
    await assert_folds(bench.nc, PARTITIONS, bench.settings.valuation_slots, answers)


async def test_nobody_owns_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an owner, or with one that is gone, it is told after a bounded wait."""
    monkeypatch.setattr(live_reads, "OWNER_WAIT_S", 0.2)
    question = LiveQuestion(account_id="a")
    error = await refused(owners(bench), question)
    assert (error.outcome, error.detail) == (
        "handover",
        f"nobody has partition {partition_of('a', PARTITIONS)} now",
    )
    async with owning(bench):
        assert (await refused(owners(bench), question)).outcome == "unknown_account"
    error = await refused(owners(bench), question)
    assert error.outcome == "handover"
    assert "is not this worker's" in error.detail


async def test_frozen_owner_is_not_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that does not answer is named, in bounded time."""
    monkeypatch.setattr(live_reads, "_ANSWER_S", 0.2)
    monkeypatch.setattr(live_reads, "OWNER_WAIT_S", 0.2)
    me = this_member("1", None)
    holdings = tuple(Holding(partition=n, state="live") for n in range(PARTITIONS))
    await NatsMembers(bench.nc).put(msgspec.structs.replace(me, holdings=holdings))
    await bench.nc.subscribe(f"{live_reads.LIVE}.{me.id}")
    started = time.monotonic()
    error = await refused(owners(bench), LiveQuestion(account_id="a"))
    assert (error.outcome, error.detail) == ("silent", f"worker {me.id} does not answer")
    assert time.monotonic() - started < WAIT_S / 2


async def test_owner_that_hears_no_leader_refuses(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may be out of date is not given as now: refused once the leader is silent."""
    log: FaultyLog = bench.log(0)
    partition = bench.partition(0, log=log)
    name = next(n for n in map(feed.account, range(100)) if partition_of(n, PARTITIONS) == 0)
    question = LiveQuestion(account_id=name)
    async with bench.running(partition):
        last = await bench.publish(deposit(1, stream=name))
        await until(lambda: partition.stats.position >= last, "it is folded")
        assert json.loads(await partition.live(question))["sequence_number"] == 1
        monkeypatch.setattr(partition.stats, "answered_at", float("-inf"))
        with pytest.raises(LiveRefusedError, match="leader for 5 s") as caught:
            await partition.live(question)
        assert caught.value.outcome == "silent"
    with pytest.raises(LiveRefusedError, match="another worker") as caught:
        await partition.live(question)
    assert caught.value.outcome == "handover"


# --- limits ---------------------------------------------------------------------------------------


async def test_share_that_is_spent_is_told(bench: Bench) -> None:
    """Whoever asks without end is refused, and answered again when the share has grown."""
    async with owning(bench) as worker:
        owner, question = owners(bench), LiveQuestion(account_id="a", min_sequence=1)
        await bench.publish(deposit(1, stream="a"))
        await owner.ask(question)
        worker._live_budget.spend(0.6)
        error = await refused(owner, question)
        assert (error.outcome, error.detail) == (
            "busy",
            "live reads take more than their share of the worker",
        )

        async def again() -> str:
            try:
                await owner.ask(question)
            except LiveRefusedError as refusal:
                return refusal.outcome
            return "answered"

        await until_answer(again, lambda found: found == "answered", "the share has grown")


async def test_waiting_room_is_limited(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions about the future do not pile up."""
    async with owning(bench) as worker:
        budget: LiveBudget = worker._live_budget
        monkeypatch.setattr(budget, "waiting", 1000)
        error = await refused(owners(bench), LiveQuestion(account_id="a"))
        assert (error.outcome, error.detail) == ("busy", "1000 live reads wait here already")


async def test_large_documents_travel_compressed(bench: Bench) -> None:
    """A document that no message holds as it is reaches who asks whole."""
    orders = [
        {"order_id": f"o{n:04d}" + "x" * 120, "symbol": "S", "side": "buy", "type": "market"}
        for n in range(2200)
    ]
    async with owning(bench) as worker:
        sent = [
            event("OrderSubmitted", {**order, "quantity": "1"}, n, stream="a")
            for n, order in enumerate(orders, 1)
        ]
        last = await bench.publish(sent)
        own = partition_of("a", PARTITIONS)
        await until(lambda: worker.holdings()[own].position >= last, "all orders are folded")
        question = LiveQuestion(account_id="a", min_log_sequence=last)
        given = Given(question, await owners(bench).ask(question))
        assert len(given.body) > 1024 * 1024
        assert len(json.loads(given.body)["orders"]) == 2200
    await assert_folds(bench.nc, PARTITIONS, bench.settings.valuation_slots, [given])
