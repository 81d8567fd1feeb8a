"""The partition loop's ports with faults: what a broker, a replica or a crash may do to them."""

from __future__ import annotations

import asyncio
from collections import Counter

from nats.aio.client import Client

from psm.domain.messages import LogMessage
from psm.workers.partition.jetstream import JetStreamLog, JetStreamSnapshots
from psm.workers.partition.ports import Commit


class CrashError(BaseException):
    """Ends a partition as a crash would: nothing handles it, nothing is written after it."""


class FaultyLog(JetStreamLog):
    """The real log, that tells what was asked of it and misbehaves when told to.

    Attributes:
        started_at: every position it was asked to read from.
        delivered: log sequences handed out.
        hidden: log sequence -> how many more times it is not shown to the reader.
        held_back: while set, nothing beyond this log sequence is shown.
        commits: cursors that were stored.
        crash_after: die behind this many stored commits.
        crash_after_part: die behind the first commit that is a part of an input.
        crash_before: die in front of the commit of this number.
        gate: commits without updates wait for it before they are sent.
        histories: ranges that were read back.
    """

    def __init__(self, nc: Client, partition: int) -> None:
        super().__init__(nc, partition)
        self.started_at: list[int] = []
        self.delivered: list[int] = []
        self.hidden: Counter[int] = Counter()
        self.hits = 0
        self.held_back: int | None = None
        self.commits: list[Commit] = []
        self.crash_after: int | None = None
        self.crash_after_part = False
        self.crash_before: int | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0
        self.histories: list[tuple[str, int, int]] = []
        self._waiting: list[LogMessage] = []

    async def start_at(self, log_sequence: int) -> None:
        self.started_at.append(log_sequence)
        self._waiting = []
        await super().start_at(log_sequence)

    async def fetch(
        self, max_messages: int, max_wait_s: float, linger_s: float
    ) -> list[LogMessage]:
        if not self._waiting:
            self._waiting = await super().fetch(max_messages, max_wait_s, linger_s)
        limit = self.held_back
        ready = [m for m in self._waiting if limit is None or m.log_sequence <= limit]
        self._waiting = self._waiting[len(ready) :]
        if self._waiting and not ready:
            await asyncio.sleep(0.02)
        shown = [message for message in ready if not self._hides(message)]
        self.delivered += [message.log_sequence for message in shown]
        return shown

    def _hides(self, message: LogMessage) -> bool:
        if self.hidden[message.log_sequence] <= 0:
            return False
        self.hidden[message.log_sequence] -= 1
        self.hits += 1
        return True

    async def history(self, stream_id: str, first: int, last: int) -> dict[int, LogMessage]:
        self.histories.append((stream_id, first, last))
        return await super().history(stream_id, first, last)

    async def commit(self, commit: Commit, expected: int) -> int:
        if self.crash_before is not None and len(self.commits) + 1 == self.crash_before:
            raise CrashError
        if not commit.updates:
            self.waiting += 1
            await self.gate.wait()
            self.waiting -= 1
        sequence = await super().commit(commit, expected)
        self.commits.append(commit)
        if self.crash_after is not None and len(self.commits) >= self.crash_after:
            raise CrashError
        if self.crash_after_part and commit.cursor.part:
            raise CrashError
        return sequence


class FaultySnapshots(JetStreamSnapshots):
    """Snapshots that can be held at a gate or written as garbage.

    Attributes:
        gate: writes wait for it.
        garbled: subjects of which garbage is stored.
        written: subjects stored, in order.
    """

    def __init__(self, nc: Client, partition: int) -> None:
        super().__init__(nc, partition)
        self.gate = asyncio.Event()
        self.gate.set()
        self.garbled: set[str] = set()
        self.written: list[str] = []

    async def write(self, subject: str, data: bytes, expected: int) -> int:
        await self.gate.wait()
        body = b"garbage" if subject in self.garbled else data
        sequence = await super().write(subject, body, expected)
        self.written.append(subject)
        return sequence
