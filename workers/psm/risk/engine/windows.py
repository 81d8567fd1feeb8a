"""What was requested and approved lately, by name and time: counts and sums of sliding periods."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from decimal import Decimal

from psm.domain.money import ZERO, add, exact_text, subtract

SECOND = 1_000_000
HORIZON = 3600 * SECOND
"""Longest period that is looked back; what is older is forgotten."""


class Windows:
    """Amounts by name, each with its time; times never fall."""

    def __init__(self) -> None:
        self._times: dict[str, list[int]] = {}
        # Before each amount, and after the last: a period's sum is the difference of two.
        self._sums: dict[str, list[Decimal]] = {}
        # Times and names of all amounts, the oldest first; apart, so that no pair is garbage.
        self._oldest: tuple[list[int], list[str]] = [], []
        self._gone = 0  # of those at the begin

    def note(self, names: Sequence[str], time: int, amount: Decimal) -> None:
        """Add an amount to each of some names."""
        for name in names:
            times = self._times.get(name)
            if times is None:
                times, sums = self._times[name], self._sums[name] = [], [ZERO]
            else:
                sums = self._sums[name]
            times.append(time)
            sums.append(add(sums[-1], amount))
        self._oldest[0].extend([time] * len(names))
        self._oldest[1].extend(names)

    def count(self, name: str, clock: int, seconds: int) -> int:
        """Return how many there are in (clock - seconds, clock]."""
        times = self._times.get(name, ())
        first = bisect_right(times, clock - int(seconds) * SECOND)
        return len(times) - first

    def total(self, name: str, clock: int, seconds: int) -> Decimal:
        """Return their sum."""
        sums = self._sums.get(name)
        if sums is None:
            return ZERO
        first = bisect_right(self._times[name], clock - int(seconds) * SECOND)
        return subtract(sums[-1], sums[first])

    def last(self, name: str) -> int | None:
        """Return the time of the newest; None where there is none."""
        times = self._times.get(name)
        return times[-1] if times else None

    def forget(self, clock: int) -> None:
        """Forget what no period looks back to from here on."""
        oldest, names = self._oldest
        gone = bisect_right(oldest, clock - HORIZON, self._gone)
        for name in names[self._gone : gone]:
            times, sums = self._times[name], self._sums[name]
            del times[0], sums[0]
            if not times:
                del self._times[name], self._sums[name]
        self._gone = gone
        if 2 * gone > len(oldest):  # seldom: it moves what is left
            del oldest[:gone], names[:gone]
            self._gone = 0

    def _kept(self) -> list[tuple[str, list[int], list[Decimal]]]:
        return [(name, self._times[name], self._sums[name]) for name in sorted(self._times)]

    def document(self) -> dict[str, list[tuple[int, str]]]:
        """Return everything as JSON values."""
        return {
            name: [
                (time, exact_text(subtract(after, before)))
                for time, before, after in zip(times, sums, sums[1:], strict=False)
            ]
            for name, times, sums in self._kept()
        }

    def restore(self, document: Mapping[str, Sequence[tuple[int, str]]]) -> None:
        """Take everything of a document."""
        for name, rows in document.items():
            for time, amount in rows:
                self.note((name,), time, Decimal(amount))
        rows = sorted(zip(*self._oldest, strict=True))
        self._oldest = [time for time, _ in rows], [name for _, name in rows]
