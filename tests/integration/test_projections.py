"""The current_state projection against a real PostgreSQL: rows equal what was published."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import asyncpg
import pytest
from tests.support.psm_stream import TRACE_ID, TRACEPARENT, Account, OneWorker, mark, read

from psm.contracts.errors import FencedError, InvariantError
from psm.contracts.updates_read import ReadUpdate
from psm.projections import checkpoints
from psm.projections.checkpoints import ViewCheckpoint
from psm.projections.current_state import CURRENT_STATE
from psm.projections.rows import trace_id
from psm.projections.schema import migrate


@pytest.fixture
async def connection(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    await migrate.migrate(postgres_dsn)
    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close()


async def only(connection: asyncpg.Connection, table: str) -> asyncpg.Record:
    (row,) = await connection.fetch(f"SELECT * FROM {table}")
    return row


async def apply(connection: asyncpg.Connection, updates: list[ReadUpdate]) -> int:
    async with connection.transaction():
        return await CURRENT_STATE.writer().apply(connection, updates)


async def test_rows_equal_the_account(connection: asyncpg.Connection) -> None:
    """After a history with a flip and marks, each column equals the domain's own document."""
    worker, account = OneWorker(), Account("acc_001")
    updates = []
    for message in (
        account.deposit("1000.10"),
        account.trade("buy", "0.5", "42000"),
        mark("BTC-PERP", "42500", 1),
        account.trade("sell", "0.8", "42100.000000000000000002"),
        mark("BTC-PERP", "41000", 2),
        mark("BTC-PERP", "40900.5", 3),
        mark("BTC-PERP", "40901", 4),
        account.event("FundingApplied", symbol="BTC-PERP", funding_payment="-2.10"),
    ):
        updates += worker.fold(*message)
    await apply(connection, read(updates, TRACEPARENT))

    row = await only(connection, "balances_view")
    position = await only(connection, "positions_view")
    margin = await only(connection, "margin_view")
    document = worker.document("acc_001")
    figures = document["positions"]["BTC-PERP"]
    assert document["realized_pnl"] == "50.000000000000000001"
    for name in ("equity", "realized_pnl", "fees", "funding", "peak_equity", "drawdown"):
        assert row[name] == Decimal(document[name]), name
        assert str(row[name]) == document[name]
    assert row["cash"] == '{"USDT": "' + document["cash"]["USDT"] + '"}'
    assert row["ledger_hash"] == document["ledger_hash"]
    assert row["state_hash"] == document["state_hash"]
    assert (row["sequence_number"], row["status"]) == (4, "open")
    assert row["trace_id"] == position["trace_id"] == TRACE_ID
    for name, value in figures.items():
        assert (str(position[name]) if position[name] is not None else None) == (
            str(value) if value is not None else None
        ), name
    assert position["side"] == "short"
    assert str(margin["margin_available"]) == document["margin_available"]


async def test_batch_size_does_not_matter(connection: asyncpg.Connection) -> None:
    """One batch of everything and one batch per update leave the same rows."""
    worker, first, second = OneWorker(), Account("acc_a"), Account("acc_b")
    updates = []
    for account in (first, second, first, second):
        for message in (
            account.deposit(),
            account.trade("buy", "1", "100"),
            account.trade("sell", "3", "110"),
            account.order("o1", "1"),
            account.fill("o1", "0.5", "3000"),
        ):
            updates += worker.fold(*message)
    tables = ("balances_view", "positions_view", "margin_view", "orders_view", "chain_heads")

    async def rows() -> list[list[asyncpg.Record]]:
        return [await connection.fetch(f"SELECT * FROM {t} ORDER BY 1, 2") for t in tables]

    written = await apply(connection, read(updates))
    at_once = await rows()
    assert written == sum(map(len, at_once)) == 12
    for table in tables:
        await connection.execute(f"TRUNCATE {table}")
    for update in read(updates):
        await apply(connection, [update])
    assert await rows() == at_once


async def test_bust_of_the_only_fill_removes_what_it_made(connection: asyncpg.Connection) -> None:
    """What never was has no row, in one batch or in more; a position that comes back has one."""
    worker, account = OneWorker(), Account("acc_001")
    traded = worker.fold(*account.fill("o1", "2", "3000"))
    kept = worker.fold(*account.trade("buy", "1", "42000"))
    busted = worker.fold(*account.event("TradeBusted", fill_id="fill-0", reason="venue error"))
    for batches in ([traded + kept + busted], [traded, kept, busted]):
        for batch in batches:
            await apply(connection, read(batch))
        assert (await only(connection, "positions_view"))["symbol"] == "BTC-PERP"
        assert await connection.fetch("SELECT * FROM orders_view") == []
        await connection.execute("TRUNCATE positions_view")
    again = worker.fold(*account.trade("buy", "1", "3100", "SOL-PERP"))
    await apply(connection, read(busted + again))
    row = await only(connection, "positions_view")
    assert (row["symbol"], row["cycle"], row["side"]) == ("SOL-PERP", 1, "long")
    assert set(worker.document("acc_001")["positions"]) == {"BTC-PERP", "SOL-PERP"}


async def test_blocked_stream_shows_in_its_row(connection: asyncpg.Connection) -> None:
    """A gap changes the status only, whether the row is there or not, and its end does too."""
    worker, known, unknown = OneWorker(), Account("known"), Account("unknown")
    opened = worker.fold(*known.deposit())
    await apply(connection, read(opened))
    before = dict(await only(connection, "balances_view"))
    missing = known.deposit("7")
    late = known.deposit("8")
    missing_first = unknown.deposit("1")
    gaps = worker.fold(*late) + worker.fold(*unknown.deposit("2"))
    await apply(connection, read(gaps))
    rows = {
        row["account_id"]: dict(row)
        for row in await connection.fetch("SELECT * FROM balances_view")
    }
    assert rows["known"] == before | {"status": "gap"}
    assert rows["unknown"]["status"] == "gap"
    assert rows["unknown"]["sequence_number"] == 0
    assert rows["unknown"]["ledger_hash"] is None
    assert rows["unknown"]["equity"] is None

    await apply(connection, read(worker.fold(*missing)))
    await apply(connection, read(worker.fold(*missing_first)))
    rows = {
        row["account_id"]: dict(row)
        for row in await connection.fetch("SELECT * FROM balances_view")
    }
    for account in ("known", "unknown"):
        assert rows[account]["status"] == "open"
        assert rows[account]["ledger_hash"] == worker.document(account)["ledger_hash"]
    assert rows["known"]["sequence_number"] == 3


async def test_unreadable_update_is_never_skipped(connection: asyncpg.Connection) -> None:
    """An update that breaks PSM's own contract stops the projection."""
    with pytest.raises(InvariantError, match=r"state\.updated"):
        await apply(connection, [ReadUpdate(kind="state.updated", data=b'{"payload": {}}')])


@pytest.mark.parametrize(
    ("right", "wrong", "detail"),
    [
        (b'"size":"1"', b'"size":"1e"', "InvalidTextRepresentation"),
        (b'"side":"long"', b'"side":"both"', "cannot be read"),
        (b'"cycle":1', b'"cycle":"1"', "cannot be read"),
        (b'"cycle":1', b'"cycle":9223372036854775808', "NumericValueOutOfRange"),
    ],
)
async def test_update_that_no_row_can_hold_is_never_skipped(
    connection: asyncpg.Connection, right: bytes, wrong: bytes, detail: str
) -> None:
    """What PSM would not publish stops the projection, wherever it is noticed."""
    updates = read(OneWorker().fold(*Account("acc_001").trade("buy", "1", "42000")))
    position = next(update for update in updates if update.kind == "position.updated")
    assert position.data.count(right) == 1
    broken = ReadUpdate(kind=position.kind, data=position.data.replace(right, wrong))
    with pytest.raises(InvariantError, match=detail):
        await apply(connection, [broken])
    assert await connection.fetch("SELECT * FROM positions_view") == []


async def test_checkpoint_moves_only_from_where_it_is_believed(
    connection: asyncpg.Connection,
) -> None:
    """A second creation and an advance from an older position are refused."""
    first = ViewCheckpoint(partition=3, stream_sequence=10, event_hash="a", log_sequence=5)
    later = ViewCheckpoint(partition=3, stream_sequence=20, event_hash="b", log_sequence=9)
    await checkpoints.advance(connection, "x", first, expected=None)
    with pytest.raises(FencedError):
        await checkpoints.advance(connection, "x", later, expected=None)
    await checkpoints.advance(connection, "x", later, expected=first)
    with pytest.raises(FencedError):
        await checkpoints.advance(connection, "x", later, expected=first)
    stored = await checkpoints.read(connection, "x", 3)
    assert stored is not None
    assert (stored.stream_sequence, stored.event_hash, stored.log_sequence) == (20, "b", 9)
    assert await checkpoints.read(connection, "x", 4) is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (TRACEPARENT, TRACE_ID),
        (None, None),
        ("", None),
        ("00-" + "0" * 32 + "-00f067aa0ba902b7-01", None),
        (TRACEPARENT.upper(), None),
        ("00-short-00f067aa0ba902b7-01", None),
    ],
)
def test_trace_id_is_taken_from_a_valid_header_only(
    header: str | None, expected: str | None
) -> None:
    """A malformed trace context gives no trace id."""
    assert trace_id(header) == expected
