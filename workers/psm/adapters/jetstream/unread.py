"""How many messages follow a position, and how old the first of them is."""

from __future__ import annotations

import time
from collections.abc import Sequence

from nats.aio.client import Client

from psm.adapters.jetstream.reader import OrderedReader

_NS = 1_000_000_000
_FIRST_WAIT_S = 2.0


async def unread(
    nc: Client, js_stream: str, filters: Sequence[str], position: int
) -> tuple[int, float]:
    """Return how many messages on the subjects follow `position`, and the age of the first.

    Raises:
        TransientError: the broker is away.
    """
    reader = OrderedReader(nc, js_stream, filters, position + 1, batch=1)
    try:
        messages = await reader.fetch(1, _FIRST_WAIT_S)
        if not messages:
            return 0, 0.0
        age_s = max(0.0, time.time() - messages[0].time_ns / _NS)
        return 1 + (reader.pending or 0), age_s
    finally:
        await reader.close()
