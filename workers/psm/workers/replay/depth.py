"""Depth events of a file, one JSON document a line, and the books that they make."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from psm.analytics.order_book import Depth, Level, OrderBook, Profile, top_of
from psm.contracts.errors import ContractError
from psm.domain.money import published_text

_EXACT = msgspec.json.Decoder(dict[str, Any], float_hook=str)
_PLACES_MAX = 60


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
        payload, exchange = _payload(line)
        event = _depth(payload, self._depth)
        key = (str(payload.get("exchange") or exchange), str(payload.get("symbol") or ""))
        book = self._books.get(key)
        if book is None:
            book = OrderBook(self._profile, flag_checksums=self._flags)
            self._books[key] = book
        state = book.take(event)
        return {**_named(key), "state": state, "last_id": book.last_id, **_levels(book)}


def _levels(book: OrderBook) -> dict[str, Any]:
    best_bid, best_ask = book.best()
    figures = msgspec.structs.asdict(top_of(book))
    return {
        "best_bid": best_bid,
        "best_ask": best_ask,
        "bids": len(book.bids.prices),
        "asks": len(book.asks.prices),
        **{
            name: None if value is None else published_text(value)
            for name, value in figures.items()
        },
        "checksum_failures": book.checksum_failures,
    }


def _named(key: tuple[str, str]) -> dict[str, str]:
    return {"exchange": key[0], "symbol": key[1]}


def _payload(line: bytes) -> tuple[dict[str, Any], str]:
    """Return the payload of a line, and the exchange that its subject names."""
    try:
        document = _EXACT.decode(line)
    except msgspec.MsgspecError as error:
        raise ContractError("invalid_json", str(error)) from None
    exchange = ""
    if "subject" in document and isinstance(document.get("data"), dict):
        tokens = str(document["subject"]).split(".")
        exchange = tokens[2] if len(tokens) > 3 else ""
        document = document["data"]
    if isinstance(document.get("payload"), dict):
        document = document["payload"]
    return document, exchange


def _depth(payload: dict[str, Any], depth: int | None) -> Depth:
    kind = payload.get("kind")
    if kind not in ("snapshot", "delta"):
        raise ContractError("malformed_field", "kind is snapshot or delta", "kind")
    try:
        ids = {
            name: payload[name]
            for name in ("first_id", "last_id", "prev_id", "depth", "checksum")
            if payload.get(name) is not None
        }
        bids, asks = _side(payload, "bids"), _side(payload, "asks")
        event = msgspec.convert({"kind": kind, **ids}, Depth, strict=False)
    except msgspec.ValidationError as error:
        raise ContractError("malformed_field", str(error)) from None
    return msgspec.structs.replace(event, bids=bids, asks=asks, depth=event.depth or depth)


def _side(payload: dict[str, Any], name: str) -> list[Level]:
    given = payload.get(name) or []
    if not isinstance(given, list):
        raise ContractError("malformed_field", "levels are [[price, quantity], ...]", name)
    return [_level(level, f"{name}[{place}]") for place, level in enumerate(given)]


def _level(level: Any, path: str) -> Level:
    if not isinstance(level, list) or len(level) < 2:
        raise ContractError("malformed_field", "a level is [price, quantity]", path)
    texts = str(level[0]), str(level[1])
    for text in texts:
        try:
            number = Decimal(text)
        except ArithmeticError:
            raise ContractError("malformed_field", f'"{text}" is no number', path) from None
        if (
            not number.is_finite()
            or number < 0
            or not -_PLACES_MAX < number.adjusted() < _PLACES_MAX
        ):
            raise ContractError("malformed_field", f'"{text}" is out of range', path)
    return texts
