"""Order books: depth events to rows, on one core, beside a bare decode of the same bytes.

Ten symbols, a book of a thousand levels a side (of Kraken as subscribed: ten), ten levels changed
in each event, 2 000 events a second of the stream's time. What is measured is what a projector does
up to its SQL: decode, book, the rows of each 100 ms, the books saved every 10 s.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable, Sequence

import msgspec

from benchmarks.figures import Figure, Size, beside
from psm.analytics.market_books import BookRow, MarketBooks, MarketRules
from psm.analytics.order_book import PROFILES, Depth, Level, OrderBook
from psm.contracts import subjects
from psm.projections.market import update_of
from psm.risk.messages import Stored

TARGET = 20_000
_SYMBOLS = tuple(f"S{number}-PERP" for number in range(10))
_LEVELS = 1_000
_CHANGED = 5
_STEP = 500
_BATCH = 2_000


class _Payload(msgspec.Struct):
    kind: str
    exchange: str
    symbol: str
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    first_id: int | None = None
    last_id: int | None = None
    prev_id: int | None = None
    checksum: int | None = None


class _Bare(msgspec.Struct):
    payload: _Payload


async def measure(size: Size) -> list[Figure]:
    """Fold a recorded stream of two venues; decode it only."""
    count = size.of(60_000, least=200)
    found: list[Figure] = []
    for venue in ("binance_futures", "kraken"):
        messages = _recorded(venue, count)
        measured: list[float] = []
        bare: list[float] = []
        for _ in range(size.rounds):
            bare.append(count / _timed(_decode, messages))
            measured.append(count / _timed(_fold, messages))
        name = f"order books, {venue}"
        found.append(beside(f"{name}, beside a decode", "deltas/s", measured, bare))
        median = statistics.median(measured)
        found.append(Figure(name=name, unit="deltas/s", value=median, target=TARGET))
    return found


def _timed(work: Callable[[Sequence[Stored]], None], messages: Sequence[Stored]) -> float:
    """Return processor seconds: one core is what is promised."""
    started = time.process_time()
    work(messages)
    return time.process_time() - started


def _decode(messages: Sequence[Stored]) -> None:
    decoder = msgspec.json.Decoder(_Bare)
    for one in messages:
        decoder.decode(one.data)


def _fold(messages: Sequence[Stored]) -> None:
    books = MarketBooks(MarketRules())
    for start in range(0, len(messages), _BATCH):
        changes = []
        for one in messages[start : start + _BATCH]:
            changes += books.take(one.sequence, one.time, one.subject, one.data)
        changes += books.settle()
        for change in changes:
            update_of(change)
        rows = [change for change in changes if isinstance(change, BookRow)]
        assert all(row.state == "synced" for row in rows)


def _recorded(venue: str, count: int) -> list[Stored]:
    """Return a snapshot of each symbol and changes, as a venue and its profile have them."""
    dice = random.Random(1)
    depth = 10 if PROFILES[venue].truncates else _LEVELS
    own: dict[str, OrderBook] = {}
    ids = dict.fromkeys(_SYMBOLS, 1)
    messages: list[Stored] = []
    for number in range(count):
        symbol = _SYMBOLS[number % len(_SYMBOLS)]
        payload: dict[str, object] = {"exchange": venue, "symbol": symbol}
        if number < len(_SYMBOLS):
            own[symbol] = OrderBook(PROFILES[venue])
            sides = [_levels(dice, side, range(depth)) for side in (0, 1)]
            payload |= {"kind": "snapshot", "last_id": 1}
        else:
            places = [min(int(dice.expovariate(0.1)), depth - 1) for _ in range(_CHANGED)]
            sides = [_levels(dice, side, places) for side in (0, 1)]
            first = ids[symbol] + 1
            payload |= {"kind": "delta", "first_id": first, "last_id": first, "prev_id": first - 1}
            ids[symbol] = first
        payload |= {"bids": sides[0], "asks": sides[1]}
        if PROFILES[venue].checks:
            kind = "snapshot" if number < len(_SYMBOLS) else "delta"
            event = msgspec.convert({"kind": kind, "depth": depth, **payload}, Depth)
            own[symbol].take(event)
            payload["checksum"] = own[symbol].checksum()
        data = json.dumps({"event_type": "market_data", "payload": payload}).encode()
        subject, at = subjects.depth(venue, symbol), 1_770_000_000_000_000 + number * _STEP
        messages.append(Stored(sequence=number + 1, time=at, subject=subject, data=data))
    return messages


def _levels(dice: random.Random, side: int, places: Sequence[int]) -> list[Level]:
    """Return levels so many steps away from the middle."""
    sign = (-1, 1)[side]
    prices = [f"{50_000 + sign * (place + 1) / 10:.1f}0" for place in places]
    return [(price, f"{dice.randrange(1, 9_999) / 1000:.3f}") for price in prices]
