"""`psm archive`: keep every event in PostgreSQL, and say how that goes."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from psm.adapters import telemetry
from psm.workers.archive.archiver import Archiver, readiness
from psm.workers.archive.lag import RETENTION_ALERT, ArchiveLag, archive_lag
from psm.workers.archive.reads import ArchiveReads
from psm.workers.cli.shared.connections import broker, database
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.cli.shared.process import process
from psm.workers.process.config import Settings, load_settings
from psm.workers.process.readiness import database_answers

app = App(
    name="archive",
    help="Archive every event in PostgreSQL, for ever. "
    "Without a command it runs until SIGINT or SIGTERM; any number may run.",
)

_LAG_COLUMNS = (
    "js_stream", "checkpoint", "last_sequence", "lag_events", "lag_s", "retention_used",
)  # fmt: skip
_INCIDENT_COLUMNS = (
    "incident_id", "found_at", "kind", "js_stream", "first_sequence", "last_sequence", "detail",
)  # fmt: skip


_DANGLING_COLUMNS = ("archive_sequence", "stored_at", "event_type", "event_id", "causation_id")


@app.default
def archive() -> int:
    """Archive the log and the recorded streams. Runs until SIGINT or SIGTERM.

    Any number may run; one of them is active, and another takes over when it is gone.
    """
    return asyncio.run(run(load_settings()))


@app.command
def status(*, output: Output = DEFAULT_OUTPUT) -> int:
    """Show how far each stream is archived; exit 1 when one is late for its retention."""
    settings = load_settings()
    lags = asyncio.run(_status(settings))
    output.rows((msgspec.structs.asdict(lag) for lag in lags), _LAG_COLUMNS)
    late = [lag for lag in lags if lag.retention_used >= RETENTION_ALERT]
    for lag in late:
        output.note(
            f"{lag.js_stream}: {lag.retention_used:.0%} of the retention is used; "
            "what expires unread is lost to the archive. Does `psm archive` run?"
        )
    return int(bool(late))


@app.command
def incidents(
    *,
    limit: Annotated[int, Parameter(help="How many, the newest.")] = 100,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Show holes, identities and business keys that were applied twice; exit 1 if there are any."""
    settings = load_settings()
    found = asyncio.run(_incidents(settings, limit))
    if found or output.format != "table":
        output.rows(found, _INCIDENT_COLUMNS)
    else:
        output.note("no incidents")
    return int(bool(found))


@app.command
def dangling(
    *,
    limit: Annotated[int, Parameter(help="How many, the oldest.")] = 100,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """List events whose cause is not archived: sampled away, expired, or not there yet."""
    settings = load_settings()

    async def read() -> list[dict[str, object]]:
        async with database(settings) as pool:
            return await ArchiveReads(pool).dangling(limit)

    found = asyncio.run(read())
    if found or output.format != "table":
        output.rows(found, _DANGLING_COLUMNS)
    else:
        output.note("every cause is archived")


@app.command(name="bytes")
def message(
    event_id: Annotated[str, Parameter(help="An event, or its archive sequence.")], /
) -> None:
    """Write the bytes of an archived message to stdout, exactly as they were stored."""
    asyncio.run(_write_message(load_settings(), event_id))


async def run(settings: Settings) -> int:
    """Run an archiver until it is told to stop."""
    async with process(settings, "psm-archive") as own:
        pool = await own.open_pool()
        archiver = Archiver(
            own.nc,
            pool,
            own.instruments.metrics,
            sample_interval_ms=settings.archive_marketdata_interval_ms,
        )
        lease = await own.open_lease("archive")
        pulse = await own.watch({"postgres": database_answers(pool)})

        def ready() -> tuple[bool, dict[str, Any]]:
            if lease.active.is_set():
                return readiness(archiver)
            return not pulse.problems, {"standby": True, "away": pulse.problems}

        await own.serve_health(ready)
        running = asyncio.create_task(lease.run(archiver.run))
        own.on_stop(running.cancel)
        await asyncio.wait([running])
        if not running.cancelled():
            running.result()
        telemetry.get_logger().info("archive.ended")
        return 0


async def _status(settings: Settings) -> list[ArchiveLag]:
    async with broker(settings, "psm-cli") as nc, database(settings) as pool:
        return await archive_lag(nc, pool)


async def _incidents(settings: Settings, limit: int) -> list[dict[str, object]]:
    async with database(settings) as pool:
        return await ArchiveReads(pool).incidents(limit)


async def _write_message(settings: Settings, event_id: str) -> None:
    async with database(settings) as pool:
        reads = ArchiveReads(pool)
        written, total = 0, 1
        while written < total:
            piece = await reads.message(event_id, written)
            sys.stdout.buffer.write(piece.data)
            written, total = written + len(piece.data), piece.total
        sys.stdout.flush()
