"""`margin_view`: one row per account, its last `MarginUpdated`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psm.contracts.updates import MarginUpdated
from psm.projections.projection import ReadUpdate, Row, decode, decoder, row, write
from psm.projections.sql import Connection, load

_MARGIN = decoder(MarginUpdated)


class MarginView:
    """The last margin figures of every account. Warnings are events, not state."""

    table = "margin_view"
    kinds = frozenset({"margin.updated"})
    key: tuple[str, ...] = ("account_id",)

    def reduce(self, updates: Sequence[ReadUpdate]) -> Mapping[str, list[Row]]:
        """Return the last row per account."""
        rows: dict[str, Row] = {}
        for update in updates:
            if update.kind in self.kinds:
                new = row(update, decode(_MARGIN, update))
                rows[new["account_id"]] = new
        return {"upsert": list(rows.values())}

    async def apply(self, connection: Connection, rows: Mapping[str, list[Row]]) -> None:
        """Write the rows."""
        await write(connection, load("margin")["upsert"], rows["upsert"])
