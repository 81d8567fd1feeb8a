"""Accounts off the republished updates: heard, compared with the stream, repaired.

Core NATS loses messages where a reader is slow or a connection breaks. A hole shows at the next
update of the account, which names the one before. What has no next one is found by comparing with
the leader: after each reconnection, or when the process stood still, before anything counts as
known again; and all the time, one account after the other.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from nats.aio.client import Client
from nats.aio.msg import Msg

from psm.adapters.jetstream.direct import DirectParser
from psm.adapters.logs import get_logger
from psm.adapters.tasks import BackOff, end_all
from psm.contracts.errors import TransientError
from psm.contracts.feed import POSITION_HEADER, FeedInput, UpdateFeed
from psm.contracts.subjects import is_stream_id, last_token
from psm.contracts.updates import KINDS
from psm.workers.risk.delivered import Delivered, Entered, Lost, Regained, Unfolded
from psm.workers.risk.missed import (
    AskLive,
    Missed,
    first_behind,
    folded_place,
    newest_update,
    read_missed,
)

UPDATES = tuple(
    f"psm.*.{word}" for word in dict.fromkeys(k.partition(".")[2] for k in KINDS.values())
)
"""Every kind of update, and no request: `psm.*.*` would hear `psm.risk.check`, too, a second time
on a connection that answers it, and the broker counts each delivery as an answer of its own."""

HEARD_MAX = 65_536
HEARD_BYTES_MAX = 64 * 1024 * 1024
"""Updates of followed accounts that may wait to be taken; what comes beyond it is lost."""

COMPARE_S = 5.0
"""How often each known account is compared with the leader."""

STALL_S = 5.0
"""Who took nothing for so long stood still, and does not know what is true by now."""

_REPAIRS = 4  # at a time
_READ_MAX = 16  # read, and not yet taken: they may be large
_COMPARED = 8  # questions to the leader at a time
_AGAIN_S = (0.05, 1.0)
_log = get_logger()


class _Followed:
    """One account: how far it was told, and whether it may be decided on."""

    def __init__(self, account_id: str) -> None:
        self.account_id = account_id
        self.at: int | None = None  # last place that was told of; None before it was entered
        self.sequence = 0  # in the stream PSM, up to which it was told
        self.is_known = False
        self.losses = 0  # so that what was read before another loss does not count
        self.behind: int | None = None  # an input that the leader had at the last comparison
        self.waits: int | None = None  # an input that PSM had not told then, nor said it folded
        self.folded = 0  # up to where PSM said so, if that told nothing
        self.back_off = BackOff(*_AGAIN_S)
        self.again: asyncio.TimerHandle | None = None  # until it is read again


class AccountFeed:
    """Whole accounts and their inputs, in order, with every loss told.

    Attributes:
        lost: how often a known account was lost.
        dropped: updates for which there was no room.
        repaired: losses that were repaired input by input.
    """

    def __init__(
        self,
        nc: Client,
        live: AskLive,
        wake: asyncio.Event,
        *,
        compare_s: float = COMPARE_S,
        heard_max: int = HEARD_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is heard before `running`.

        Args:
            nc: connection of `psm.adapters.jetstream.connect`.
            live: who answers for whole accounts.
            wake: set whenever there may be something to take.
            compare_s: how often each account is compared with the leader.
            heard_max: updates that may wait to be taken.
            clock: seconds that never run backwards.
        """
        self.lost = self.dropped = self.repaired = 0
        self._nc = nc
        self._live = live
        self._wake = wake
        self._compare_s = compare_s
        self._heard_max = heard_max
        self._clock = clock
        self._taken_at: float | None = None
        self._feed = UpdateFeed()
        self._followed: dict[str, _Followed] = {}
        self._heard: deque[tuple[dict[str, str], bytes]] = deque()
        self._heard_bytes = 0
        self._missed_out: dict[str, None] = {}  # accounts of what there was no room for
        self._compare_failed: list[_Followed] = []
        self._unfolded: list[Unfolded] = []
        self._unrepaired: asyncio.Queue[_Followed] = asyncio.Queue()
        self._read: asyncio.Queue[tuple[_Followed, int, Missed]] = asyncio.Queue(_READ_MAX)
        self._connection = self._now_connected()
        self._tasks: list[asyncio.Task[None]] = []

    def follow(self, accounts: Iterable[str]) -> None:
        """Follow exactly these accounts from now on; what can be no account is never known."""
        wanted = dict.fromkeys(filter(is_stream_id, accounts))
        for account_id in [known for known in self._followed if known not in wanted]:
            _cancel(self._followed.pop(account_id))
            self._feed.forget(account_id)
        for account_id in wanted:
            if account_id not in self._followed:
                followed = self._followed[account_id] = _Followed(account_id)
                self._feed.lose(account_id)
                self._unrepaired.put_nowait(followed)

    def is_known(self, account_id: str) -> bool:
        """Return whether an account was entered, and is not lost."""
        followed = self._followed.get(account_id)
        return followed is not None and followed.is_known

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hear, compare and repair meanwhile."""
        parser = getattr(self._nc, "_ps", None)
        direct = parser if isinstance(parser, DirectParser) else None
        subscriptions = [
            await self._nc.subscribe(
                subject, cb=self._on_message, pending_msgs_limit=0, pending_bytes_limit=0
            )
            for subject in UPDATES
        ]
        if direct is not None:
            for subscription in subscriptions:
                direct.attach(subscription, self)
        self._tasks = [asyncio.create_task(self._repair_all()) for _ in range(_REPAIRS)]
        self._tasks.append(asyncio.create_task(self._compare_all()))
        try:
            yield
        finally:
            if direct is not None:
                for subscription in subscriptions:
                    direct.detach(subscription)
            await end_all(self._tasks)
            for followed in self._followed.values():
                _cancel(followed)
            if not self._nc.is_closed:
                for subscription in subscriptions:
                    await subscription.unsubscribe()

    def receive(
        self, subject: str, reply: str, headers: dict[str, str] | None, data: bytes
    ) -> None:
        """Keep an update of a followed account until it is taken."""
        if headers is None or POSITION_HEADER not in headers:
            return
        account_id = last_token(headers.get("Nats-Subject", ""))
        if account_id not in self._followed:
            return
        if len(self._heard) >= self._heard_max or self._heard_bytes >= HEARD_BYTES_MAX:
            self.dropped += 1
            self._missed_out[account_id] = None
            return
        self._heard.append((headers, data))
        self._heard_bytes += len(data)
        self._wake.set()

    def take(self, most: int) -> list[Delivered]:
        """Return what there is, without waiting; about `most` of it.

        Raises:
            PSMError: the feed has ended, for a reason that cannot be waited out.
        """
        for task in self._tasks:
            if task.done():
                task.result()
        out: list[Delivered] = []
        self._see_stall(out)
        while not self._read.empty():
            self._apply(*self._read.get_nowait(), out)
        while self._heard and len(out) < most:
            headers, data = self._heard.popleft()
            self._heard_bytes -= len(data)
            self._hear(headers, data, out)
        if not self._heard:
            self._see_tail(out)
            out += [one for one in self._unfolded if one.account_id in self._followed]
            self._unfolded = []
        return out

    # --- what is heard ----------------------------------------------------------------------------

    def _hear(self, headers: dict[str, str], data: bytes, out: list[Delivered]) -> None:
        followed = self._followed.get(last_token(headers["Nats-Subject"]))
        if followed is None:
            return
        try:
            found = self._feed.take(headers, data)
            sequence = int(headers.get("Nats-Sequence", 0))
        except ValueError:
            _log.warning("risk_feed.headers_unreadable", account_id=followed.account_id)
            return
        self._tell(followed, found, out)
        if found and found[-1].previous is not None:
            followed.sequence = max(followed.sequence, sequence)
        if followed.is_known and not self._feed.is_known(followed.account_id):
            self._lose(followed, out)
        if followed.at is None and _cancel(followed):
            self._unrepaired.put_nowait(followed)  # its first event may have come

    def _tell(self, followed: _Followed, found: Iterable[FeedInput], out: list[Delivered]) -> None:
        for one in found:
            # Without one before it is of no account; it may also have been read already.
            if one.previous is not None and one.log_sequence > (followed.at or 0):
                followed.at = one.log_sequence
                out.append(one)

    def _see_stall(self, out: list[Delivered]) -> None:
        """Lose everything where the connection broke, or nothing was taken for long."""
        now, connection = self._clock(), self._now_connected()
        stalled = self._taken_at is not None and now - self._taken_at > STALL_S
        if stalled or connection != self._connection:
            for followed in self._followed.values():
                self._lose(followed, out)
        self._taken_at, self._connection = now, connection

    def _see_tail(self, out: list[Delivered]) -> None:
        """Lose whatever is incomplete although all that was kept has been taken."""
        dropped, self._missed_out = self._missed_out, {}
        for account_id in dropped:
            if (followed := self._followed.get(account_id)) is not None:
                self._lose(followed, out)
        suspects, self._compare_failed = self._compare_failed, []
        for followed in suspects:
            is_behind = followed.behind is not None and (followed.at or 0) < followed.behind
            if is_behind and followed.is_known and self._is_followed(followed):
                self._lose(followed, out)

    def _lose(self, followed: _Followed, out: list[Delivered]) -> None:
        followed.losses += 1
        self._feed.lose(followed.account_id)
        if followed.is_known:
            followed.is_known = False
            self.lost += 1
            out.append(Lost(account_id=followed.account_id))
            self._unrepaired.put_nowait(followed)

    def _now_connected(self) -> tuple[bool, int]:
        return self._nc.is_connected, self._nc.stats["reconnects"]

    def _is_followed(self, followed: _Followed) -> bool:
        return self._followed.get(followed.account_id) is followed

    async def _on_message(self, message: Msg) -> None:
        self.receive(message.subject, message.reply, message.headers, message.data)

    # --- repairs ----------------------------------------------------------------------------------

    def _apply(self, followed: _Followed, losses: int, read: Missed, out: list[Delivered]) -> None:
        """Tell what was read of an account, and what waited behind it."""
        if not self._is_followed(followed):
            return
        if losses != followed.losses:
            self._unrepaired.put_nowait(followed)  # what was lost since is not in it
            return
        account_id = followed.account_id
        if read.document is not None:
            entered = Entered(
                account_id=account_id, document=read.document, log_sequence=read.log_sequence
            )
            out.append(entered)
            followed.at = read.log_sequence
        self._tell(followed, read.inputs, out)
        followed.sequence = max(followed.sequence, read.sequence)
        self._tell(followed, self._feed.repaired(account_id, read.log_sequence), out)
        if self._feed.is_known(account_id):
            followed.is_known = True
            followed.back_off.reset()
            if read.document is None:
                self.repaired += 1
                out.append(Regained(account_id=account_id))
            return
        if read.document is not None:
            out.append(Lost(account_id=account_id))
        self._read_again(followed)

    async def _repair_all(self) -> None:
        while True:
            followed = await self._unrepaired.get()
            if not self._is_followed(followed):
                continue
            losses, at = followed.losses, followed.at
            known = None if at is None else (at, followed.sequence)
            try:
                read = await read_missed(self._nc, self._live, followed.account_id, known)
            except TransientError as error:
                _log.warning(
                    "risk_feed.repair_failed", account_id=followed.account_id, detail=str(error)
                )
                read = None
            if read is None:
                self._read_again(followed)
                continue
            await self._read.put((followed, losses, read))
            self._wake.set()

    def _read_again(self, followed: _Followed) -> None:
        """Read an account once more, after a pause."""

        def now() -> None:
            followed.again = None
            self._unrepaired.put_nowait(followed)

        loop = asyncio.get_running_loop()
        followed.again = loop.call_later(followed.back_off.next_s(), now)

    # --- comparison -------------------------------------------------------------------------------

    async def _compare_all(self) -> None:
        """Compare known accounts with the leader: what is behind twice has lost something."""
        asking = asyncio.Semaphore(_COMPARED)
        while True:
            await asyncio.sleep(self._compare_s)
            known = [followed for followed in self._followed.values() if followed.is_known]
            await asyncio.gather(*(self._compare(followed, asking) for followed in known))
            self._wake.set()

    async def _compare(self, followed: _Followed, asking: asyncio.Semaphore) -> None:
        if followed.behind is not None and (followed.at or 0) < followed.behind:
            self._compare_failed.append(followed)
            return
        async with asking:
            try:
                newest = await newest_update(self._nc, followed.account_id)
                if newest.partition is not None:
                    await self._look_for_unfolded(followed, newest.partition)
            except TransientError as error:
                _log.info("risk_feed.not_compared", detail=str(error))
                return
        followed.behind = newest.log_sequence

    async def _look_for_unfolded(self, followed: _Followed, partition: int) -> None:
        """Ask PSM for an input that the log held at the comparison before, and nobody told since.

        One that changes nothing is never told: that it is folded, the account's owner says.
        """
        account_id, place = followed.account_id, max(followed.at or 0, followed.folded)
        before, followed.waits = followed.waits, None
        first = await first_behind(self._nc, account_id, partition, place)
        if first is None:
            return
        followed.waits = first.sequence
        if before is None or first.sequence > before:
            return  # it may be on its way
        folded = await folded_place(self._live, account_id, first.sequence)
        if folded is not None:
            followed.waits, followed.folded = None, folded
        since = first.time_ns // 1000 if folded is None else None
        self._unfolded.append(
            Unfolded(account_id=account_id, log_sequence=first.sequence, since=since)
        )


def _cancel(followed: _Followed) -> bool:
    """Forget that an account is to be read again; return whether it was."""
    timer, followed.again = followed.again, None
    if timer is not None:
        timer.cancel()
    return timer is not None
