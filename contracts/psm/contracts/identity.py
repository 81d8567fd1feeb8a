"""Time-ordered event ids (RFC 9562, version 7) and the trace they belong to."""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from collections.abc import Callable

_RANDOM_BYTES = 10


class TimeOrderedIds:
    """Makes UUIDs of version 7 that rise within this object, whatever its clock does."""

    def __init__(self, random: Callable[[int], bytes] = os.urandom) -> None:
        """Nothing is made yet.

        Args:
            random: returns so many random bytes; a test gives a predictable one.
        """
        self._random = random
        self._last = 0
        self._lock = threading.Lock()

    def make(self, time_ms: int) -> uuid.UUID:
        """Return the next id of a moment, given in milliseconds since the Unix epoch."""
        fresh = time_ms << 80 | int.from_bytes(self._random(_RANDOM_BYTES), "big")
        with self._lock:
            # The version and variant bits are overwritten below: step above them to stay rising.
            value = fresh if _stamped(fresh) > self._last else _after(self._last)
            self._last = _stamped(value)
            return uuid.UUID(int=self._last)


def _stamped(value: int) -> int:
    value = value & ~(0xF << 76) | 7 << 76
    return value & ~(3 << 62) | 2 << 62


def _after(stamped: int) -> int:
    """The id one step behind, counted in the 62 random bits and carried over the fixed ones."""
    low = (stamped & (1 << 62) - 1) + 1
    high, middle = stamped >> 80, (stamped >> 64) & 0xFFF
    if low >> 62:
        low, middle = 0, middle + 1
    if middle >> 12:
        middle, high = 0, high + 1
    return high << 80 | middle << 64 | low


def traceparent(correlation_id: str, event_id: str) -> str:
    """Return a W3C trace context: one trace per correlation, one span per event.

    Services that do not trace still leave a trace that a collector can put together.
    """
    return f"00-{_hex(correlation_id, 32)}-{_hex(event_id, 16)}-01"


def _hex(text: str, digits: int) -> str:
    try:
        found = uuid.UUID(text).hex[-digits:]
    except ValueError:
        found = ""
    if not found.strip("0"):
        found = hashlib.sha256(text.encode()).hexdigest()[:digits]
    return found
