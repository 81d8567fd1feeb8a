"""Memory of a stream's past, in bounded, packed form: 16 bytes an entry.

256 places of identities, 256 fills and 256 references cost 16 KiB an account when full.
"""

from __future__ import annotations

import hashlib

from psm.contracts import limits

WINDOW = limits.REMEMBERED
_SIZE = 16
VOIDED = bytes(_SIZE)
"""Stands where the hash of a voided place's event would."""


def digest16(*parts: str) -> bytes:
    """Return the packed form of a business key."""
    return hashlib.sha256("\0".join(parts).encode()).digest()[:_SIZE]


class KeyWindow:
    """The last 256 keys, exactly; older ones are forgotten."""

    __slots__ = ("packed",)

    def __init__(self, packed: bytes = b"") -> None:
        self.packed = bytearray(packed)

    def __contains__(self, key: bytes) -> bool:
        return _find(self.packed, key) is not None

    def add(self, key: bytes) -> None:
        """Remember `key`, forgetting the oldest beyond the window."""
        self.packed += key
        del self.packed[: -WINDOW * _SIZE]


FillKey = bytes
"""Packed identity of a fill: ten bytes of symbol, fill id and side, then six of the order."""

_OF_FILL = 10
_NO_ORDER = bytes(_SIZE - _OF_FILL)


def fill_key(symbol: str, fill_id: str, side: str, order_id: str | None) -> FillKey:
    """Return the packed identity of a fill."""
    own = digest16("fill", symbol, fill_id, side)[:_OF_FILL]
    order = _NO_ORDER if order_id is None else digest16("order", order_id)[: len(_NO_ORDER)]
    return b"".join((own, order))


class FillWindow:
    """The last 256 fills, exactly; older ones are forgotten.

    A fill that names no order is the same as any remembered one of its symbol, id and side, and
    conversely. One of which the order was not known stands for that order alone once it is.
    """

    __slots__ = ("packed",)

    def __init__(self, packed: bytes = b"") -> None:
        self.packed = bytearray(packed)

    def __contains__(self, key: FillKey) -> bool:
        own, order = key[:_OF_FILL], key[_OF_FILL:]
        if order == _NO_ORDER:
            return _find(self.packed, own) is not None
        return _find(self.packed, key) is not None or self._unnamed(own) is not None

    def add(self, key: FillKey) -> None:
        """Remember `key`, forgetting the oldest beyond the window."""
        self.packed += key
        del self.packed[: -WINDOW * _SIZE]

    def complete(self, key: FillKey) -> None:
        """Let a remembered fill without an order stand for the order of `key` from now on."""
        place = self._unnamed(key[:_OF_FILL])
        if place is not None and _find(self.packed, key) is None:
            self.packed[place * _SIZE : (place + 1) * _SIZE] = key

    def _unnamed(self, own: bytes) -> int | None:
        return _find(self.packed, b"".join((own, _NO_ORDER)))


class IdentityWindow:
    """Event id and hash of the events at the last 256 places of a stream."""

    __slots__ = ("hashes", "ids")

    def __init__(self, ids: bytes = b"", hashes: bytes = b"") -> None:
        self.ids = bytearray(ids)
        self.hashes = bytearray(hashes)

    def __len__(self) -> int:
        return len(self.ids) // _SIZE

    def add(self, identity: bytes, event_hash: bytes) -> None:
        """Remember the event that took the next place."""
        self.ids += identity
        self.hashes += event_hash[:_SIZE]
        del self.ids[: -WINDOW * _SIZE]
        del self.hashes[: -WINDOW * _SIZE]

    def add_voided(self, count: int, event_hash: bytes) -> None:
        """Remember places that an operator's event with this hash declared empty.

        They are named by that hash, which no event has as its id; the hash of a place that is
        all zeros is no event's either.
        """
        for _ in range(min(count, WINDOW)):
            self.add(event_hash[:_SIZE], VOIDED)

    def hash_of(self, identity: bytes) -> bytes | None:
        """Return the packed hash of the remembered event with this id."""
        place = _find(self.ids, identity)
        return None if place is None else self._hash(place)

    def at(self, places_back: int) -> tuple[bytes, bytes] | None:
        """Return (id, packed hash) of the event `places_back` before the last, 0 being the last."""
        place = len(self) - 1 - places_back
        if place < 0:
            return None
        return bytes(self.ids[place * _SIZE : (place + 1) * _SIZE]), self._hash(place)

    def _hash(self, place: int) -> bytes:
        return bytes(self.hashes[place * _SIZE : (place + 1) * _SIZE])


def same_hash(packed: bytes, event_hash: bytes) -> bool:
    """Return whether a full event hash is the one that `packed` was made from."""
    return packed == event_hash[:_SIZE]


def _find(packed: bytearray, key: bytes) -> int | None:
    """Return the last aligned place of `key`, or of what begins with it."""
    end = len(packed)
    while (found := packed.rfind(key, 0, end)) >= 0:
        if found % _SIZE == 0:
            return found // _SIZE
        end = found + len(key) - 1
    return None
