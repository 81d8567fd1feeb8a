"""What a projection is: updates in, rows of derived tables out.

`reduce` is pure; `apply` writes inside the caller's transaction and never commits. Table names
in queries carry no schema: a rebuild runs the same code on shadow tables through `search_path`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar, get_type_hints

import asyncpg
import msgspec

from psm.contracts.errors import InvariantError
from psm.projections.sql import Connection

P = TypeVar("P", bound=msgspec.Struct)
Row = dict[str, Any]

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")


class ReadUpdate(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One update as read from the stream PSM, or as folded again from the log.

    Attributes:
        kind: such as `position.updated`.
        data: bytes of the envelope.
        partition: of the stream PSM.
        traceparent: W3C trace context of the message, if it had one.
    """

    kind: str
    data: bytes
    partition: int = 0
    traceparent: str | None = None


class Decoded(msgspec.Struct, Generic[P], frozen=True, kw_only=True):
    """An update's envelope with a payload of a known type."""

    timestamp: str
    correlation_id: str | None = None
    causation_id: str | None = None
    payload: P


class View(Protocol):
    """One table made of updates.

    Attributes:
        table: name of the table.
        kinds: kinds of updates it reads.
        key: columns that identify a row.
    """

    table: str
    kinds: frozenset[str]
    key: tuple[str, ...]

    def reduce(self, updates: Sequence[ReadUpdate]) -> Mapping[str, list[Row]]:
        """Return the rows to write, by query: the last one per key."""
        ...

    async def apply(self, connection: Connection, rows: Mapping[str, list[Row]]) -> None:
        """Write rows inside the caller's transaction."""
        ...


class Projection(msgspec.Struct, frozen=True, kw_only=True):
    """Views that are written together, under one checkpoint per partition.

    Attributes:
        name: of the projection, in checkpoints and commands.
        version: rises when the same updates would give other rows; then rebuild.
        views: its tables.
        keeps_heads: whether its transactions also move the partition's log head (see `heads`).
    """

    name: str
    version: int
    views: tuple[View, ...]
    keeps_heads: bool = False

    @property
    def kinds(self) -> frozenset[str]:
        """Kinds of updates that any of the views reads."""
        return frozenset().union(*(view.kinds for view in self.views))

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of its tables."""
        return tuple(view.table for view in self.views)

    async def apply(self, connection: Connection, updates: Sequence[ReadUpdate]) -> int:
        """Write what `updates`, in log order, change; the caller commits. Return the rows."""
        written = 0
        for view in self.views:
            rows = view.reduce(updates)
            await view.apply(connection, rows)
            written += sum(map(len, rows.values()))
        return written


async def write(connection: Connection, query: str, rows: list[Row]) -> None:
    """Run a query that takes its rows as one JSON array; nothing if there are none.

    Raises:
        InvariantError: PSM published what its own tables cannot hold.
    """
    if rows:
        try:
            await connection.execute(query, msgspec.json.encode(rows).decode())
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
            kind = type(error).__name__
            raise InvariantError(f"updates cannot be stored as rows: {kind}") from error


def decoder(payload: type[P]) -> msgspec.json.Decoder[Decoded[P]]:
    """Return a decoder of updates with this payload: fields and types, without the patterns.

    A pattern for each number and hash takes five times as long as all the rest of decoding.
    Workers write these strings, `psm audit` compares them, PostgreSQL parses the numbers again.
    """
    plain = get_type_hints(payload)  # leaves out what `Annotated` adds
    fields = [
        (field.name, plain[field.name], *(() if field.required else (field.default,)))
        for field in msgspec.structs.fields(payload)
    ]
    relaxed = msgspec.defstruct(payload.__name__, fields, frozen=True, kw_only=True)
    return msgspec.json.Decoder(Decoded[relaxed])  # type: ignore[valid-type]


def decode(decoder: msgspec.json.Decoder[Decoded[P]], update: ReadUpdate) -> Decoded[P]:
    """Return the decoded envelope.

    Raises:
        InvariantError: PSM published something that is not its own contract.
    """
    try:
        return decoder.decode(update.data)
    except msgspec.DecodeError as error:
        raise InvariantError(f"a {update.kind} update cannot be read: {error}") from error


def row(update: ReadUpdate, envelope: Decoded[Any]) -> Row:
    """Return the payload's fields as columns, with the envelope's time, causes and trace."""
    columns: Row = msgspec.structs.asdict(envelope.payload)
    if columns.get("event_log_sequence") is msgspec.UNSET:
        columns["event_log_sequence"] = None
    columns["timestamp"] = envelope.timestamp
    columns["correlation_id"] = envelope.correlation_id
    columns["causation_id"] = envelope.causation_id
    columns["trace_id"] = trace_id(update.traceparent)
    return columns


def trace_id(traceparent: str | None) -> str | None:
    """Return the 32 hex digits of the trace, or None when there is none or it is malformed."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    return match[1] if match else None
