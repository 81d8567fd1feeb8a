"""A venue's feed of order books, what goes wrong on the way, and the books as they truly are."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

from psm.analytics.market_books import top_hash
from psm.analytics.order_book import PROFILES, Depth, Level, OrderBook
from psm.contracts import subjects
from psm.risk.messages import Stored

CHECKED_BOOK = 974947235
"""Checksum of the book that docs.kraken.com prints."""

_BEGIN = 1_770_000_000_000_000
_STEP = 1_000
_DEPTH = 10
_SYMBOLS = ("A", "B.C", "D/E")
_BIDS = [(f"0.0{price}", "0.00000500")
         for price in (5000, 4995, 4990, 4980, 4975, 4970, 4965, 4960, 4955, 4950)]  # fmt: skip
_ASKS = [(f"0.0{price}", "0.00000500") for price in range(5005, 5055, 5)]

Sides = tuple[dict[int, str], dict[int, str]]


class Feed:
    """Messages of one exchange.

    Attributes:
        messages: as the stream has them.
        truth: after each message the `top_hash` of the venue's book as of the last change of it
            that was delivered; None of messages that the venue never sent.
    """

    def __init__(self, exchange: str, seed: int = 0) -> None:
        self.exchange = exchange
        self.messages: list[Stored] = []
        self.truth: list[str | None] = []
        self._dice = random.Random(seed)
        self._venue = {symbol: _VenueBook(exchange, self._dice) for symbol in _SYMBOLS}
        self._time = _BEGIN

    # --- by hand ----------------------------------------------------------------------------------

    def snapshot(
        self,
        symbol: str,
        last_id: int | None,
        *,
        bids: Any = (("99", "1"),),
        asks: Any = (("101", "2"),),
        step: int = _STEP,
        **more: Any,
    ) -> None:
        """Add a whole book."""
        self._add(symbol, {"kind": "snapshot", "last_id": last_id, "bids": bids, "asks": asks,
                           **more}, step)  # fmt: skip

    def delta(
        self, symbol: str, first: int | None, last: int | None, step: int = _STEP, **more: Any
    ) -> None:
        """Add changes."""
        self._add(symbol, {"kind": "delta", "first_id": first, "last_id": last, **more}, step)

    def raw(self, symbol: str, data: bytes, step: int = _STEP) -> None:
        """Add any bytes."""
        self._time += step
        subject = subjects.depth(self.exchange, symbol)
        number = len(self.messages) + 1
        self.messages.append(Stored(sequence=number, time=self._time, subject=subject, data=data))
        self.truth.append(None)

    # --- by itself --------------------------------------------------------------------------------

    def trade(self, count: int, *, faults: bool = False, pace: int = 50_000) -> None:
        """Add messages of a busy venue; `pace` is the longest time between two, microseconds."""
        end = len(self.messages) + count
        if not faults:
            self.snapshots()
        while len(self.messages) < end:
            symbol = self._dice.choice(_SYMBOLS)
            venue = self._venue[symbol]
            step = self._dice.randrange(pace)
            payload = venue.change()
            if payload is None:
                continue
            fault = self._dice.random() if faults else 1.0
            if fault < 0.06:
                continue  # lost on the way
            if fault < 0.08:
                wrong = {**payload, "bids": [["200.00", "1"]], "asks": [["100.00", "1"]]}
                self._add(symbol, wrong, step)
                venue.delivered(payload)
                continue
            if fault < 0.09:
                self.raw(symbol, b'{"payload":{"kind":"delta","bids":[["?","1"]]}}', step)
                continue
            self._tell(symbol, payload, step)
            if fault < 0.13:
                self._tell(symbol, payload, step)  # twice
            elif fault < 0.21:
                self._tell(symbol, venue.snapshot(late=True), step)

    def snapshots(self) -> None:
        """Add the whole book of every symbol."""
        for symbol, venue in self._venue.items():
            self._tell(symbol, venue.snapshot(late=False), _STEP)

    def _tell(self, symbol: str, payload: Mapping[str, Any], step: int) -> None:
        self._add(symbol, payload, step)
        self.truth[-1] = self._venue[symbol].delivered(payload)

    def _add(self, symbol: str, payload: Mapping[str, Any], step: int) -> None:
        given = {
            name: value for name, value in payload.items() if value is not None and name != "place"
        }
        event = {
            "event_id": f"e{len(self.messages) + 1}",
            "event_type": "market_data",
            "schema_version": "1.1.0",
            "payload": {"exchange": self.exchange, "symbol": symbol, **given},
        }
        self.raw(symbol, json.dumps(event, separators=(",", ":")).encode(), step)


class _VenueBook:
    """A book at the venue, and what its feed says of it."""

    def __init__(self, exchange: str, dice: random.Random) -> None:
        self._exchange, self._dice = exchange, dice
        self._sides: Sides = ({}, {})
        self._told: Sides = ({}, {})
        self._id = self._number = 0
        self._hashes: list[str] = []
        self._snapshots: list[dict[str, Any]] = []
        self._newest = -1
        for _ in range(40):
            self._trade()
        self._told = self._seen()
        self._remember()

    def change(self) -> dict[str, Any] | None:
        """Return the next change; None where the feed has nothing to say."""
        self._trade()
        seen = self._seen()
        sides = [self._differences(side, seen) for side in (0, 1)]
        self._told = seen
        if not any(sides):
            return None
        before, width = self._id, self._dice.randint(1, 3)
        self._id += width
        self._number += 1
        self._remember()
        ids: dict[str, Any] = {"first_id": before + 1, "last_id": self._id}
        if self._exchange == "binance_futures":
            ids["prev_id"] = before
        if self._exchange == "kraken":
            ids = {"checksum": self._checksum()}
        return {"kind": "delta", "bids": sides[0], "asks": sides[1], "place": self._number, **ids}

    def snapshot(self, *, late: bool) -> dict[str, Any]:
        """Return the book; one that is late is as of before the last changes."""
        ago = self._dice.randrange(3) if late and self._exchange.startswith("binance") else 0
        return self._snapshots[max(len(self._snapshots) - 1 - ago, 0)]

    def delivered(self, payload: Mapping[str, Any]) -> str:
        """Return the hash of the book as of the newest change that was delivered."""
        self._newest = max(self._newest, payload["place"])
        return self._hashes[self._newest]

    def _trade(self) -> None:
        for side, low in ((0, 9_600), (1, 10_001)):
            for _ in range(self._dice.randint(0, 3)):
                price = low + self._dice.randrange(400) // 10 * 10
                quantity = self._dice.randrange(6)
                if quantity:
                    self._sides[side][price] = f"{quantity}.50"
                else:
                    self._sides[side].pop(price, None)

    def _seen(self) -> Sides:
        """Return what a subscriber has: of Kraken the best levels alone."""
        most = _DEPTH if self._exchange == "kraken" else 10_000
        bids = dict(sorted(self._sides[0].items(), reverse=True)[:most])
        return bids, dict(sorted(self._sides[1].items())[:most])

    def _differences(self, side: int, seen: Sides) -> list[Level]:
        new, old = seen[side], self._told[side]
        changed = [(_price(price), text) for price, text in new.items() if old.get(price) != text]
        gone = [price for price in old if price not in self._sides[side]]
        return changed + [(_price(price), "0.00") for price in gone]

    def _levels(self, count: int = 10_000) -> tuple[list[Level], list[Level]]:
        bids, asks = self._told
        return (
            [(_price(price), text) for price, text in bids.items()][:count],
            [(_price(price), text) for price, text in asks.items()][:count],
        )

    def _remember(self) -> None:
        bids, asks = self._levels()
        self._hashes.append(top_hash(bids[:20], asks[:20]))
        ids: dict[str, Any] = {"last_id": self._id}
        if self._exchange == "kraken":
            ids = {"checksum": self._checksum(), "depth": _DEPTH}
        self._snapshots.append(
            {"kind": "snapshot", "bids": bids, "asks": asks, "place": self._number, **ids}
        )

    def _checksum(self) -> int:
        bids, asks = self._levels(_DEPTH)
        book = OrderBook(PROFILES["generic"])
        book.take(Depth(kind="snapshot", bids=bids, asks=asks))
        return book.checksum()


def kraken_book(feed: Feed, checksum: int, kind: str = "snapshot") -> None:
    """Add the book that docs.kraken.com prints, with a checksum."""
    if kind == "snapshot":
        feed.snapshot("XBT/USD", None, bids=_BIDS, asks=_ASKS, checksum=checksum)
    else:
        feed.delta("XBT/USD", None, None, bids=_BIDS[:1], checksum=checksum)


def _price(ticks: int) -> str:
    return f"{ticks // 100}.{ticks % 100:02}"
