"""Turns at folding the past: a few at a time, a short queue, and a clear no to the rest.

A fold keeps a processor busy. Who waits for a client holds no turn: a replay takes one for each
chunk that it folds, and gives it back before the chunk is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from psm.adapters.tasks import end_all
from psm.contracts.errors import PSMError

T = TypeVar("T")

FOLDS_AT_ONCE = 2
FOLDS_WAITING_MAX = 8
REPLAYS_OPEN_MAX = 8


class TooManyFoldsError(PSMError):
    """Others ask about the past already, as many as there is room for."""


class FoldTurns:
    """Who may fold now, and who may wait for it; of one process."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(FOLDS_AT_ONCE)
        self._waiting = 0
        self._replays = 0

    @asynccontextmanager
    async def turn(self, *, admitted: bool = False) -> AsyncIterator[None]:
        """Fold inside of the block.

        Args:
            admitted: wait however many others do, as for what has begun already.

        Raises:
            TooManyFoldsError: the queue is full.
        """
        if self._turn.locked() and self._waiting >= FOLDS_WAITING_MAX and not admitted:
            raise TooManyFoldsError(
                f"{FOLDS_AT_ONCE} questions about the past are being answered by this replica and "
                f"{self._waiting} wait; ask again in a moment"
            )
        self._waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def replay(self) -> Iterator[None]:
        """Keep a replay open inside of the block, whether its client reads or not.

        Raises:
            TooManyFoldsError: too many are open.
        """
        if self._replays >= REPLAYS_OPEN_MAX:
            raise TooManyFoldsError(
                f"{self._replays} replays are open at this replica; ask again when one has ended"
            )
        self._replays += 1
        try:
            yield
        finally:
            self._replays -= 1


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns; end it when the client leaves, for nobody will read it.

    Raises:
        ClientDisconnect: the client has left.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        await end_all([working, leaving])


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
