"""What the chaos suite did: which faults fired how often, with which seed, and how long it took.

A test that injects a fault counts it here and fails if it never fired. The table is printed at
the end of the run, so that a green result also says what it means.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

LONG = os.environ.get("PSM_TEST_CHAOS") == "long"
"""Whether this is the long form, `make chaos`."""


class Row(msgspec.Struct):
    """One test."""

    name: str
    seed: int | None = None
    fired: Counter[str] = msgspec.field(default_factory=Counter)
    figures: dict[str, str] = msgspec.field(default_factory=dict)

    def seeded(self, seed: int) -> int:
        """Keep the seed and return it."""
        self.seed = seed
        return seed

    def fire(self, fault: str, times: int = 1) -> None:
        """Count a fault that really happened."""
        self.fired[fault] += times

    def measure(self, what: str, seconds: float) -> None:
        """Keep a duration; of several the longest."""
        before = float(self.figures.get(what, "0 s").removesuffix(" s"))
        self.figures[what] = f"{max(before, seconds):.2f} s"


_rows: list[Row] = []


@contextmanager
def recorded(name: str, seed: int | None = None) -> Iterator[Row]:
    """Give the row of a test.

    Raises:
        AssertionError: the test ended well although no fault fired, so it proves nothing.
    """
    row = Row(name, seed)
    _rows.append(row)
    yield row
    assert row.fired.total() > 0, f"{name}: no fault fired"


def lines() -> list[str]:
    """Return the table, one line per test."""
    if not _rows:
        return []
    shown = [
        (
            row.name,
            "-" if row.seed is None else str(row.seed),
            ", ".join(f"{fault} x{count}" for fault, count in sorted(row.fired.items())) or "NONE",
            ", ".join(f"{what} {text}" for what, text in row.figures.items()),
        )
        for row in _rows
    ]
    head = ("test", "seed", "faults fired", "figures")
    widths = [max(len(row[column]) for row in [head, *shown]) for column in range(len(head))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, *shown]
    ]


def total() -> int:
    """Return how many faults fired in all tests."""
    return sum(row.fired.total() for row in _rows)
