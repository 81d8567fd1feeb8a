"""Turns at folding the past: a few at a time, a short queue, and a clear no to the rest.

A fold keeps a processor busy. Who waits for a client holds no turn: a replay takes one for each
chunk that it folds, and gives it back before the chunk is sent. Of one principal one is folded at a
time, and half of the queue is the most that it takes.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from psm.adapters.tasks import end_all
from psm.contracts.errors import PSMError

T = TypeVar("T")

FOLDS_AT_ONCE = 2
FOLDS_WAITING_MAX = 8
FOLDS_WAITING_EACH = 4
REPLAYS_OPEN_MAX = 8


class TooManyFoldsError(PSMError):
    """Others ask about the past already, as many as there is room for."""


class _Own:
    """The turns of one principal."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.asked = 0


class FoldTurns:
    """Who may fold now, and who may wait for it; of one process."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(FOLDS_AT_ONCE)
        self._waiting = 0
        self._replays = 0
        self._own: defaultdict[str, _Own] = defaultdict(_Own)

    @asynccontextmanager
    async def turn(self, principal: str | None, *, admitted: bool = False) -> AsyncIterator[None]:
        """Fold inside of the block.

        Args:
            principal: who asks; None where nobody is told from anybody else.
            admitted: wait however many others do, as for what has begun already.

        Raises:
            TooManyFoldsError: the queue is full.
        """
        async with AsyncExitStack() as held:
            own = held.enter_context(self._asked(principal)) if principal is not None else _Own()
            busy = self._turn.locked() or own.turn.locked()
            if busy and not admitted:
                self._check_room(own)
            self._waiting += 1
            try:
                await held.enter_async_context(own.turn)
                await held.enter_async_context(self._turn)
            finally:
                self._waiting -= 1
            yield

    def _check_room(self, own: _Own) -> None:
        if own.asked > 1 + FOLDS_WAITING_EACH:
            raise TooManyFoldsError(
                f"{own.asked - 1} questions about the past are this principal's own already; ask "
                "again when one is answered"
            )
        if self._waiting >= FOLDS_WAITING_MAX:
            raise TooManyFoldsError(
                f"{FOLDS_AT_ONCE} questions about the past are being answered by this replica and "
                f"{self._waiting} wait; ask again in a moment"
            )

    @contextmanager
    def _asked(self, principal: str) -> Iterator[_Own]:
        own = self._own[principal]
        own.asked += 1
        try:
            yield own
        finally:
            own.asked -= 1
            if not own.asked:
                del self._own[principal]

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
