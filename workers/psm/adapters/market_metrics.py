"""The metrics of order books; see `metrics` for what holds for all of them."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.metrics import Meter


class MarketMetrics:
    """What the view of order books holds; a state that was told once is told again, as 0."""

    def __init__(self, meter: Meter) -> None:
        self._books = meter.create_gauge(
            "psm.market.books", description="Order books by state, as the view has them."
        )
        self._age = meter.create_gauge(
            "psm.market.unsynced.age",
            unit="s",
            description="How long a book to which changes come is not synced, the longest.",
        )
        self._states: dict[str, int] = {}

    def books(self, states: Mapping[str, int], unsynced_s: float) -> None:
        """Set the number of books in each state, and how long one is not synced."""
        self._states = {**dict.fromkeys(self._states, 0), **states}
        for state, count in self._states.items():
            self._books.set(count, {"state": state})
        self._age.set(unsynced_s)
