"""Depth events of MARKETDATA as updates of the market views."""

from __future__ import annotations

from collections.abc import Sequence

from psm.analytics.market_books import MarketBooks, MarketChange, MarketRules
from psm.contracts.updates_read import ReadUpdate
from psm.projections.market import saved_books, update_of
from psm.projections.sql import Connection
from psm.risk.messages import Stored


class DepthFold:
    """Every book, gone on with from what the views saved."""

    def __init__(self, rules: MarketRules) -> None:
        self._rules = rules
        self._books = MarketBooks(rules)

    async def restore(self, connection: Connection, position: int, first: int) -> int:
        """Take the books that were saved; of what expired since every change is missing."""
        self._books = MarketBooks(self._rules)
        again = self._books.restore(await saved_books(connection))
        if position and max(again, 1) < first:
            self._books.lose()
        return max(again, first)

    def take(self, messages: Sequence[Stored]) -> list[ReadUpdate]:
        """Return rows of all buckets that these messages touch, the last ones as they are now."""
        changes: list[MarketChange] = []
        for one in messages:
            changes += self._books.take(one.sequence, one.time, one.subject, one.data)
        changes += self._books.settle()
        return [update_of(change) for change in changes]
