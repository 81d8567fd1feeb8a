"""`orders_view`: one row per account and order, open and ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psm.contracts.updates import OrderUpdated
from psm.projections.projection import ReadUpdate, Row, decode, decoder, row, write
from psm.projections.sql import Connection, load

_ORDER = decoder(OrderUpdated)


class OrdersView:
    """The last `OrderUpdated` of every account and order.

    A quantity of zero means that a bust took the only fill of an order that nobody announced: it
    never was, so its row goes.
    """

    table = "orders_view"
    kinds = frozenset({"order.updated"})
    key: tuple[str, ...] = ("account_id", "order_id")

    def reduce(self, updates: Sequence[ReadUpdate]) -> Mapping[str, list[Row]]:
        """Return the last row per account and order, written or gone."""
        rows: dict[tuple[str, str], Row] = {}
        for update in updates:
            if update.kind in self.kinds:
                new = row(update, decode(_ORDER, update))
                rows[new["account_id"], new["order_id"]] = new
        gone = [new for new in rows.values() if new["quantity"] == "0"]
        kept = [new for new in rows.values() if new["quantity"] != "0"]
        return {"upsert": kept, "delete": gone}

    async def apply(self, connection: Connection, rows: Mapping[str, list[Row]]) -> None:
        """Write and delete rows; no order is in both."""
        queries = load("orders")
        await write(connection, queries["upsert"], rows["upsert"])
        await write(connection, queries["delete"], rows["delete"])
