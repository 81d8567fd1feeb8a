"""What an account has already: ids of events, and the venue's names of facts behind them.

The same fact may have come from another producer under an id of its own; then its business key
tells. Keys are those of the archive, which remembers them for ever.
"""

from __future__ import annotations

from typing import Literal

from psm.projections.archive.keys import BusinessKey

Already = Literal["event_id", "business_key"]


class Known:
    """Identities of an account's events."""

    def __init__(self, currency: str | None = None) -> None:
        """Nothing is known.

        Args:
            currency: of the account, which keys of money in it need not name.
        """
        self.currency = currency
        self.event_ids: set[str] = set()
        self._keys: set[tuple[str, str, str]] = set()
        self._orders: dict[tuple[str, str], set[str]] = {}

    def add(self, event_id: str | None, key: BusinessKey | None) -> None:
        """Take the identities of an event; a key only of one that was booked."""
        if event_id is not None:
            self.event_ids.add(event_id)
        if key is None:
            return
        self._keys.add(self._named(key))
        if key.kind == "fill":
            fill, order = _fill(key)
            self._orders.setdefault((key.symbol, fill), set()).add(order)

    def already(self, event_id: str, key: BusinessKey | None) -> Already | None:
        """Return by what an event is known, or None."""
        if event_id in self.event_ids:
            return "event_id"
        if key is None:
            return None
        if self._named(key) in self._keys or (key.kind == "fill" and self._same_fill(key)):
            return "business_key"
        return None

    def _same_fill(self, key: BusinessKey) -> bool:
        """Return whether a fill is one that is known with or without its order."""
        fill, order = _fill(key)
        orders = self._orders.get((key.symbol, fill), set())
        return bool(orders) and (not order or "" in orders)

    def _named(self, key: BusinessKey) -> tuple[str, str, str]:
        symbol = key.symbol or (self.currency or "" if key.kind == "reference" else "")
        return key.kind, key.key, symbol


def _fill(key: BusinessKey) -> tuple[str, str]:
    """Return a fill's id with its side, and its order, empty where none is named."""
    parts = key.key.split(" ")
    return " ".join(parts[:2]), " ".join(parts[2:])
