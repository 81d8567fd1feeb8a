"""Looking into a process that runs: its stacks on SIGUSR1, its debug log on SIGUSR2.

Signals need no door that somebody else could find, and whoever may send them may end the process.
"""

from __future__ import annotations

import asyncio
import faulthandler
import signal
import sys
from types import TracebackType
from typing import Self

from psm.adapters import logs
from psm.adapters.logs import get_logger

_log = get_logger()


class Inspection:
    """Answers the two signals while the context is open."""

    def __init__(self, level: logs.Level) -> None:
        """Nothing is answered yet; `level` is that of the log, to which it goes back."""
        self._usual = level

    def set_level(self, level: logs.Level) -> None:
        """Give the log another level, to which it goes back from now on."""
        self._usual = level
        logs.set_level(level)

    def __enter__(self) -> Self:
        """Answer from now on; in the main thread of the running event loop."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self._tell_tasks)
        loop.add_signal_handler(signal.SIGUSR2, self._switch)
        # Stacks of threads without the loop, which may be what is stuck; then on to its handler.
        faulthandler.register(signal.SIGUSR1, sys.__stderr__ or 2, all_threads=True, chain=True)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _where: TracebackType | None,
    ) -> None:
        """Answer no more; the log has its level again."""
        faulthandler.unregister(signal.SIGUSR1)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            loop.remove_signal_handler(number)
        logs.set_level(self._usual)

    def _tell_tasks(self) -> None:
        tasks = asyncio.all_tasks()
        for task in tasks:
            task.print_stack(file=sys.__stderr__)
        _log.warning("process.stacks_written", tasks=len(tasks))

    def _switch(self) -> None:
        level: logs.Level = self._usual if logs.level() == "debug" else "debug"
        logs.set_level(level)
        _log.warning("process.log_level_set", to=level)
