"""Fills the silence behind the newest mark, so that everything it changed is published.

The valuation clock moves with marks alone. Where no mark comes for a middle period, the newest one
is appended again, until a slow and a middle period are over: its number is not new, so it is stale
and moves the clock, and nothing else. A new number would be a new mark: it would end the correction
of one that a split made old.
"""

from __future__ import annotations

import asyncio

from nats.aio.client import Client

from psm.adapters.jetstream import ApiConflictError, StoredMessage, last_for, publish_expected
from psm.adapters.logs import get_logger
from psm.adapters.metrics import Metrics
from psm.contracts.errors import TransientError
from psm.contracts.subjects import TRADES
from psm.domain.market.slots import ValuationSlots

_LOOKS = 4  # in a middle period
_log = get_logger()


class Silence:
    """Watches the newest mark of the log, whoever appends them.

    Several may watch: only one of them repeats it, as each expects the newest that it saw, and what
    another repeated counts as if it had.
    """

    def __init__(self, nc: Client, metrics: Metrics, slots: ValuationSlots) -> None:
        """Nothing is read before `run`."""
        self._nc = nc
        self._metrics = metrics
        self._every_s = slots.mid_ms / 1000
        self._repeats_max = slots.slow_ms // slots.mid_ms + 1
        self._newest = 0
        self._data = b""
        self._since = 0.0
        self._repeats = 0

    @property
    def filled(self) -> bool:
        """Whether the newest mark was repeated for long enough."""
        return self._repeats >= self._repeats_max

    async def run(self) -> None:
        """Look and repeat until cancelled."""
        while True:
            try:
                await self._look()
            except TransientError as error:
                _log.info("marks.silence_unknown", detail=str(error))
            await asyncio.sleep(self._every_s / _LOOKS)

    async def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        newest = await last_for(self._nc, TRADES, "marks.*")
        if newest is None:
            return
        if newest.sequence != self._newest:
            self._repeats = self._repeats + 1 if newest.data == self._data else 0
            self._newest, self._data, self._since = newest.sequence, newest.data, now
        elif not self.filled and now - self._since >= self._every_s:
            await self._repeat(newest, now)

    async def _repeat(self, newest: StoredMessage, now: float) -> None:
        """Append it again, without an id by which the broker would drop it, if it is the newest."""
        try:
            stored = await publish_expected(
                self._nc, TRADES, newest.subject, newest.data, expected=newest.sequence
            )
        except ApiConflictError:
            return  # it is not silent any more
        self._newest, self._since, self._repeats = stored.sequence, now, self._repeats + 1
        self._metrics.mark_appended("silence")
