"""A lease: of processes that do the same work, one is active and the others stand by.

It is a session lock of PostgreSQL, where all of them write. The server ends a session that says
nothing for `SILENT_S`, so the lock of a process that froze, or whose machine is gone, is free by
then; that of a killed one at once. A lease saves work, it is no proof: that nothing is written
twice is the checkpoints' affair, whoever believes to be the active one.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine

from psm.adapters import postgres
from psm.adapters.logs import get_logger
from psm.adapters.tasks import end_all
from psm.contracts.errors import TransientError

EVERY_S = 1.0
SILENT_S = 10.0
_SET = "SELECT set_config('idle_session_timeout', $1, false)"
_TRY = "SELECT pg_try_advisory_lock($1)"
_log = get_logger()


class Lease:
    """Which of several processes does some work.

    Attributes:
        what: the work, such as `archive`; equal in all that share it.
        active: set from the moment on that it is this process.
    """

    def __init__(self, pool: postgres.Pool, what: str) -> None:
        """Nothing is asked before `run`.

        Args:
            pool: of PostgreSQL; one of its connections is in use as long as `run` runs.
            what: the work.
        """
        self.what = what
        self.active = asyncio.Event()
        self._pool = pool
        digest = hashlib.sha256(f"psm.lease {what}".encode()).digest()
        self._key = int.from_bytes(digest[:8], "big", signed=True)

    async def run(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Stand by until nobody else is active, then work until cancelled, or until replaced.

        While PostgreSQL is away the work goes on, and meets that itself.

        Raises:
            ConfigError: PostgreSQL refuses us.
        """
        holding = asyncio.create_task(self._hold())
        tasks = [holding]
        try:
            active = asyncio.create_task(self.active.wait())
            await asyncio.wait([holding, active], return_when=asyncio.FIRST_COMPLETED)
            await end_all([active])
            if self.active.is_set():
                tasks.append(asyncio.create_task(work()))
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await end_all(tasks)

    async def _hold(self) -> None:
        """Take the lock and keep it; return when it was lost and another process has it."""
        while True:
            try:
                async with postgres.acquired(self._pool) as connection:
                    await connection.execute(_SET, f"{SILENT_S:g}s")
                    while not await connection.fetchval(_TRY, self._key):
                        if self.active.is_set():
                            _log.warning("lease.replaced", what=self.what)
                            return
                        await asyncio.sleep(EVERY_S)
                    if not self.active.is_set():
                        _log.info("lease.taken", what=self.what)
                    self.active.set()
                    while True:
                        await asyncio.sleep(EVERY_S)
                        await connection.execute("SELECT 1")
            except TransientError as error:
                _log.info("lease.interrupted", what=self.what, detail=str(error))
                await asyncio.sleep(EVERY_S)
