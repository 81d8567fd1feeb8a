"""Orders that ended while an account was not followed: the whole account shows open ones alone."""

from __future__ import annotations

import asyncio

from nats.aio.client import Client

from psm.adapters.jetstream.reads import direct_batch
from psm.adapters.logs import get_logger
from psm.adapters.tasks import end_all
from psm.contracts.errors import PSMError
from psm.contracts.subjects import PSM
from psm.domain.publication.log_times import log_time
from psm.workers.risk.delivered import OrdersTold
from psm.workers.risk.missed import MISSED_MAX

_BATCH = 256
_log = get_logger()


class EndedOrders:
    """Reads what PSM told of an account's orders since a time, beside everything else.

    What cannot be read, or is more than `MISSED_MAX` updates, is left out: such an approved order
    counts on.
    """

    def __init__(self, nc: Client, wake: asyncio.Event) -> None:
        """Nothing is read before `look`.

        Args:
            nc: connection.
            wake: set when there is something to take.
        """
        self._nc, self._wake = nc, wake
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._read: list[OrdersTold] = []

    def look(self, account_id: str, since: int) -> None:
        """Begin to read what was told of an account's orders since then, us."""
        before = self._tasks.get(account_id)
        if before is not None:
            before.cancel()  # it may have read what the account was then
        self._tasks[account_id] = asyncio.create_task(self._look(account_id, since))

    def take(self) -> list[OrdersTold]:
        """Return what was read."""
        found, self._read = self._read, []
        return found

    async def close(self) -> None:
        """End what is being read."""
        await end_all([*self._tasks.values()])

    async def _look(self, account_id: str, since: int) -> None:
        try:
            updates = await self._updates(account_id, since)
            self._read.append(OrdersTold(account_id=account_id, updates=updates))
            self._wake.set()
        except PSMError as error:
            _log.warning("risk.orders_not_read", account_id=account_id, detail=str(error))
        finally:
            if self._tasks.get(account_id) is asyncio.current_task():
                del self._tasks[account_id]

    async def _updates(self, account_id: str, since: int) -> tuple[bytes, ...]:
        subject, found = f"psm.order.updated.*.{account_id}", list[bytes]()
        place: dict[str, object] = {"start_time": log_time(since * 1000)}
        while len(found) < MISSED_MAX:
            body = {**place, "next_by_subj": subject, "batch": _BATCH}
            batch, _ = await direct_batch(self._nc, PSM, body)
            if not batch:
                break
            found = [*found, *(message.data for message in batch)]
            place = {"seq": batch[-1].sequence + 1}
        return tuple(found)
