"""Memory of JetStream streams that were lost, as PostgreSQL has it, to make them whole again."""

from __future__ import annotations

import msgspec

from psm.projections.sql import Connection, load

_QUERIES = load(__package__, "remembered")


class ArchivedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message of the log as the archive has it.

    Attributes:
        log_sequence: its place in the log.
        subject: as it was stored, after the partition was put in.
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
    return int(await connection.fetchval(_QUERIES["psm_end"]))


async def archived_behind(connection: Connection, log_sequence: int) -> tuple[int, int]:
    """Return how many messages of the log are archived after a place, and where the archive ends.

    Where that number is not the distance, the archive has a hole. An empty archive ends at 0.
    """
    found = await connection.fetchrow(_QUERIES["log_behind"], log_sequence)
    assert found is not None
    return found["messages"], found["last"]


async def archived_messages(connection: Connection, first: int, last: int) -> list[ArchivedMessage]:
    """Return archived messages of the log in a range of places, both included, ascending."""
    rows = await connection.fetch(_QUERIES["log_messages"], first, last)
    return [
        ArchivedMessage(
            log_sequence=row["log_sequence"],
            subject=row["subject"].decode("utf-8", "surrogateescape"),
            headers=msgspec.json.decode(row["headers"] or "{}", type=dict[str, str]),
            data=bytes(row["data"]),
            event_hash=row["event_hash"],
        )
        for row in rows
    ]
