"""What slots tell of their groups, for the groups beside them: from lately on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from nats.aio.client import Client

from psm.adapters.jetstream import OrderedReader, StoredMessage
from psm.contracts.errors import TransientError
from psm.contracts.subjects import RISK
from psm.risk.engine.parents import OLDEST
from psm.workers.risk.orders_log import first_at

FIGURES = "risk.alert.*.info"
_MOST, _WAIT_S, _AGAIN_S = 500, 1.0, 0.2


class FiguresReader:
    """Reads what is not too old to count when it is opened, and all that follows."""

    def __init__(self, nc: Client, on_reset: Callable[[str, str], None] | None = None) -> None:
        """Nothing is opened before the first `fetch`."""
        self._nc, self._on_reset = nc, on_reset
        self._reader: OrderedReader | None = None

    async def fetch(self) -> list[StoredMessage]:
        """Return the next records, among others that count for nothing here."""
        while self._reader is None:
            try:
                since = time.time_ns() // 1000 - OLDEST
                start = await first_at(self._nc, RISK, FIGURES, since)
            except TransientError:
                await asyncio.sleep(_AGAIN_S)
            else:
                self._reader = OrderedReader(
                    self._nc, RISK, [FIGURES], start, on_reset=self._on_reset
                )
        return await self._reader.fetch(_MOST, _WAIT_S)

    async def close(self) -> None:
        """End reading."""
        if self._reader is not None:
            await self._reader.close()
