"""Heads of the log as PostgreSQL remembers them: of the streams' chains, of the partitions.

Both are written in the transaction that writes the views, so they are never ahead of what was
committed. A worker compares them with the log before it goes on, `psm audit` compares all.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from psm.projections.sql import Connection, load

_QUERIES = load(__package__, "heads")


class ChainHead(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Head of one stream: its last event that took a place.

    Attributes:
        log_sequence: of the message whose folding gave the stream this number.
        event_log_sequence: of the event itself, where that is another message.
        event_hash, chain_hash, ledger_hash: hex.
    """

    stream_id: str
    partition: int
    sequence_number: int
    log_sequence: int
    event_log_sequence: int | None
    event_hash: str
    chain_hash: str
    ledger_hash: str


class LogHead(msgspec.Struct, frozen=True, kw_only=True):
    """Head of one partition: a message of the log against which updates were committed.

    Attributes:
        log_sequence: of the log.
        event_hash: SHA-256 of that message, hex.
        stream_sequence: where in PSM the commit ended.
        recorded_at: when the projector read that commit.
    """

    partition: int
    log_sequence: int
    event_hash: str
    stream_sequence: int
    recorded_at: datetime


async def chain_heads(connection: Connection, partition: int) -> list[ChainHead]:
    """Return the heads of all streams of a partition."""
    records = await connection.fetch(_QUERIES["of_partition"], partition)
    return [ChainHead(**record) for record in records]


async def first_head_behind(
    connection: Connection, partition: int, log_sequence: int
) -> ChainHead | None:
    """Return the head of a partition that comes first after a log sequence."""
    record = await connection.fetchrow(_QUERIES["first_behind"], partition, log_sequence)
    return None if record is None else ChainHead(**record)


async def record(
    connection: Connection,
    partition: int,
    *,
    log_sequence: int,
    event_hash: str,
    stream_sequence: int,
) -> None:
    """Move the partition's head inside the caller's transaction; each thousand keeps one row."""
    query = _QUERIES["record"]
    await connection.execute(query, partition, log_sequence, event_hash, stream_sequence)


async def forget(connection: Connection, partition: int) -> None:
    """Drop a partition's log heads; only where another log is accepted and its head recorded."""
    await connection.execute(_QUERIES["forget"], partition)


async def newest_log_head(connection: Connection, partition: int) -> LogHead | None:
    """Return the last head of a partition."""
    found = await connection.fetchrow(_QUERIES["newest"], partition)
    return None if found is None else LogHead(**found)


async def log_heads(connection: Connection, partition: int) -> list[LogHead]:
    """Return the partition's heads, ascending: the last of each thousand log sequences."""
    return [LogHead(**found) for found in await connection.fetch(_QUERIES["log_heads"], partition)]
