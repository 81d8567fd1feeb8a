"""An order book from depth events, and whether it can be trusted.

A book is `empty` until something comes, `buffering` while changes wait for a snapshot, `synced`
when snapshot and changes join without a gap. It is `gap`, `crossed` or `bad_checksum` from the
event that showed it until the next snapshot; only a synced book is one to read. Prices and
quantities keep the digits of the venue, as checksums are over them.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from psm.analytics.statistics import minus, over, plus, times, total
from psm.contracts.errors import ContractError
from psm.contracts.payload_codec import is_number
from psm.domain.money import ZERO

BUFFER_MAX = 1_000
"""Changes that wait for a snapshot; older ones are dropped, and the book stays unusable."""

CHECKED_LEVELS = 10
IMBALANCE_LEVELS = 5
_TWO = Decimal(2)

State = Literal["empty", "buffering", "synced", "gap", "crossed", "bad_checksum"]
Chain = Literal["previous", "following", "any", "none"]
Level = tuple[str, str]
Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]


@lru_cache(maxsize=65_536)
def number(text: str) -> Decimal:
    """Return the number of a level's text; remembered, as they come again and again.

    Raises:
        ContractError: it is none of zero or more, or has too many digits.
    """
    if not is_number(text, "not_negative"):
        raise ContractError("malformed_field", f'"{text}" is no number of zero or more')
    return Decimal(text)


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """How a venue numbers its changes.

    Attributes:
        chain: `previous`: each names its predecessor's last id; `following`: each starts one above
            it; `any`: whichever the event gives; `none`: there are no ids.
        truncates: levels beyond the depth of the snapshot are dropped after each change.
        checks: events carry a checksum over the best ten levels.
    """

    chain: Chain
    truncates: bool = False
    checks: bool = False


PROFILES: Mapping[str, Profile] = {
    "binance_futures": Profile(chain="previous"),
    "binance_spot": Profile(chain="following"),
    "kraken": Profile(chain="none", truncates=True, checks=True),
    "generic": Profile(chain="any", checks=True),
}
"""Venues by name."""


class Depth(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of a book, or changes to it; quantities are absolute, 0 takes a level away.

    Attributes:
        first_id, last_id: of the changes in it.
        prev_id: last id of the changes before it.
        depth: levels a side that are subscribed to.
        checksum: of the book after it, over the best levels.
    """

    kind: Literal["snapshot", "delta"]
    bids: Sequence[Level] = ()
    asks: Sequence[Level] = ()
    first_id: Id | None = None
    last_id: Id | None = None
    prev_id: Id | None = None
    depth: Id | None = None
    checksum: Id | None = None


class SavedBook(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that a book must remember to go on as if it had never stopped.

    Attributes:
        bids, asks: all levels, the lowest price first.
        waiting: changes that wait for a snapshot.
        joined: a change has followed the snapshot.
        depth: levels a side that are subscribed to.
    """

    state: State
    last_id: int | None = None
    joined: bool = False
    depth: int | None = None
    checksum_failures: int = 0
    bids: tuple[Level, ...] = ()
    asks: tuple[Level, ...] = ()
    waiting: tuple[Depth, ...] = ()


class BookSide:
    """Levels of one side, by price.

    Attributes:
        prices: ascending.
    """

    __slots__ = ("_best_is_last", "_levels", "prices")

    def __init__(self, *, bids: bool) -> None:
        self.prices: list[Decimal] = []
        self._levels: dict[Decimal, Level] = {}
        self._best_is_last = bids

    def put(self, level: Level) -> None:
        """Set a level, or take it away; taking away one that is not there is normal."""
        price = number(level[0])
        if number(level[1]):
            if price not in self._levels:
                insort(self.prices, price)
            self._levels[price] = level
        elif self._levels.pop(price, None) is not None:
            del self.prices[bisect_left(self.prices, price)]

    def keep(self, depth: int) -> None:
        """Drop the levels beyond a depth."""
        while len(self.prices) > depth:
            worst = self.prices.pop(0) if self._best_is_last else self.prices.pop()
            del self._levels[worst]

    def best(self, count: int = 1) -> list[Level]:
        """Return the best levels, the best first."""
        if self._best_is_last:
            prices = self.prices[max(len(self.prices) - count, 0) :][::-1]
        else:
            prices = self.prices[:count]
        return [self._levels[price] for price in prices]

    def ascending(self) -> tuple[Level, ...]:
        """Return all levels, the lowest price first."""
        return tuple([self._levels[price] for price in self.prices])

    def best_price(self) -> Decimal | None:
        """Return the best price; None of an empty side."""
        if not self.prices:
            return None
        return self.prices[-1] if self._best_is_last else self.prices[0]


class OrderBook:
    """The book of one symbol at one venue.

    Args:
        profile: of the venue.
        flag_checksums: a checksum that does not fit is counted, and the book stays synced.

    Attributes:
        state: see the module.
        last_id: of the last change that is in it.
        checksum_failures: how many did not fit since the last snapshot.
    """

    def __init__(self, profile: Profile, *, flag_checksums: bool = False) -> None:
        self._profile = profile
        self._flags = flag_checksums
        self._clear()
        self._buffer: list[Depth] = []
        self._depth: int | None = None
        self.state: State = "empty"
        self.last_id: int | None = None
        self.checksum_failures = 0

    def take(self, event: Depth) -> State:
        """Apply an event; return the state after it."""
        if event.kind == "snapshot":
            self._restart(event)
        elif self.state == "synced":
            self._change(event)
        else:
            if len(self._buffer) == BUFFER_MAX:
                del self._buffer[0]
            self._buffer.append(event)
            if self.state == "empty":
                self.state = "buffering"
        return self.state

    def lose(self) -> None:
        """Know that a change is missing that nobody could read: what waits has a hole, too."""
        self._buffer = []
        if self.state != "empty":
            self.state = "gap"

    def saved(self) -> SavedBook:
        """Return what `restored` takes."""
        return SavedBook(
            state=self.state,
            last_id=self.last_id,
            joined=self._joined,
            depth=self._depth,
            checksum_failures=self.checksum_failures,
            bids=self.bids.ascending(),
            asks=self.asks.ascending(),
            waiting=tuple(self._buffer),
        )

    def restored(self, saved: SavedBook) -> OrderBook:
        """Take what a book of the same profile saved; return itself."""
        self._clear()
        for level in saved.bids:
            self.bids.put(level)
        for level in saved.asks:
            self.asks.put(level)
        self.state, self.last_id = saved.state, saved.last_id
        self._joined, self._depth = saved.joined, saved.depth
        self.checksum_failures = saved.checksum_failures
        self._buffer = list(saved.waiting)
        return self

    def best(self) -> tuple[Level | None, Level | None]:
        """Return the best bid and the best ask."""
        bid, ask = self.bids.best(), self.asks.best()
        return (bid[0] if bid else None), (ask[0] if ask else None)

    def _clear(self) -> None:
        self.bids, self.asks = BookSide(bids=True), BookSide(bids=False)
        self._joined = False

    def _restart(self, event: Depth) -> None:
        """Take a snapshot, then what waited for it and is not in it.

        A change without an id came before the snapshot, so it is in it. Where ids only rise, one
        that is behind a synced book lacks changes that are known.
        """
        behind = self._is_behind(event)
        self._clear()
        self.last_id, self.checksum_failures = event.last_id, 0
        deepest = max(len(event.bids), len(event.asks))
        self._depth = event.depth or (deepest if self._profile.truncates else None)
        waiting, self._buffer = self._buffer, []
        self.state = "synced"
        self._put(event)
        if behind:
            self.state = "gap"
            return
        if self.last_id is None or self._profile.chain == "none":
            return
        for change in waiting:
            if change.last_id is not None:
                self.take(change)

    def _is_behind(self, event: Depth) -> bool:
        if self._profile.chain not in ("previous", "following") or self.state != "synced":
            return False
        if self.last_id is None or event.last_id is None:
            return False
        return event.last_id < self.last_id

    def _change(self, event: Depth) -> None:
        place = self._place(event)
        if place == "old":
            return
        if place == "gap":
            self.state = "gap"
            self._buffer = [event]
            return
        self._joined = True
        if event.last_id is not None:
            self.last_id = event.last_id
        self._put(event)

    def _place(self, event: Depth) -> Literal["next", "old", "gap"]:
        """Say whether a change joins the book, is in it already, or something is missing."""
        last, chain = self.last_id, self._profile.chain
        if chain == "none" or last is None or event.last_id is None:
            return "next"
        if chain == "any":
            chain = "previous" if event.prev_id is not None else "following"
        spanned = last if chain == "previous" else last + 1
        if event.last_id < spanned or (self._joined and event.last_id <= last):
            return "old"
        return "next" if self._joins(event, chain, last) else "gap"

    def _joins(self, event: Depth, chain: Chain, last: int) -> bool:
        """Return whether nothing is missing before a change; the first spans the snapshot's id."""
        follows = event.prev_id == last
        if chain == "previous":
            return follows or (not self._joined and _starts_by(event, last))
        return follows or _starts_by(event, last + 1)

    def _put(self, event: Depth) -> None:
        for level in event.bids:
            self.bids.put(level)
        for level in event.asks:
            self.asks.put(level)
        if self._depth is not None and self._profile.truncates:
            self.bids.keep(self._depth)
            self.asks.keep(self._depth)
        self._judge(event)

    def _judge(self, event: Depth) -> None:
        bid, ask = self.bids.best_price(), self.asks.best_price()
        if bid is not None and ask is not None and bid >= ask:
            self.state = "crossed"
        elif self._profile.checks and event.checksum not in (None, self.checksum()):
            self.checksum_failures += 1
            if not self._flags:
                self.state = "bad_checksum"

    def checksum(self) -> int:
        """Return the CRC-32 of the best ten asks and bids, digits without point and leading zeros.

        Source: docs.kraken.com, "Book checksum"; its printed example is a test.
        """
        levels = [*self.asks.best(CHECKED_LEVELS), *self.bids.best(CHECKED_LEVELS)]
        text = "".join(number.replace(".", "").lstrip("0") for level in levels for number in level)
        return zlib.crc32(text.encode())


class TopOfBook(msgspec.Struct, frozen=True, kw_only=True):
    """What is derived of the best levels; None while a side is empty.

    Attributes:
        microprice: mid weighted by the other side's quantity.
        imbalance: of the best five levels, -1 all asks to 1 all bids.
    """

    mid: Decimal | None = None
    spread: Decimal | None = None
    microprice: Decimal | None = None
    imbalance: Decimal | None = None


def top_of(book: OrderBook) -> TopOfBook:
    """Return the figures of the best levels of a book."""
    bid, ask = book.best()
    if bid is None or ask is None:
        return TopOfBook()
    (low, bought), (high, sold) = map(_numbers, (bid, ask))
    bids = total(Decimal(level[1]) for level in book.bids.best(IMBALANCE_LEVELS))
    asks = total(Decimal(level[1]) for level in book.asks.best(IMBALANCE_LEVELS))
    weighted = plus(times(low, sold), times(high, bought))
    return TopOfBook(
        mid=over(plus(low, high), _TWO),
        spread=minus(high, low),
        microprice=over(weighted, plus(bought, sold)),
        imbalance=over(minus(bids, asks), plus(bids, asks)) if plus(bids, asks) > ZERO else None,
    )


def _starts_by(event: Depth, spanned: int) -> bool:
    """Return whether a change starts at an id or before it: quantities are absolute."""
    return event.first_id is not None and event.first_id <= spanned


def _numbers(level: Level) -> tuple[Decimal, Decimal]:
    return Decimal(level[0]), Decimal(level[1])
