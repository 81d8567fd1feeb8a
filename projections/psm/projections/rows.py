"""Rows of derived tables: made from updates, written as one JSON array per query."""

from __future__ import annotations

import re
from typing import Any

import asyncpg
import msgspec

from psm.contracts.errors import InvariantError
from psm.contracts.updates import TOLD_ONCE
from psm.contracts.updates_read import Decoded, ReadUpdate
from psm.projections.sql import Connection

Row = dict[str, Any]

PLACE = ("sequence_number", "log_sequence")
"""Columns that say which update a row is of: number in its stream, position in the log."""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")


class UnstorableError(InvariantError):
    """A value that no column can hold: SQLSTATE classes 22 and 54.

    Attributes:
        sqlstate: as PostgreSQL told it, or would tell it.
    """

    def __init__(self, what: str, sqlstate: str) -> None:
        super().__init__(f"{what} (SQLSTATE {sqlstate})")
        self.sqlstate = sqlstate


_NO_TEXT = "22021"  # character_not_in_repertoire


async def write(connection: Connection, query: str, rows: list[Row]) -> None:
    """Run a query that takes its rows as one JSON array; nothing if there are none.

    Raises:
        UnstorableError: no column can hold a value of a row.
        InvariantError: PSM published what its own tables refuse otherwise.
    """
    if not rows:
        return
    try:
        await connection.execute(query, msgspec.json.encode(rows).decode())
    except (asyncpg.DataError, asyncpg.ProgramLimitExceededError) as error:
        kind = type(error).__name__
        raise UnstorableError(
            f"updates cannot be stored as rows: {kind}", error.sqlstate
        ) from error
    except UnicodeEncodeError as error:
        raise UnstorableError("updates cannot be stored as rows: no text", _NO_TEXT) from error
    except asyncpg.IntegrityConstraintViolationError as error:
        kind = type(error).__name__
        raise InvariantError(f"updates cannot be stored as rows: {kind}") from error


def row(update: ReadUpdate, envelope: Decoded[Any]) -> Row:
    """Return the payload's fields as columns, with the envelope's time, causes and trace.

    The time is that of the message of the log at `log_sequence`.
    """
    columns: Row = msgspec.structs.asdict(envelope.payload)
    for name in TOLD_ONCE:
        columns.pop(name, None)
    if columns.get("event_log_sequence") is msgspec.UNSET:
        columns["event_log_sequence"] = None
    columns["log_time"] = envelope.timestamp
    columns["correlation_id"] = envelope.correlation_id
    columns["causation_id"] = envelope.causation_id
    columns["trace_id"] = trace_id(update.traceparent)
    return columns


def trace_id(traceparent: str | None) -> str | None:
    """Return the 32 hex digits of the trace, or None when there is none or it is malformed."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    return match[1] if match else None
