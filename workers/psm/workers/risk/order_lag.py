"""How far decisions are behind the commands in ORDERS."""

from __future__ import annotations

import time
from collections import deque

from nats.aio.client import Client

from psm.adapters.risk_metrics import RiskMetrics
from psm.workers.risk.orders_log import newest_order_message

_MOST = 3600


class OrderLag:
    """Remembers when each end of the stream was first seen, until it is reached."""

    def __init__(self, metrics: RiskMetrics) -> None:
        self._metrics = metrics
        self._ends: deque[tuple[int, float]] = deque()

    async def look(self, nc: Client, position: int) -> int:
        """Tell the metrics what is not taken yet, and since when the oldest of it is known.

        Args:
            nc: connection.
            position: sequence up to which everything was taken.

        Returns:
            The sequence of the newest message, as the stream's leader has it.
        """
        end = await newest_order_message(nc)
        now, ends = time.monotonic(), self._ends
        while ends and ends[0][0] <= position:
            ends.popleft()
        if end > position and (not ends or end > ends[-1][0]) and len(ends) < _MOST:
            ends.append((end, now))
        since = now - ends[0][1] if ends else 0.0
        self._metrics.order_lag(max(end - position, 0), since)
        return end
