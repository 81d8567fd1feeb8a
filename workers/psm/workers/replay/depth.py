"""Depth events of a file, one JSON document a line, and the books that they make."""

from __future__ import annotations

from typing import Any

import msgspec

from psm.analytics.depth_events import decode_depth
from psm.analytics.order_book import OrderBook, Profile, top_of
from psm.domain.money import published_or_null


class DepthBooks:
    """The book of every symbol that a file has.

    Args:
        profile: of the venue.
        depth: levels a side that are subscribed to; None as the snapshot has.
        flag_checksums: go on after a checksum that does not fit.
    """

    def __init__(self, profile: Profile, *, depth: int | None, flag_checksums: bool) -> None:
        self._profile, self._depth, self._flags = profile, depth, flag_checksums
        self._books: dict[tuple[str, str], OrderBook] = {}

    def take(self, line: bytes) -> dict[str, Any]:
        """Apply an event; return the book after it.

        A line is the payload, an envelope with it, or {"subject", "data"}.

        Raises:
            ContractError: it is no depth event; books are as before.
        """
        named = decode_depth(line)
        event = named.event
        if event.depth is None:
            event = msgspec.structs.replace(event, depth=self._depth)
        key = (named.exchange, named.symbol)
        book = self._books.get(key)
        if book is None:
            book = OrderBook(self._profile, flag_checksums=self._flags)
            self._books[key] = book
        state = book.take(event)
        place = {"exchange": key[0], "symbol": key[1], "state": state, "last_id": book.last_id}
        return {**place, **_levels(book)}


def _levels(book: OrderBook) -> dict[str, Any]:
    best_bid, best_ask = book.best()
    figures = msgspec.structs.asdict(top_of(book))
    return {
        "best_bid": best_bid,
        "best_ask": best_ask,
        "bids": len(book.bids.prices),
        "asks": len(book.asks.prices),
        **{name: published_or_null(value) for name, value in figures.items()},
        "checksum_failures": book.checksum_failures,
    }
