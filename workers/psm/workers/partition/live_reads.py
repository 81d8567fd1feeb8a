"""Live reads: documents of accounts from the books of a partition, while it folds on.

An answer is made between two messages, and only of a place in the log behind which everything was
shown and folded. So it follows from the log up to that place and from nothing else: whoever owns
the partition gives the same bytes for the same place.
"""

from __future__ import annotations

import asyncio
import time
from typing import Literal, NamedTuple

from psm.contracts.codec import encode_fields
from psm.contracts.errors import PSMError, TransientError
from psm.contracts.live import LiveQuestion
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.messages import LogMessage
from psm.domain.publication.documents import document_at
from psm.workers.partition.eviction import Residents
from psm.workers.partition.live_budget import WAITING_MAX, LiveBudget
from psm.workers.partition.ports import EventLog
from psm.workers.partition.settings import SILENCE_S, PartitionStats

LiveOutcome = Literal[
    "answered",
    "handover",
    "silent",
    "busy",
    "unknown_account",
    "not_reached",
    "too_large",
    "failed",
]
_LOOK_AHEAD_S = 0.1  # without a message for so long, the leader is asked whether there is one


class LiveRefusedError(PSMError):
    """A live read that is not answered.

    Attributes:
        outcome: why, to branch on.
        detail: the same for people.
        reached: version of the account that the books have, where one was waited for.
    """

    def __init__(self, outcome: LiveOutcome, detail: str, reached: int = 0) -> None:
        super().__init__(detail)
        self.outcome: LiveOutcome = outcome
        self.detail = detail
        self.reached = reached


class _Place(NamedTuple):
    log_sequence: int
    time_ns: int


class LiveBooks:
    """Answers from the books of one partition."""

    def __init__(
        self,
        log: EventLog,
        books: Books,
        residents: Residents,
        stats: PartitionStats,
        budget: LiveBudget,
    ) -> None:
        """Nothing is answered before the partition is live."""
        self._log = log
        self._books = books
        self._residents = residents
        self._stats = stats
        self._budget = budget
        self._position = -1  # of the last message that was folded and found to be next
        self._place: _Place | None = None  # the same, once its time is known
        self._quiet: tuple[int, _Place] | None = None  # behind the first nothing comes up to it
        self._moved: asyncio.Future[None] | None = None
        self._looking = False
        self._ended = False

    def start_behind(self, log_sequence: int) -> None:
        """Take the books as right up to a log sequence."""
        self._position = log_sequence

    def advance(self, message: LogMessage) -> None:
        """Note that a message was folded, and that none before it was left out."""
        self._position = message.log_sequence
        self._place = _Place(message.log_sequence, message.time)
        if self._moved is not None:
            self._wake()

    def end(self) -> None:
        """Refuse from now on, whoever waits included: the partition goes to another worker."""
        self._ended = True
        self._wake()

    async def answer(self, question: LiveQuestion) -> bytes:
        """Return a document as JSON, with its `as_of`.

        Raises:
            LiveRefusedError: it cannot be answered here, or not now.
            TransientError: the log or a snapshot cannot be read.
        """
        if self._budget.waiting >= WAITING_MAX:
            raise LiveRefusedError("busy", f"{WAITING_MAX} live reads wait here already")
        self._budget.waiting += 1
        try:
            return await self._answer(question)
        finally:
            self._budget.waiting -= 1

    async def _answer(self, question: LiveQuestion) -> bytes:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + (question.timeout_ms / 1000 if question.waits else SILENCE_S)
        while True:
            await self._learn_time()
            account = await self._account(question.account_id)
            # Nothing is awaited between this and the document: it is of one moment.
            self._check_serving()
            place = self._place_behind(question.min_log_sequence)
            if place is not None:
                if account is not None and account.delivery.version >= question.min_sequence:
                    return self._document(question, account, place)
                if account is None and not question.min_sequence:
                    detail = f"no event of account {question.account_id} is known"
                    raise LiveRefusedError("unknown_account", detail)
            left = ends_at - loop.time()
            if left <= 0:
                raise self._not_reached(question, account)
            if not await self._moves(left) and self._position < question.min_log_sequence:
                await self._look_ahead(question.min_log_sequence)

    def _check_serving(self) -> None:
        """Refuse where somebody else may know more."""
        if self._ended or not self._stats.live:
            raise LiveRefusedError("handover", "the partition is on its way to another worker")
        if not self._stats.is_serving():
            detail = f"the partition has not heard of its log's leader for {SILENCE_S:g} s"
            raise LiveRefusedError("silent", detail)

    def _place_behind(self, wanted: int) -> _Place | None:
        """Return what the books are as of, a log sequence or more; None while they are not."""
        if self._position != self._books.position:
            return None  # it is still being asked whether a message was left out
        if self._position >= wanted:
            return self._place
        if self._quiet is not None:
            position, place = self._quiet
            if position == self._position and place.log_sequence >= wanted:
                return place
        return None

    async def _learn_time(self) -> None:
        """Ask for the time of the place that the books were loaded at, if no message came since."""
        position = self._position
        if self._place is not None or position < 0:
            return
        message = await self._log.message_at(position) if position else None
        if position and message is None:
            raise TransientError(f"the log has no message at {position} any more")
        if self._position == position:
            self._place = _Place(position, message.time if message is not None else 0)

    async def _account(self, account_id: str) -> Account | None:
        account = self._books.accounts.get(account_id)
        if account is None:
            account = await self._residents.peek(account_id)
            if account is not None:
                account.enter(self._books.market)
            # It may have come back meanwhile, and changed.
            account = self._books.accounts.get(account_id, account)
        return account

    async def _moves(self, seconds: float) -> bool:
        """Wait for the next message, a moment at most; return whether there was one."""
        if self._moved is None:
            self._moved = asyncio.get_running_loop().create_future()
        moved = self._moved
        await asyncio.wait([moved], timeout=min(seconds, _LOOK_AHEAD_S))
        return moved.done()

    async def _look_ahead(self, wanted: int) -> None:
        """Find out whether the partition has nothing between its books and a log sequence.

        Other partitions' messages count for whoever compares the answers of several accounts.
        """
        if self._looking:
            return
        self._looking = True
        try:
            message = await self._log.message_at(wanted)
            # Asked for afterwards, so that everything up to `wanted` is in this answer.
            last = await self._log.last_sequence() if message is not None else 0
        finally:
            self._looking = False
        if message is not None and last <= self._position < wanted:
            self._quiet = (self._position, _Place(wanted, message.time))

    def _document(self, question: LiveQuestion, account: Account, place: _Place) -> bytes:
        if self._budget.is_spent:
            raise LiveRefusedError("busy", "live reads take more than their share of the worker")
        started = time.thread_time()
        document = document_at(self._books, account, question.read, *place)
        body = encode_fields(document)
        self._budget.spend(time.thread_time() - started)
        return body

    def _not_reached(self, question: LiveQuestion, account: Account | None) -> LiveRefusedError:
        reached = account.delivery.version if account is not None else 0
        if not question.waits:
            return LiveRefusedError("silent", "the log does not say whether a message is missing")
        if self._position < question.min_log_sequence:
            wanted = f"log sequence {question.min_log_sequence}"
            detail = f"the books are at {self._position}, not yet at {wanted}"
        else:
            detail = f"the books have version {reached}, not yet {question.min_sequence}"
        return LiveRefusedError("not_reached", f"{question.account_id}: {detail}", reached)

    def _wake(self) -> None:
        if self._moved is not None:
            if not self._moved.done():
                self._moved.set_result(None)
            self._moved = None
