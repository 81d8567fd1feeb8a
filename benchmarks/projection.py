"""The projector's rows per second, beside a bare `unnest` upsert of the same rows.

Measured: reading the stream PSM, checking and decoding it, reducing, writing rows and checkpoint.
Bare: the rows that came out, already in memory, by the same transactions into the same tables.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from benchmarks.figures import Figure, Size, beside
from benchmarks.rig import Rig, fills, rig, running, until
from psm.adapters import postgres, telemetry
from psm.adapters.embedded import EmbeddedPostgres
from psm.adapters.jetstream import stream_info
from psm.projections.current_state import CURRENT_STATE
from psm.projections.rows import Row
from psm.projections.schema.migrate import migrate
from psm.workers.projector.follower import Follower
from psm.workers.projector.sources import reader_of

TARGET = 0.5
_EVENTS_PER_ACCOUNT = 2
_PROJECTION = msgspec.structs.replace(
    CURRENT_STATE,
    views=tuple(view for view in CURRENT_STATE.views if view.table != "orders_view"),
)

Batch = dict[str, list[Row]]
"""Rows of one transaction, by table."""


async def measure(size: Size) -> list[Figure]:
    """Project a stream of updates of many accounts; write the same rows barely."""
    events = size.of(3_000)
    measured: list[float] = []
    bare: list[float] = []
    async with rig() as broker, _database() as dsn:
        accounts = max(1, events // _EVENTS_PER_ACCOUNT)
        await broker.fill(fills(events, accounts, funded=False))
        partition = broker.partition()
        async with running(partition):
            await until(lambda: partition.stats.updates >= events * 3, "everything is committed")
        pool = await postgres.open_pool(dsn, name="benchmark")
        try:
            batches = await _batches(broker)
            rows = sum(len(found) for batch in batches for found in batch.values())
            writer = await _Bare.open(pool, batches)
            for _ in range(size.rounds):
                await _empty(pool)
                measured.append(rows / await _project(broker, pool))
                await _empty(pool)
                bare.append(rows / await writer.write(pool))
        finally:
            await pool.close()
    return [beside("projection", "rows/s", measured, bare, target=TARGET)]


@asynccontextmanager
async def _database() -> AsyncIterator[str]:
    with TemporaryDirectory(prefix="psm-bench-") as folder:
        async with EmbeddedPostgres(Path(folder)) as server:
            await migrate(server.dsn)
            yield server.dsn


async def _empty(pool: postgres.Pool) -> None:
    tables = ", ".join((*_PROJECTION.tables, "projection_checkpoints", "log_heads"))
    async with postgres.acquired(pool) as connection:
        await connection.execute(f"TRUNCATE {tables}")


async def _project(broker: Rig, pool: postgres.Pool) -> float:
    """Follow PSM to its end; return seconds."""
    last = (await stream_info(broker.nc, "PSM")).last_sequence
    follower = Follower(broker.nc, pool, _PROJECTION, 0, telemetry.quiet().metrics)
    started = time.perf_counter()
    async with running(follower):
        await until(lambda: follower.status().stream_sequence >= last, "all is projected")
        return time.perf_counter() - started


async def _batches(broker: Rig) -> list[Batch]:
    """Return the rows as the projector groups them."""
    last = (await stream_info(broker.nc, "PSM")).last_sequence
    metrics, position, batches = telemetry.quiet().metrics, 0, []
    reader = reader_of(_PROJECTION.source).open(broker.nc, 0, 1, metrics.reader_reset)
    while position < last:
        ready = reader.assemble(await reader.fetch())
        if ready is not None:
            position = ready.checkpoint.stream_sequence
            batches.append(
                {
                    view.table: list(chain(*view.reduce(ready.updates).values()))
                    for view in _PROJECTION.views
                }
            )
    await reader.close()
    return batches


class _Bare:
    """One `unnest` upsert per table, its values prepared as lists."""

    def __init__(self, statements: dict[str, str], values: list[dict[str, list[Any]]]) -> None:
        self._statements = statements
        self._values = values

    @classmethod
    async def open(cls, pool: postgres.Pool, batches: list[Batch]) -> _Bare:
        statements: dict[str, str] = {}
        names: dict[str, list[str]] = {}
        async with postgres.acquired(pool) as connection:
            for view in _PROJECTION.views:
                columns = await _columns(connection, view.table)
                found = next(iter(batches[0][view.table]), {})
                names[view.table] = [name for name in columns if name in found]
                statements[view.table] = _upsert(view.table, view.key, names[view.table], columns)
        values = [
            {
                table: [[_text(row[name]) for row in rows] for name in names[table]]
                for table, rows in batch.items()
                if rows
            }
            for batch in batches
        ]
        return cls(statements, values)

    async def write(self, pool: postgres.Pool) -> float:
        started = time.perf_counter()
        for batch in self._values:
            async with postgres.transaction(pool) as connection:
                for table, values in batch.items():
                    await connection.execute(self._statements[table], *values)
        return time.perf_counter() - started


async def _columns(connection: postgres.Connection, table: str) -> dict[str, str]:
    records = await connection.fetch(
        "SELECT attname, format_type(atttypid, atttypmod) AS kind FROM pg_attribute "
        "WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped",
        table,
    )
    return {record["attname"]: record["kind"] for record in records}


def _upsert(table: str, key: tuple[str, ...], names: list[str], kinds: dict[str, str]) -> str:
    quoted = [f'"{name}"' for name in names]
    casts = ", ".join(f'"{name}"::{kinds[name]}' for name in names)
    arrays = ", ".join(f"${place}::text[]" for place in range(1, len(names) + 1))
    changed = ", ".join(f'"{name}" = excluded."{name}"' for name in names if name not in key)
    return (
        f"INSERT INTO {table} ({', '.join(quoted)}) SELECT {casts} "
        f"FROM unnest({arrays}) AS new ({', '.join(quoted)}) "
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changed}"
    )


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        return "{" + ",".join(value) + "}"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
