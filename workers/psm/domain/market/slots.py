"""Slots of the valuation clock: when what marks changed of an account is looked at.

The clock adds up the steps between the times of successive marks, so neither silence nor a wrong
clock of the broker's leader floods or stops it. Each account has slots of three periods, offset by
a phase of its own; as each period divides the next, a slot of a longer one is one of the shorter
ones too. So what is published of an account follows from it alone, never from its neighbours.
"""

from __future__ import annotations

from heapq import heappop, heappush

import msgspec

from psm.contracts.errors import ConfigError
from psm.contracts.subjects import fnv1a

MS = 1_000_000
MINUTE = 60 * 1_000 * MS


class ValuationSlots(msgspec.Struct, frozen=True, kw_only=True):
    """Periods of the slots and the change that counts at the middle one; constants of a log.

    Attributes:
        fast_ms: accounts near liquidation publish each change.
        mid_ms: accounts whose equity moved far enough publish; the longest step of the clock, too.
        slow_ms: accounts publish whatever changed.
        move_bps: basis points of the published equity that are far enough; 0: any change is.
    """

    fast_ms: int = 1_000
    mid_ms: int = 10_000
    slow_ms: int = 60_000
    move_bps: int = 100

    def __post_init__(self) -> None:
        """Refuse periods that do not divide each other.

        Raises:
            ConfigError: naming them.
        """
        if not 0 < self.fast_ms <= self.mid_ms <= self.slow_ms or (
            self.mid_ms % self.fast_ms or self.slow_ms % self.mid_ms
        ):
            raise ConfigError(
                f"valuation slots of {self.fast_ms}, {self.mid_ms} and {self.slow_ms} ms: each "
                "period must be a multiple of the one before, such as 1000, 10000 and 60000"
            )
        if self.move_bps < 0:
            raise ConfigError(f"a valuation move of {self.move_bps} bps: it must not be below zero")

    @property
    def fast(self) -> int:
        """The shortest period, ns."""
        return self.fast_ms * MS

    @property
    def mid(self) -> int:
        """The middle period, ns."""
        return self.mid_ms * MS

    @property
    def slow(self) -> int:
        """The longest period, ns."""
        return self.slow_ms * MS

    def __str__(self) -> str:
        """Return them as one text, which `slots_of` reads."""
        return f"{self.fast_ms},{self.mid_ms},{self.slow_ms},{self.move_bps}"


def slots_of(text: str) -> ValuationSlots:
    """Return the slots in a text such as `1000,10000,60000,100`: three periods in ms and the move.

    Raises:
        ConfigError: it is none.
    """
    try:
        fast, mid, slow, move = text.split(",")
        return ValuationSlots(
            fast_ms=int(fast), mid_ms=int(mid), slow_ms=int(slow), move_bps=int(move)
        )
    except ValueError as error:
        raise ConfigError(
            f"valuation slots {text!r}: write three periods in ms and the move in basis points, "
            f"such as {ValuationSlots()}"
        ) from error


def phase_of(stream_id: str) -> int:
    """Return the phase of an account's slots, ns; a slot is where the clock is it, modulo."""
    return fnv1a(f"slot.{stream_id}") * MS


class Agenda:
    """Streams by the slot at which each is looked at next.

    Asked for those that are due it costs what these cost, however many others wait.
    """

    __slots__ = ("_heap", "_waiting", "size")

    def __init__(self) -> None:
        self.size = 0
        self._heap: list[int] = []
        self._waiting: dict[int, list[str]] = {}

    def put(self, slot: int, stream_id: str) -> None:
        """Look at a stream at a slot of the clock."""
        waiting = self._waiting.get(slot)
        if waiting is None:
            heappush(self._heap, slot)
            waiting = self._waiting[slot] = []
        waiting.append(stream_id)
        self.size += 1

    def take(self, clock: int) -> list[tuple[int, str]]:
        """Return (slot, stream) of all slots that the clock has reached, and forget them."""
        found: list[tuple[int, str]] = []
        while self._heap and self._heap[0] <= clock:
            slot = heappop(self._heap)
            found += [(slot, stream_id) for stream_id in self._waiting.pop(slot)]
        self.size -= len(found)
        return found

    def count(self, clock: int) -> int:
        """Return how many are due when the clock is there."""
        count, places = 0, [0]
        while places:
            place = places.pop()
            if place < len(self._heap) and self._heap[place] <= clock:
                count += len(self._waiting[self._heap[place]])
                place = place * 2
                places.extend((place + 1, place + 2))
        return count
