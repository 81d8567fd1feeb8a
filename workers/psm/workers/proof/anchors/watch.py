"""Anchoring for as long as a process runs: after so many events, or so many seconds."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
from nats.aio.client import Client

from psm.adapters.logs import get_logger
from psm.contracts.errors import TransientError
from psm.workers.log.reader import last_log_sequence
from psm.workers.proof.anchors.create import Anchorer

_LOOK_S = 1.0
_log = get_logger()


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """When the log is looked at again; whichever comes first."""

    every_events: int
    every_seconds: float

    def is_due(self, new: int, age_s: float) -> bool:
        """Return whether to anchor `new` messages, and what else is, the last look `age_s` ago."""
        return new >= self.every_events or age_s >= self.every_seconds


async def watch(nc: Client, anchorer: Anchorer, pace: Pace, stop: asyncio.Event) -> None:
    """Anchor at this pace until told to stop, and what is left then.

    Raises:
        LogDamagedError: the log is not a continuation of what was anchored; nothing was signed.
    """
    loop = asyncio.get_running_loop()
    anchored = loop.time()
    while True:
        stopping = stop.is_set()
        try:
            end = await last_log_sequence(nc)
            new = end - (anchorer.last.last_sequence if anchorer.last else 0)
            # A log that is shorter than its anchor is looked at, too: extend() refuses it.
            if new < 0 or stopping or pace.is_due(new, loop.time() - anchored):
                anchor = await anchorer.extend()
                anchored = loop.time()
                if anchor is not None:
                    _log.info("anchor.created", size=anchor.size, root=anchor.root)
        except TransientError as error:
            _log.warning("anchor.delayed", reason=str(error))
        if stopping:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), min(_LOOK_S, pace.every_seconds))
