"""What the event archive answers: the documents behind HTTP and the command line.

A sequence here is the `archive_sequence`. Documents are made by PostgreSQL, in one statement each.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from psm.adapters import postgres
from psm.contracts.errors import PSMError
from psm.projections.sql import load

LIMIT_DEFAULT = 100
LIMIT_MAX = 1000

_PAGE = """
SELECT e.archive_sequence, event_document(e.archive_sequence)::text
FROM (SELECT archive_sequence FROM events {where} ORDER BY archive_sequence LIMIT {limit}) AS e
ORDER BY e.archive_sequence
"""


class UnknownEventError(PSMError):
    """No such event was archived."""


class UnknownCorrelationError(PSMError):
    """No event of that correlation was archived."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events to list; None does not restrict.

    Attributes:
        from_sequence: the first `archive_sequence`.
        to_sequence: the last one, included.
        stream_id: of the events.
        event_type: of the events.
        limit: how many at most, 1 to `LIMIT_MAX`.
    """

    from_sequence: int | None = None
    to_sequence: int | None = None
    stream_id: str | None = None
    event_type: str | None = None
    limit: int = LIMIT_DEFAULT


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Some events.

    Attributes:
        events: documents, ascending.
        next_sequence: where the next page starts; None at the end, as of now.
    """

    events: list[msgspec.Raw]
    next_sequence: int | None


class ArchiveReads:
    """Reads the archive."""

    def __init__(self, pool: postgres.Pool) -> None:
        self._pool = pool

    async def events(self, wanted: Filter) -> Page:
        """Return a page of events.

        Raises:
            TransientError: PostgreSQL is away; also below.
        """
        conditions = {
            "archive_sequence >=": wanted.from_sequence,
            "archive_sequence <=": wanted.to_sequence,
            "stream_id =": wanted.stream_id,
            "event_type =": wanted.event_type,
        }
        given = {name: value for name, value in conditions.items() if value is not None}
        where = " AND ".join(f"{name} ${n}" for n, name in enumerate(given, 1))
        # Only names and numbers of our own get into the statement.
        query = _PAGE.format(where=f"WHERE {where}" if where else "", limit=wanted.limit + 1)
        async with postgres.acquired(self._pool) as connection:
            found = await connection.fetch(query, *given.values())
        return Page(
            events=[msgspec.Raw(_compact(text)) for _, text in found[: wanted.limit]],
            next_sequence=found[wanted.limit][0] if len(found) > wanted.limit else None,
        )

    async def event(self, event_id: str) -> bytes:
        """Return one event with its bytes; `event_id` may be an `archive_sequence`, too.

        Raises:
            UnknownEventError: it is not in the archive.
        """
        queries = load("events")
        async with postgres.acquired(self._pool) as connection:
            sequence = await connection.fetchval(queries["by_event_id"], event_id)
            if sequence is None and event_id.isdecimal() and len(event_id) < 19:
                sequence = await connection.fetchval(queries["by_sequence"], int(event_id))
            text = sequence and await connection.fetchval(queries["one"], sequence)
        return _known_event(text, event_id)

    async def causation(self, event_id: str) -> bytes:
        """Return the causes of an event, the first one first, and its effects.

        Raises:
            UnknownEventError: it is not in the archive.
        """
        return _known_event(await self._value("causation", event_id), event_id)

    async def explain(self, event_id: str) -> bytes:
        """Return decision, signal and market data behind an event, with causes and effects.

        Raises:
            UnknownEventError: it is not in the archive.
        """
        return _known_event(await self._value("explain", event_id), event_id)

    async def correlation(self, correlation_id: str) -> bytes:
        """Return the events of a correlation, with causes and effects that lie outside of it.

        Raises:
            UnknownCorrelationError: there are none.
        """
        text = await self._value("correlation", correlation_id)
        if text is None:
            raise UnknownCorrelationError(
                f"no event with correlation_id {correlation_id} is in the archive"
            )
        return _compact(text)

    async def correlation_of(self, event_id: str) -> str | None:
        """Return the `correlation_id` of an event; None if it has none or is unknown."""
        found: str | None = await self._value("correlation_of", event_id)
        return found

    async def stats(self, since: timedelta | None = None) -> list[dict[str, Any]]:
        """Return how many events there are per stream, type and service."""
        return await self._rows("stats", since)

    async def incident_counts(self, since: timedelta | None = None) -> list[dict[str, Any]]:
        """Return how many incidents there are per kind."""
        return await self._rows("incident_counts", since)

    async def dangling(self, limit: int) -> list[dict[str, Any]]:
        """Return events that name a cause which is not in the archive, the oldest first."""
        return await self._rows("dangling", limit)

    async def incidents(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest incidents."""
        return await self._rows("incidents", limit)

    async def _value(self, query: str, *values: Any) -> Any:
        async with postgres.acquired(self._pool) as connection:
            return await connection.fetchval(load("events")[query], *values)

    async def _rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        async with postgres.acquired(self._pool) as connection:
            return [dict(row) for row in await connection.fetch(load("events")[query], *values)]


def _known_event(text: str | None, event_id: str) -> bytes:
    if text is None:
        raise UnknownEventError(
            f"event {event_id} is not in the archive; a new one takes a moment to get there"
        )
    return _compact(text)


def _compact(text: str) -> bytes:
    """The same JSON without blanks; numbers keep their digits."""
    return msgspec.json.format(text.encode(), indent=-1)
