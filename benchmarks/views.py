"""How late the views are: from publishing an event until PostgreSQL shows it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg

from benchmarks.figures import Figure, Size, quantile
from benchmarks.processes import psm
from benchmarks.rig import Rig, fill, rig
from psm.adapters.embedded import EmbeddedPostgres
from psm.projections.schema.migrate import migrate

EVENTS_PER_S = 1000
P99_MAX_MS = 200.0
_ACCOUNTS = 200
_SECONDS = 10
_PROBE_PAUSE_S = 0.03
_POLL_S = 0.002
_OF_ACCOUNT = "WHERE account_id = 'probe' AND sequence_number >= $1"
OF_BALANCES = f"SELECT 1 FROM balances_view {_OF_ACCOUNT}"
OF_ANALYTICS = f"SELECT 1 FROM analytics_accounts {_OF_ACCOUNT}"


async def measure(size: Size) -> list[Figure]:
    """Return how late the views of the current state are."""
    return await lag_of(size, "view lag", OF_BALANCES)


async def lag_of(size: Size, what: str, seen: str) -> list[Figure]:
    """Load a worker and projectors; follow one account's events into its row meanwhile.

    Args:
        size: how much.
        what: name of the figures.
        seen: query that finds the row with at least a number.
    """
    events = size.of(EVENTS_PER_S * _SECONDS, least=200)
    async with rig(partitions=4) as broker:
        with TemporaryDirectory(prefix="psm-bench-") as folder:
            async with EmbeddedPostgres(Path(folder)) as server:
                await migrate(server.dsn)
                own = {**broker.environment, "POSTGRES_DSN": server.dsn}
                async with (
                    psm("worker", **own),
                    psm("projector", "--without", "analytics", **own),
                    psm("projector", "--only", "analytics", **own),
                ):
                    connection = await asyncpg.connect(server.dsn)
                    lags = await _lags(broker, connection, events, seen)
                    await connection.close()
    name = f"{what} at {EVENTS_PER_S:,}/s"
    return [
        Figure(name=f"{name}, median", unit="ms", value=quantile(lags, 0.5)),
        Figure(
            name=f"{name}, p99",
            unit="ms",
            value=quantile(lags, 0.99),
            spread=(min(lags), max(lags)),
            better="at most",
            target=P99_MAX_MS,
        ),
    ]


async def _lags(
    broker: Rig, connection: asyncpg.Connection[Any], events: int, seen: str
) -> list[float]:
    await _probe(broker, connection, 1, seen)  # both processes are up
    load = asyncio.create_task(_load(broker, events))
    lags: list[float] = []
    number = 2
    while not load.done():
        lags.append(await _probe(broker, connection, number, seen))
        number += 1
        await asyncio.sleep(_PROBE_PAUSE_S)
    await load
    return lags


async def _probe(broker: Rig, connection: asyncpg.Connection[Any], number: int, seen: str) -> float:
    """Publish one event of the probed account; return milliseconds until its row shows it."""
    message = fill("probe", number, "S")
    started = time.perf_counter()
    await broker.bare.publish(message.subject, message.data)
    async with asyncio.timeout(60):
        while await connection.fetchval(seen, number) is None:  # noqa: ASYNC110 - another process
            await asyncio.sleep(_POLL_S)
    return (time.perf_counter() - started) * 1000


async def _load(broker: Rig, events: int) -> None:
    js = broker.bare.jetstream(publish_async_max_pending=2000)
    started = time.perf_counter()
    for place in range(events):
        wait_s = started + place / EVENTS_PER_S - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        message = fill(f"acc_{place % _ACCOUNTS}", place // _ACCOUNTS + 1, "S")
        await js.publish_async(message.subject, message.data)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(30):
            await js.publish_async_completed()
