"""Progress in stages: each counts for itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from psm.workers.cli.shared.output import Output
from psm.workers.cli.shared.stages import Stages


class _Bars:
    """What was shown: per bar its label, count and total."""

    def __init__(self) -> None:
        self.shown: list[list[Any]] = []
        self.open = 0

    @contextmanager
    def progress(self, label: str) -> Iterator[_Bars]:
        self.shown.append([label, 0, 0])
        self.open += 1
        yield self
        self.open -= 1

    def advance(self, count: int = 1) -> None:
        self.shown[-1][1] += count

    def total(self, count: int) -> None:
        self.shown[-1][2] = count


def test_a_stage_counts_to_its_own_end_under_its_own_name() -> None:
    """Sixteen partitions over one log are not sixteen logs."""
    bars = _Bars()
    with Stages(cast("Output", bars)) as shown:
        for what, steps in (("TRADES: sequence", 2), ("PSM: sequence", 3), ("partition 0", 2)):
            for step in range(1, steps + 1):
                shown(what, step * 10, steps * 10)
                assert bars.open == 1
    assert bars.open == 0
    assert bars.shown == [
        ["TRADES: sequence", 20, 20], ["PSM: sequence", 30, 30], ["partition 0", 20, 20],
    ]  # fmt: skip
