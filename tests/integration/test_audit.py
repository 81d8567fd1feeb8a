"""`psm audit` on a whole log: what it confirms, and what it finds beside the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import msgspec
import pytest
from tests.support.events import deposit, fee, mark, raw, rules, trade
from tests.support.workbench import Bench, end, open_bench

from psm.adapters import postgres, telemetry
from psm.adapters.jetstream import last_for, stream_info
from psm.contracts.subjects import PSM
from psm.projections.current_state import CURRENT_STATE
from psm.workers.log.cursor import dump_cursor, load_cursor
from psm.workers.projector.follower import Projector
from psm.workers.proof.audit.findings import AuditReport, Finding
from psm.workers.proof.audit.run import Audit, AuditRange

STREAM = "acc_001"
EVENTS = 300  # more than the 256 places that an account remembers


class Scene:
    """A log of one partition, folded and projected."""

    def __init__(self, bench: Bench, connection: asyncpg.Connection, dsn: str) -> None:
        self.bench = bench
        self.connection = connection
        self._dsn = dsn

    async def audit(
        self, first: int = 1, last: int | None = None, *, views: bool = True
    ) -> AuditReport:
        pool = await postgres.open_pool(self._dsn, name="test", size_max=2)
        work = Audit(
            self.bench.nc,
            partitions=1,
            slots=self.bench.settings.valuation_slots,
            asked=AuditRange(first=first, last=last),
            chosen=(0,),
        )
        try:
            return await work.everything(pool, views=views)
        finally:
            pool.terminate()

    async def found(self, code: str) -> Finding:
        """Return the only finding of an audit, which must have this code."""
        report = await self.audit()
        assert report.counts == {code: 1}
        return report.findings[0]


@pytest.fixture
async def scene(nats_url: str, postgres_dsn: str) -> AsyncIterator[Scene]:
    """A log with everything that takes no place in it, too."""
    messages = [rules(), mark(1, "100"), deposit(1, "1000")]
    messages += [fee(n, "0.5") for n in range(2, EVENTS)]
    messages += [trade(EVENTS, "buy", "1", "101"), mark(2, "102"), raw(b"no event")]
    messages += [
        trade(2, "buy", "1", "7", stream="acc_002"),
        trade(1, "buy", "1", "7", stream="acc_002"),
    ]
    messages += [deposit(1, "1000")]  # so long ago that the fold cannot know it any more
    connection = await asyncpg.connect(postgres_dsn)
    async with open_bench(nats_url) as bench:
        async with projecting(bench, postgres_dsn):
            async with bench.worker():
                await bench.publish(messages)
                async with asyncio.timeout(30):
                    while await connection.fetchval(_PLACES) != EVENTS + 2:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
            last = (await stream_info(bench.nc, PSM)).last_sequence
            async with asyncio.timeout(30):
                while await connection.fetchval(_READ) != last:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        yield Scene(bench, connection, postgres_dsn)
    await connection.close()


_PLACES = "SELECT sum(sequence_number)::int FROM chain_heads"
_READ = "SELECT max(stream_sequence) FROM projection_checkpoints"


@asynccontextmanager
async def projecting(bench: Bench, dsn: str) -> AsyncIterator[None]:
    pool = await postgres.open_pool(dsn, name="test")
    projector = Projector(bench.nc, pool, [CURRENT_STATE], [0], telemetry.quiet().metrics)
    task = asyncio.create_task(projector.run())
    try:
        yield
    finally:
        await end(task)
        pool.terminate()


async def test_whole_log(scene: Scene) -> None:
    """Everything agrees, and it says how much was compared; a late repeat is confirmed as one."""
    report = await scene.audit()
    stored = await last_for(scene.bench.nc, PSM, "psm.cursor.0")
    assert stored is not None
    assert (report.counts, report.findings) == ({}, [])
    assert (report.accounts, report.partitions, report.rows_differ) == (2, 1, 0)
    assert (report.first, report.last, report.events) == (1, EVENTS + 7, EVENTS + 4)
    assert report.folded == report.messages  # once: the time it takes grows with nothing else
    assert report.heads == 3  # two streams and one partition
    assert report.stale_confirmed == 1
    assert report.updates > EVENTS
    part = await scene.audit(100, 200, views=False)
    assert (part.first, part.last, part.messages, part.counts) == (100, 200, 101, {})
    assert 101 <= part.updates < report.updates


async def test_stale_number_with_other_bytes(scene: Scene) -> None:
    """A number of long ago with other bytes is no repeat."""
    async with scene.bench.worker():
        last = await scene.bench.publish(deposit(3, "77"))
        async with asyncio.timeout(30):
            while (await scene.bench.cursor()).log_sequence != last:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    found = await scene.found("stale_differs")
    assert (found.sequence, found.stream_id) == (last, STREAM)


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        (f"UPDATE chain_heads SET chain_hash = repeat('0', 64) WHERE stream_id = '{STREAM}'",
         "chain_head_differs"),
        ("UPDATE log_heads SET event_hash = repeat('0', 64)", "log_head_differs"),
    ],
)  # fmt: skip
async def test_altered_head(scene: Scene, statement: str, code: str) -> None:
    """A head in PostgreSQL that the log does not give is named; so is the row of its view."""
    assert await scene.connection.execute(statement) == "UPDATE 1"
    report = await scene.audit(views=False)
    assert report.counts == {code: 1}
    assert "0" * 16 in (report.findings[0].expected or "")


async def test_altered_row(scene: Scene) -> None:
    """A row of a view that the log does not give is named with both values."""
    await scene.connection.execute(
        f"UPDATE balances_view SET fees = fees + 1 WHERE account_id = '{STREAM}'"
    )
    found = await scene.found("view_differs")
    assert (found.stream, found.stream_id) == ("balances_view", STREAM)
    assert (found.expected, found.found) == ("fees 149", "fees 150")


async def test_forged_update(scene: Scene) -> None:
    """An update in PSM that no commit announced and no event explains is found."""
    real = await last_for(scene.bench.nc, PSM, f"psm.state.updated.0.{STREAM}")
    assert real is not None
    forged = msgspec.json.decode(real.data)
    forged["payload"]["cash"] = {"USDT": "1000000"}
    await scene.bench.nc.jetstream().publish(
        f"_psm.state.updated.0.{STREAM}", msgspec.json.encode(forged)
    )
    report = await scene.audit(views=False)
    assert report.counts == {"commit_broken": 1, "update_unexplained": 1}
    (forged_at,) = {f.sequence for f in report.findings if f.code == "commit_broken"}
    assert forged_at == (await stream_info(scene.bench.nc, PSM)).last_sequence


async def test_cursor_with_other_closes(scene: Scene) -> None:
    """A cursor that tells of other complete minutes than the log gives is named; no other is."""
    bench, number = scene.bench, 2
    async with bench.worker(), asyncio.timeout(30):
        while (await bench.cursor()).closed_through is None:
            number += 1
            await bench.publish(mark(number, "102"))
    assert (await scene.audit(views=False)).counts == {}
    real = await last_for(bench.nc, PSM, "psm.cursor.0")
    assert real is not None
    wrong = msgspec.structs.replace(
        load_cursor(real.data), closed_through="2099-01-01T00:00:00.000000Z", updates=0
    )
    await bench.nc.jetstream().publish("_psm.cursor.0", dump_cursor(wrong))
    report = await scene.audit(views=False)
    assert report.counts == {"closes_differ": 1}
    found = report.findings[0]
    assert (found.stream, found.partition) == (PSM, 0)
    assert found.sequence == (await stream_info(bench.nc, PSM)).last_sequence
    assert str(load_cursor(real.data).closed_through) in (found.expected or "")
    assert found.found == "closed_through 2099-01-01T00:00:00.000000Z (psm.cursor.0)"


async def test_nothing_committed_is_a_finding(nats_url: str) -> None:
    """A log that nobody folds agrees with nothing; an empty one has nothing to agree with."""
    async with open_bench(nats_url) as bench:

        async def audit() -> AuditReport:
            return await Audit(
                bench.nc,
                partitions=1,
                slots=bench.settings.valuation_slots,
                asked=AuditRange(),
                chosen=(0,),
            ).everything(None)

        assert (await audit()).counts == {}
        await bench.publish([deposit(1, "1000"), deposit(2, "1")])
        report = await audit()
        assert report.counts == {"not_committed": 1}
        assert report.findings[0].found == "nothing: not committed yet"
