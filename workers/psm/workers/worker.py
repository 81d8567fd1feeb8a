"""The worker process: runs partitions, each on its own, and tells how they are.

A partition that is fenced or loses the broker starts over with back-off. One that finds the log
damaged or contradicts itself stops and stays stopped: a wrong balance is worse than a late one.
The others go on.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import structlog
from nats.aio.client import Client

from psm.adapters.metrics import Metrics
from psm.contracts.errors import FencedError, PSMError, TransientError
from psm.workers.log_store import JetStreamLog, JetStreamSnapshots
from psm.workers.partition import Partition, PartitionSettings

_BACK_OFF_FIRST_S = 1.0
_BACK_OFF_LAST_S = 30.0
_STABLE_S = 60.0  # two owners that fence each other are live in between, and must still back off
_DRAIN_S = 20.0
_log = structlog.get_logger(__name__)


class Worker:
    """Runs a fixed set of partitions on one connection."""

    def __init__(
        self,
        nc: Client,
        partitions: Sequence[int],
        settings: PartitionSettings,
        metrics: Metrics,
    ) -> None:
        self._nc = nc
        self._partitions = tuple(partitions)
        self._settings = settings
        self._metrics = metrics
        self._running: dict[int, Partition] = {}
        self._stopped: dict[int, str] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Run until `stop` is called; partitions that stopped for good keep it from being ready."""
        loops = [asyncio.create_task(self._keep(p), name=f"p{p}") for p in self._partitions]
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([stopping])
            _, late = await asyncio.wait(loops, timeout=_DRAIN_S)
            if late:
                _log.warning("worker.drain_timed_out", partitions=len(late), seconds=_DRAIN_S)
        finally:
            await _end({*loops, stopping})

    def stop(self) -> None:
        """Drain, commit, snapshot and end."""
        self._stopping.set()
        for partition in self._running.values():
            partition.stop()

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Return whether every partition is live, and what is not as it should be."""
        live = {n: p.stats for n, p in self._running.items() if p.stats.live}
        waiting = sorted(set(self._partitions) - set(live) - set(self._stopped))
        detail = {
            "partitions": len(self._partitions),
            "live": len(live),
            "recovering": waiting,
            "stopped": {str(n): why for n, why in sorted(self._stopped.items())},
            "accounts": sum(stats.accounts for stats in live.values()),
            "connected": self._nc.is_connected,
        }
        ready = self._nc.is_connected and len(live) == len(self._partitions)
        return ready, detail

    @property
    def failed(self) -> dict[int, str]:
        """Partitions that stopped for good, and why."""
        return dict(self._stopped)

    async def _keep(self, number: int) -> None:
        """Run one partition again and again, until it ends or must not go on."""
        delay = _BACK_OFF_FIRST_S
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            started = loop.time()
            live = False
            try:
                partition = self._running[number] = self._partition(number)
                try:
                    await partition.run()
                finally:
                    live = partition.stats.live
            except FencedError as error:
                self._metrics.fenced(number)
                _log.warning("partition.fenced", partition=number, detail=str(error))
            except TransientError as error:
                _log.warning("partition.interrupted", partition=number, detail=str(error))
            except PSMError as error:
                self._stopped[number] = str(error)
                _log.critical("partition.stopped", partition=number, detail=str(error))
                return
            except Exception as error:  # noqa: BLE001 - a defect must show, not end in silence
                self._stopped[number] = f"{type(error).__name__}: {error}"
                _log.critical("partition.failed", partition=number, exc_info=error)
                return
            else:
                return
            finally:
                self._running.pop(number, None)
            if live and loop.time() - started >= _STABLE_S:
                delay = _BACK_OFF_FIRST_S
            await self._sleep(delay * random.uniform(0.7, 1.0))  # noqa: S311 - spreads retries
            delay = min(delay * 2, _BACK_OFF_LAST_S)

    def _partition(self, number: int) -> Partition:
        return Partition(
            number,
            JetStreamLog(self._nc, number, self._metrics.reader_reset),
            JetStreamSnapshots(self._nc, number),
            self._settings,
            self._metrics,
        )

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


async def _end(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel until all have ended.

    Once is not enough in Python 3.11: `asyncio.wait_for`, inside of the NATS client, forgets a
    cancellation that comes together with the answer.
    """
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=1.0)
