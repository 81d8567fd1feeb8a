"""The plain kind of view: one row per key, the last update that named it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Generic, TypeVar

import msgspec

from psm.contracts.updates_read import Decoded, ReadUpdate, decode, decoder
from psm.projections.rows import PLACE, Row, row
from psm.projections.statements import columns_of, delete, upsert

P = TypeVar("P", bound=msgspec.Struct)


class LatestPerKey(Generic[P]):
    """View of one kind of update: the last one per key.

    Attributes:
        table: name of the table.
        kinds: the kind of update that it reads.
        key: columns that identify a row.
        statements: SQL by the name of the rows that it takes.
        adds_up: False; each row stands for itself.
        place: columns of number and position of the update that a row is of.
    """

    def __init__(
        self,
        table: str,
        kind: str,
        payload: type[P],
        key: Sequence[str],
        *,
        is_gone: Callable[[Row], bool] | None = None,
        columns: Sequence[str] | None = None,
        to_row: Callable[[ReadUpdate, Decoded[P]], Row | None] = row,
        place: tuple[str, str] = PLACE,
    ) -> None:
        """Describe a view.

        Args:
            table: name of the table.
            kind: kind of update, such as `position.updated`.
            payload: struct of its payload.
            key: columns that identify a row; all texts where rows are deleted.
            is_gone: whether a row says that there is no such thing any more; it is deleted then.
            columns: of the table, unless they are the payload's fields and the envelope's.
            to_row: makes a row of an update; None where it changes none.
            place: columns that say which update a row is of.
        """
        self.table = table
        self.kinds = frozenset({kind})
        self.key = tuple(key)
        self.adds_up = False
        self.place = place
        self.statements = {"upsert": upsert(table, columns or columns_of(payload, key), key)}
        if is_gone is not None:
            self.statements["delete"] = delete(table, key)
        self._decoder = decoder(payload)
        self._key_of: Callable[[Row], Any] = itemgetter(*key)
        self._is_gone = is_gone
        self._to_row = to_row

    def reduce(self, updates: Sequence[ReadUpdate]) -> Mapping[str, list[Row]]:
        """Return the last row per key, to be written or deleted."""
        rows: dict[Any, Row] = {}
        for update in updates:
            if update.kind in self.kinds:
                new = self._to_row(update, decode(self._decoder, update))
                if new is not None:
                    rows[self._key_of(new)] = new
        if self._is_gone is None:
            return {"upsert": list(rows.values())}
        written: dict[str, list[Row]] = {"upsert": [], "delete": []}
        for new in rows.values():
            written["delete" if self._is_gone(new) else "upsert"].append(new)
        return written
