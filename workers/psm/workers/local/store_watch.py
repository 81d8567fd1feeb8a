"""The disk below the servers of `psm up`: warned of, named, and got over.

PostgreSQL goes on by itself once there is room. A NATS server does not: a stream that could not be
written takes nothing more until the server is started again, and says so on its monitoring port
alone. So the watch ends a server that says so once there is room, and who keeps it starts it again.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from psm.adapters.broker_monitor import look_at
from psm.adapters.embedded import EmbeddedNats
from psm.adapters.logs import get_logger
from psm.adapters.tasks import BackOff

EVERY_S = 2.0
WARN_FREE = 0.10
"""Share of the disk that is free, below which every pass of this line is a warning."""
ROOM_BYTES = 16 * 1024 * 1024
"""Less free than this is full: a server that starts writes, too."""
_BACK_OFF_S = (2.0, 300.0)
_STEADY_S = 600.0
_log = get_logger()


class StoreWatch:
    """Watches one folder and the NATS server that keeps its store there."""

    def __init__(self, folder: Path, server: EmbeddedNats) -> None:
        self._folder = folder
        self._server = server
        self._is_low = False
        self._failed: str | None = None
        self._back_off = BackOff(*_BACK_OFF_S, stable_s=_STEADY_S)

    async def run(self) -> None:
        """Look until cancelled."""
        loop = asyncio.get_running_loop()
        again_at, ended_at = 0.0, loop.time()
        while True:
            free = self._free_bytes()
            failure = await self._failure()
            if failure is None:
                self._failed = None
            elif self._failed is None:
                self._failed = failure
                _log.error("broker.store_failed", detail=failure, free_bytes=free)
            if failure is not None and free >= ROOM_BYTES and loop.time() >= again_at:
                _log.warning("broker.restarted_for_store", detail=failure, free_bytes=free)
                await self._server.stop()
                again_at = loop.time() + self._back_off.next_s(loop.time() - ended_at)
                ended_at = loop.time()
            await asyncio.sleep(EVERY_S)

    def _free_bytes(self) -> int:
        """Return how much is free; warn when it becomes little."""
        usage = shutil.disk_usage(self._folder)
        is_low = usage.free < usage.total * WARN_FREE
        if is_low and not self._is_low:
            _log.warning(
                "disk.low",
                folder=str(self._folder),
                free_bytes=usage.free,
                total_bytes=usage.total,
            )
        self._is_low = is_low
        return usage.free

    async def _failure(self) -> str | None:
        """Return the server's own words about a store that it cannot write."""
        if not self._server.is_running:
            return None
        sights = await look_at(self._server.monitoring_url)
        return next((s.problem for s in sights if s.store_failed), None)
