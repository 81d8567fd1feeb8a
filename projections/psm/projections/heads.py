"""What PostgreSQL remembers of the log: chain heads of the streams, heads of the partitions.

Both are written in the transaction that writes the views, so they are never ahead of what was
committed. A worker compares them with the log before it goes on, `psm audit` compares all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from psm.contracts.updates import StateUpdated
from psm.projections.projection import ReadUpdate, Row, decode, decoder, write
from psm.projections.sql import Connection, load

_STATE = decoder(StateUpdated)


class ChainHead(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One stream after its last event that took a place.

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
    """A message of the log that a partition's updates were committed against.

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


class ChainHeadsView:
    """`chain_heads`: one row per stream, of its last event. Marks change no chain."""

    table = "chain_heads"
    kinds = frozenset({"state.updated"})
    key: tuple[str, ...] = ("stream_id",)

    def reduce(self, updates: Sequence[ReadUpdate]) -> Mapping[str, list[Row]]:
        """Return the last row per stream."""
        rows: dict[str, Row] = {}
        for update in updates:
            if update.kind not in self.kinds:
                continue
            state = decode(_STATE, update).payload
            if state.cause != "event" or state.event_hash is None:
                continue
            own = state.event_log_sequence
            rows[state.account_id] = {
                "stream_id": state.account_id,
                "partition": update.partition,
                "sequence_number": state.sequence_number,
                "log_sequence": state.log_sequence,
                "event_log_sequence": None if own is msgspec.UNSET else own,
                "event_hash": state.event_hash,
                "chain_hash": state.chain_hash,
                "ledger_hash": state.ledger_hash,
            }
        return {"upsert": list(rows.values())}

    async def apply(self, connection: Connection, rows: Mapping[str, list[Row]]) -> None:
        """Write the rows."""
        await write(connection, load("heads")["upsert"], rows["upsert"])


async def chain_heads(connection: Connection, partition: int) -> list[ChainHead]:
    """Return the heads of all streams of a partition."""
    records = await connection.fetch(load("heads")["of_partition"], partition)
    return [ChainHead(**record) for record in records]


async def first_head_behind(
    connection: Connection, partition: int, log_sequence: int
) -> ChainHead | None:
    """Return the head of a partition that comes first behind a log sequence."""
    record = await connection.fetchrow(load("heads")["first_behind"], partition, log_sequence)
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
    query = load("heads")["record"]
    await connection.execute(query, partition, log_sequence, event_hash, stream_sequence)


async def forget(connection: Connection, partition: int) -> None:
    """Drop a partition's log heads: only who accepts another log, and puts its head here, may."""
    await connection.execute(load("heads")["forget"], partition)


async def newest_log_head(connection: Connection, partition: int) -> LogHead | None:
    """Return the last head of a partition."""
    found = await connection.fetchrow(load("heads")["newest"], partition)
    return None if found is None else LogHead(**found)


async def log_heads(connection: Connection, partition: int) -> list[LogHead]:
    """Return the partition's heads, ascending: the last of each thousand log sequences."""
    return [
        LogHead(**found) for found in await connection.fetch(load("heads")["log_heads"], partition)
    ]
