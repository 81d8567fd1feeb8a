"""The orders of an account: those that may still fill, and the last that ended."""

from __future__ import annotations

from collections.abc import Iterable

from psm.domain.ledger.orders import TERMINAL_KEPT, Order


class OrderStore:
    """Orders of one account.

    Attributes:
        by_id: open ones and the last 256 that ended.
        ended: ids of ended orders, oldest first.
        open_by_id: those that may still fill.
        open_by_symbol: the same by symbol and order id; only symbols that have one.
    """

    __slots__ = ("by_id", "ended", "open_by_id", "open_by_symbol")

    def __init__(self, orders: Iterable[Order] = (), ended: Iterable[str] = ()) -> None:
        self.by_id: dict[str, Order] = {}
        self.ended = list(ended)
        self.open_by_id: dict[str, Order] = {}
        self.open_by_symbol: dict[str, dict[str, Order]] = {}
        for order in orders:
            self.by_id[order.order_id] = order
            if order.open:
                self._open(order)

    def all_open(self) -> list[Order]:
        """Return the orders that may still fill, ascending by id."""
        return [order for _, order in sorted(self.open_by_id.items())]

    def open_of(self, symbol: str) -> list[Order]:
        """Return the orders of a symbol that may still fill, ascending by id."""
        found = self.open_by_symbol.get(symbol)
        return [] if found is None else [order for _, order in sorted(found.items())]

    def put(self, order: Order) -> tuple[str, ...]:
        """Keep an order, and the last 256 that ended; return the ids that changed or are gone."""
        order_id = order.order_id
        before = self.by_id.get(order_id)
        was_ended = before is not None and not self._close(before)
        if order.external and not order.filled_quantity:  # a bust took its only fill
            self.by_id.pop(order_id, None)
            if was_ended:
                self.ended.remove(order_id)
            return (order_id,)
        self.by_id[order_id] = order
        if order.open:
            self._open(order)
            if was_ended:
                self.ended.remove(order_id)
        elif not was_ended:
            self.ended.append(order_id)
        if len(self.ended) <= TERMINAL_KEPT:
            return (order_id,)
        forgotten = self.ended.pop(0)
        del self.by_id[forgotten]
        return (order_id, forgotten)

    def _open(self, order: Order) -> None:
        self.open_by_id[order.order_id] = order
        self.open_by_symbol.setdefault(order.symbol, {})[order.order_id] = order

    def _close(self, order: Order) -> bool:
        """Take an order from the open ones; return whether it was one."""
        if self.open_by_id.pop(order.order_id, None) is None:
            return False
        same_symbol = self.open_by_symbol[order.symbol]
        del same_symbol[order.order_id]
        if not same_symbol:
            del self.open_by_symbol[order.symbol]
        return True
