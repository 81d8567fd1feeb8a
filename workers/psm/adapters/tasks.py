"""Tasks and retries: how long to wait before the next try, and how tasks are ended."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from typing import Any, TypeVar

T = TypeVar("T")

_CANCEL_AGAIN_S = 0.5


class BackOff:
    """Pauses between tries: each twice the one before, up to a limit, spread by jitter."""

    def __init__(
        self, first_s: float, last_s: float, *, at_once: bool = False, stable_s: float | None = None
    ) -> None:
        """Nothing has failed yet.

        Args:
            first_s: the first pause.
            last_s: the longest one.
            at_once: whether the first try after a success follows without any pause.
            stable_s: how long something must have run for its failure to count as the first.
        """
        self._first_s = first_s
        self._last_s = last_s
        self._at_once = at_once
        self._stable_s = stable_s
        self._failures = 0

    def next_s(self, ran_s: float = 0.0) -> float:
        """Count a failure after a run of `ran_s` seconds; return the pause before the next try."""
        if self._stable_s is not None and ran_s >= self._stable_s:
            self.reset()
        step = self._failures - self._at_once
        self._failures += 1
        if step < 0:
            return 0.0
        doubled = self._first_s * 2.0 ** min(step, 32)
        return min(doubled, self._last_s) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries

    async def pause(self) -> None:
        """Count a failure and wait before the next try."""
        await asyncio.sleep(self.next_s())

    def reset(self) -> None:
        """Forget the failures: something succeeded."""
        self._failures = 0


async def end_all(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks until all have ended; what they raise is dropped.

    Once is not enough in Python 3.11: `asyncio.wait_for`, inside of the NATS client, forgets a
    cancellation that comes together with the answer.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        done, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_S)
        for task in done:
            if not task.cancelled():
                task.exception()  # or the event loop would complain about it


async def to_its_end(work: asyncio.Future[T]) -> T:
    """Return what a thread's work gives; a cancellation is raised only when the work has ended.

    A thread cannot be ended: whoever counts who works must count it for as long as it does.
    """
    cancelled = False
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        work.exception()  # or the event loop would complain about it
        raise asyncio.CancelledError
    return work.result()
