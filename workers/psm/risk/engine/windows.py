"""What was requested and approved lately, by name and time: counts and sums of sliding periods."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from decimal import Decimal

from psm.domain.money import ZERO, add, exact_text

SECOND = 1_000_000
HORIZON = 3600 * SECOND
"""Longest period that is looked back; what is older is forgotten."""


class Windows:
    """Amounts by name, each with its time; times never fall."""

    def __init__(self) -> None:
        self._times: dict[str, list[int]] = {}
        self._amounts: dict[str, list[Decimal]] = {}

    def note(self, name: str, time: int, amount: Decimal) -> None:
        """Add an amount to a name."""
        self._times.setdefault(name, []).append(time)
        self._amounts.setdefault(name, []).append(amount)

    def count(self, name: str, clock: int, seconds: int) -> int:
        """Return how many there are in (clock - seconds, clock]."""
        times = self._times.get(name, ())
        first = bisect_right(times, clock - int(seconds) * SECOND)
        return len(times) - first

    def total(self, name: str, clock: int, seconds: int) -> Decimal:
        """Return their sum."""
        found = ZERO
        first = bisect_right(self._times.get(name, ()), clock - int(seconds) * SECOND)
        for amount in self._amounts.get(name, ())[first:]:
            found = add(found, amount)
        return found

    def last(self, name: str) -> int | None:
        """Return the time of the newest; None where there is none."""
        times = self._times.get(name)
        return times[-1] if times else None

    def forget(self, clock: int) -> None:
        """Forget what no period looks back to from here on."""
        for name in sorted(self._times):
            times = self._times[name]
            gone = bisect_right(times, clock - HORIZON)
            if gone == len(times):
                del self._times[name], self._amounts[name]
            elif gone:
                del times[:gone], self._amounts[name][:gone]

    def document(self) -> dict[str, list[tuple[int, str]]]:
        """Return everything as JSON values."""
        return {
            name: [
                (time, exact_text(amount))
                for time, amount in zip(times, self._amounts[name], strict=True)
            ]
            for name, times in sorted(self._times.items())
        }

    def restore(self, document: Mapping[str, Sequence[tuple[int, str]]]) -> None:
        """Take everything of a document."""
        for name, rows in document.items():
            for time, amount in rows:
                self.note(name, time, Decimal(amount))
