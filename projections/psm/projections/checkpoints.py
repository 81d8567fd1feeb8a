"""Checkpoints: the positions up to which a projection has read the partitions of its source.

A checkpoint moves only in the transaction that writes the rows, and only from the position the
writer believes it to be at: a second projector, or one that went on after a rebuild moved the
checkpoint, changes nothing.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from psm.contracts.errors import FencedError
from psm.projections.sql import Connection, load

_QUERIES = load(__package__, "checkpoints")


class ViewCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """End of the last batch that a projection has read completely.

    Attributes:
        partition: of the source.
        stream_sequence: position of the last message read in the JetStream stream.
        event_hash: SHA-256 of that message's bytes, hex.
        log_sequence: of the log; every input up to it is in the view. 0 where the source has none.
        updated_at: when it was written; None before.
    """

    partition: int
    stream_sequence: int
    event_hash: str
    log_sequence: int
    updated_at: datetime | None = None


async def read(connection: Connection, projection: str, partition: int) -> ViewCheckpoint | None:
    """Return the checkpoint of one partition; None if nothing was read yet."""
    record = await connection.fetchrow(_QUERIES["read_one"], projection, partition)
    return None if record is None else ViewCheckpoint(**record)


async def read_all(connection: Connection, projection: str) -> list[ViewCheckpoint]:
    """Return the checkpoints of all partitions that have one, ascending."""
    records = await connection.fetch(_QUERIES["read_all"], projection)
    return [ViewCheckpoint(**record) for record in records]


async def lock_all(connection: Connection, projection: str) -> list[ViewCheckpoint]:
    """Return the same and keep every projector waiting until the transaction ends.

    The table is locked, not rows: a partition that has no checkpoint yet must wait too.
    """
    await connection.execute(_QUERIES["lock"])
    return await read_all(connection, projection)


async def advance(
    connection: Connection,
    projection: str,
    new: ViewCheckpoint,
    *,
    expected: ViewCheckpoint | None,
) -> None:
    """Move a checkpoint inside the caller's transaction; call it before writing rows.

    Raises:
        FencedError: the stored checkpoint is not `expected`; roll back and read it again.
    """
    values: tuple[int | str, ...] = (new.stream_sequence, new.event_hash, new.log_sequence)
    if expected is None:
        query = "create"
    else:
        query = "advance"
        values = (*values, expected.stream_sequence)
    tag = await connection.execute(_QUERIES[query], projection, new.partition, *values)
    if not tag.endswith(" 1"):
        raise FencedError(
            f"{projection}, partition {new.partition}: the checkpoint is not at "
            f"{expected.stream_sequence if expected else 'the beginning'} any more"
        )


async def force(connection: Connection, projection: str, new: ViewCheckpoint) -> None:
    """Set a checkpoint whatever it was; for a rebuild alone, which replaces the rows too."""
    await connection.execute(
        _QUERIES["force"],
        projection,
        new.partition,
        new.stream_sequence,
        new.event_hash,
        new.log_sequence,
    )
