"""What a producer knows of the end of one subject of the log, and how it learns it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

from nats.aio.client import Client

from psm.contracts.codec import decode_envelope
from psm.contracts.errors import ContractError, TransientError
from psm.contracts.heads import SubjectHead
from psm.contracts.producer import log_client
from psm.contracts.producer.log_client import EXPECTED, PAGE, LogEntry
from psm.contracts.producer.numbering import REMEMBERED, RisingNumbers, StreamNumbers
from psm.contracts.subjects import OF_STREAMS, log_subject, trades

MARK = "Psm-Complete-To"
"""Header of an event whose writer knew every place up to the event's own number."""

_FIRST_WINDOW = 1000
_WINDOW_GROWTH = 8


class Tail:
    """The end of one subject, read once and then followed; used by one append at a time.

    Operators void numbers on another subject than the one that has them, so of a stream both are
    read, in log order.

    Attributes:
        stream_id: whose events they are.
        numbers: what follows from the messages read so far.
        expected: log sequence of the last message known on the subject itself; 0 if none.
        certain: whether `numbers` may be numbered by: an owner or the log itself vouches for them.
        current: nothing is known to have come since; cleared before every write.
        lock: held by the append that uses it.
    """

    def __init__(
        self, subject: str, stream_id: str, remember: int = REMEMBERED, *, assume_new: bool = False
    ) -> None:
        self._kind, token = log_subject(subject)
        self._on_account = self._kind in OF_STREAMS
        # The broker stores an account's events under its partition, which need not be known here.
        self._own = f"{self._kind}.*.{token}" if self._on_account else subject
        self._filter = f"*.*.{token}" if self._on_account else subject
        self._numbered = trades(token) if self._on_account else subject
        self._remember = remember
        self._assume_new = assume_new
        self.stream_id = stream_id
        self.numbers = self._fresh()
        self.expected = 0
        self.certain = False
        self.current = False
        self.lock = asyncio.Lock()

    async def refresh(self, nc: Client, timeout_s: float) -> None:
        """Read what is not known yet.

        Raises:
            TransientError: the log cannot be read.
        """
        if self.current:
            return
        if not self.certain:
            await self._load(nc, timeout_s)
        else:
            await self._follow(nc, timeout_s)
        self.current = self.certain

    def appended(self, log_sequence: int, subject: str, body: bytes) -> None:
        """Take a message that was just appended: what it expected was right.

        While others wait behind a gap, an operator may have voided that gap on the other subject:
        then all is read, this message too.
        """
        if self._on_account and not self.numbers.complete:
            return
        entries = [LogEntry(log_sequence, subject, body, {})]
        self._feed(self.numbers, entries)
        self._note_expected(entries)
        self.current = self.certain

    async def _follow(self, nc: Client, timeout_s: float) -> None:
        entries = await self._after(nc, self.numbers.log_sequence, timeout_s)
        self._feed(self.numbers, entries)
        self._note_expected(entries)

    async def _after(self, nc: Client, log_sequence: int, timeout_s: float) -> list[LogEntry]:
        """Return what the log has after a log sequence."""
        entries: list[LogEntry] = []
        while True:
            start = entries[-1].log_sequence if entries else log_sequence
            found = await log_client.page(nc, self._filter, start + 1, timeout_s)
            entries += found
            if len(found) < PAGE:
                return entries

    async def _load(self, nc: Client, timeout_s: float) -> None:
        """Take the head from the owner, and identities from the log; without an owner the log."""
        head = await log_client.head(nc, self._numbered, timeout_s)
        own = await log_client.last(nc, self._own, timeout_s)
        newest = await log_client.last(nc, self._filter, timeout_s) if self._on_account else own
        self.expected = own.log_sequence if own else 0
        if head is not None:
            await self._check_replica(nc, head, newest, timeout_s)
            end = newest.log_sequence + 1 if newest else 1
            covers = partial(self._covers, head=head)
            entries, _ = await self._read_back(nc, end, timeout_s, covers)
            entries += await self._after(nc, end - 1, timeout_s)
            self._note_expected(entries)
            self.numbers, self.certain = self._from_head(head, entries), True
        elif newest is not None:
            end = newest.log_sequence + 1
            entries, all_read = await self._read_back(nc, end, timeout_s, self._from_window)
            numbers = self._whole(entries) if all_read else self._from_window(entries)
            assert numbers is not None
            self._note_expected(entries)
            # A log that lost its beginning looks like a stream that starts with a gap.
            self.numbers, self.certain = numbers, numbers.last > 0
        else:
            self.numbers, self.certain = self._fresh(), self._assume_new

    async def _read_back(
        self,
        nc: Client,
        end: int,
        timeout_s: float,
        enough: Callable[[list[LogEntry]], object],
    ) -> tuple[list[LogEntry], bool]:
        """Read back from before `end`, in growing windows, until enough; return whether it is all.

        What is not enough is None or False.
        """
        entries: list[LogEntry] = []
        width = _FIRST_WINDOW
        while True:
            start = max(1, end - width)
            entries = await self._range(nc, start, end, timeout_s) + entries
            if start == 1 or enough(entries):
                return entries, start == 1
            end, width = start, width * _WINDOW_GROWTH

    async def _check_replica(
        self, nc: Client, head: SubjectHead, newest: LogEntry | None, timeout_s: float
    ) -> None:
        """Make sure that whoever answered has what the owner folded.

        Raises:
            TransientError: it has not; another replica may.
        """
        reached = newest.log_sequence if newest else 0
        if reached >= head.last_of_subject:
            return
        stored = await log_client.subject_at(nc, head.last_of_subject, timeout_s)
        if stored is not None and self._is_read(stored):
            raise TransientError(f"a replica of the log is behind at {reached} of {self._numbered}")

    def _is_read(self, stored: str) -> bool:
        """Return whether a subject of the log is among those that are read here."""
        kind, token = log_subject(stored)
        kinds = OF_STREAMS if self._on_account else (self._kind,)
        return kind in kinds and token == log_subject(self._numbered)[1]

    def _covers(self, entries: Iterable[LogEntry], head: SubjectHead) -> bool:
        """Return whether the entries hold the events that a repeat may be of."""
        numbers = self._whole(entries)
        if not self._on_account:
            return numbers.remembers_enough
        if self._remember > REMEMBERED and not numbers.last:
            return False  # the head vouches for no older ones, only reading from the first on does
        known = all(numbers.find(event.event_id) for event in head.events)
        return known and numbers.has_parked(head.parked)

    def _from_head(self, head: SubjectHead, entries: Iterable[LogEntry]) -> RisingNumbers:
        numbers = self._fresh()
        known = [entry for entry in entries if entry.log_sequence <= head.log_sequence]
        self._feed(numbers, known)
        numbers.adopt(head)
        self._feed(numbers, (e for e in entries if e.log_sequence > head.log_sequence))
        return numbers

    async def _range(self, nc: Client, start: int, end: int, timeout_s: float) -> list[LogEntry]:
        entries: list[LogEntry] = []
        while start < end:
            found = await log_client.page(nc, self._filter, start, timeout_s)
            entries += [entry for entry in found if entry.log_sequence < end]
            if len(found) < PAGE or found[-1].log_sequence >= end:
                break
            start = found[-1].log_sequence + 1
        return entries

    def _fresh(self) -> RisingNumbers:
        kind = StreamNumbers if self._on_account else RisingNumbers
        return kind(self._remember)

    def _feed(self, numbers: RisingNumbers, entries: Iterable[LogEntry]) -> None:
        for entry in entries:
            numbers.feed(entry.log_sequence, entry.data, self.stream_id, _kind(entry))

    def _note_expected(self, entries: Iterable[LogEntry]) -> None:
        for entry in entries:
            if _kind(entry) == self._kind:
                self.expected = max(self.expected, entry.log_sequence)

    def _whole(self, entries: Iterable[LogEntry]) -> RisingNumbers:
        numbers = self._fresh()
        self._feed(numbers, entries)
        return numbers

    def _from_window(self, entries: Iterable[LogEntry]) -> RisingNumbers | None:
        """Return what follows from a window of messages, or None if it is too short for that.

        An account's window is enough if it has a marked event, whose number says what was
        before the window, and enough events before that one to know returning identities.
        """
        if not self._on_account:
            numbers = self._whole(entries)
            return numbers if numbers.remembers_enough else None
        numbers = StreamNumbers(self._remember)
        started = enough = False
        for entry in entries:
            if _is_marked(entry, self.stream_id):
                numbers.trust(entry.log_sequence, entry.data)
                started, enough = True, numbers.remembers_enough
            elif started:
                numbers.feed(entry.log_sequence, entry.data, self.stream_id, _kind(entry))
        return numbers if enough else None


def _kind(entry: LogEntry) -> str:
    return log_subject(entry.subject)[0]


def _is_marked(entry: LogEntry, stream_id: str) -> bool:
    mark = entry.headers.get(MARK)
    if mark is None or EXPECTED not in entry.headers:
        return False
    try:
        envelope = decode_envelope(entry.data)
    except ContractError:
        return False
    return envelope.stream_id == stream_id and mark == str(envelope.sequence_number)
