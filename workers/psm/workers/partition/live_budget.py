"""How much of a worker's time live reads may take: its first duty is to fold."""

from __future__ import annotations

import time
from collections.abc import Callable

from psm.adapters.metrics import Metrics

LIVE_SHARE = 0.05
"""Share of a worker's time."""

_SAVED_S = 0.5  # of it, at most: so much may be spent at once after a quiet time
WAITING_MAX = 1000
"""Questions that wait in one worker at a time, for a version or a place in the log."""


class LiveBudget:
    """Time that the partitions of a worker may spend on live answers.

    Attributes:
        waiting: questions that wait for the books.
    """

    def __init__(
        self,
        metrics: Metrics,
        share: float = LIVE_SHARE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """It begins full.

        Args:
            metrics: where what is spent is counted.
            share: of the time that passes.
            clock: seconds that never run backwards.
        """
        self.waiting = 0
        self._metrics = metrics
        self._share = share
        self._clock = clock
        self._left = _SAVED_S
        self._counted_at = clock()

    @property
    def is_spent(self) -> bool:
        """Whether more than the share was spent."""
        now = self._clock()
        self._left = min(_SAVED_S, self._left + (now - self._counted_at) * self._share)
        self._counted_at = now
        return self._left <= 0

    def spend(self, seconds: float) -> None:
        """Count the time that an answer took; a long one leaves a debt."""
        self._left -= seconds
        self._metrics.live_time(seconds)
