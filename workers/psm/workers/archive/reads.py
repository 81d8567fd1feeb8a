"""Reads of the event archive: the documents that HTTP and the command line show.

A sequence here is the `archive_sequence`. Documents are made by PostgreSQL, in one statement each.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from psm.adapters import postgres
from psm.contracts.errors import PSMError
from psm.contracts.subjects import published
from psm.projections.sql import load
from psm.workers.access.vouched import HEADER, author_of
from psm.workers.archive.refusals import RefusalFilter, RefusalPage, read_refusals
from psm.workers.archive.visible import EVERYTHING, Visible
from psm.workers.ops.keys import Keyring

LIMIT_DEFAULT = 100
LIMIT_MAX = 1000
DOCUMENT_BYTES_MAX = 16 * 1024 * 1024
PIECE_BYTES = 1024 * 1024
"""How much of one message is read at a time."""

_MESSAGE_BYTES_MAX = 2**30
_QUERIES = load("psm.projections.archive", "reads")

# The last row of a page is the first of the next one. A page ends early where it would show more
# than a megabyte of messages; one event is always on it.
_PAGE = """
SELECT e.archive_sequence,
    CASE WHEN e.before < 1048576 THEN event_document(e.archive_sequence)::text END
FROM (
    SELECT s.archive_sequence,
        sum(s.shown) OVER (ORDER BY s.archive_sequence) - s.shown AS before
    FROM (
        SELECT archive_sequence,
            CASE WHEN octet_length(raw) <= 262144 THEN octet_length(raw) ELSE 0 END AS shown
        FROM events {where} ORDER BY archive_sequence LIMIT {limit}
    ) AS s
) AS e
ORDER BY e.archive_sequence
"""

_SEEN = "(stream_id LIKE ANY (${accounts}::text[]) OR js_stream LIKE ANY (${streams}::text[]))"

# Payloads have a limit of their own; thousands of long envelopes are beyond this one.
_BOUNDED = """
SELECT CASE WHEN octet_length(d.document) > {most} THEN '' ELSE d.document END
FROM ({query}) AS d (document)
"""
_DOCUMENTS = {
    name: _BOUNDED.format(query=_QUERIES[name], most=DOCUMENT_BYTES_MAX)
    for name in ("causation", "explain", "correlation")
}


class NotArchivedError(PSMError):
    """No such event was archived."""


class UnknownCorrelationError(PSMError):
    """No event of that correlation was archived."""


class DocumentTooLargeError(PSMError):
    """Events that make a document of more than `DOCUMENT_BYTES_MAX`."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Choice of events to list; None does not restrict.

    Attributes:
        from_sequence: the first `archive_sequence`.
        to_sequence: the last one, included.
        stream_id: of the events.
        event_type: of the events.
        visible: only events that the reader may see.
        limit: how many at most, 1 to `LIMIT_MAX`.
    """

    from_sequence: int | None = None
    to_sequence: int | None = None
    stream_id: str | None = None
    event_type: str | None = None
    visible: Visible = EVERYTHING
    limit: int = LIMIT_DEFAULT


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Some events.

    Attributes:
        events: documents, ascending; no further one once their messages have a megabyte.
        next_sequence: where the next page starts; None at the end, as of now.
    """

    events: list[msgspec.Raw]
    next_sequence: int | None


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a message's bytes, as they were stored.

    Attributes:
        data: the part.
        total: bytes of the whole message.
    """

    data: bytes
    total: int


class ArchiveReads:
    """Reads the archive. Whatever was archived, an answer is a few megabytes at most.

    Args:
        pool: of the database.
        keys: of the services whose word counts about who appended an event.
    """

    def __init__(self, pool: postgres.Pool, keys: Keyring | None = None) -> None:
        self._pool = pool
        self._keys = keys or Keyring(())

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
        given: dict[str, Any] = {n: value for n, value in conditions.items() if value is not None}
        where = " AND ".join(f"{name} ${n}" for n, name in enumerate(given, 1))
        values = list(given.values())
        if not wanted.visible.is_everything:
            seen = _SEEN.format(accounts=len(values) + 1, streams=len(values) + 2)
            where = f"{where} AND {seen}" if where else seen
            values += wanted.visible.likes()
        # Only names and numbers of our own get into the statement.
        query = _PAGE.format(where=f"WHERE {where}" if where else "", limit=wanted.limit + 1)
        async with postgres.acquired(self._pool) as connection:
            found = await connection.fetch(query, *values)
        shown = [text for _, text in found[: wanted.limit] if text is not None]
        return Page(
            events=[msgspec.Raw(_compact(text)) for text in shown],
            next_sequence=found[len(shown)][0] if len(found) > len(shown) else None,
        )

    async def event(self, event_id: str, visible: Visible = EVERYTHING) -> bytes:
        """Return one event with its bytes; `event_id` may be an `archive_sequence`, too.

        Raises:
            NotArchivedError: it is not in the archive.
        """
        async with postgres.acquired(self._pool) as connection:
            sequence = await _seen_sequence_of(connection, event_id, visible)
            text = await connection.fetchval(_QUERIES["one"], sequence)
        return self._with_author(_known_event(text, event_id))

    async def message(self, event_id: str, offset: int = 0, visible: Visible = EVERYTHING) -> Piece:
        """Return the bytes of an event from `offset` on, at most `PIECE_BYTES`.

        Raises:
            NotArchivedError: it is not in the archive.
        """
        async with postgres.acquired(self._pool) as connection:
            sequence = await _seen_sequence_of(connection, event_id, visible)
            found = await connection.fetchrow(
                _QUERIES["bytes"], sequence, min(offset, _MESSAGE_BYTES_MAX), PIECE_BYTES
            )
        if found is None:
            raise _not_archived(event_id)
        return Piece(data=found["piece"], total=found["bytes"])

    async def causation(self, event_id: str, visible: Visible = EVERYTHING) -> bytes:
        """Return the causes of an event, the first one first, and its effects.

        Raises:
            NotArchivedError: it is not in the archive.
            DocumentTooLargeError: it has too much to show.
        """
        await self._check_seen(event_id, visible)
        return visible.causation(
            _known_event(await self._document("causation", event_id), event_id)
        )

    async def explain(self, event_id: str, visible: Visible = EVERYTHING) -> bytes:
        """Return decision, signal and market data of an event, with causes and effects.

        Where nothing links market data to a decision, it is the mark that the decision names.

        Raises:
            NotArchivedError: it is not in the archive.
            DocumentTooLargeError: it has too much to show.
        """
        await self._check_seen(event_id, visible)
        found = _known_event(await self._document("explain", event_id), event_id)
        named = _named_mark(found)
        mark = None if named is None else await self._value("mark_at", *named)
        return visible.explain(found if mark is None else _with_mark(found, mark))

    async def correlation(self, correlation_id: str, visible: Visible = EVERYTHING) -> bytes:
        """Return the events of a correlation, with causes and effects that lie outside of it.

        Raises:
            UnknownCorrelationError: there are none.
            DocumentTooLargeError: it has too much to show.
        """
        text = await self._document("correlation", correlation_id)
        if text is None:
            raise UnknownCorrelationError(
                f"no event with correlation_id {correlation_id} is in the archive"
            )
        shown = visible.correlation(_compact(text))
        if shown is None:
            raise UnknownCorrelationError(
                f"no event with correlation_id {correlation_id} is in the archive"
            )
        return shown

    async def correlation_of(self, event_id: str) -> str | None:
        """Return the `correlation_id` of an event; None if it has none or is unknown."""
        found: str | None = await self._value("correlation_of", event_id)
        return found

    async def refusals(self, wanted: RefusalFilter) -> RefusalPage:
        """Return messages that changed nothing, the newest first."""
        return await read_refusals(self._pool, wanted)

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

    def _with_author(self, document: bytes) -> bytes:
        """Return the document of an event with who appended it, as far as that is proven."""
        event = msgspec.json.decode(document, type=_Appended)
        author = author_of(
            (event.headers or {}).get(HEADER),
            published(event.subject),
            bytes.fromhex(event.event_hash),
            self._keys,
        )
        return b'%b,"author":%b}' % (document[:-1], msgspec.json.encode(author))

    async def _check_seen(self, event_id: str, visible: Visible) -> None:
        if not visible.is_everything:
            async with postgres.acquired(self._pool) as connection:
                if await _seen_sequence_of(connection, event_id, visible) is None:
                    raise _not_archived(event_id)

    async def _document(self, name: str, of: str) -> str | None:
        async with postgres.acquired(self._pool) as connection:
            text: str | None = await connection.fetchval(_DOCUMENTS[name], of)
        return text

    async def _value(self, query: str, *values: Any) -> Any:
        async with postgres.acquired(self._pool) as connection:
            return await connection.fetchval(_QUERIES[query], *values)

    async def _rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        async with postgres.acquired(self._pool) as connection:
            return [dict(row) for row in await connection.fetch(_QUERIES[query], *values)]


class _Appended(msgspec.Struct):
    subject: str
    event_hash: str
    headers: dict[str, str] | None


class _Decided(msgspec.Struct):
    symbol: str
    marks_log_sequence: int


class _Decision(msgspec.Struct):
    payload: _Decided


class _Story(msgspec.Struct):
    decision: _Decision
    market_data: None


_story = msgspec.json.Decoder(_Story)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _named_mark(document: bytes) -> tuple[str, int] | None:
    """Return symbol and place of the mark that a decision names, where none is linked to it."""
    try:
        decided = _story.decode(document).decision.payload
    except msgspec.ValidationError:  # others decide, too, and say other things
        return None
    return decided.symbol, decided.marks_log_sequence


def _with_mark(document: bytes, mark: str) -> bytes:
    """Return an explanation with the mark that its decision names; all else keeps its bytes."""
    fields = _fields.decode(document)
    by = msgspec.json.decode(fields["found_by"], type=dict[str, str])
    by["market_data"] = "named"
    fields["market_data"] = msgspec.Raw(_compact(mark))
    fields["found_by"] = msgspec.Raw(msgspec.json.encode(by))
    return msgspec.json.encode(fields)


async def _sequence_of(connection: postgres.Connection, event_id: str) -> int | None:
    """Return where an event is archived; `event_id` may be an `archive_sequence`, too."""
    sequence: int | None = await connection.fetchval(_QUERIES["by_event_id"], event_id)
    if sequence is None and event_id.isdecimal() and len(event_id) < 19:
        sequence = await connection.fetchval(_QUERIES["by_sequence"], int(event_id))
    return sequence


async def _seen_sequence_of(
    connection: postgres.Connection, event_id: str, visible: Visible
) -> int | None:
    """Return the same of an event that the reader may see; None as of an unknown one."""
    sequence = await _sequence_of(connection, event_id)
    if visible.is_everything or sequence is None:
        return sequence
    row = await connection.fetchrow(_QUERIES["whose"], sequence)
    assert row is not None
    return sequence if visible.shows(row["stream_id"], row["js_stream"]) else None


def _known_event(text: str | None, event_id: str) -> bytes:
    if text is None:
        raise _not_archived(event_id)
    return _compact(text)


def _not_archived(event_id: str) -> NotArchivedError:
    return NotArchivedError(
        f"event {event_id} is not in the archive; a new one takes a moment to get there"
    )


def _compact(text: str) -> bytes:
    """The same JSON without blanks; numbers keep their digits."""
    if not text:
        raise DocumentTooLargeError(
            f"the document is larger than {DOCUMENT_BYTES_MAX >> 20} MiB; read its events by "
            "themselves, with psm events or GET /events"
        )
    return msgspec.json.format(text.encode(), indent=-1)
