"""A log that really lost or changed something: found, named, and nobody goes on upon it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from prometheus_client import generate_latest
from tests.support import feed, servers, tamper
from tests.support.events import Sent, deposit
from tests.support.running import psm
from tests.support.views import assert_views_equal_fold
from tests.support.workbench import Bench, end, open_bench, until

from psm.adapters import postgres, telemetry
from psm.adapters.embedded import EmbeddedNats
from psm.adapters.jetstream import StoredMessage, read_range, stream_info
from psm.contracts.subjects import PSM, SNAPSHOTS, TRADES
from psm.domain.market.slots import ValuationSlots
from psm.projections.current_state import CURRENT_STATE
from psm.workers.fleet.worker import Worker
from psm.workers.partition.heads_store import PostgresHeads
from psm.workers.projector.follower import Projector

PARTITIONS = 2
_PLACES = "SELECT sum(sequence_number)::int FROM chain_heads"
NOBODY = "postgresql://psm@127.0.0.1:9/psm"  # the discard port: nobody listens there


class World:
    """A broker that can be damaged, a database, and what folds and projects between them."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self.folder = folder / "nats"
        self.copy = folder / "copy"
        self.server = EmbeddedNats(self.folder)
        self.dsn = dsn
        self.log: dict[int, StoredMessage] = {}
        self.events = 0

    def bench(self) -> AbstractAsyncContextManager[Bench]:
        """Return a bench on the broker, with the settings that commands have by default."""
        return open_bench(self.server.url, partitions=PARTITIONS, slots=ValuationSlots())

    async def live(self, messages: list[Sent]) -> None:
        """Start, publish, fold, project all of it, remember the log, stop.

        Every event of the messages must take a place in its stream.
        """
        self.events += sum(message.subject.startswith("trades.") for message in messages)
        await self.server.start()
        async with self.bench() as bench:
            async with self.projecting(bench, self.dsn), bench.worker():
                await bench.publish(messages)
                connection = await asyncpg.connect(self.dsn)
                async with asyncio.timeout(60):
                    while await connection.fetchval(_PLACES) != self.events:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                await connection.close()
            last = (await stream_info(bench.nc, TRADES)).last_sequence
            async for batch in read_range(bench.nc, TRADES, [">"], 1, last):
                self.log.update((message.sequence, message) for message in batch)
        await self.server.stop()

    @asynccontextmanager
    async def projecting(self, bench: Bench, dsn: str) -> AsyncIterator[Projector]:
        metrics = telemetry.quiet().metrics
        pool = await postgres.open_pool(dsn, name="test")
        projector = Projector(bench.nc, pool, [CURRENT_STATE], range(PARTITIONS), metrics)
        task = asyncio.create_task(projector.run())
        try:
            yield projector
        finally:
            await end(task)
            pool.terminate()

    async def start_worker(self, bench: Bench, dsn: str | None) -> tuple[bool, dict[int, str], str]:
        """Start a worker on what is there; return (ready, refusals by partition, metrics)."""
        instruments = telemetry.setup("test", level="error")
        heads = PostgresHeads(dsn) if dsn else None
        worker = Worker(bench.nc, range(PARTITIONS), bench.tuning(), instruments.metrics, heads)
        task = asyncio.create_task(worker.run())
        try:
            await until(
                lambda: worker.readiness()[0] or len(worker.failed) == PARTITIONS,
                "each partition is live or refused",
            )
            ready = worker.readiness()[0]
            worker.stop()
            await asyncio.wait_for(task, 20)
            return ready, worker.failed, generate_latest(instruments.registry).decode()
        finally:
            await end(task)
            if heads is not None:
                heads.close()
            instruments.shutdown()

    def audit(self, *arguments: str, dsn: str | None = None) -> tuple[int, dict[str, Any]]:
        """Run `psm audit -o json`; return exit code and report."""
        environment = {"NATS_URL": self.server.url, "PSM_PARTITIONS": str(PARTITIONS)}
        environment |= {"POSTGRES_DSN": dsn or self.dsn}
        done = psm("audit", "-o", "json", *arguments, environment=environment, check=False)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def oldest_of_the_newest(self) -> StoredMessage:
        """Return the event that has stood longest without a successor in its stream."""
        newest = {m.subject: m for _, m in sorted(self.log.items()) if m.subject[:6] == "trades"}
        return min(newest.values(), key=lambda message: message.sequence)

    def first_lost(self, last: int, partition: int) -> tuple[int, str]:
        """Return log sequence and stream of a partition's first event behind `last`."""
        for sequence, message in sorted(self.log.items()):
            if sequence > last and message.subject.startswith(f"trades.{partition}."):
                return sequence, message.subject.rpartition(".")[2]
        raise AssertionError(f"partition {partition} lost nothing behind {last}")


@pytest.fixture
async def world(tmp_path: Path, postgres_dsn: str) -> AsyncIterator[World]:
    world = World(tmp_path, postgres_dsn)
    yield world
    await world.server.stop()


def clean(seed: int, *, events: int = 120) -> list[Sent]:
    """Traffic of which every event takes a place, so that each one is missed."""
    return feed.traffic(seed, accounts=6, events=events, trouble=False)


@pytest.mark.parametrize("index", ["kept", "lost"])
async def test_lost_tail(world: World, index: str) -> None:
    """A log that lost its tail stops every partition, which name their first lost event."""
    await world.live(clean(1))
    before = max(world.log)
    assert tamper.cut_tail(world.folder, TRADES, 0.6) > 1000
    if index == "lost":
        tamper.forget_index(world.folder, TRADES)
    await world.server.start()
    async with world.bench() as bench:
        info = await stream_info(bench.nc, TRADES)
        # With its index the broker knows what is gone; without it the log merely ends earlier.
        last = info.last_sequence - info.deleted
        assert 0 < last < before
        assert info.last_sequence == (before if index == "kept" else last)
        committed = (await stream_info(bench.nc, PSM)).last_sequence
        _, failed, metrics = await world.start_worker(bench, world.dsn)
        for partition in range(PARTITIONS):
            sequence, stream_id = world.first_lost(last, partition)
            assert f"log sequence {sequence} (event " in failed[partition]
            assert f" of {stream_id}) is missing; run `psm audit`" in failed[partition]
            if index == "kept":
                assert f"the first is log sequence {last + 1}" in failed[partition]
        assert (await stream_info(bench.nc, PSM)).last_sequence == committed
        assert 'psm_heads_checked_total{partition="0",result="damaged"} 1.0' in metrics
    code, report = world.audit()
    assert code == 1
    assert report["findings"][0]["sequence"] == last + 1
    expected = {"missing"} if index == "kept" else {"tail_missing"}
    assert expected | {"update_unexplained", "chain_head_ahead"} <= set(report["counts"])
    lost = [message for at, message in world.log.items() if at > last]
    events = [message for message in lost if message.subject.startswith("trades.")]
    named = {f["sequence"] for f in report["findings"] if f["code"] == "update_unexplained"}
    assert {message.sequence for message in events} <= named


async def test_hidden_message(world: World) -> None:
    """One bit flipped in one stored event: the broker skips it silently, the audit names it.

    It is the newest of its stream, so no later number gives it away, and a worker that starts
    from snapshots behind it has no reason to read it.
    """
    await world.live(clean(2))
    victim = world.oldest_of_the_newest()
    assert tamper.flip_bit(world.folder, TRADES, victim.data) == 1
    await world.server.start()
    async with world.bench() as bench:
        info = await stream_info(bench.nc, TRADES)
        assert (info.messages, info.last_sequence) == (len(world.log), max(world.log))
        shown = [batch async for batch in read_range(bench.nc, TRADES, [">"], 1, max(world.log))]
        assert sum(map(len, shown)) == len(world.log) - 1
        assert (await world.start_worker(bench, world.dsn))[0]
    code, report = world.audit("--no-views")
    missing = [f for f in report["findings"] if f["code"] == "missing"]
    assert (code, [f["sequence"] for f in missing]) == (1, [victim.sequence])
    unexplained = next(f for f in report["findings"] if f["code"] == "update_unexplained")
    stream_id = victim.subject.rpartition(".")[2]
    assert (unexplained["sequence"], unexplained["stream_id"]) == (victim.sequence, stream_id)
    assert unexplained["sequence_number"] == json.loads(victim.data)["sequence_number"]


async def test_log_cut_at_a_flipped_bit(world: World) -> None:
    """Without its index the broker cuts the log off at the flipped bit; that event is named."""
    await world.live(clean(2))
    victim = world.oldest_of_the_newest()
    assert tamper.flip_bit(world.folder, TRADES, victim.data) == 1
    tamper.forget_index(world.folder, TRADES)
    await world.server.start()
    async with world.bench() as bench:
        assert (await stream_info(bench.nc, TRADES)).last_sequence == victim.sequence - 1
        _, failed, _ = await world.start_worker(bench, world.dsn)
        assert len(failed) == PARTITIONS
        named = f"The first damaged event: log sequence {victim.sequence} (event "
        assert named in failed[int(victim.subject.split(".")[1])]
    code, report = world.audit("--no-views")
    assert (code, report["findings"][0]["sequence"]) == (1, victim.sequence)


async def test_psm_rolled_back(world: World) -> None:
    """Updates that the projector read and PSM lost are noticed by what PostgreSQL remembers."""
    await world.live(clean(3))
    tamper.keep(world.folder, world.copy, PSM, SNAPSHOTS)
    now = max(world.log)
    await world.live(clean(3, events=160)[now:])
    assert max(world.log) > now
    tamper.put_back(world.folder, world.copy, PSM, SNAPSHOTS)
    await world.server.start()
    async with world.bench() as bench:
        end_of_psm = (await stream_info(bench.nc, PSM)).last_sequence
        _, failed, _ = await world.start_worker(bench, world.dsn)
        assert len(failed) == PARTITIONS
        for text in failed.values():
            assert (
                f"PSM lost acknowledged updates, the first behind its sequence {end_of_psm}" in text
            )
        assert (await stream_info(bench.nc, PSM)).last_sequence == end_of_psm
        code, report = world.audit("--no-views")
        assert (code, report["counts"]) == (1, {"updates_lost": PARTITIONS})
        assert report["findings"][0]["sequence"] == end_of_psm + 1
        async with world.projecting(bench, world.dsn) as projector:
            await until(
                lambda: any("ahead of the log" in (s.detail or "") for s in projector.statuses()),
                "the projector refuses",
            )
        # The check has teeth: nothing on the broker alone shows the loss.
        assert (await world.start_worker(bench, None))[0]


async def test_everything_rolled_back(world: World) -> None:
    """An older backup of the whole broker under a newer database is refused, then accepted."""
    await world.live(clean(4))
    tamper.keep(world.folder, world.copy, TRADES, PSM, SNAPSHOTS)
    now = max(world.log)
    await world.live(clean(4, events=200)[now:])
    assert max(world.log) > now + 50
    tamper.put_back(world.folder, world.copy, TRADES, PSM, SNAPSHOTS)
    await world.server.start()
    async with world.bench() as bench:
        _, failed, _ = await world.start_worker(bench, world.dsn)
        assert len(failed) == PARTITIONS
        for text in failed.values():
            assert f"The first damaged event: log sequence {now + 1}" in text
        # Somebody starts a worker without the database and writes on: the bytes differ now.
        assert (await world.start_worker(bench, None))[0]
        await bench.publish(deposit(1, "5", stream=f"new_{n}") for n in range(200))
        assert (await stream_info(bench.nc, TRADES)).last_sequence > max(world.log)
        _, failed, _ = await world.start_worker(bench, world.dsn)
        assert len(failed) == PARTITIONS
        assert all("altered" in text for text in failed.values())
        code, report = world.audit("--no-views")
        assert code == 1
        assert "log_head_differs" in report["counts"]
        # There is no newer backup: the operator accepts this log.
        environment = {"NATS_URL": world.server.url, "PSM_PARTITIONS": str(PARTITIONS)}
        environment |= {"POSTGRES_DSN": world.dsn}
        assert (await world.start_worker(bench, None))[0]
        psm("views", "rebuild", "--accept-differences", environment=environment)
        assert (await world.start_worker(bench, world.dsn))[0]
        async with world.projecting(bench, world.dsn), bench.worker():
            await assert_views_equal_fold(bench.nc, world.dsn, PARTITIONS)
        code, report = world.audit()
        assert (code, report["counts"]) == (0, {})


async def test_older_database(world: World, shared_postgres_dsn: str) -> None:
    """An older dump of the database under the newer log catches up and is whole again."""
    await world.live(clean(6))
    database = world.dsn.rpartition("/")[2]
    async with servers.fresh_database(shared_postgres_dsn, database) as older:
        await world.live(clean(6, events=200)[max(world.log) :])
        connection = await asyncpg.connect(older)
        head = await connection.fetchval("SELECT max(log_sequence) FROM log_heads")
        await connection.close()
        assert head < max(world.log)
        await world.server.start()
        async with world.bench() as bench:
            assert (await world.start_worker(bench, older))[0]
            assert world.audit(dsn=older)[1]["findings"] == []
            async with world.projecting(bench, older):
                await assert_views_equal_fold(bench.nc, older, PARTITIONS)
        assert world.audit(dsn=older)[0] == 0


async def test_database_away(world: World) -> None:
    """A worker whose PostgreSQL is away goes on, and counts that it could not compare."""
    await world.live(clean(7))
    await world.server.start()
    async with world.bench() as bench:
        ready, failed, metrics = await world.start_worker(bench, NOBODY)
    assert (ready, failed) == (True, {})
    assert 'psm_heads_checked_total{partition="1",result="unavailable"} 1.0' in metrics
