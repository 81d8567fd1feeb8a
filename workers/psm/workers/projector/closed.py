"""Tells projections how far minutes are complete: as the cursor says, or the fold."""

from __future__ import annotations

from psm.analytics.feed import nanoseconds_of
from psm.contracts.updates_read import ReadUpdate
from psm.projections.closes import minutes_closed
from psm.workers.log.committed import CommittedInputs
from psm.workers.log.refold import Replayed


def with_closed(partition: int, inputs: CommittedInputs) -> list[ReadUpdate]:
    """Return committed updates, and behind them how far minutes are complete."""
    if inputs.closed_through is None:
        return inputs.updates
    closed = minutes_closed(partition, nanoseconds_of(inputs.closed_through))
    return [*inputs.updates, closed]


class ClosedUpdates:
    """Adds the same to updates that are folded again, where it changes.

    Args:
        partition: that is folded.
    """

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._told: int | None = None

    def updates(self, replayed: Replayed, stream_id: str | None = None) -> list[ReadUpdate]:
        """Return what a message gave, of one account or of all."""
        found = replayed.updates(stream_id)
        if replayed.closed_through is not None and replayed.closed_through != self._told:
            self._told = replayed.closed_through
            found.append(minutes_closed(self._partition, replayed.closed_through))
        return found
