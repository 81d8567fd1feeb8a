"""Keeps one partition running: again and again, until it is let go or must not go on.

A partition that loses the broker starts over with back-off. One that is fenced does too, or steps
down where a fleet decides who comes next. One that finds the log damaged or contradicts itself
stops and stays stopped: a wrong balance is worse than a late one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from psm.adapters.logs import get_logger
from psm.adapters.metrics import Metrics
from psm.adapters.tasks import BackOff
from psm.contracts.errors import FencedError, PSMError, TransientError
from psm.contracts.heads import SubjectHead
from psm.contracts.live import LiveQuestion
from psm.workers.fleet.members import HoldingState
from psm.workers.partition.live_reads import LiveRefusedError
from psm.workers.partition.loop import Partition
from psm.workers.partition.settings import PartitionStats

_FIRST_S = 1.0
_LAST_S = 30.0
_STABLE_S = 60.0  # two owners that fence each other are live in between, and must still back off
_log = get_logger()


def partition_back_off() -> BackOff:
    """Return the pauses before a partition is tried again: 1, 2, 4 … 30 s."""
    return BackOff(_FIRST_S, _LAST_S, stable_s=_STABLE_S)


class Keeper:
    """One partition of a worker.

    Attributes:
        number: of the partition.
        failure: why it stopped for good; None while it did not.
        rest_s: how long nobody here may take it again, once it stepped down; else 0.
    """

    def __init__(
        self,
        number: int,
        make: Callable[[int], Partition],
        metrics: Metrics,
        back_off: BackOff,
        *,
        steps_down: bool,
    ) -> None:
        """Nothing runs yet.

        Args:
            number: of the partition.
            make: gives a new partition for each try.
            metrics: where counts go.
            back_off: of this partition, kept over its keepers.
            steps_down: whether being fenced ends it.
        """
        self.number = number
        self.failure: str | None = None
        self.rest_s = 0.0
        self._make = make
        self._metrics = metrics
        self._back_off = back_off
        self._steps_down = steps_down
        self._running: Partition | None = None
        self._stopping = asyncio.Event()

    @property
    def state(self) -> HoldingState:
        """What it is doing."""
        if self.failure is not None:
            return "stopped"
        if self._stopping.is_set():
            return "draining"
        return "live" if self.stats is not None and self.stats.live else "recovering"

    @property
    def stats(self) -> PartitionStats | None:
        """What the running partition says; None between two tries."""
        return self._running.stats if self._running is not None else None

    async def head(self, subject: str) -> SubjectHead | None:
        """Return the head of a subject of this partition; None while it is not live."""
        return await self._running.head(subject) if self._running is not None else None

    async def live(self, question: LiveQuestion) -> bytes:
        """Return a document from the books, as JSON.

        Raises:
            LiveRefusedError: it cannot be answered here, or not now.
            PSMError: the log, or a snapshot, cannot be read.
        """
        if self._running is None:
            raise LiveRefusedError("handover", "the partition does not run here now")
        return await self._running.live(question)

    def stop(self) -> None:
        """Drain, commit, snapshot and end."""
        self._stopping.set()
        if self._running is not None:
            self._running.stop()

    async def run(self) -> None:
        """Run until stopped, stepped down or failed for good."""
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            started = loop.time()
            live = False
            try:
                self._running = partition = self._make(self.number)
                try:
                    await partition.run()
                finally:
                    live = partition.stats.live
            except FencedError as error:
                self._metrics.fenced(self.number)
                _log.warning("partition.fenced", partition=self.number, detail=str(error))
                if self._steps_down:
                    self.rest_s = self._back_off.next_s(loop.time() - started if live else 0.0)
                    return
            except TransientError as error:
                _log.warning("partition.interrupted", partition=self.number, detail=str(error))
            except PSMError as error:
                self.failure = str(error)
                _log.critical("partition.stopped", partition=self.number, detail=str(error))
                return
            except Exception as error:  # noqa: BLE001 - a defect must show, not end in silence
                self.failure = f"{type(error).__name__}: {error}"
                _log.critical("partition.failed", partition=self.number, exc_info=error)
                return
            else:
                return
            finally:
                self._running = None
            await self._pause(self._back_off.next_s(loop.time() - started if live else 0.0))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
