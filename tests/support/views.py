"""The views as an offline fold of the log makes them, and as PostgreSQL has them.

Nothing of the projector takes part: the log is exported over NATS, folded by the command
`psm fold`, and its updates are reduced here to the last one per key.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
from nats.aio.client import Client
from tests.support.running import psm

from psm.adapters.jetstream import read_range, stream_info
from psm.domain.market.slots import ValuationSlots

Rows = dict[tuple[str, ...], dict[str, Any]]
Views = dict[str, Rows]

KEYS = {
    "balances_view": ("account_id",),
    "positions_view": ("account_id", "class", "symbol", "position_side"),
    "margin_view": ("account_id",),
    "orders_view": ("account_id", "order_id"),
    "reconciliation_view": ("account_id",),
}
_TABLES = {
    "StateUpdated": "balances_view",
    "PositionUpdated": "positions_view",
    "MarginUpdated": "margin_view",
    "OrderUpdated": "orders_view",
    "ReconciliationReported": "reconciliation_view",
}
_BLOCK_FIELDS = ("reason", "expected_sequence", "detail", "from_sequence", "to_sequence")
_ZEROS = (
    "realized_pnl", "realized_pnl_net", "fees", "liquidation_fees", "funding", "deposits",
    "withdrawals", "transfers", "interest", "dividends", "adjustments", "taxes",
    "losses_covered", "flows", "flows_cost",
)  # fmt: skip
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def assert_views_equal_fold(
    nc: Client,
    dsn: str,
    partitions: int,
    settle_s: float = 60,
    slots: ValuationSlots | None = None,
) -> Views:
    """Wait until the views have come to rest, then compare them column by column."""
    folded = views_of(await folded_updates(nc, partitions, slots))
    deadline = asyncio.get_running_loop().time() + settle_s
    found = await read_views(dsn)
    while found != folded and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.2)
        found = await read_views(dsn)
    for table in KEYS:
        assert sorted(found[table]) == sorted(folded[table]), table
        for key, row in folded[table].items():
            there = found[table][key]
            differing = {n for n in row.keys() | there.keys() if row.get(n) != there.get(n)}
            shown = {n: (there.get(n), row.get(n)) for n in sorted(differing)}
            assert there == row, f"{table} {key}, view and fold: {shown}"
    return found


async def folded_updates(
    nc: Client, partitions: int, slots: ValuationSlots | None = None
) -> list[dict[str, Any]]:
    """Export the whole log, fold it offline with its slots, return the updates in order."""
    lines = [line async for line in exported(nc)]
    done = await asyncio.to_thread(
        psm,
        "fold",
        "-",
        "--partitions",
        str(partitions),
        "--valuation-slots",
        str(slots or ValuationSlots()),
        stdin="\n".join(lines),
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(lines), done.stderr
    return [update["data"] for result in results for update in result["updates"]]


async def exported(nc: Client) -> AsyncIterator[str]:
    """Yield the log as lines for `psm fold`: subject, time, log sequence and the exact bytes."""
    last = (await stream_info(nc, "TRADES")).last_sequence
    async for batch in read_range(nc, "TRADES", [">"], 1, last):
        for message in batch:
            seconds, nanoseconds = divmod(message.time_ns, 1_000_000_000)
            time = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
            line = {
                "subject": message.subject,
                "time": f"{time}.{nanoseconds:09}Z",
                "log_sequence": message.sequence,
                # As a string: an object might be printed anew on the way.
                "data": message.data.decode(),
            }
            yield json.dumps(line)


def views_of(updates: Iterable[dict[str, Any]]) -> Views:
    """Reduce updates to the last one per key of each view."""
    views: Views = {table: {} for table in KEYS}
    for update in updates:
        payload = update["payload"]
        if table := _TABLES.get(update["event_type"]):
            key = tuple(payload[name] for name in KEYS[table])
            views[table][key] = _row(update)
            if _is_gone(update):
                del views[table][key]
        elif update["event_type"] in ("StreamBlocked", "StreamResumed"):
            _set_status(views["balances_view"], update)
    return views


def _is_gone(update: dict[str, Any]) -> bool:
    """A bust took the only fill of a position, or of an order that nobody announced."""
    payload = update["payload"]
    if update["event_type"] == "PositionUpdated":
        return (payload["side"], payload["cycle"]) == ("flat", 0)
    return update["event_type"] == "OrderUpdated" and Decimal(payload["quantity"]) == 0


def _set_status(rows: Rows, update: dict[str, Any]) -> None:
    status = "open"
    if update["event_type"] == "StreamBlocked":
        status = "gap" if update["payload"]["reason"] == "sequence_gap" else "blocked"
    key = (update["payload"]["account_id"],)
    if key in rows:
        rows[key]["status"] = status
        return
    # It waits for its first event: nothing of it is known yet, and its totals are zero.
    row = _row(update)
    rows[key] = {
        **{name: value for name, value in row.items() if name not in _BLOCK_FIELDS},
        **dict.fromkeys(_ZEROS, "0"),
        "status": status,
        "cash": {},
        "borrowed": {},
        "nav_epoch": 0,
        "open_positions": 0,
        "open_orders": 0,
    }


def _row(update: dict[str, Any]) -> dict[str, Any]:
    row = {
        **update["payload"],
        "log_time": datetime.fromisoformat(update["timestamp"]),
        "correlation_id": update.get("correlation_id"),
        "causation_id": update.get("causation_id"),
    }
    for name in ("applied", "closed"):  # of what happened, not of the account
        row.pop(name, None)
    return {name: value for name, value in row.items() if value is not None}


async def read_views(dsn: str) -> Views:
    """Return all rows of the tables; a column that is null is left out."""
    connection = await asyncpg.connect(dsn)
    try:
        # One snapshot: the projector may be writing.
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return {
                table: {
                    tuple(row[name] for name in key): {
                        name: _plain(name, value)
                        for name, value in row.items()
                        if value is not None
                    }
                    for row in await connection.fetch(f"SELECT * FROM {table}")
                }
                for table, key in KEYS.items()
            }
    finally:
        await connection.close()


def _plain(name: str, value: Any) -> Any:
    """Return a column's value as it stands in an update; digits count, not only values."""
    if isinstance(value, Decimal):
        return format(value, "f")
    return json.loads(value) if name in ("cash", "borrowed", "differences") else value


async def rows_written(dsn: str) -> int:
    """Return a number that grows with every transaction of a projector."""
    connection = await asyncpg.connect(dsn)
    try:
        query = "SELECT coalesce(sum(stream_sequence), 0)::bigint FROM projection_checkpoints"
        return int(await connection.fetchval(query))
    finally:
        await connection.close()
