"""`python -m benchmarks.archive [--events N]`: how fast a backlog gets into the event archive.

Embedded servers, writing to disk; half of the events are on the log, half are signals. Measured
from the first transaction of `psm archive` to the last.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import sys
import tempfile
import time
import uuid
from pathlib import Path

import asyncpg
from nats.aio.client import Client

from benchmarks.figures import Figure, Size
from psm.adapters.embedded import EmbeddedServers
from psm.adapters.jetstream import connect, stream_info
from psm.adapters.jetstream.streams_apply import apply
from psm.projections.schema.migrate import migrate
from psm.workers.process.settings import Settings

TARGET_EVENTS_PER_S = 10_000
_ACCOUNTS = 500
_WINDOW = 1000


def main() -> int:
    """Measure and print; return 1 where the target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.archive", description=__doc__)
    parser.add_argument("--events", type=int, default=200_000, help="size of the backlog")
    options = parser.parse_args()
    figures = asyncio.run(measure(options.events))
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    return 0 if figures["events_per_s"] >= TARGET_EVENTS_PER_S else 1


async def figures(size: Size) -> list[Figure]:
    """Return the rate of one backlog."""
    found = await measure(size.of(100_000, least=2_000))
    return [
        Figure(
            name="archive, a backlog of 500 accounts",
            unit="events/s",
            value=found["events_per_s"],
            target=TARGET_EVENTS_PER_S,
        ),
    ]


async def measure(events: int) -> dict[str, float]:
    """Fill the streams, archive them, return the rate."""
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedServers(Path(folder) / "data", permissions=False) as servers:
            nc = await connect(servers.nats_url, name="benchmark")
            await apply(nc, Settings())
            await migrate(servers.postgres_dsn)
            await _fill(nc, events)
            cpu_before = _cpu_of_children()
            seconds, archived = await _archive(servers, events)
            cpu = _cpu_of_children() - cpu_before
            await nc.close()
    return {
        "events": events,
        "seconds": round(seconds, 2),
        "events_per_s": round(archived / seconds),
        "archiver_cpu_us_per_event": round(cpu / events * 1e6, 1),
    }


def _cpu_of_children() -> float:
    """Processor seconds of the children that have ended: a busy machine does not change them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def _fill(nc: Client, events: int) -> None:
    for number in range(events):
        account = f"acc_{number % _ACCOUNTS}"
        on_log = number // _ACCOUNTS % 2 == 0
        subject = f"trades.{account}" if on_log else f"signals.strategy.{account}.BTCUSDT"
        await nc.publish(subject, _event(account, number))
        if number % _WINDOW == 0:
            await nc.flush()
    stored = 0
    while stored < events:
        await asyncio.sleep(0.1)
        stored = sum([(await stream_info(nc, s)).messages for s in ("TRADES", "SIGNALS")])


def _event(account: str, number: int) -> bytes:
    body = {
        "event_id": str(uuid.uuid4()),
        "event_type": "TradeExecuted",
        "stream_id": account,
        "sequence_number": number // (2 * _ACCOUNTS) + 1,
        "timestamp": "2025-12-12T10:30:00Z",
        "schema_version": "1.0.0",
        "source_service": "benchmark",
        "user_id": "benchmark",
        "correlation_id": str(uuid.uuid4()),
        "causation_id": str(uuid.uuid4()),
        "payload": {
            "symbol": "BTCUSDT",
            "side": "buy",
            "quantity": "0.5",
            "price": "42000",
            "commission": "2.10",
            "fill_id": f"f{number}",
        },
    }
    return json.dumps(body).encode()


async def _archive(servers: EmbeddedServers, events: int) -> tuple[float, int]:
    """Run `psm archive` until all is there; return seconds and events since its first write."""
    environment = {**os.environ, "NATS_URL": servers.nats_url, "POSTGRES_DSN": servers.postgres_dsn}
    connection = await asyncpg.connect(servers.postgres_dsn)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "psm.workers.cli", "archive", env=environment
    )
    head, first, began = 0, 0, time.perf_counter()
    while head < events:
        await asyncio.sleep(0.02)
        head = await connection.fetchval("SELECT archive_sequence FROM archive_head")
        if head and not first:
            first, began = head, time.perf_counter()
    seconds = time.perf_counter() - began
    process.terminate()
    await process.wait()
    await connection.close()
    return seconds, events - first


if __name__ == "__main__":
    sys.exit(main())
