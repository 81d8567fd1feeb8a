"""Reads from a real PostgreSQL: exact documents, and never a torn one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec
import pytest
from tests.support.psm_stream import Account, OneWorker, mark, read, rows_of

from psm.adapters import postgres
from psm.contracts.errors import ConfigError
from psm.contracts.reconciliation import ReconciliationReported
from psm.contracts.update_fields import Common
from psm.contracts.updates import (
    ORDER_FIGURES,
    TOLD_ONCE,
    MarginUpdated,
    OrderUpdated,
    PositionUpdated,
    StateUpdated,
)
from psm.projections.current_state import CURRENT_STATE
from psm.workers.api.documents import (
    MarginDocument,
    OrderFigures,
    OrdersDocument,
    PositionFigures,
    PositionsDocument,
    StateDocument,
    Versions,
)
from psm.workers.api.reads import MalformedAccountError, NotReachedError, Reads, UnknownAccountError


@pytest.fixture
async def pool(postgres_dsn: str) -> AsyncIterator[postgres.Pool]:
    pool = await postgres.open_pool(postgres_dsn, name="test")
    yield pool
    pool.terminate()


async def write(pool: postgres.Pool, updates: list[Any]) -> None:
    async with postgres.transaction(pool) as connection:
        await CURRENT_STATE.writer().apply(connection, read(updates))


async def test_documents_equal_the_fold(pool: postgres.Pool) -> None:
    """Each figure of the four documents is the fold's own, as the same string."""
    worker, account = OneWorker(), Account("acc_001")
    updates = []
    for message in (
        account.deposit("1000.10"),
        account.trade("buy", "0.5", "42000"),
        account.trade("buy", "1", "3000", "ETH-PERP"),
        account.trade("sell", "1", "3100", "ETH-PERP"),
        account.trade("sell", "0.8", "42100.000000000000000002"),
        mark("BTC-PERP", "41000", 1),
        mark("BTC-PERP", "40900.5", 2),
        account.event("FundingApplied", symbol="BTC-PERP", funding_payment="-2.10"),
        account.order("o1", "1"),
        account.order("o2", "0.3"),
        account.event("OrderAccepted", order_id="o1"),
        account.fill("o1", "0.4", "3000.000000000000000001"),
        account.event("OrderCancelled", order_id="o2"),
    ):
        updates += worker.fold(*message)
    await write(pool, updates)
    reads = Reads(pool)

    state = await reads.get("state", "acc_001")
    body = msgspec.json.decode(state.body)
    expected = rows_of(worker.document("acc_001"))
    msgspec.json.decode(state.body, type=StateDocument)
    ages = _without_ages(body)
    assert {name: body[name] for name in expected} == expected
    assert body["cause"] == "event"
    assert set(body) - set(expected) == {"as_of", "cause"}
    told = _ages_told(updates)
    assert ages == {**told, "USDT": told[""]}, "the account currency is worth what it is"
    assert len({age["log_sequence"] for age in told.values()}) > 1, "rows differ in age"
    assert body["positions"]["ETH-PERP"]["side"] == "flat"
    assert state.etag == f'"11-{body["state_hash"]}"'

    positions = msgspec.json.decode((await reads.get("positions", "acc_001")).body)
    margin = msgspec.json.decode((await reads.get("margin", "acc_001")).body)
    assert margin["margin_available"] == expected["margin_available"]
    orders = msgspec.json.decode((await reads.get("orders", "acc_001")).body)
    assert body["orders"].keys() == {"o1"}
    assert orders["orders"]["o1"] == body["orders"]["o1"]
    assert body["orders"]["o1"]["average_price"] == "3000.000000000000000001"
    assert orders["orders"]["o2"]["status"] == "cancelled"
    for answer, kind in (
        (positions, PositionsDocument),
        (margin, MarginDocument),
        (orders, OrdersDocument),
    ):
        msgspec.convert(answer, kind)
        assert "flags" not in answer  # nothing is stale
        for name in set(Versions.__struct_fields__) - {"flags", "as_of"}:
            assert answer[name] == expected[name]
        assert answer["as_of"] == ages[""]
    assert _without_ages(positions) == told
    assert positions["positions"] == expected["positions"]


def _without_ages(document: dict[str, Any]) -> dict[str, Any]:
    """Take out what each row is as of, and return it by the row's name; the document's is empty."""
    rows = {**document.get("assets", {}), **document["positions"]}
    ages = {name: row.pop("as_of") for name, row in rows.items()}
    return {**ages, "": document["as_of"]}


def _ages_told(updates: list[Any]) -> dict[str, Any]:
    """Return the place and the time of the last update of each position, and of the account."""
    ages = {}
    for update in updates:
        told = msgspec.json.decode(update.data)
        if update.kind in ("state.updated", "position.updated"):
            age = {"log_sequence": update.log_sequence, "time": told["timestamp"]}
            ages[told["payload"].get("symbol", "")] = age
    return ages


async def test_orders_are_all_open_ones_and_the_last_that_ended(pool: postgres.Pool) -> None:
    """However many orders an account ever had, an answer has a limit; no open one is left out."""
    worker, account = OneWorker(), Account("acc_001")
    updates = []
    for n in range(270):
        updates += worker.fold(*account.order(f"o{n:03d}", "1"))
        if n >= 10:
            updates += worker.fold(*account.event("OrderExpired", order_id=f"o{n:03d}"))
    await write(pool, updates)
    body = msgspec.json.decode((await Reads(pool).get("orders", "acc_001")).body)
    assert set(body["orders"]) == {f"o{n:03d}" for n in (*range(10), *range(14, 270))}


async def test_released_event_names_its_own_log_sequence(pool: postgres.Pool) -> None:
    """A parked event's answer has `event_log_sequence`; others do not have the field."""
    worker, account = OneWorker(), Account("acc_001")
    first, second = account.deposit("1"), account.deposit("2")
    updates = worker.fold(*second) + worker.fold(*first)
    await write(pool, updates)
    body = msgspec.json.decode((await Reads(pool).get("state", "acc_001")).body)
    assert (body["sequence_number"], body["log_sequence"]) == (2, 2)
    assert body["event_log_sequence"] == 1
    await write(pool, worker.fold(*account.deposit("3")))
    body = msgspec.json.decode((await Reads(pool).get("state", "acc_001")).body)
    assert "event_log_sequence" not in body


async def test_account_that_waits_for_its_first_event(pool: postgres.Pool) -> None:
    """An account that is only a gap is shown as such, with zero totals and without hashes."""
    worker, account = OneWorker(), Account("late")
    account.skip()
    await write(pool, worker.fold(*account.deposit("2")))
    reads = Reads(pool)
    answer = await reads.get("state", "late")
    body = msgspec.json.decode(answer.body)
    msgspec.json.decode(answer.body, type=StateDocument)
    assert (body["status"], body["sequence_number"], body["deposits"]) == ("gap", 0, "0")
    assert body["ledger_hash"] is None
    assert answer.etag == '"0-none-gap"'
    margin = msgspec.json.decode((await reads.get("margin", "late")).body)
    assert margin["equity"] is None


async def test_unknown_and_malformed_accounts_differ(pool: postgres.Pool) -> None:
    """What cannot exist is told from what does not."""
    reads = Reads(pool)
    with pytest.raises(UnknownAccountError):
        await reads.get("state", "nobody")
    for bad in ("", "a b", "x" * 65, "a.b", "'; DROP TABLE balances_view; --"):
        with pytest.raises(MalformedAccountError):
            await reads.get("state", bad)


async def test_min_sequence_waits_for_the_version(pool: postgres.Pool) -> None:
    """A read for a version returns when the view has it, or says which one it has."""
    worker, account = OneWorker(), Account("acc_001")
    await write(pool, worker.fold(*account.deposit("1")))
    reads = Reads(pool)
    with pytest.raises(NotReachedError) as caught:
        await reads.get("state", "acc_001", min_sequence=2, timeout_s=0.1)
    assert caught.value.reached == 1
    waiting = asyncio.create_task(reads.get("state", "acc_001", min_sequence=2))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await write(pool, worker.fold(*account.deposit("1")))
    assert msgspec.json.decode((await waiting).body)["sequence_number"] == 2


async def test_answers_are_never_torn(pool: postgres.Pool) -> None:
    """While a writer moves balance and position together, no answer mixes two versions."""
    worker, account = OneWorker(), Account("acc_001")
    # Each trade adds 1 to the size, so the size tells which version a position belongs to.
    batches = [worker.fold(*account.trade("buy", "1", "100")) for _ in range(300)]
    await write(pool, batches[0])
    reads = Reads(pool)

    async def writing() -> None:
        for batch in batches[1:]:
            await write(pool, batch)

    task = asyncio.create_task(writing())
    versions = set()
    while not task.done():
        for name in ("state", "positions"):
            body = msgspec.json.decode((await reads.get(name, "acc_001")).body)
            size = body["positions"]["BTC-PERP"]["size"]
            assert size == str(body["sequence_number"])
            versions.add(body["sequence_number"])
    await task
    assert len(versions) > 20, "the writer was not concurrent with the reader"


async def test_swapped_tables_are_never_seen_half(pool: postgres.Pool, postgres_dsn: str) -> None:
    """Views that are replaced under a reader give the old answer or the new one, never both."""
    worker, account = OneWorker(), Account("acc_001")
    await write(pool, worker.fold(*account.trade("buy", "1", "100")))
    reads = Reads(pool)
    connection = await asyncpg.connect(postgres_dsn)

    async def swapping() -> None:
        for _ in range(30):
            async with connection.transaction():
                for table in ("balances_view", "positions_view"):
                    await connection.execute(f"CREATE TABLE n (LIKE {table} INCLUDING ALL)")
                    await connection.execute(f"INSERT INTO n SELECT * FROM {table}")
                    await connection.execute(f"DROP TABLE {table}")
                    await connection.execute(f"ALTER TABLE n RENAME TO {table}")

    task = asyncio.create_task(swapping())
    while not task.done():
        body = msgspec.json.decode((await reads.get("state", "acc_001")).body)
        assert body["positions"]["BTC-PERP"]["size"] == "1"
    await task
    await connection.close()


async def test_missing_schema_names_the_command(empty_postgres_dsn: str) -> None:
    """Without migrations the error says what to run."""
    pool = await postgres.open_pool(empty_postgres_dsn, name="test")
    with pytest.raises(ConfigError, match="psm migrate up"):
        await Reads(pool).get("state", "acc_001")
    pool.terminate()


def test_documents_have_the_updates_fields() -> None:
    """A field added to an update must reach the documents."""
    common = set(Common.__struct_fields__)
    own = set(PositionUpdated.__struct_encode_fields__) - common - {"change", *TOLD_ONCE}
    assert set(PositionFigures.__struct_fields__) == {*own, "as_of"}
    assert OrderFigures.__struct_fields__ == ORDER_FIGURES
    assert set(MarginUpdated.__struct_fields__) - common <= set(MarginDocument.__struct_fields__)
    own = {*StateUpdated.__struct_fields__} - {*TOLD_ONCE}
    assert own <= {*StateDocument.__struct_fields__}


async def test_view_columns_are_the_updates_fields(pool: postgres.Pool) -> None:
    """A field added to an update must get a column, or the view silently loses it."""
    extra = {"log_time", "correlation_id", "causation_id", "trace_id"}
    for table, update in (
        ("balances_view", StateUpdated),
        ("positions_view", PositionUpdated),
        ("margin_view", MarginUpdated),
        ("orders_view", OrderUpdated),
        ("reconciliation_view", ReconciliationReported),
    ):
        async with postgres.acquired(pool) as connection:
            rows = await connection.fetch(
                "SELECT column_name FROM information_schema.columns WHERE table_name = $1", table
            )
        assert {row[0] for row in rows} == {*update.__struct_encode_fields__} - {*TOLD_ONCE} | extra
