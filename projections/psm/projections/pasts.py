"""What a projection may ask of the log beside its own source."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from psm.analytics.revision import Pasts
from psm.projections.sql import Connection

T = TypeVar("T")

_AWAKE_S = 10


class PastReader(Protocol):
    """Reader of the positions of an account without a correction and with it."""

    async def read(self, stream_id: str, log_sequence: int, number: int) -> Pasts:
        """Fold both pasts from the log.

        Args:
            stream_id: of the account.
            log_sequence: of the input that has the correction.
            number: of the correction among the account's events.

        Raises:
            LogDamagedError: the log does not have the account's events up to there.
            TransientError: it cannot be read now.
        """


async def kept_awake(connection: Connection, work: Coroutine[Any, Any, T]) -> T:
    """Return what long work gives; PostgreSQL would end a transaction that is silent meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait([task], timeout=_AWAKE_S))[0]:
            await connection.execute("SELECT 1")
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
