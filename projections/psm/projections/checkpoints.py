"""How far a projection has read each partition of the stream PSM.

A checkpoint moves only in the transaction that writes the rows, and only from the position the
writer believes it to be at: a second projector, or one that went on after a rebuild moved the
checkpoint, changes nothing.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from psm.contracts.errors import FencedError
from psm.projections.sql import Connection, load


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The end of the last committed batch that a projection has read completely.

    Attributes:
        partition: of the stream PSM.
        stream_sequence: position of the last message read in the stream PSM.
        event_hash: SHA-256 of that message's bytes, hex.
        log_sequence: of the log; every input up to it is in the view.
        updated_at: when it was written; None before.
    """

    partition: int
    stream_sequence: int
    event_hash: str
    log_sequence: int
    updated_at: datetime | None = None


async def read(connection: Connection, projection: str, partition: int) -> Checkpoint | None:
    """Return the checkpoint of one partition; None if nothing was read yet."""
    record = await connection.fetchrow(load("checkpoints")["read_one"], projection, partition)
    return None if record is None else Checkpoint(**record)


async def read_all(connection: Connection, projection: str) -> list[Checkpoint]:
    """Return the checkpoints of all partitions that have one, ascending."""
    records = await connection.fetch(load("checkpoints")["read_all"], projection)
    return [Checkpoint(**record) for record in records]


async def lock_all(connection: Connection, projection: str) -> list[Checkpoint]:
    """Return the same and keep every projector waiting until the transaction ends.

    The table is locked, not rows: a partition that has no checkpoint yet must wait too.
    """
    await connection.execute(load("checkpoints")["lock"])
    return await read_all(connection, projection)


async def advance(
    connection: Connection,
    projection: str,
    new: Checkpoint,
    *,
    expected: Checkpoint | None,
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
    tag = await connection.execute(load("checkpoints")[query], projection, new.partition, *values)
    if not tag.endswith(" 1"):
        raise FencedError(
            f"{projection}, partition {new.partition}: the checkpoint is not at "
            f"{expected.stream_sequence if expected else 'the beginning'} any more"
        )


async def force(connection: Connection, projection: str, new: Checkpoint) -> None:
    """Set a checkpoint whatever it was: only a rebuild, which replaces the rows too, may."""
    await connection.execute(
        load("checkpoints")["force"],
        projection,
        new.partition,
        new.stream_sequence,
        new.event_hash,
        new.log_sequence,
    )
