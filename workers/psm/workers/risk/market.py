"""Marks and instruments of the log in order, up to a position that is M.

A consumer that reads a damaged replica leaves messages out and numbers the rest without a gap. So
the leader is asked where an event's number does not follow the last one of its subject, and before
a decision for the newest mark and definition of what the order is about.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import (
    OrderedReader,
    StoredMessage,
    last_for,
    last_per_subject,
    next_for,
    stream_info,
)
from psm.adapters.logs import get_logger
from psm.adapters.tasks import BackOff, end_all
from psm.contracts.codec import INVALID_JSON
from psm.contracts.errors import TransientError
from psm.contracts.subjects import TRADES, encode_token
from psm.risk.messages import Stored
from psm.workers.risk.delivered import Delivered, Reached

MARKET = ("marks.*", "instruments.*")
"""Subjects of the log that are followed."""

AHEAD_MAX = 20_000
"""Messages that may wait to be taken; what comes beyond it waits in the stream."""

_FETCH = 1000
_FETCH_WAIT_S = 0.5
_SETTLE_S = 0.002
_log = get_logger()


class _Numbered(msgspec.Struct):
    sequence_number: int = 0


class _Place(msgspec.Struct, frozen=True, gc=False):
    """The last message of a subject that arrived."""

    log_sequence: int
    number: int


_numbered = msgspec.json.Decoder(_Numbered)


class MarketFeed:
    """All marks and instruments of the log, in its order.

    One that had been hidden comes late: never behind a later one of its own subject.

    Attributes:
        position: M, as far as `take` has told.
        hidden: messages that the leader has and the reader was not shown.
    """

    def __init__(self, nc: Client, wake: asyncio.Event, *, start: int = 0) -> None:
        """Nothing is read before `running`.

        Args:
            nc: connection.
            wake: set whenever there may be something to take.
            start: log sequence of the first message wanted; 0 for the newest of each subject, and
                whatever follows.
        """
        self.position = max(0, start - 1)
        self.hidden = 0
        self._nc = nc
        self._wake = wake
        self._reader = OrderedReader(nc, TRADES, MARKET, start)
        self._start = start
        self._arrived: deque[StoredMessage] = deque()
        self._ahead = self.position  # of the last one that arrived
        self._places: dict[str, _Place] = {}
        self._reached = 0
        self._room = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read meanwhile."""
        self._tasks = [asyncio.create_task(self._read())]
        try:
            yield
        finally:
            await end_all(self._tasks)
            await self._reader.close()

    def take(self, most: int) -> list[Delivered]:
        """Return what there is, without waiting, at most so much.

        Raises:
            PSMError: reading has ended, for a reason that cannot be waited out.
        """
        for task in self._tasks:
            if task.done():
                task.result()
        out: list[Delivered] = []
        while self._arrived and len(out) < most:
            message = self._arrived.popleft()
            self.position = max(self.position, message.sequence)
            out.append(_stored(message))
        if not self._arrived and self._reached > self.position:
            self.position = self._reached
            out.append(Reached(log_sequence=self.position))
        self._room.set()
        return out

    async def reach(self, log_sequence: int, symbols: Iterable[str], wait_s: float) -> bool:
        """Bring what `take` tells up to a place of the log; see `RiskFeed.reach`."""
        kinds = ("marks", "instruments")
        subjects = [f"{kind}.{encode_token(one)}" for one in symbols for kind in kinds]
        try:
            async with asyncio.timeout(wait_s):
                await asyncio.gather(self._reach(log_sequence), *map(self._confirm, subjects))
        except (TimeoutError, TransientError):
            return False
        return True

    async def _reach(self, log_sequence: int) -> None:
        """Wait until the reader is that far, or the leader says that nothing lies before it."""
        while max(self._ahead, self._reached) < log_sequence:
            ahead = self._ahead
            following = [await next_for(self._nc, TRADES, one, ahead + 1) for one in MARKET]
            if any(one is not None and one.sequence <= log_sequence for one in following):
                await asyncio.sleep(_SETTLE_S)  # the reader is about to have it
            elif ahead == self._ahead:
                self._reached = log_sequence
                self._wake.set()

    async def _confirm(self, subject: str) -> None:
        """Wait until the newest message of a subject, as the leader has it, has arrived."""
        newest = await last_for(self._nc, TRADES, subject)
        if newest is None or newest.sequence < self._start:
            return
        while not self._has(newest):
            if self._ahead > newest.sequence:
                self._found_hidden(newest)
            else:
                await asyncio.sleep(_SETTLE_S)

    def _has(self, message: StoredMessage) -> bool:
        place = self._places.get(message.subject)
        return place is not None and place.log_sequence >= message.sequence

    async def _read(self) -> None:
        if not self._start:
            await self._begin()
        while True:
            while len(self._arrived) >= AHEAD_MAX:
                self._room.clear()
                await self._room.wait()
            for message in await self._reader.fetch(_FETCH, _FETCH_WAIT_S):
                number = _number_of(message)
                place = self._places.get(message.subject)
                if place is not None and number > place.number + 1:
                    await self._compare(message, place)
                self._arrive(message, number)
            self._wake.set()

    async def _begin(self) -> None:
        """Read the newest message of each subject, as of one place of the log."""
        end, found = await self._newest()
        newest = {message.subject: message for message in found}
        # Stored while this was read: it may stand in place of one before, and another be missing.
        last = max((message.sequence for message in found), default=end)
        await self._reader.restart_at(end + 1)
        while self._reader.position < last:
            for message in await self._reader.fetch(_FETCH, _FETCH_WAIT_S):
                newest[message.subject] = message
        for message in sorted(newest.values(), key=lambda message: message.sequence):
            self._arrive(message, _number_of(message))
        self._reached = max(end, self._reader.position)
        self._wake.set()

    async def _newest(self) -> tuple[int, list[StoredMessage]]:
        """Return the end of the log, and then the newest message of each subject."""
        pause = BackOff(0.05, 1.0)
        while True:
            try:
                end = (await stream_info(self._nc, TRADES)).last_sequence
                return end, await last_per_subject(self._nc, TRADES, MARKET)
            except TransientError as error:
                _log.warning("risk_feed.market_not_read", detail=str(error))
            await pause.pause()

    async def _compare(self, message: StoredMessage, place: _Place) -> None:
        """Take what the leader has between two messages of a subject."""
        seen, pause = place.log_sequence, BackOff(0.05, 1.0)
        while True:
            try:
                found = await next_for(self._nc, TRADES, message.subject, seen + 1)
            except TransientError as error:
                _log.warning("risk_feed.not_compared", subject=message.subject, detail=str(error))
                await pause.pause()
                continue
            if found is None or found.sequence >= message.sequence:
                return
            self._found_hidden(found)
            seen = found.sequence

    def _found_hidden(self, message: StoredMessage) -> None:
        if self._has(message):
            return
        self.hidden += 1
        _log.error("risk_feed.mark_hidden", subject=message.subject, log_sequence=message.sequence)
        self._arrive(message, _number_of(message))
        self._wake.set()

    def _arrive(self, message: StoredMessage, number: int) -> None:
        if self._has(message):
            return
        place = self._places.get(message.subject)
        highest = max(number, place.number if place else 0)
        self._places[message.subject] = _Place(message.sequence, highest)
        self._ahead = max(self._ahead, message.sequence)
        self._arrived.append(message)


def _number_of(message: StoredMessage) -> int:
    """Return the number of an event; 0 where it has none, and does nothing."""
    try:
        return _numbered.decode(message.data).sequence_number
    except INVALID_JSON:
        return 0


def _stored(message: StoredMessage) -> Stored:
    return Stored(
        sequence=message.sequence,
        time=message.time_ns // 1000,
        subject=message.subject,
        data=message.data,
    )
