"""An archive being written from a real broker, and what it must then hold."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from nats.aio.client import Client

from psm.adapters import postgres, telemetry
from psm.adapters.jetstream import read_range, stream_info
from psm.workers.archive.archiver import Archiver
from psm.workers.archive.source import RECORDED

STREAMS = ("TRADES", *RECORDED)
SETTLE_S = 60.0


@asynccontextmanager
async def archiving(
    nc: Client, dsn: str, *, sample_interval_ms: int = 0
) -> AsyncIterator[Archiver]:
    """Run an archiver inside the test process."""
    instruments = telemetry.setup("psm-archive", level="error")
    pool = await postgres.open_pool(dsn, name="psm-archive", size_max=2)
    archiver = Archiver(nc, pool, instruments.metrics, sample_interval_ms=sample_interval_ms)
    running = asyncio.create_task(archiver.run())
    try:
        yield archiver
    finally:
        running.cancel()
        await asyncio.wait([running])
        pool.terminate()
        instruments.shutdown()


def event(event_type: str, **fields: Any) -> dict[str, Any]:
    """Return an event for a recorded subject."""
    return {
        "event_id": str(uuid.uuid4()),
        "event_type": event_type,
        "timestamp": "2026-02-14T13:05:00Z",
        "schema_version": "1.0.0",
        "source_service": "test",
        "user_id": "test",
        "payload": {},
        **fields,
    }


async def publish(nc: Client, subject: str, content: dict[str, Any] | bytes) -> None:
    """Publish and wait until it is stored."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    await nc.jetstream().publish(subject, data)


async def fetch(dsn: str, query: str, *values: Any) -> list[asyncpg.Record]:
    """Return the rows of a query."""
    connection = await asyncpg.connect(dsn)
    try:
        found: list[asyncpg.Record] = await connection.fetch(query, *values)
        return found
    finally:
        await connection.close()


async def value(dsn: str, query: str, *values: Any) -> Any:
    """Return the one value of a query."""
    (row,) = await fetch(dsn, query, *values)
    return row[0]


async def archived(dsn: str, count: int) -> None:
    """Wait until so many events are archived."""
    await at_least(dsn, "SELECT count(*) FROM events", count)


async def at_least(dsn: str, query: str, wanted: int) -> None:
    """Wait until the value of a query is not less."""
    deadline = time.monotonic() + SETTLE_S
    while (found := await value(dsn, query)) < wanted:
        assert time.monotonic() < deadline, f"{query}: {found} of {wanted}"
        await asyncio.sleep(0.05)


async def assert_archive_equals_streams(nc: Client, dsn: str) -> int:
    """Wait until every stream is archived to its end, then compare byte by byte.

    Returns:
        How many events there are.
    """
    stored = {name: await _stored(nc, name) for name in STREAMS}
    total = sum(map(len, stored.values()))
    await archived(dsn, total)
    rows = await fetch(
        dsn,
        "SELECT archive_sequence, js_stream, js_sequence, raw, event_hash FROM events"
        " ORDER BY archive_sequence",
    )
    assert [row["archive_sequence"] for row in rows] == list(range(1, total + 1))
    for name in STREAMS:
        found = [(r["js_sequence"], bytes(r["raw"])) for r in rows if r["js_stream"] == name]
        assert found == stored[name], name
    assert all(row["event_hash"] == hashlib.sha256(row["raw"]).hexdigest() for row in rows)
    assert await value(dsn, "SELECT archive_sequence FROM archive_head") == total
    return total


async def assert_chain_equals_updates(nc: Client, dsn: str) -> int:
    """Wait until all that PSM said of events is archived, then compare with the stream PSM.

    Returns:
        How many events took a place.
    """
    places = []
    last = (await stream_info(nc, "PSM")).last_sequence
    async for batch in read_range(nc, "PSM", ["psm.state.updated.*.*"], 1, last):
        for message in batch:
            payload = json.loads(message.data)["payload"]
            if payload["cause"] == "event":
                places.append(
                    (
                        payload["account_id"],
                        payload["sequence_number"],
                        payload.get("event_log_sequence", payload["log_sequence"]),
                        payload["event_hash"],
                        payload["chain_hash"],
                    )
                )
    await at_least(dsn, "SELECT count(*) FROM event_chain", len(places))
    rows = await fetch(
        dsn,
        "SELECT stream_id, sequence_number, log_sequence, event_hash, chain_hash FROM event_chain"
        " ORDER BY psm_sequence",
    )
    assert [tuple(row) for row in rows] == places
    apart = "SELECT count(*) FROM event_chain c JOIN events e USING (log_sequence)"
    assert await value(dsn, f"{apart} WHERE c.event_hash <> e.event_hash") == 0
    assert await value(dsn, apart) == len(places)
    return len(places)


async def _stored(nc: Client, name: str) -> list[tuple[int, bytes]]:
    last = (await stream_info(nc, name)).last_sequence
    return [
        (message.sequence, message.data)
        async for batch in read_range(nc, name, [">"], 1, last)
        for message in batch
    ]
