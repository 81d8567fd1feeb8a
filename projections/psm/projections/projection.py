"""Projections: updates in, rows of derived tables out.

`reduce` is pure; `apply` writes inside the caller's transaction and never commits. Table names
in queries carry no schema: a rebuild runs the same code on shadow tables through `search_path`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Protocol

import msgspec

from psm.contracts.updates_read import ReadUpdate
from psm.projections.pasts import PastReader
from psm.projections.quarantine import Key, Quarantine, key_of
from psm.projections.rows import Row, UnstorableError, write
from psm.projections.source import ProjectionSource
from psm.projections.sql import Connection


class View(Protocol):
    """One table made of updates.

    Attributes:
        table: name of the table.
        kinds: kinds of updates it reads.
        key: columns that identify a row, the account's first.
        statements: SQL by the name of the rows it writes, as `reduce` returns them; each takes
            its rows as one JSON array. `upsert` and `delete` say all that a key's row is; another
            one changes a part of it.
        adds_up: whether a row depends on the row before: then an update that cannot be stored
            stops the account in this view until it is rebuilt.
        place: columns that say which update a row is of: its number, and its position.
    """

    table: str
    kinds: frozenset[str]
    key: tuple[str, ...]
    statements: dict[str, str]
    adds_up: bool
    place: tuple[str, str]

    def reduce(self, updates: Sequence[ReadUpdate]) -> Mapping[str, list[Row]]:
        """Return the rows to write, by statement, in the order in which these are to run."""
        ...


class Writer(Protocol):
    """What writes the rows of a projection, for one follower or one rebuild.

    It may remember what it has read and written. Whoever gets an error from it, or cannot commit,
    takes a new one.

    Attributes:
        is_settled: whether all rows that are due are written.
    """

    is_settled: bool

    async def apply(self, connection: Connection, updates: Sequence[ReadUpdate]) -> int:
        """Write what `updates`, in log order, change; the caller commits. Return the rows.

        Raises:
            UnstorableError: a row cannot be held. The transaction is lost; `apply_apart` finds
                the row and goes on without it.
        """

    async def apply_apart(self, connection: Connection, updates: Sequence[ReadUpdate]) -> int:
        """Do the same under savepoints; what cannot be held is put into quarantine.

        Raises:
            InvariantError: too many are there.
        """

    async def settle(
        self, connection: Connection, partition: int, seconds: float | None = None
    ) -> int:
        """Write rows that are due without an update; the caller commits. Return the rows.

        Args:
            connection: of the open transaction.
            partition: of the source.
            seconds: how long to go on; None until all are written.
        """


class Projection(msgspec.Struct, frozen=True, kw_only=True):
    """Views that are written together, under one checkpoint per partition.

    Attributes:
        name: of the projection, in checkpoints and commands.
        version: rises when the same updates would give other rows; then rebuild.
        source: the stream that it follows.
        views: its tables.
        keeps_heads: whether its transactions also move the partition's log head (see `heads`).
        hashed: whether rows have hashes of states; a rebuild of rows without them takes none.
        folding: makes the writer, where rows follow from a state and not from updates alone.
    """

    name: str
    version: int
    source: ProjectionSource
    views: tuple[View, ...]
    keeps_heads: bool = False
    hashed: bool = True
    folding: Callable[[Projection, PastReader | None], Writer] | None = None

    def writer(self, pasts: PastReader | None = None) -> Writer:
        """Return a new writer of its rows.

        Args:
            pasts: asked where rows follow from the log and not from updates; without it such an
                update is an error.
        """
        return Reducing(self) if self.folding is None else self.folding(self, pasts)

    @property
    def kinds(self) -> frozenset[str]:
        """Kinds of updates that any of the views reads."""
        return frozenset().union(*(view.kinds for view in self.views))

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of its tables, that of its quarantine included."""
        return (*(view.table for view in self.views), self.quarantine.table)

    @property
    def quarantine(self) -> Quarantine:
        """Keys of its views whose last row cannot be stored."""
        return _quarantine(f"{self.name}_quarantine")


class Reducing:
    """Writer of rows that follow from updates alone.

    Attributes:
        is_settled: True.
    """

    is_settled = True

    def __init__(self, projection: Projection) -> None:
        self._projection = projection

    async def apply(self, connection: Connection, updates: Sequence[ReadUpdate]) -> int:
        """Write what `updates`, in log order, change; the caller commits. Return the rows.

        Raises:
            UnstorableError: a row cannot be held. The transaction is lost; `apply_apart` finds
                the row and goes on without it.
        """
        stale = await self._projection.quarantine.keys(connection)
        healed: list[Key] = []
        written = 0
        for view in self._projection.views:
            stopped = {key[0] for table, key in stale if table == view.table and view.adds_up}
            for statement, rows in view.reduce(updates).items():
                kept = [row for row in rows if row[view.key[0]] not in stopped] if stopped else rows
                await write(connection, view.statements[statement], kept)
                written += len(kept)
                if stale and statement in _WHOLE and not view.adds_up:
                    healed += [(view.table, key_of(row, view.key)) for row in kept]
        await self._projection.quarantine.clear(connection, stale.keys() & healed)
        return written

    async def apply_apart(self, connection: Connection, updates: Sequence[ReadUpdate]) -> int:
        """Do the same under savepoints; a row that cannot be held is put into quarantine.

        Raises:
            InvariantError: too many are there.
        """
        try:
            async with connection.transaction():
                return await self.apply(connection, updates)
        except UnstorableError:
            if len(updates) == 1:
                return await self._apply_rows(connection, updates[0])
            middle = len(updates) // 2
            written = await self.apply_apart(connection, updates[:middle])
            return written + await self.apply_apart(connection, updates[middle:])

    async def _apply_rows(self, connection: Connection, update: ReadUpdate) -> int:
        """Write the rows of one update that can be held."""
        written = 0
        for view in self._projection.views:
            alone = Reducing(msgspec.structs.replace(self._projection, views=(view,)))
            try:
                async with connection.transaction():
                    written += await alone.apply(connection, [update])
            except UnstorableError as error:
                # Of one update a view has one row.
                ((row,),) = (rows for rows in view.reduce([update]).values() if rows)
                await self._projection.quarantine.put(
                    connection,
                    view.table,
                    view.key,
                    row,
                    error,
                    partition=update.partition,
                    place=view.place,
                )
        return written

    async def settle(
        self, connection: Connection, partition: int, seconds: float | None = None
    ) -> int:
        """Nothing is due without an update."""
        return 0


_quarantine = cache(Quarantine)
_WHOLE = frozenset({"upsert", "delete"})
