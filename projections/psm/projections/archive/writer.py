"""Writing the event archive: rows, keys, incidents and checkpoints, inside one transaction.

The head (the last `archive_sequence`) and the checkpoints move only from where the writer
believes them to be, so every message is archived once, whatever is killed and however many
archivers run. The caller owns the transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from psm.contracts.errors import FencedError, InvariantError
from psm.projections.archive.rows import COLUMNS, Row
from psm.projections.sql import Connection, load

_QUERIES = load(__package__, "writer")

# What a row's content can do to a statement: text or JSON that PostgreSQL cannot hold, JSON that
# is nested too deep for it, a number beyond its range.
_UNSTORABLE = (
    asyncpg.DataError,
    asyncpg.ProgramLimitExceededError,
    UnicodeError,
)


class ArchiveCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Position up to which one JetStream stream is archived.

    Attributes:
        js_stream: its name.
        js_sequence: position of the last message that was read.
        event_hash: SHA-256 of that message, hex.
        updated_at: when it was written; None before.
    """

    js_stream: str
    js_sequence: int
    event_hash: str
    updated_at: datetime | None = None


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """A deviation that an operator must see.

    Attributes:
        kind: such as `behind_retention`.
        js_stream: where.
        first_sequence, last_sequence: which messages.
        detail: in words.
        archive_sequence: of the event, if it is about one.
    """

    kind: str
    js_stream: str
    first_sequence: int
    last_sequence: int
    detail: str
    archive_sequence: int | None = None


class Chained(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row of `event_chain`: an event that took a place in its stream."""

    psm_sequence: int
    stream_id: str
    sequence_number: int
    log_sequence: int
    folded_log_sequence: int
    event_hash: str
    chain_hash: str
    ledger_hash: str
    state_hash: str


class Refusal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row of `event_refusals`: a message that changed nothing."""

    psm_sequence: int
    refused_at: datetime
    stream_id: str
    log_sequence: int
    folded_log_sequence: int
    outcome: str
    reason: str
    detail: str
    field: str | None


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Content of one transaction of the archive.

    Attributes:
        rows: messages in the order in which they get their `archive_sequence`.
        chained: places taken, all of messages that are archived by then.
        refusals: of messages that are archived by then.
        incidents: found while reading.
        moves: per JetStream stream the checkpoint now, and the one that is replaced.
    """

    rows: Sequence[Row]
    chained: Sequence[Chained]
    refusals: Sequence[Refusal]
    incidents: Sequence[Incident]
    moves: Sequence[tuple[ArchiveCheckpoint, ArchiveCheckpoint | None]]


async def read_head(connection: Connection) -> int:
    """Return the last `archive_sequence`, 0 before the first."""
    return int(await connection.fetchval(_QUERIES["head"]))


async def read_checkpoints(connection: Connection) -> dict[str, ArchiveCheckpoint]:
    """Return how far each JetStream stream is archived, by name."""
    records = await connection.fetch(_QUERIES["checkpoints"])
    return {record["js_stream"]: ArchiveCheckpoint(**record) for record in records}


async def write(connection: Connection, batch: Batch, head: int) -> int:
    """Archive a batch inside the caller's transaction.

    Returns:
        How many incidents were recorded, those that the database found included.

    Raises:
        FencedError: head or a checkpoint is not where the writer believes; roll back, read again.
        InvariantError: the tables refuse what every one of them should take.
    """
    try:
        return await _write(connection, batch, head)
    except (*_UNSTORABLE, asyncpg.IntegrityConstraintViolationError) as error:
        raise InvariantError(
            f"the archive's tables refuse a row: {type(error).__name__}; run `psm migrate up`"
        ) from error


async def _write(connection: Connection, batch: Batch, head: int) -> int:
    # The head first: its row is the lock that keeps a second archiver waiting, then refuses it.
    await _move(connection, "move_head", head + len(batch.rows), head)
    for new, old in batch.moves:
        await _move_checkpoint(connection, new, old)
    incidents = list(batch.incidents)
    await _copy_events(connection, list(enumerate(batch.rows, head + 1)), incidents)
    await _copy(connection, "event_refusals", Refusal, batch.refusals)
    await _copy(connection, "event_chain", Chained, batch.chained)
    for incident in incidents:
        await connection.execute(_QUERIES["add_incident"], *_values(incident))
    return len(incidents) + await _claim_keys(connection, batch, head)


async def _move(connection: Connection, query: str, *values: Any) -> None:
    tag = await connection.execute(_QUERIES[query], *values)
    if not tag.endswith(" 1"):
        raise FencedError("another archiver has written meanwhile")


async def _move_checkpoint(
    connection: Connection, new: ArchiveCheckpoint, old: ArchiveCheckpoint | None
) -> None:
    values = (new.js_stream, new.js_sequence, new.event_hash)
    if old is None:
        await _move(connection, "create_checkpoint", *values)
    else:
        await _move(connection, "move_checkpoint", *values, old.js_sequence, old.event_hash)


async def _copy_events(
    connection: Connection, rows: list[tuple[int, Row]], incidents: list[Incident]
) -> None:
    """COPY the rows; one that PostgreSQL refuses is found by halving and stored with less."""
    if not rows:
        return
    try:
        async with connection.transaction():
            await connection.copy_records_to_table(
                "events", records=[row.record(number) for number, row in rows], columns=COLUMNS
            )
    except _UNSTORABLE as error:
        if len(rows) == 1:
            rows = [(rows[0][0], _without_unstorable_columns(rows[0][1], error))]
        middle = len(rows) // 2
        await _copy_events(connection, rows[:middle], incidents)
        await _copy_events(connection, rows[middle:], incidents)
    else:
        incidents += [_left_out(number, row) for number, row in rows if row.left_out]


def _without_unstorable_columns(row: Row, error: BaseException) -> Row:
    """Return a row without the columns that PostgreSQL may have refused."""
    stored = row.without_unstorable_columns()
    if stored == row:
        raise InvariantError(
            f"{row.js_stream} message {row.js_sequence} cannot be archived: {type(error).__name__}"
        ) from error
    return stored


def _left_out(number: int, row: Row) -> Incident:
    return Incident(
        kind="body_not_storable",
        js_stream=row.js_stream,
        first_sequence=row.js_sequence,
        last_sequence=row.js_sequence,
        detail=f"left out, as no column can hold it: {', '.join(row.left_out)}; the bytes are kept",
        archive_sequence=number,
    )


async def _copy(
    connection: Connection, table: str, struct: type[msgspec.Struct], rows: Sequence[msgspec.Struct]
) -> None:
    if rows:
        await connection.copy_records_to_table(
            table,
            records=[msgspec.structs.astuple(row) for row in rows],
            columns=struct.__struct_fields__,
        )


def _values(incident: Incident) -> tuple[Any, ...]:
    return (
        incident.kind,
        incident.js_stream,
        incident.first_sequence,
        incident.last_sequence,
        incident.archive_sequence,
        incident.detail,
    )


async def _claim_keys(connection: Connection, batch: Batch, head: int) -> int:
    """Take the identities and business keys; return how many incidents that gave."""
    archived = [
        number
        for number, row in enumerate(batch.rows, head + 1)
        if row.has_event_id and not row.is_account_event
    ]
    folded = [place.log_sequence for place in batch.chained]
    if not archived and not folded:
        return 0
    taken = await connection.fetchval(_QUERIES["claim_keys"], archived, folded)
    if not taken:
        return 0
    tag = await connection.execute(_QUERIES["report_clashes"], archived, folded)
    return int(tag.rpartition(" ")[2])
