"""Keeps one partition running: again and again, until it is let go or must not go on.

A partition that loses the broker starts over with back-off. One that is fenced does too, or steps
down where a fleet decides who comes next. One that finds the log damaged or contradicts itself
stops and stays stopped: a wrong balance is worse than a late one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import structlog

from psm.adapters.metrics import Metrics
from psm.contracts.errors import FencedError, PSMError, TransientError
from psm.workers.fleet.members import HoldingState
from psm.workers.partition import Partition
from psm.workers.partition_settings import PartitionStats

_FIRST_S = 1.0
_LAST_S = 30.0
_STABLE_S = 60.0  # two owners that fence each other are live in between, and must still back off
_log = structlog.get_logger(__name__)


class BackOff:
    """How long to wait before a partition is tried again: 1, 2, 4 … 30 s."""

    def __init__(self) -> None:
        self._delay = _FIRST_S

    def after(self, live_s: float) -> float:
        """Return the next delay, spread, in seconds.

        Args:
            live_s: how long it ran, 0 if it never went live.
        """
        if live_s >= _STABLE_S:
            self._delay = _FIRST_S
        delay, self._delay = self._delay, min(self._delay * 2, _LAST_S)
        return delay * random.uniform(0.7, 1.0)  # noqa: S311 - spreads retries


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
                    self.rest_s = self._back_off.after(loop.time() - started if live else 0.0)
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
            await self._pause(self._back_off.after(loop.time() - started if live else 0.0))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
