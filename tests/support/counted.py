"""Metrics that also count which accounts went to their snapshots and came back."""

from __future__ import annotations

from collections import Counter

from opentelemetry.metrics import NoOpMeter

from psm.adapters.metrics import Metrics


class CountedMoves(Metrics):
    """Counts `evicted` and `returned`; records nothing else."""

    def __init__(self, fired: Counter[str]) -> None:
        super().__init__(NoOpMeter("test"))
        self._fired = fired

    def accounts_evicted(self, partition: int, count: int) -> None:
        self._fired["evicted"] += count

    def accounts_returned(self, partition: int, count: int) -> None:
        self._fired["returned"] += count
