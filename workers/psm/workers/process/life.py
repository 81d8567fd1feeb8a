"""Whether a process can still do its work, and its end when it cannot.

What is away comes back, and is waited for; that is readiness. A fault is what only a new process
heals: a connection that is closed for good, an event loop that does not turn. A process with one
stops as on a signal, exits with a code that is not 0, and its supervisor starts it again.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
import threading
from collections.abc import Callable
from typing import Self

from psm.adapters.logs import get_logger
from psm.contracts.errors import PSMError

STUCK_S = 30
END_S = 40
EXIT_STUCK = 70
_TICK_S = 1.0
_log = get_logger()


class ProcessFaultError(PSMError):
    """The process cannot go on, and a new one can."""


class Life:
    """Faults of one process; a context, in which a thread watches the event loop.

    Attributes:
        fault: why the process ends; None while it is well.
    """

    def __init__(self) -> None:
        self.fault: str | None = None
        self._stops: list[Callable[[], object]] = []
        self._ending = False
        self._turns = 0
        self._over = threading.Event()

    def on_fault(self, stop: Callable[[], object]) -> None:
        """Call `stop` once there is a fault; at once if there is one."""
        self._stops.append(stop)
        if self.fault is not None:
            stop()

    def connection_closed(self, reason: str) -> None:
        """Take in that a connection is closed for good; no fault when the process ends anyway."""
        if not self._ending:
            self._fail(f"the connection to NATS was closed for good: {reason}")

    def end(self) -> None:
        """Take in that the process ends: what closes from now on is no fault.

        Raises:
            ProcessFaultError: it ends because of a fault.
        """
        self._ending = True
        if self.fault is not None:
            raise ProcessFaultError(f"{self.fault}; start it again")

    def __enter__(self) -> Self:
        """Start to watch the running event loop."""
        self._turn(asyncio.get_running_loop())
        threading.Thread(target=self._watch, name="life", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop watching, unless a fault still has to end the process."""
        if self.fault is None:
            self._over.set()

    def _fail(self, fault: str) -> None:
        if self.fault is None:
            self.fault = fault
            _log.critical("process.failed", detail=fault)
            for stop in self._stops:
                stop()

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._turns += 1
        if not self._over.is_set():
            loop.call_later(_TICK_S, self._turn, loop)

    def _watch(self) -> None:
        """End a process whose loop does not turn, or that does not end in spite of a fault.

        The ticks of this thread are counted, not the time: a process that was frozen, or whose
        machine was, has had no chance to turn either.
        """
        seen, still, left = 0, 0, END_S
        while not self._over.wait(_TICK_S):
            still = still + 1 if self._turns == seen else 0
            seen = self._turns
            if still >= STUCK_S:
                self._abort(f"the event loop has not turned for {STUCK_S} s")
            left -= self.fault is not None
            if left <= 0:
                self._abort(f"it has not ended within {END_S} s: {self.fault}")

    def _abort(self, fault: str) -> None:
        """End now: whatever holds the loop would hold a clean end, too."""
        _log.critical("process.stuck", detail=fault)
        faulthandler.dump_traceback(sys.__stderr__ or 2)
        os._exit(EXIT_STUCK)
