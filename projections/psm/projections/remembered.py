"""What PostgreSQL remembers of JetStream streams that were lost, to make them whole again."""

from __future__ import annotations

import msgspec

from psm.projections.sql import Connection, load


class ArchivedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message of the log as the archive has it.

    Attributes:
        log_sequence: its place in the log.
        subject: as it was stored, behind the partition.
        headers: those it was stored with.
        data: its bytes.
        event_hash: SHA-256 of them, hex, as it was archived.
    """

    log_sequence: int
    subject: str
    headers: dict[str, str]
    data: bytes
    event_hash: str


async def psm_end(connection: Connection) -> int:
    """Return the last sequence of PSM that views, heads or archive know; 0 for none."""
    return int(await connection.fetchval(load("remembered")["psm_end"]))


async def archived_behind(connection: Connection, log_sequence: int) -> tuple[int, int]:
    """Return how many messages of the log are archived behind a place, and the last one's place.

    Where that number is not the distance, the archive has a hole. The place is 0 without any.
    """
    found = await connection.fetchrow(load("remembered")["log_behind"], log_sequence)
    assert found is not None
    return found["messages"], found["last"]


async def archived_messages(connection: Connection, first: int, last: int) -> list[ArchivedMessage]:
    """Return archived messages of the log in a range of places, both included, ascending."""
    rows = await connection.fetch(load("remembered")["log_messages"], first, last)
    return [
        ArchivedMessage(
            log_sequence=row["log_sequence"],
            subject=row["subject"],
            headers=msgspec.json.decode(row["headers"] or "{}", type=dict[str, str]),
            data=bytes(row["data"]),
            event_hash=row["event_hash"],
        )
        for row in rows
    ]
