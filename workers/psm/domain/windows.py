"""What a stream remembers of its past, in bounded, packed form: 16 bytes an entry.

256 places of identities and 256 business keys cost 12 KiB an account when full.
"""

from __future__ import annotations

import hashlib

WINDOW = 256
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
    """Return the last aligned place of `key`."""
    end = len(packed)
    while (found := packed.rfind(key, 0, end)) >= 0:
        if found % _SIZE == 0:
            return found // _SIZE
        end = found + _SIZE - 1
    return None
