"""What a producer knows of the end of one subject of the log, and how it learns it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from nats.aio.client import Client

from psm.contracts import log_client
from psm.contracts.codec import decode_envelope
from psm.contracts.errors import ContractError
from psm.contracts.log_client import EXPECTED, PAGE, LogEntry
from psm.contracts.numbering import REMEMBERED, RisingNumbers, StreamNumbers

MARK = "Psm-Complete-To"
"""Header of an event whose writer knew every place up to the event's own number."""

_FIRST_WINDOW = 1000
_WINDOW_GROWTH = 8


class Tail:
    """The end of one subject, read once and then followed; used by one append at a time.

    Attributes:
        stream_id: whose events they are.
        numbers: what follows from the messages read so far.
        current: nothing is known to have come since; cleared before every write.
        lock: held by the append that uses it.
    """

    def __init__(self, subject: str, stream_id: str, remember: int = REMEMBERED) -> None:
        head, _, token = subject.partition(".")
        self._on_account = head == "trades"
        # The broker stores an account's events under its partition, which need not be known here.
        self._filter = f"trades.*.{token}" if self._on_account else subject
        self._remember = remember
        self.stream_id = stream_id
        self.numbers = self._fresh()
        self.current = False
        self.lock = asyncio.Lock()

    async def refresh(self, nc: Client, timeout_s: float) -> None:
        """Read what is not known yet.

        Raises:
            TransientError: the log cannot be read.
        """
        if self.current:
            return
        if self.numbers.log_sequence == 0:
            await self._load(nc, timeout_s)
        else:
            await self._follow(nc, timeout_s)
        self.current = True

    async def _follow(self, nc: Client, timeout_s: float) -> None:
        while True:
            start = self.numbers.log_sequence + 1
            entries = await log_client.page(nc, self._filter, start, timeout_s)
            self._feed(self.numbers, entries)
            if len(entries) < PAGE:
                return

    async def _load(self, nc: Client, timeout_s: float) -> None:
        """Read back from the end, in growing windows, until the rest cannot matter."""
        newest = await log_client.last(nc, self._filter, timeout_s)
        if newest is None:
            return
        entries: list[LogEntry] = []
        end, width = newest.log_sequence + 1, _FIRST_WINDOW
        while True:
            start = max(1, end - width)
            entries = await self._range(nc, start, end, timeout_s) + entries
            numbers = self._whole(entries) if start == 1 else self._from_window(entries)
            if numbers is not None:
                self.numbers = numbers
                return
            end, width = start, width * _WINDOW_GROWTH

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
            numbers.feed(entry.log_sequence, entry.data, self.stream_id)

    def _whole(self, entries: Iterable[LogEntry]) -> RisingNumbers:
        numbers = self._fresh()
        self._feed(numbers, entries)
        return numbers

    def _from_window(self, entries: Iterable[LogEntry]) -> RisingNumbers | None:
        """What follows from a window of messages, or None if it is too short to tell.

        An account's window tells enough if it has a marked event, whose number says what was
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
                numbers.feed(entry.log_sequence, entry.data, self.stream_id)
        return numbers if enough else None


def _is_marked(entry: LogEntry, stream_id: str) -> bool:
    mark = entry.headers.get(MARK)
    if mark is None or EXPECTED not in entry.headers:
        return False
    try:
        envelope = decode_envelope(entry.data)
    except ContractError:
        return False
    return envelope.stream_id == stream_id and mark == str(envelope.sequence_number)
