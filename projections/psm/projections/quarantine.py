"""Quarantine of a projection: keys of its views whose last row PostgreSQL cannot hold.

The key keeps the row that it had and is stale until its next row is written; the other keys of the
batch, and the other accounts, go on. Of a view that adds up an account stops there until the view
is rebuilt, because what follows would be added to a wrong sum. Only data errors end here, SQLSTATE
classes 22 and 54: a row that is refused for another reason says that database or code are wrong,
and then a partition stops.

What a key's entry says follows from the updates alone, not from how they were batched: a rebuild
compares it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256

import msgspec

from psm.contracts.errors import InvariantError
from psm.projections.rows import PLACE, Row, UnstorableError, write
from psm.projections.sql import Connection, load
from psm.projections.storable import storable_text

OPEN_MAX = 100
"""Open entries of one projection; more say that it is not the data that is wrong."""

_PART_MAX = 1000
"""Bytes of one column of a key: an index entry has a limit."""

_QUERIES = load(__package__, "quarantine")

Key = tuple[str, tuple[str, ...]]
"""View and values of its key, as an entry has them."""


class StaleKey(msgspec.Struct, frozen=True, kw_only=True):
    """Open entry of one key.

    Attributes:
        partition: of the source.
        view: table.
        key: values of the key's columns; what no text can hold is escaped.
        stream_id: account, the first of them.
        first_sequence_number: of the account, with the first update that the row lacks.
        sequence_number, log_sequence: of the last one that it lacks.
        column_name: column that cannot hold what that update says.
        sqlstate: error of PostgreSQL.
        found_at: when the first one was found.
    """

    partition: int
    view: str
    key: list[str]
    stream_id: str
    first_sequence_number: int
    sequence_number: int
    log_sequence: int
    column_name: str
    sqlstate: str
    found_at: datetime


class Quarantine:
    """Entries in the table of one projection."""

    def __init__(self, table: str) -> None:
        self.table = table
        self._queries = {name: text.format(table=table) for name, text in _QUERIES.items()}

    async def keys(self, connection: Connection) -> dict[Key, int]:
        """Return the keys of all open entries, with their partition."""
        rows = await connection.fetch(self._queries["keys"])
        return {(row["view"], tuple(row["key"])): row["partition"] for row in rows}

    async def entries(self, connection: Connection, limit: int = OPEN_MAX) -> list[StaleKey]:
        """Return open entries, the oldest first."""
        rows = await connection.fetch(self._queries["entries"], limit)
        return [StaleKey(**row) for row in rows]

    async def clear(self, connection: Connection, healed: Iterable[Key]) -> None:
        """Drop the entries of keys that have been written."""
        for view, key in sorted(healed):
            await connection.execute(self._queries["clear"], view, list(key))

    async def put(
        self,
        connection: Connection,
        view: str,
        columns: Sequence[str],
        row: Row,
        error: UnstorableError,
        *,
        partition: int,
        place: tuple[str, str] = PLACE,
    ) -> None:
        """Open the entry of a row that cannot be held, or move it to this row.

        Raises:
            InvariantError: there are too many.
        """
        key = key_of(row, columns)
        await connection.execute(self._queries["lock"])
        others = await self.keys(connection)
        if (view, key) not in others and len(others) >= OPEN_MAX:
            raise InvariantError(
                f"{len(others)} rows in {self.table} cannot be stored already; see "
                "`psm views status`, repair the database, then `psm views retry` or rebuild"
            ) from error
        await connection.execute(
            self._queries["put"],
            partition,
            view,
            list(key),
            key[0],
            *(row[name] for name in place),
            await self._column(connection, view, row),
            error.sqlstate,
        )

    async def _column(self, connection: Connection, view: str, row: Row) -> str:
        """Return the column that cannot hold its value; `key` where only the index refuses it."""
        query = self._queries["try_column"].format(view=view)
        for name, value in row.items():
            try:
                async with connection.transaction():
                    await write(connection, query, [{name: value}])
            except UnstorableError:
                return name
        return "key"


def key_of(row: Row, columns: Sequence[str]) -> tuple[str, ...]:
    """Return the key of a row as an entry has it."""
    return tuple(_part(str(row[name])) for name in columns)


def _part(text: str) -> str:
    text = storable_text(text)
    data = text.encode()
    if len(data) <= _PART_MAX:
        return text
    return f"{text[:64]}... sha256:{sha256(data).hexdigest()}"
