"""Files that somebody may replace while a process runs: noticed, taken and told.

Kubernetes replaces mounted files when their Secret or ConfigMap changes, and nobody starts the
process anew for that. What makes connections reads its files anew for each one anyway; here it is
said that they changed, and what is kept in memory is read again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

import msgspec

from psm.adapters.logs import get_logger
from psm.adapters.process_metrics import ProcessMetrics
from psm.adapters.secret_files import Look, look_at
from psm.adapters.tasks import end_all
from psm.contracts.errors import PSMError

LOOK_S = 1.0

Files = Callable[[], Iterable[Path | str | None]]
Take = Callable[[], Awaitable[None]]

_log = get_logger()


class _Watched(msgspec.Struct):
    files: Files
    take: Take
    seen: Look


class Mounted:
    """Looks at files, and has those taken that changed.

    What cannot be used is told and counted, and what was there before goes on; the next change is
    tried again.
    """

    def __init__(self, metrics: ProcessMetrics) -> None:
        self._metrics = metrics
        self._watched: dict[str, _Watched] = {}

    def watch(self, what: str, files: Files, take: Take) -> None:
        """Call `take` whenever one of these files has changed; best before they are first read.

        Args:
            what: names them in the log and in metrics, such as `postgres`.
            files: which they are now; none of them where nothing is set.
            take: reads them. It raises ConfigError where they cannot be used, and has changed
                nothing then.
        """
        self._watched[what] = _Watched(files=files, take=take, seen=look_at(files()))

    async def look(self) -> None:
        """Look once at all of them."""
        for what, one in list(self._watched.items()):
            now = look_at(one.files())
            if now == one.seen:
                continue
            one.seen = now
            try:
                await one.take()
            except (PSMError, OSError, ValueError) as error:
                self._metrics.files_taken(what, usable=False)
                _log.error("files.unusable", what=what, detail=str(error))
            else:
                # What they name may have changed with them.
                one.seen = look_at(one.files())
                self._metrics.files_taken(what, usable=True)
                _log.info("files.read_again", what=what)

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Look again and again while the context is open."""
        task = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            await end_all([task])

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()
