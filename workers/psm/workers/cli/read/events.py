"""`psm events` and `psm trace`, and counts for `psm stats`: what the event archive holds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from cyclopts import Parameter

from psm.contracts.errors import ConfigError
from psm.workers.access.vouched import keyring_of
from psm.workers.archive.reads import (
    LIMIT_DEFAULT,
    LIMIT_MAX,
    ArchiveReads,
    Filter,
    Page,
    UnknownCorrelationError,
)
from psm.workers.cli.shared.connections import database
from psm.workers.cli.shared.http import not_over_http, remote
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.explain.event_text import tree
from psm.workers.process.config import Settings, load_settings
from psm.workers.process.times import utc_time

_COLUMNS = (
    "archive_sequence", "event_type", "stream_id", "sequence_number", "outcome", "timestamp",
    "source_service", "event_id",
)  # fmt: skip
_STATS_COLUMNS = (
    "event_type", "events", "js_stream", "source_service", "streams", "bytes", "first_at", "last_at"
)  # fmt: skip
_decoder = msgspec.json.Decoder(float_hook=str)


class _Lines(msgspec.Struct, frozen=True):
    events: list[msgspec.Raw]


_lines = msgspec.json.Decoder(_Lines)


def events(
    *,
    from_sequence: Annotated[int | None, Parameter(help="First archive sequence.")] = None,
    to_sequence: Annotated[int | None, Parameter(help="Last archive sequence.")] = None,
    stream_id: Annotated[str | None, Parameter(help="Only of this account.")] = None,
    event_type: Annotated[str | None, Parameter(help="Only of this type.")] = None,
    limit: Annotated[int, Parameter(help=f"How many at most, 1 to {LIMIT_MAX}.")] = LIMIT_DEFAULT,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """List archived events in the order of archiving."""
    if not 1 <= limit <= LIMIT_MAX:
        raise ConfigError(f"--limit {limit}: choose 1 to {LIMIT_MAX}")
    wanted = Filter(
        from_sequence=from_sequence,
        to_sequence=to_sequence,
        stream_id=stream_id,
        event_type=event_type,
        limit=limit,
    )

    async def read() -> Page:
        there = remote()
        if there is not None:
            body = there.read(
                "/events",
                from_sequence=from_sequence,
                to_sequence=to_sequence,
                stream_id=stream_id,
                event_type=event_type,
                limit=limit,
            )
            return msgspec.json.decode(body, type=Page)
        async with reading(load_settings()) as archive:
            return await archive.events(wanted)

    page = asyncio.run(read())
    if output.format != "table":
        output.rows(page.events, ())
    elif page.events:
        output.rows(map(as_read, page.events), _COLUMNS)
    else:
        output.note("no such events")
    if page.next_sequence is not None:
        output.note(f"there are more: --from-sequence {page.next_sequence}")


def trace(
    correlation_id: Annotated[str, Parameter(help="A correlation id, or an event of it.")],
    /,
    *,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Show all events of a correlation as a tree: what caused them, and what they caused.

    Exit 1 if there is no such correlation.
    """

    async def read() -> bytes:
        there = remote()
        if there is not None:
            return there.read(f"/correlations/{quote(correlation_id, safe='')}")
        async with reading(load_settings()) as archive:
            try:
                return await archive.correlation(correlation_id)
            except UnknownCorrelationError:
                # Somebody has an event at hand, not the correlation.
                own = await archive.correlation_of(correlation_id)
                if own is None:
                    raise
                return await archive.correlation(own)

    body = asyncio.run(read())
    if output.format == "json":
        output.document(msgspec.Raw(body))
    elif output.format == "jsonl":
        output.rows(_lines.decode(body).events, ())
    else:
        document = as_read(body)
        lines = tree([found["event"] for found in document["events"]])
        output.lines(*lines)
        outside = sum(found["relation"] != "correlated" for found in document["events"])
        output.note(
            f"correlation {document['correlation_id']}: {len(document['events'])} events"
            + (f", {outside} of them linked by causation only" if outside else "")
        )


def print_counts(since: str | None, output: Output) -> None:
    """Print how many events the archive holds per stream, type and service, and its incidents.

    Args:
        since: only what was stored since; as `psm stats` takes it.
        output: how.

    Raises:
        ConfigError: `since` is no time, or one to come.
    """
    not_over_http("stats")
    within = None if since is None else _within(since)

    async def read() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        async with reading(load_settings()) as archive:
            return await archive.stats(within), await archive.incident_counts(within)

    rows, incidents = asyncio.run(read())
    total = sum(row["events"] for row in rows)
    counts = {row["kind"]: row["incidents"] for row in incidents}
    if output.format == "json":
        output.document({"since": since, "events": total, "types": rows, "incidents": counts})
        return
    output.rows(rows, _STATS_COLUMNS)
    output.note(f"{total} events" + (f" within {since}" if since else ""))
    if counts:
        listed = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        output.note(f"incidents: {listed}; see `psm archive incidents`")


def as_read(body: bytes | msgspec.Raw) -> dict[str, Any]:
    """Return a document for people: a number of a payload keeps the digits it was written with."""
    document: dict[str, Any] = _decoder.decode(body)
    return document


@contextlib.asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[ArchiveReads]:
    """Give the archive's reads for one command."""
    async with database(settings) as pool:
        yield ArchiveReads(pool, keyring_of(settings.http_principal_keys))


def _within(text: str) -> timedelta:
    """Return how long before now a time is."""
    now = datetime.now(UTC)
    since = datetime.fromisoformat(utc_time(text, now)[:19]).replace(tzinfo=UTC)
    if since > now:
        raise ConfigError(f"--since {text}: that is not yet")
    return now - since
