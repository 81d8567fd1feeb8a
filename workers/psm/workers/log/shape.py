"""Settings of a log that decide what folding it gives."""

from __future__ import annotations

import msgspec

from psm.adapters.jetstream.streams import LogSettings
from psm.domain.books import Books
from psm.domain.market.slots import ValuationSlots


class LogShape(msgspec.Struct, frozen=True, kw_only=True):
    """What of the log's settings decides a fold.

    Attributes:
        partitions: virtual partitions of the log.
        slots: when changed valuations are published.
    """

    partitions: int
    slots: ValuationSlots

    def books(self) -> Books:
        """Return empty books for this log."""
        return Books(partitions=self.partitions, slots=self.slots)


def log_shape(settings: LogSettings) -> LogShape:
    """Return the shape of the log that settings describe."""
    return LogShape(
        partitions=settings.partitions,
        slots=settings.valuation_slots,
    )
