"""The risk feed on a real broker: nothing is offered that the log does not hold."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from tests.integration.test_live_reads import owning, process
from tests.support import feed
from tests.support.events import Sent, deposit, mark, trade
from tests.support.risk_follower import (
    Follower,
    Session,
    assert_offered,
    following,
    inputs_of,
    last_inputs,
    read_line,
)
from tests.support.tcp_proxy import Change, Direction, TcpProxy, proxied
from tests.support.twins import FaultyLog
from tests.support.workbench import Bench, end, open_bench, until, until_answer

from psm.adapters.embedded import EmbeddedNats
from psm.adapters.jetstream import OrderedReader, StoredMessage
from psm.workers.fleet import worker as worker_module
from psm.workers.risk import accounts as accounts_module
from psm.workers.risk.accounts import STALL_S
from psm.workers.risk.missed import MISSED_MAX, AskLive, read_missed

PARTITIONS = 4
ACCOUNTS = [feed.account(number) for number in range(12)]


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[Bench]:
    async with open_bench(nats_url, partitions=PARTITIONS) as opened:
        yield opened


async def settled(bench: Bench, follower: Follower) -> int:
    """Wait until all is published and known again; return how many states were compared."""
    await bench.judge()
    inputs = await inputs_of(bench.nc, bench.settings)
    await follower.reaches({n: at for n, at in last_inputs(inputs).items() if n in ACCOUNTS})
    return await assert_offered(bench.nc, bench.settings, follower.sessions, inputs)


def parts_of(sent: list[Sent], count: int) -> Iterator[list[Sent]]:
    """Return messages in lists of so many, so that there is something in between."""
    return (sent[start : start + count] for start in range(0, len(sent), count))


class Faults:
    """Loses, doubles and swaps republished updates on their way down.

    Attributes:
        fired: how often each fault was done.
    """

    def __init__(self, seed: int, share: float) -> None:
        self.fired: Counter[str] = Counter()
        self._dice, self._share = random.Random(seed), share
        self._held: list[bytes] = []

    def __call__(self, direction: Direction, frame: bytes) -> list[bytes]:
        if direction == "up":
            return [frame]
        if not _is_update(frame):
            held, self._held = self._held, []
            return [*held, frame]
        if self._held:  # the one before comes behind this one
            held, self._held = self._held, []
            return [frame, *held]
        if self._dice.random() >= self._share:
            return [frame]
        fault = self._dice.choice(["lost", "repeated", "reordered"])
        self.fired[fault] += 1
        if fault == "reordered":
            self._held = [frame]
            return []
        return [] if fault == "lost" else [frame, frame]


class Deaf:
    """Loses all republished updates while it is on."""

    def __init__(self) -> None:
        self.on = False

    def __call__(self, direction: Direction, frame: bytes) -> list[bytes]:
        return [] if self.on and direction == "down" and _is_update(frame) else [frame]


def _is_update(frame: bytes) -> bool:
    return frame.startswith(b"HMSG psm.") and b"Psm-Position" in frame


@asynccontextmanager
async def behind(
    bench: Bench, change: Change | None = None, **more: Any
) -> AsyncIterator[tuple[Follower, TcpProxy]]:
    """Follow all accounts through a proxy."""
    url = bench.settings.nats_url
    async with proxied(url, frames=True) as proxy:
        proxy.change = change
        through = f"nats://127.0.0.1:{proxy.port}"
        async with following(through, PARTITIONS, ACCOUNTS, **more) as follower:
            yield follower, proxy


# --- copies that are lost, doubled, late ----------------------------------------------------------


async def test_nothing_lost_needs_no_repair(bench: Bench) -> None:
    """Each account enters once, then comes input by input; accounts of nobody do not come."""
    async with owning(bench), following(bench.settings.nats_url, PARTITIONS, ACCOUNTS) as follower:
        for part in parts_of(feed.traffic(1, accounts=len(ACCOUNTS) + 3, events=600), 10):
            await bench.publish(part)
        assert await settled(bench, follower) > 50
        assert follower.counted["Entered"] == len(ACCOUNTS)
        assert "Lost" not in follower.counted
        assert sorted(follower.at) == ACCOUNTS


@pytest.mark.parametrize("seed", [1, 2])
async def test_lost_repeated_and_reordered_copies(bench: Bench, seed: int) -> None:
    """A tenth of what is republished is tampered with; the feed notices and repairs all of it."""
    faults = Faults(seed, 0.1)
    async with owning(bench), behind(bench, faults) as (follower, _):
        for part in parts_of(feed.traffic(seed, accounts=len(ACCOUNTS), events=900), 20):
            await bench.publish(part)
        compared = await settled(bench, follower)
    assert min(faults.fired[name] for name in ("lost", "repeated", "reordered")) >= 5
    assert follower.counted["Lost"] >= 5
    assert follower.counted["Regained"] >= 5
    assert compared > 50


async def test_a_loss_at_the_end_is_found_by_comparing(bench: Bench) -> None:
    """No update follows that could tell: the leader has a newer one than was heard."""
    deaf = Deaf()
    async with owning(bench), behind(bench, deaf) as (follower, _):
        await bench.publish(deposit(1, stream=name) for name in ACCOUNTS)
        await settled(bench, follower)
        deaf.on = True
        await bench.publish(deposit(2, stream=name) for name in ACCOUNTS)
        await settled(bench, follower)
        assert follower.counted["Lost"] == len(ACCOUNTS)
        assert follower.counted["Entered"] == len(ACCOUNTS), "repaired input by input"


async def test_old_copies_said_again_change_nothing(bench: Bench) -> None:
    """Whoever may publish there repeats them long after, in any order."""
    heard: list[Msg] = []

    async def keep(message: Msg) -> None:
        heard.append(message)

    async with owning(bench), following(bench.settings.nats_url, PARTITIONS, ACCOUNTS) as follower:
        await bench.nc.subscribe("psm.*.*", cb=keep)
        sent = feed.traffic(3, accounts=len(ACCOUNTS), events=300, trouble=False)
        await bench.publish(sent[:100])
        await settled(bench, follower)
        await bench.publish(sent[100:])
        await settled(bench, follower)
        before = {name: follower.document(name) for name in ACCOUNTS}
        counted = dict(follower.counted)
        again = [one for one in heard if "Psm-Position" in (one.headers or {})]
        random.Random(1).shuffle(again)
        for message in again:
            await bench.nc.publish(message.subject, message.data, headers=message.headers)
        await bench.publish(deposit(1, stream=ACCOUNTS[0] + "x"))
        await settled(bench, follower)
        assert len(again) > 300
        assert {name: follower.document(name) for name in ACCOUNTS} == before
        assert follower.counted.get("Lost") == counted.get("Lost")
        assert follower.counted["FeedInput"] == counted["FeedInput"]


# --- connections, slow readers, memory ------------------------------------------------------------


async def test_a_broken_connection_makes_all_unknown(bench: Bench) -> None:
    """Until each was compared with the leader; what was published meanwhile is read."""
    async with owning(bench), behind(bench) as (follower, proxy):
        await bench.publish(deposit(1, stream=name) for name in ACCOUNTS)
        await settled(bench, follower)
        proxy.refuse(refuses=True)
        assert proxy.cut() >= 1
        await until(lambda: not follower.known, "nothing is known")
        await bench.publish(deposit(2, stream=name) for name in ACCOUNTS[:6])
        await bench.judge()
        assert not follower.known
        proxy.refuse(refuses=False)
        await settled(bench, follower)
        assert follower.counted["Regained"] >= len(ACCOUNTS)
        assert follower.counted["Entered"] == len(ACCOUNTS)


async def test_what_was_read_before_another_loss_does_not_count(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repair is on its way when the connection breaks again, and an update is lost in between."""
    name, gate, reads = ACCOUNTS[0], asyncio.Event(), Counter[str]()
    gate.set()

    async def slow(nc: Client, live: AskLive, one: str, known: tuple[int, int] | None) -> object:
        found = await read_missed(nc, live, one, known)
        reads[one] += 1
        if one == name:
            await gate.wait()
        return found

    monkeypatch.setattr(accounts_module, "read_missed", slow)
    deaf = Deaf()
    async with owning(bench), behind(bench, deaf, compare_s=3600.0) as (follower, proxy):
        await bench.publish(deposit(1, stream=name))
        await until(lambda: name in follower.known, "it is known")
        gate.clear()
        before = reads[name]
        proxy.cut()
        await until(lambda: reads[name] > before, "it is read again")
        deaf.on = True
        await bench.publish(deposit(2, stream=name))
        await bench.judge()
        losses = follower.feed.accounts._followed[name].losses
        proxy.cut()
        await until(lambda: follower.feed.accounts._followed[name].losses > losses, "lost again")
        deaf.on = False
        gate.set()
        await until(lambda: follower.regained, "it is known again")
    assert follower.regained == [(name, 2)]


async def test_who_stood_still_knows_nothing(bench: Bench) -> None:
    """However whole its connection is: first each account is compared with the leader."""
    now = 0.0
    async with (
        owning(bench),
        following(
            bench.settings.nats_url, PARTITIONS, ACCOUNTS, compare_s=3600.0, clock=lambda: now
        ) as follower,
    ):
        await bench.publish(deposit(1, stream=name) for name in ACCOUNTS)
        await settled(bench, follower)
        now += STALL_S + 1
        await until(lambda: follower.counted.get("Lost") == len(ACCOUNTS), "nothing is known")
        await settled(bench, follower)
        assert follower.counted["Regained"] == len(ACCOUNTS)
        assert follower.counted["Entered"] == len(ACCOUNTS)


async def test_a_buffer_that_overflows(bench: Bench) -> None:
    """The loop computes for long; what does not fit is dropped, counted, and read from PSM."""
    async with (
        owning(bench),
        following(bench.settings.nats_url, PARTITIONS, ACCOUNTS, heard_max=40) as follower,
    ):
        await bench.publish(deposit(1, stream=name) for name in ACCOUNTS)
        await settled(bench, follower)
        follower.gate.clear()
        accounts = follower.feed.accounts
        await bench.publish(feed.traffic(4, accounts=len(ACCOUNTS), events=500, trouble=False))
        await bench.judge()
        await until(lambda: accounts.dropped > 100, "there was no room")
        follower.gate.set()
        await settled(bench, follower)
    assert accounts.lost >= len(ACCOUNTS)
    assert accounts.repaired >= len(ACCOUNTS)


async def test_more_than_is_read_one_by_one(bench: Bench) -> None:
    """Then the account is read as a whole, once."""
    deaf = Deaf()
    name, many = ACCOUNTS[0], MISSED_MAX // 2 + 100
    async with owning(bench), behind(bench, deaf, compare_s=3600.0) as (follower, _):
        await bench.publish(deposit(1, stream=name))
        await settled(bench, follower)
        deaf.on = True
        await bench.publish(deposit(number, stream=name) for number in range(2, many))
        await bench.judge()
        deaf.on = False
        await bench.publish(deposit(many, stream=name))
        await settled(bench, follower)
    assert follower.counted["Entered"] == 2
    assert follower.sessions[-1].log_sequence >= many - 1


async def test_members_change(bench: Bench) -> None:
    """Of who leaves nothing comes any more; who comes enters as of now."""
    async with owning(bench), following(bench.settings.nats_url, PARTITIONS, ACCOUNTS[:2]) as one:
        await bench.publish(deposit(1, stream=name) for name in ACCOUNTS[:3])
        await until(lambda: len(one.known) == 2, "both entered")
        one.feed.follow(ACCOUNTS[1:4])
        await bench.publish(deposit(2, stream=name) for name in ACCOUNTS[:3])
        await bench.judge()
        await until(lambda: one.at.get(ACCOUNTS[2], 0) >= 6, "the new one follows")
        assert (one.at[ACCOUNTS[0]], one.feed.is_known(ACCOUNTS[0])) == (1, False)
        assert not one.feed.is_known(ACCOUNTS[3]), "nobody knows it"
        one.feed.follow([*ACCOUNTS[1:4], "*", "a.b", ">"])
        await bench.publish(deposit(1, stream=ACCOUNTS[3]))
        await until(lambda: ACCOUNTS[3] in one.known, "its first event makes it known")


# --- the partition's worker -----------------------------------------------------------------------


async def test_a_takeover_under_load(bench: Bench, tmp_path: Path) -> None:
    """The owner is killed, another one goes on; the feed follows, and loses a tenth of it."""
    faults, done = Faults(5, 0.1), asyncio.Event()

    async def load() -> None:
        for number in itertools.count(1):
            if done.is_set():
                return
            await bench.publish(
                mark(number, str(90 + number % 20)),
                [deposit(number, "1000", stream=name) for name in ACCOUNTS]
                if number == 1
                else [trade(number, "buy", "1", "100", stream=name) for name in ACCOUNTS],
            )
            await asyncio.sleep(0.02)

    async with process(bench, tmp_path) as first, behind(bench, faults) as (follower, _):
        await first.ready(PARTITIONS)
        task = asyncio.create_task(load())
        try:
            await until(lambda: len(follower.known) == len(ACCOUNTS), "all are known")
            async with process(bench, tmp_path) as second:
                await second.ready(PARTITIONS // 2)
                first.kill()
                await second.ready(PARTITIONS)
                heard = follower.counted["FeedInput"]
                await until(lambda: follower.counted["FeedInput"] > heard + 200, "it goes on")
                done.set()
                await asyncio.wait_for(task, 60)
                assert await settled(bench, follower) > 200
        finally:
            await end(task)
    assert follower.counted["Lost"] >= 3
    assert sum(faults.fired.values()) >= 15


async def test_a_mark_that_the_worker_is_not_shown(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica hides a mark from the partition: what is offered has it all the same."""
    logs: list[FaultyLog] = []
    hidden = {number: Counter(range(20, 200, 15)) for number in range(PARTITIONS)}

    def faulty(nc: object, partition: int, on_reset: object, committer: object) -> FaultyLog:
        log = bench.log(partition)
        log.hidden = hidden[partition]  # whoever reads again is shown it
        logs.append(log)
        return log

    monkeypatch.setattr(worker_module, "JetStreamLog", faulty)
    async with owning(bench), following(bench.settings.nats_url, PARTITIONS, ACCOUNTS) as follower:
        sent = []
        for number in range(1, 40):
            sent += [mark(number, str(100 + number % 7))]
            kind = deposit if number == 1 else None
            sent += [
                kind(1, stream=name) if kind else trade(number, "buy", "1", "100", stream=name)
                for name in ACCOUNTS[:4]
            ]
        await bench.publish(sent)
        await settled(bench, follower)
    assert sum(log.hits for log in logs) >= 4


# --- PSM behind the log ---------------------------------------------------------------------------


async def test_what_psm_does_not_fold_is_told_until_it_does(bench: Bench) -> None:
    """An input that changes nothing is folded, too, although no update tells of it."""
    name, other = ACCOUNTS[:2]
    async with following(bench.settings.nats_url, PARTITIONS, ACCOUNTS) as follower:
        async with owning(bench):
            await bench.publish(deposit(1, stream=name), deposit(1, stream=other))
            await until(lambda: {name, other} <= set(follower.known), "both are known")
        first = await bench.publish(deposit(2, stream=name))
        await bench.publish(deposit(3, stream=name))
        await until(lambda: name in follower.unfolded, "nobody folds it")
        told = follower.unfolded[name]
        assert (told.log_sequence, told.since is None) == (first, False)
        assert other not in follower.unfolded
        async with owning(bench):
            await follower.reaches({name: first + 1})
            again = await bench.publish(deposit(3, stream=name))
            compared = follower.feed.accounts._followed[name]
            await until(lambda: compared.folded >= again, "its owner says that it is folded")
            assert follower.unfolded[name].since is None
            assert follower.at[name] == first + 1


# --- the market -----------------------------------------------------------------------------------


async def test_every_mark_comes_once_and_in_order(bench: Bench) -> None:
    """From the newest of each symbol on; then M can be told where no mark is."""
    await bench.publish(mark(1, "1", "A"), mark(1, "2", "B"), mark(2, "3", "A"))
    async with following(bench.settings.nats_url, PARTITIONS, []) as follower:
        await until(lambda: len(follower.market) == 2, "the newest of both")
        assert follower.market == {"marks.A": [3], "marks.B": [2]}
        last = await bench.publish(mark(2, "4", "B"), deposit(1), deposit(2))
        assert await follower.feed.reach(last, 5.0, ["A", "B"])
        await until(lambda: follower.feed.market_position >= last, "M is there")
        assert follower.market == {"marks.A": [3], "marks.B": [2, 4]}
        assert not await follower.feed.reach(last + 1_000, 0.0)
        # Nested without end: anybody who publishes marks may send it, and it has no number.
        await bench.nc.request("marks.C", b'{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}")
        await until(lambda: follower.market.get("marks.C") is not None, "it came, and no harm")


async def test_a_mark_that_cannot_be_read_stops_nobody(bench: Bench) -> None:
    """Nested beyond measure: at the beginning, and while it is followed."""
    deep = Sent(subject="marks.A", data=b'{"a":' * 10_000)
    await bench.publish(deep, mark(1, "2", "B"))
    async with following(bench.settings.nats_url, PARTITIONS, []) as follower:
        await until(lambda: len(follower.market) == 2, "the newest of both")
        last = await bench.publish(deep, mark(2, "4", "B"))
        await until(lambda: follower.feed.market_position >= last, "M is there")
        assert follower.market == {"marks.A": [1, 3], "marks.B": [2, 4]}


async def test_a_mark_that_the_feed_is_not_shown(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found at the next number of its symbol, and before a decision about it by asking for it."""
    hidden = {3, 6}
    fetch = OrderedReader.fetch

    async def hiding(
        self: OrderedReader, most: int, wait_s: float, *, linger_s: float = 0.0
    ) -> list[StoredMessage]:
        found = await fetch(self, most, wait_s, linger_s=linger_s)
        return [one for one in found if one.subject != "marks.A" or one.sequence not in hidden]

    monkeypatch.setattr(OrderedReader, "fetch", hiding)
    await bench.publish(mark(1, "1", "A"))
    async with following(bench.settings.nats_url, PARTITIONS, []) as follower:
        await until(lambda: follower.market, "the first")
        await bench.publish(mark(1, "1", "B"), mark(2, "2", "A"), mark(3, "3", "A"))
        await until(lambda: follower.market.get("marks.A") == [1, 3, 4], "it was in between")
        await bench.publish(mark(2, "1", "B"), mark(4, "4", "A"), mark(3, "1", "B"))
        await until(lambda: follower.feed.market_position >= 7, "it does not know")
        assert follower.market["marks.A"] == [1, 3, 4]
        assert await follower.feed.reach(7, 5.0, ["A"])
        await until(lambda: follower.market["marks.A"] == [1, 3, 4, 6], "it asked")
    assert follower.feed.market.hidden == 2


# --- a consumer that stands still -----------------------------------------------------------------


class Stopped:
    """A follower in a process of its own, which is stopped and goes on."""

    def __init__(self, url: str, folder: Path) -> None:
        self.lines = folder / "follower.jsonl"
        self.errors = folder / "follower.log"
        command = [sys.executable, "-m", "tests.support.risk_follower", url, str(PARTITIONS)]
        with self.lines.open("wb") as out, self.errors.open("wb") as err:
            self.process = subprocess.Popen([*command, *ACCOUNTS], stdout=out, stderr=err)

    def stop(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def knows(self, ends: dict[str, int]) -> bool:
        """Return whether it knows all accounts as of these inputs."""
        assert self.process.poll() is None, self.errors.read_text()
        said = read_line(self.lines)
        return said is not None and all(said[1].known.get(n, 0) >= at for n, at in ends.items())

    def said(self) -> tuple[list[Session], dict[str, int], int]:
        found = read_line(self.lines)
        assert found is not None
        return found[0], found[1].counted, found[1].reconnects


async def test_a_consumer_that_was_stopped(tmp_path: Path) -> None:
    """It stands still until the broker has closed its connection, with a backlog that is lost."""
    log = tmp_path / "nats" / "nats.log"
    async with (
        EmbeddedNats(tmp_path / "nats") as server,
        open_bench(server.url, partitions=PARTITIONS) as bench,
        owning(bench),
    ):
        stopped = Stopped(server.url, tmp_path)
        try:
            await bench.publish(deposit(1, stream=name) for name in ACCOUNTS)
            await until(lambda: stopped.knows(dict.fromkeys(ACCOUNTS, 1)), "all are known")
            stopped.stop()

            async def backlog(numbers: Iterator[int] = itertools.count(2)) -> bool:  # noqa: B008 - goes on
                number = next(numbers)
                text = "x" * 2000  # so that the backlog is more than sockets hold
                await bench.publish(
                    deposit(number, stream=name, reference=f"{name}-{number}-{text}")
                    for name in ACCOUNTS
                )
                return b"Slow Consumer" in log.read_bytes()

            await until_answer(backlog, bool, "the broker gave it up", 90)
            await bench.judge()
            inputs = await inputs_of(bench.nc, bench.settings)
            stopped.go_on()
            await until(lambda: stopped.knows(last_inputs(inputs)), "it knows all again", 90)
            sessions, counted, reconnects = stopped.said()
        finally:
            stopped.process.kill()
            stopped.process.wait()
        assert reconnects >= 1
        assert counted["Lost"] >= len(ACCOUNTS)
        assert await assert_offered(bench.nc, bench.settings, sessions, inputs) >= 2 * len(ACCOUNTS)
