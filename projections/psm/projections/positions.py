"""`positions_view`: one row per account and symbol, flat positions with a history included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from psm.contracts.updates import PositionUpdated
from psm.projections.projection import Decoded, ReadUpdate, Row, decode, row, write
from psm.projections.sql import Connection, load

_POSITION = msgspec.json.Decoder(Decoded[PositionUpdated])


class PositionsView:
    """The last `PositionUpdated` of every account and symbol."""

    table = "positions_view"
    kinds = frozenset({"position.updated"})
    key: tuple[str, ...] = ("account_id", "symbol")

    def reduce(self, updates: Sequence[ReadUpdate]) -> Mapping[str, list[Row]]:
        """Return the last row per account and symbol; of a flip, the opened side."""
        rows: dict[tuple[str, str], Row] = {}
        for update in updates:
            if update.kind in self.kinds:
                new = row(update, decode(_POSITION, update))
                rows[new["account_id"], new["symbol"]] = new
        return {"upsert": list(rows.values())}

    async def apply(self, connection: Connection, rows: Mapping[str, list[Row]]) -> None:
        """Write the rows."""
        await write(connection, load("positions")["upsert"], rows["upsert"])
