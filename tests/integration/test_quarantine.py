"""Rows that PostgreSQL cannot hold: a key is stale, and nothing else stands still.

The column is made too narrow for some figures here: whatever the data is, the database refuses it
with a data error. That a NUL in a text ends in the same way is a test of its own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import msgspec
import pytest
from nats.aio.client import Client
from tests.support import log_oracle
from tests.support.psm_stream import Account, OneWorker, commit, mark
from tests.support.running import psm
from tests.support.workbench import until_answer

from psm.adapters import postgres, telemetry
from psm.adapters.jetstream import connect
from psm.adapters.jetstream.streams_apply import apply
from psm.contracts.errors import InvariantError
from psm.contracts.updates import StateUpdated
from psm.contracts.updates_read import ReadUpdate, decode, decoder
from psm.domain.market.slots import ValuationSlots
from psm.domain.messages import Update
from psm.projections import quarantine
from psm.projections.current_state import CURRENT_STATE
from psm.projections.projection import Projection
from psm.projections.quarantine import StaleKey
from psm.projections.rows import PLACE, Row
from psm.projections.source import COMMITTED_UPDATES
from psm.workers.api.reads import Reads, StaleViewError
from psm.workers.fleet.worker import Worker
from psm.workers.partition.settings import PartitionSettings
from psm.workers.process.settings import Settings
from psm.workers.projector.follower import Projector
from psm.workers.projector.rebuild import Rebuild
from psm.workers.projector.retry import Retry

NARROW = "ALTER TABLE positions_view ALTER COLUMN size TYPE numeric(4,1)"
WIDE = "ALTER TABLE positions_view ALTER COLUMN size TYPE numeric"
TABLES = (
    "balances_view",
    "positions_view",
    "margin_view",
    "orders_view",
    "reconciliation_view",
    "chain_heads",
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Scene:
    """The stream PSM as a worker of one partition fills it, a database, and followers."""

    def __init__(self, nc: Client, url: str, dsn: str, pool: postgres.Pool) -> None:
        self.nc = nc
        self.url = url
        self.dsn = dsn
        self.pool = pool
        self.worker = OneWorker()
        self.projector: Projector | None = None

    async def publish(self, *messages: tuple[str, bytes]) -> None:
        """Commit the updates of some messages as one batch."""
        await self.commit([update for message in messages for update in self.worker.fold(*message)])

    async def commit(self, updates: Sequence[Update]) -> None:
        await commit(
            self.nc,
            0,
            updates,
            log_sequence=self.worker.log_sequence,
            event_hash=self.worker.event_hash,
        )

    @asynccontextmanager
    async def projecting(self) -> AsyncIterator[Projector]:
        metrics = telemetry.quiet().metrics
        projector = Projector(self.nc, self.pool, [CURRENT_STATE], [0], metrics)
        task = asyncio.create_task(projector.run())
        try:
            yield projector
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def execute(self, query: str) -> None:
        async with postgres.acquired(self.pool) as connection:
            await connection.execute(query)

    async def stale(self) -> list[StaleKey]:
        async with postgres.acquired(self.pool) as connection:
            return await CURRENT_STATE.quarantine.entries(connection)

    async def rows(self, table: str) -> list[dict[str, Any]]:
        async with postgres.acquired(self.pool) as connection:
            return [
                dict(r) for r in await connection.fetch(f"SELECT * FROM {table} ORDER BY 1, 2, 3")
            ]

    async def numbers(self) -> dict[str, int]:
        return {r["account_id"]: r["sequence_number"] for r in await self.rows("balances_view")}

    async def reached(self, **numbers: int) -> None:
        await until_answer(self.numbers, lambda found: found == numbers, f"views at {numbers}")


@pytest.fixture
async def scene(nats_url: str, postgres_dsn: str) -> AsyncIterator[Scene]:
    nc = await connect(nats_url, name="test")
    await apply(nc, Settings(partitions=1))
    pool = await postgres.open_pool(postgres_dsn, name="test")
    yield Scene(nc, nats_url, postgres_dsn, pool)
    pool.terminate()
    await nc.close()


async def test_one_row_is_kept_out_and_the_partition_goes_on(scene: Scene) -> None:
    """The key keeps its last good row until the next one; other keys and accounts go on."""
    await scene.execute(NARROW)
    first, second = Account("a"), Account("b")
    async with scene.projecting() as projector:
        await scene.publish(
            first.trade("buy", "1", "10"),
            first.trade("buy", "5000", "10"),
            second.trade("buy", "2", "10"),
            first.trade("buy", "2", "10", "ETH-PERP"),
        )
        await scene.reached(a=3, b=1)
        (entry,) = await scene.stale()
        assert (entry.view, entry.key, entry.stream_id) == (
            "positions_view",
            ["a", "contract", "BTC-PERP", "net"],
            "a",
        )
        assert (entry.first_sequence_number, entry.sequence_number) == (2, 2)
        assert (entry.column_name, entry.sqlstate) == ("size", "22003")
        sizes = {
            (r["account_id"], r["symbol"]): str(r["size"])
            for r in await scene.rows("positions_view")
        }
        assert sizes == {
            ("a", "BTC-PERP"): "1.0",
            ("a", "ETH-PERP"): "2.0",
            ("b", "BTC-PERP"): "2.0",
        }

        await scene.publish(first.trade("buy", "1", "10"))
        await scene.reached(a=4, b=1)
        (entry,) = await scene.stale()
        assert (entry.first_sequence_number, entry.sequence_number) == (2, 4)
        await until_answer(_statuses(projector), lambda s: s[0].stale, "the projector tells")

        await scene.publish(first.trade("sell", "4999", "10"))
        await scene.reached(a=5, b=1)
        assert await scene.stale() == []
        (position, _, _) = await scene.rows("positions_view")
        assert (str(position["size"]), position["sequence_number"]) == ("3.0", 5)
        await until_answer(_statuses(projector), lambda s: not s[0].stale, "it is healed")


async def test_a_text_with_a_nul_stops_nothing(scene: Scene) -> None:
    """Neither in a column nor in a key; the entry says it in letters that can be held."""
    account, neighbour = Account("a"), Account("b")
    updates = scene.worker.fold(*account.trade("buy", "1", "10"))
    updates += scene.worker.fold(*account.trade("buy", "1", "10", "ETH-PERP"))
    odd = []
    for update in updates:
        data = update.data
        if update.kind == "position.updated" and b'"BTC-PERP"' in data:
            data = data.replace(b'"chain_hash":"', b'"chain_hash":"\\u0000')
        elif update.kind == "position.updated":
            data = data.replace(b'"ETH-PERP"', b'"E\\u0000"')
        odd.append(msgspec.structs.replace(update, data=data))
    async with scene.projecting():
        await scene.commit(odd)
        await scene.publish(neighbour.deposit())
        await scene.reached(a=2, b=1)
    entries = {tuple(e.key): e for e in await scene.stale()}
    btc, odd_one = (("a", "contract", name, "net") for name in ("BTC-PERP", r"E\u{0}"))
    assert set(entries) == {btc, odd_one}
    assert entries[btc].column_name == "chain_hash"
    assert entries[odd_one].column_name == "symbol"
    assert {e.sqlstate for e in entries.values()} == {"22P05"}


async def test_how_updates_were_batched_makes_no_difference(scene: Scene) -> None:
    """Rows and entries follow from the updates alone, so that a rebuild can compare them."""
    await scene.execute(NARROW)
    accounts = [Account(name) for name in "abc"]
    updates: list[ReadUpdate] = []
    for size in ("1", "5000", "1", "4999", "3", "7000", "1"):
        for account in accounts[: 2 if size == "4999" else 3]:
            side = "sell" if size == "4999" else "buy"
            folded = scene.worker.fold(*account.trade(side, size, "10"))
            updates += [ReadUpdate(kind=u.kind, data=u.data) for u in folded]
    found = []
    for step in (1, 7, len(updates)):
        async with postgres.acquired(scene.pool) as connection:
            transaction = connection.transaction()
            await transaction.start()
            for start in range(0, len(updates), step):
                await CURRENT_STATE.writer().apply_apart(connection, updates[start : start + step])
            rows = [await connection.fetch(f"SELECT * FROM {t} ORDER BY 1, 2") for t in TABLES]
            entries = await CURRENT_STATE.quarantine.entries(connection)
            await transaction.rollback()
        plain = [msgspec.structs.replace(e, found_at=EPOCH) for e in entries]
        found.append((rows, sorted(plain, key=lambda e: e.key)))
    assert found[0] == found[1] == found[2]
    assert [(e.stream_id, e.first_sequence_number) for e in found[0][1]] == [
        ("a", 6), ("b", 6), ("c", 2),
    ]  # fmt: skip


async def test_reads_say_that_a_key_is_stale(scene: Scene) -> None:
    """By a flag; a version that the view cannot have is refused as such, not waited for in vain."""
    await scene.execute(NARROW)
    account = Account("a")
    async with scene.projecting():
        await scene.publish(account.deposit())
        await scene.publish(account.trade("buy", "5000", "10"))
        await scene.reached(a=2)
        reads = Reads(scene.pool)
        for name, stale in (("state", True), ("positions", True), ("orders", False)):
            answer = await reads.get(name, "a")  # type: ignore[arg-type]
            assert ("view_stale" in json.loads(answer.body).get("flags", [])) is stale, name
            assert ("-stale" in answer.etag) is stale
        assert await reads.get("positions", "a", min_sequence=1)
        assert await reads.get("orders", "a", min_sequence=2)
        with pytest.raises(StaleViewError, match="stale from version 2 on") as caught:
            await reads.get("positions", "a", min_sequence=2, timeout_s=0)
        assert caught.value.reached == 1
        await scene.publish(account.trade("sell", "4999", "10"))
        await scene.reached(a=3)
        answer = await reads.get("positions", "a", min_sequence=3)
        assert b"view_stale" not in answer.body


async def test_nothing_else_is_put_aside(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken constraint stops the partition, and so do more entries than there may be."""
    account = Account("a")
    async with scene.projecting() as projector:
        await scene.execute("ALTER TABLE positions_view ADD CONSTRAINT odd CHECK (size < 10)")
        await scene.publish(account.trade("buy", "50", "10"))
        await until_answer(_statuses(projector), lambda s: s[0].state == "stopped", "it stops")
        assert await scene.stale() == []
    await scene.execute("ALTER TABLE positions_view DROP CONSTRAINT odd")
    monkeypatch.setattr(quarantine, "OPEN_MAX", 2)
    await scene.execute(NARROW)
    updates = [
        ReadUpdate(kind=u.kind, data=u.data)
        for name in "xyz"
        for u in scene.worker.fold(*Account(name).trade("buy", "5000", "10"))
    ]
    async with postgres.acquired(scene.pool) as connection:
        with pytest.raises(InvariantError, match="cannot be stored already"):
            async with connection.transaction():
                await CURRENT_STATE.writer().apply_apart(connection, updates)


class _FeesView:
    """Sum of what accounts paid, each row made from the row before."""

    def __init__(self) -> None:
        self.table = "fees_view"
        self.kinds = frozenset({"state.updated"})
        self.key: tuple[str, ...] = ("account_id",)
        self.adds_up = True
        self.place = PLACE
        self.statements = {
            "upsert": "INSERT INTO fees_view AS f SELECT account_id, sequence_number, "
            "log_sequence, equity FROM json_populate_recordset(NULL::fees_view, $1::json) "
            "ON CONFLICT (account_id) DO UPDATE SET sequence_number = excluded.sequence_number, "
            "equity = f.equity + excluded.equity"
        }
        self._decoder = decoder(StateUpdated)

    def reduce(self, updates: Sequence[ReadUpdate]) -> dict[str, list[Row]]:
        rows = []
        for update in updates:
            if update.kind == "state.updated":
                state = decode(self._decoder, update).payload
                names = ("account_id", "sequence_number", "log_sequence", "equity")
                rows.append({name: getattr(state, name) for name in names})
        return {"upsert": rows}


async def test_a_sum_stops_for_that_account_alone(scene: Scene) -> None:
    """Nothing is added after what could not be added; other accounts go on."""
    await scene.execute(
        "CREATE TABLE fees_view (account_id text PRIMARY KEY, sequence_number bigint, "
        "log_sequence bigint, equity numeric(6,1)); "
        "CREATE TABLE sums_quarantine (LIKE current_state_quarantine INCLUDING ALL)"
    )
    sums = Projection(name="sums", version=1, source=COMMITTED_UPDATES, views=(_FeesView(),))
    accounts = [Account("a"), Account("b")]
    for amount in ("10", "9999999", "5"):
        for account in accounts:
            own = "1" if account.stream_id == "b" else amount
            folded = scene.worker.fold(*account.deposit(own))
            updates = [ReadUpdate(kind=u.kind, data=u.data) for u in folded]
            async with postgres.transaction(scene.pool) as connection:
                await sums.writer().apply_apart(connection, updates)
    rows = {r["account_id"]: r["sequence_number"] for r in await scene.rows("fees_view")}
    assert rows == {"a": 1, "b": 3}
    async with postgres.acquired(scene.pool) as connection:
        (entry,) = await sums.quarantine.entries(connection)
    assert (entry.stream_id, entry.first_sequence_number, entry.sequence_number) == ("a", 2, 2)


@pytest.fixture
async def live(scene: Scene) -> AsyncIterator[Scene]:
    """The same with a real worker on a real log."""
    settings = PartitionSettings(partitions=1)
    worker = Worker(scene.nc, range(1), settings, telemetry.quiet().metrics)
    task = asyncio.create_task(worker.run())
    yield scene
    worker.stop()
    await task


async def _trade(scene: Scene, *messages: tuple[str, bytes]) -> None:
    for subject, data in messages:
        await scene.nc.jetstream().publish(subject, data)
    await log_oracle.judge(scene.nc, Settings(partitions=1))


async def test_one_account_is_folded_anew(live: Scene) -> None:
    """`psm views retry` after the column was mended: its rows are those of the log again."""
    await live.execute(NARROW)
    first, second = Account("a"), Account("b")
    async with live.projecting():
        await _trade(live, first.deposit(), mark("BTC-PERP", "10", 1), second.deposit())
        await _trade(live, first.trade("buy", "5000", "10"), second.trade("buy", "2", "10"))
        await _trade(live, first.order("o1", "1"), mark("BTC-PERP", "11", 2))
        await live.reached(a=3, b=2)
        retry = Retry(live.nc, live.pool, CURRENT_STATE, partitions=1, slots=ValuationSlots())
        report = await retry.run("a")
        assert [e.column_name for e in report.stale] == ["size"]
        environment = {"NATS_URL": live.url, "POSTGRES_DSN": live.dsn}
        environment["PSM_PARTITIONS"] = "1"
        status = await asyncio.to_thread(
            psm, "views", "status", environment=environment, check=False
        )
        assert status.returncode == 1
        told = "positions_view a/contract/BTC-PERP/net: stale from number 2 of a on"
        assert f"{told}; column size cannot hold" in status.stderr
        audited = await asyncio.to_thread(psm, "audit", environment=environment, check=False)
        assert (audited.returncode, "view_stale" in audited.stdout) == (1, True)

        await live.execute(WIDE)
        before = [r for r in await live.rows("balances_view") if r["account_id"] == "b"]
        done = await asyncio.to_thread(psm, "views", "retry", environment=environment)
        assert "a" in done.stdout
        assert await live.stale() == []
        assert [r for r in await live.rows("balances_view") if r["account_id"] == "b"] == before
        rebuild = Rebuild(live.nc, live.pool, CURRENT_STATE, partitions=1, slots=ValuationSlots())
        report_of_all = await rebuild.run(dry_run=True)
        assert (report_of_all.compared, report_of_all.differences) == (True, [])
        await _trade(live, first.trade("sell", "1", "10"))
        await live.reached(a=4, b=2)


async def test_a_rebuild_compares_entries_and_names_them(live: Scene) -> None:
    """The same rows are kept out on both sides; what the log does not give is a difference."""
    await live.execute(NARROW)
    account = Account("a")
    async with live.projecting():
        await _trade(live, account.deposit(), account.trade("buy", "1", "10"))
        await _trade(live, account.trade("buy", "5000", "10"))
        await live.reached(a=3)
    rebuild = Rebuild(live.nc, live.pool, CURRENT_STATE, partitions=1, slots=ValuationSlots())
    report = await rebuild.run()
    assert (report.compared, report.differences, report.swapped) == (True, [], True)
    assert [(e.stream_id, e.column_name) for e in report.stale] == [("a", "size")]
    assert [e.stream_id for e in await live.stale()] == ["a"]
    await live.execute(WIDE)
    report = await rebuild.run()
    assert ("current_state_quarantine", "present", "absent") in {
        (d.table, d.live, d.rebuilt) for d in report.differences
    }
    assert (report.stale, report.swapped) == ([], False)
    assert (await rebuild.run(accept_differences=True)).swapped
    assert await live.stale() == []


def _statuses(projector: Projector) -> Any:
    async def ask() -> Any:
        return projector.statuses()

    return ask


async def test_an_ordinary_batch_is_one_statement_per_table(scene: Scene) -> None:
    """No savepoint and no search for rows, as long as everything can be stored."""
    account = Account("a")
    updates: list[ReadUpdate] = []
    for _ in range(20):
        folded = scene.worker.fold(*account.trade("buy", "1", "10"))
        updates += [ReadUpdate(kind=u.kind, data=u.data) for u in folded]
    connection = await asyncpg.connect(scene.dsn)
    asked: list[str] = []
    async with connection.transaction():
        with connection.query_logger(lambda record: asked.append(record.query)):
            await CURRENT_STATE.writer().apply(connection, updates)
    await connection.close()
    written = [query.split()[2] for query in asked if query.startswith("INSERT")]
    assert written == ["balances_view", "positions_view", "margin_view", "chain_heads"]
    assert len(asked) == len(written) + 1  # and the keys in quarantine
