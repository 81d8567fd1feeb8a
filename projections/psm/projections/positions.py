"""`positions_view`: one row per account and symbol, flat positions with a history included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psm.contracts.updates import PositionUpdated
from psm.projections.projection import ReadUpdate, Row, decode, decoder, row, write
from psm.projections.sql import Connection, load

_POSITION = decoder(PositionUpdated)


class PositionsView:
    """The last `PositionUpdated` of every account and symbol.

    A flat position that was never opened means that a bust took its only fill: there is no
    position any more, so its row goes.
    """

    table = "positions_view"
    kinds = frozenset({"position.updated"})
    key: tuple[str, ...] = ("account_id", "symbol")

    def reduce(self, updates: Sequence[ReadUpdate]) -> Mapping[str, list[Row]]:
        """Return the last row per account and symbol, written or gone; of a flip, the opened."""
        rows: dict[tuple[str, str], Row] = {}
        for update in updates:
            if update.kind in self.kinds:
                new = row(update, decode(_POSITION, update))
                rows[new["account_id"], new["symbol"]] = new
        gone = [new for new in rows.values() if _is_gone(new)]
        kept = [new for new in rows.values() if not _is_gone(new)]
        return {"upsert": kept, "delete": gone}

    async def apply(self, connection: Connection, rows: Mapping[str, list[Row]]) -> None:
        """Write and delete rows; no position is in both."""
        queries = load("positions")
        await write(connection, queries["upsert"], rows["upsert"])
        await write(connection, queries["delete"], rows["delete"])


def _is_gone(new: Row) -> bool:
    return bool(new["side"] == "flat" and new["cycle"] == 0)
