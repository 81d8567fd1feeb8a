"""The fleet on a real broker: its keys, its probes, what `psm fleet` shows, and the handover."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support import feed
from tests.support.events import deposit
from tests.support.running import psm
from tests.support.slots import slots_env
from tests.support.tcp_proxy import Direction, proxied
from tests.support.twins import FaultySnapshots
from tests.support.workbench import WAIT_S, Bench, end, open_bench, until, until_answer
from tests.support.worker_process import WorkerProcess

from psm.adapters.embedded import EmbeddedNats
from psm.adapters.jetstream import connect, last_values
from psm.contracts.errors import ConfigError, TransientError
from psm.contracts.subjects import partition_of
from psm.workers.fleet import (
    Holding,
    Member,
    MemberEntry,
    NatsMembers,
    NatsProber,
    nats_fleet,
    this_member,
)
from psm.workers.fleet.ports import ProbeAnswer
from psm.workers.fleet.report import report_of
from psm.workers.partition import snapshots as checkpoints

PARTITIONS = 4


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[Bench]:
    async with open_bench(nats_url, partitions=PARTITIONS) as opened:
        yield opened


def start(bench: Bench, folder: Path, *arguments: str, **settings: object) -> WorkerProcess:
    own = {
        "PSM_PARTITIONS": bench.settings.partitions,
        **slots_env(bench.settings.valuation_slots),
        **settings,
    }
    return WorkerProcess(bench.settings.nats_url, folder, *arguments, **own)


def fleet(bench: Bench, *arguments: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of `psm fleet`."""
    environment = {"NATS_URL": bench.settings.nats_url}
    done = psm("fleet", *arguments, environment=environment, check=False)
    return done.returncode, done.stdout, done.stderr


# --- keys and probes ----------------------------------------------------------------------------


async def test_keys_are_written_read_and_deleted(bench: Bench) -> None:
    """What one worker writes, another reads; each change is told to everybody at once."""
    store, other = NatsMembers(bench.nc), NatsMembers(bench.nc)
    heard: list[MemberEntry] = []
    await other.listen(heard.append)
    assert await other.entries() == []
    me = this_member("1", None)
    first = await store.put(me)
    holding = Holding(partition=1, state="live", position=7)
    me = msgspec.structs.replace(me, holdings=(holding,))
    second = await store.put(me)
    assert second > first
    assert await other.entries() == [MemberEntry(id=me.id, revision=second, member=me)]
    deleted = await store.delete(me.id, second)
    assert await other.entries() == [MemberEntry(id=me.id, revision=deleted or 0, member=None)]
    await until(lambda: len(heard) == 3, "all is told")
    assert [entry.revision for entry in heard] == [first, second, deleted]


async def test_key_that_was_renewed_is_not_deleted(bench: Bench) -> None:
    """Who was thought dead and renews its key meanwhile stays."""
    store = NatsMembers(bench.nc)
    me = this_member("1", None)
    old = await store.put(me)
    new = await store.put(me)
    assert await store.delete(me.id, old) is None
    assert [entry.revision for entry in await store.entries()] == [new]


async def test_unreadable_keys_and_news_are_passed_over(bench: Bench) -> None:
    """Whatever somebody else puts there does not end a worker."""
    store = NatsMembers(bench.nc)
    heard: list[MemberEntry] = []
    await store.listen(heard.append)
    await bench.nc.jetstream().publish("$KV.psm-fleet.stranger", b"not a member")
    await bench.nc.publish("_psmfleet.news", b"nothing")
    me = this_member("1", None)
    await store.put(me)
    await until(lambda: heard, "the next news come through")
    assert [entry.id for entry in await store.entries()] == [me.id]


async def test_bucket_without_keys_and_missing_bucket(bench: Bench) -> None:
    """An empty bucket is no error; a missing one is named, and later only waited for."""
    assert await last_values(bench.nc, "KV_psm-fleet", "$KV.psm-fleet.>") == []
    with pytest.raises(TransientError, match="nobody answers"):
        await last_values(bench.nc, "KV_other", "$KV.other.>")
    js = bench.nc.jetstream()
    store = NatsMembers(bench.nc)
    await store.put(this_member("1", None))
    await js.delete_stream("KV_psm-fleet")
    with pytest.raises(TransientError):
        await store.put(this_member("1", None))


async def answers(prober: NatsProber, member: str, wanted: ProbeAnswer) -> None:
    """Probe until that is the answer: on a busy machine one may come too late to count."""
    await until_answer(lambda: prober.probe(member), lambda found: found is wanted, wanted.name)


async def test_closed_connection_is_told_from_silence(bench: Bench) -> None:
    """The broker says at once that nobody is there; a listener that hangs is only silent."""
    alive = await connect(bench.settings.nats_url, name="alive")
    prober = NatsProber(bench.nc, time.monotonic)
    try:
        await NatsProber(alive, time.monotonic).listen("a")
        await answers(prober, "a", ProbeAnswer.ALIVE)
    finally:
        await alive.close()
    # The first may have been sent to the connection that was just closing.
    await answers(prober, "a", ProbeAnswer.GONE)
    await answers(prober, "a", ProbeAnswer.GONE)

    async def hang(_: object) -> None:
        await asyncio.sleep(60)

    await bench.nc.subscribe("_psmfleet.probe.b", cb=hang)
    assert await prober.probe("b") is ProbeAnswer.SILENT


async def test_probes_prove_nothing_right_after_a_reconnection(nats_server: EmbeddedNats) -> None:
    """When the broker restarts, the others may be on their way back like ourselves."""
    async with open_bench(nats_server.url) as bench:
        now = [0.0]
        prober = NatsProber(bench.nc, lambda: now[0])
        await answers(prober, "nobody", ProbeAnswer.GONE)
        await nats_server.kill()
        await until(lambda: not bench.nc.is_connected, "the connection is lost")
        assert await prober.probe("nobody") is ProbeAnswer.UNSURE
        await nats_server.start()
        await until(lambda: bench.nc.is_connected, "the connection is back")
        assert await prober.probe("nobody") is ProbeAnswer.UNSURE
        now[0] = 10.0
        await answers(prober, "nobody", ProbeAnswer.GONE)


async def test_answer_that_is_late_at_the_start_is_asked_for_again(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all parts start at once a worker does not end because of one slow answer."""
    monkeypatch.setattr(nats_fleet, "_TIMEOUT_S", 0.3)
    lost: list[bytes] = []

    def lossy(_: Direction, frame: bytes) -> list[bytes]:
        if not lost and b"PUB _psmfleet.probe.me " in frame:
            lost.append(frame)
            return []
        return [frame]

    async with proxied(nats_url, frames=True) as proxy:
        proxy.change = lossy
        nc = await connect(f"nats://127.0.0.1:{proxy.port}", name="test")
        try:
            await NatsProber(nc, time.monotonic).listen("me")
        finally:
            await nc.close()
    assert len(lost) == 1


async def test_worker_that_cannot_be_probed_does_not_start(tmp_path: Path) -> None:
    """Without the permission every other worker would think it dead: the subject is named."""
    config = tmp_path / "nats.conf"
    async with EmbeddedNats(tmp_path) as server:
        text = config.read_text()
    denied = text.replace('deny: "_psm.>"', 'deny: ["_psm.>", "_psmfleet.>"]')
    assert denied != text
    server._config = lambda: denied  # type: ignore[method-assign]
    await server.start()
    try:
        nc = await connect(server.url, name="test")
        try:
            with pytest.raises(ConfigError, match=r"_psmfleet\.>"):
                await NatsProber(nc, time.monotonic).listen("me")
        finally:
            await nc.close()
    finally:
        await server.stop()


# --- processes ----------------------------------------------------------------------------------


async def shown_live(bench: Bench, members: int) -> dict[str, Any]:
    """Ask until every partition is told to be live; members tell it a moment after it is so."""
    deadline = time.monotonic() + WAIT_S
    while True:
        code, out, _ = await asyncio.to_thread(fleet, bench, "-o", "json")
        shown: dict[str, Any] = json.loads(out)
        states = [row["state"] for row in shown["partitions"]]
        if code == 0 and states == ["live"] * PARTITIONS and len(shown["members"]) == members:
            return shown
        assert time.monotonic() < deadline, shown
        await asyncio.sleep(0.2)


async def test_fleet_is_shown_and_hands_over(bench: Bench, tmp_path: Path) -> None:
    """Two workers share, one leaves, the other has it all; `psm fleet` says so each time."""
    code, _, said = await asyncio.to_thread(fleet, bench)
    assert code == 1
    assert "nobody runs: 0, 1, 2, 3" in said
    async with start(bench, tmp_path) as first:
        await first.ready(PARTITIONS)
        last = await bench.publish(deposit(1, stream=feed.account(n)) for n in range(20))
        async with start(bench, tmp_path) as second:
            await second.ready(PARTITIONS // 2)
            await bench.judge()
            shown = await shown_live(bench, members=2)
            assert [member["partitions"] for member in shown["members"]] == [2, 2]
            assert {row["state"] for row in shown["partitions"]} == {"live"}
            assert len({row["owner"] for row in shown["partitions"]}) == 2
            assert max(row["committed"] for row in shown["partitions"]) <= last
            assert shown["unowned"] == []
            second.terminate()
            assert await second.ended() == 0
        await first.logged("partition.recovered", PARTITIONS + PARTITIONS // 2)
        await shown_live(bench, members=1)
        code, out, _ = await asyncio.to_thread(fleet, bench)
        assert code == 0
        assert out.count("live") >= PARTITIONS
        assert first.events("partition.fenced") == second.events("partition.fenced") == []
        await bench.judge()


async def test_pinned_worker_is_left_its_partitions(bench: Bench, tmp_path: Path) -> None:
    """`--partitions` still says it all; a worker without it takes the rest."""
    async with start(bench, tmp_path, "--partitions", "0") as pinned:
        await pinned.ready(1)
        async with start(bench, tmp_path) as other:
            await other.ready(PARTITIONS - 1)
            await bench.publish(deposit(1, stream=feed.account(n)) for n in range(20))
            await bench.judge()
            assert {e["partition"] for e in pinned.events("partition.acquired")} == {0}
            assert {e["partition"] for e in other.events("partition.acquired")} == {1, 2, 3}


def test_report_shows_who_meets_and_who_stopped() -> None:
    """A partition with two owners is contested; one that stopped counts as unowned."""

    def member(name: str, *holdings: Holding) -> Member:
        return Member(id=name, host="h", pid=1, version="1", started_at="", holdings=holdings)

    report = report_of(
        [
            member("a", Holding(partition=0, state="live", position=5, lag=2)),
            member(
                "b",
                Holding(partition=0, state="recovering"),
                Holding(partition=1, state="stopped", position=3),
            ),
        ],
        [4, 3, 0],
    )
    assert [(row.owner, row.state) for row in report.partitions] == [
        ("a,b", "contested"),
        ("b", "stopped"),
        (None, "unowned"),
    ]
    assert (report.partitions[0].position, report.partitions[0].committed) == (5, 4)
    assert report.unowned == [1, 2]


# --- a partition that is let go -------------------------------------------------------------------


async def test_many_changed_accounts_are_saved_before_the_drain(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told to stop, it saves most while it still folds: what comes meanwhile is committed too."""
    monkeypatch.setattr(checkpoints, "DRAIN_ACCOUNTS", 10)
    names = [name for name in map(feed.account, range(400)) if _in_first(name)][:60]
    store = FaultySnapshots(bench.nc, 0)
    partition = bench.partition(0, store=store)
    task = asyncio.create_task(partition.run())
    try:
        last = await bench.publish(deposit(1, stream=name) for name in names)
        await until(lambda: partition.stats.position >= last, "all is folded")
        store.gate.clear()
        partition.stop()
        await until(lambda: partition._checkpoints.saving, "it saves")
        late = await bench.publish(deposit(2, stream=name) for name in names[:5])
        await until(lambda: partition.stats.position >= late, "it still folds")
        assert not task.done()
        store.gate.set()
        await asyncio.wait_for(task, WAIT_S)
    finally:
        await end(task)
    assert (await bench.cursor(0)).log_sequence == late
    assert store.written.count("snapshots.0") == 2
    async with bench.worker():
        await bench.judge()


def _in_first(name: str) -> bool:
    return partition_of(name, PARTITIONS) == 0
