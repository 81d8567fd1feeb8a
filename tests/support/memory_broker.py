"""A broker in memory behind the ports of the partition loop, with faults from one seed.

Nothing here waits for time or I/O, so that a run with the same seed takes the same turns.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

import msgspec
from tests.support.domain import stored
from tests.support.events import SECOND, START, Sent

from psm.contracts import subjects
from psm.contracts.errors import FencedError
from psm.domain.messages import LogMessage, Update
from psm.workers.log.cursor import Cursor
from psm.workers.partition.ports import Commit, CommittedCursor, Saved

VERSIONS_KEPT = 5


class CrashError(BaseException):
    """The process died here; what it had in memory is gone."""


class Faults:
    """What goes wrong, decided by a seed and counted.

    Attributes:
        fired: how often each fault really happened.
    """

    def __init__(self, seed: int, rate: float) -> None:
        self.dice = random.Random(f"faults/{seed}")
        self.fired: Counter[str] = Counter()
        self._rate = rate

    def happens(self, name: str) -> bool:
        """Return whether this fault happens now."""
        if self.dice.random() >= self._rate:
            return False
        self.fired[name] += 1
        return True

    async def pause(self) -> None:
        """Let others run for a few turns."""
        for _ in range(self.dice.randint(0, 4)):
            await asyncio.sleep(0)


class Batch(msgspec.Struct, frozen=True):
    """One atomic batch as it was stored."""

    sequence: int
    cursor: Cursor
    updates: tuple[Update, ...]


class MemoryBroker:
    """The three streams of one partition."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.log: list[LogMessage] = []
        self.batches: list[Batch] = []
        self.saved: dict[str, list[Saved]] = {}
        self._last_saved = 0

    def publish(self, sent: Sent) -> None:
        """Append to the log; three marks or so share a valuation interval."""
        self.log.append(
            LogMessage(
                log_sequence=len(self.log) + 1,
                subject=stored(sent.subject, 1),
                time=START + len(self.log) * SECOND // 15,
                data=sent.data,
            )
        )

    @property
    def updates(self) -> list[tuple[str, bytes]]:
        """Everything published so far."""
        return [(u.subject, u.data) for batch in self.batches for u in batch.updates]

    def store(self, commit: Commit, expected: int) -> int:
        """Store a batch behind the one at `expected`."""
        last = self.batches[-1].sequence if self.batches else 0
        if last != expected:
            self.faults.fired["fenced"] += 1
            raise FencedError(f"the cursor is at {last}, not at {expected}")
        after = self.batches[-1].sequence + len(self.batches[-1].updates) if self.batches else 0
        self.batches.append(Batch(after + 1, commit.cursor, commit.updates))
        return after + 1

    def save(self, subject: str, data: bytes, expected: int) -> int:
        """Store the next version of a snapshot."""
        versions = self.saved.setdefault(subject, [])
        if (versions[-1].sequence if versions else 0) != expected:
            self.faults.fired["snapshot_fenced"] += 1
            raise FencedError(f"another owner wrote {subject}")
        self._last_saved += 1
        body = b"garbage" if self.faults.happens("garbage") else data
        versions.append(Saved(subject=subject, sequence=self._last_saved, data=body))
        del versions[:-VERSIONS_KEPT]
        return self._last_saved


class MemoryLog:
    """`EventLog` of one owner."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._faults = broker.faults
        self._position = 0

    async def start_at(self, log_sequence: int) -> None:
        self._position = log_sequence - 1

    async def fetch(
        self, max_messages: int, max_wait_s: float, linger_s: float
    ) -> list[LogMessage]:
        await asyncio.sleep(0)
        await self._faults.pause()
        end = self._position + self._faults.dice.randint(0, min(9, max_messages))
        found = self._broker.log[self._position : end]
        self._position += len(found)
        return found

    async def message_at(self, log_sequence: int) -> LogMessage | None:
        return self._broker.log[log_sequence - 1]

    async def next_on(self, subject: str, log_sequence: int) -> LogMessage | None:
        later = self._broker.log[log_sequence - 1 :]
        return next((message for message in later if _is_on(subject, message.subject)), None)

    async def history(self, stream_id: str, first: int, last: int) -> dict[int, LogMessage]:
        await self._faults.pause()
        own = subjects.stream_subjects(stream_id, 1)
        within = self._broker.log[first - 1 : last]
        return {m.log_sequence: m for m in within if m.subject in own}

    async def market_history(
        self, market: Sequence[str], first: int, last: int
    ) -> dict[int, LogMessage]:
        await self._faults.pause()
        within = self._broker.log[first - 1 : last]
        return {m.log_sequence: m for m in within if m.subject in market}

    async def last_sequence(self) -> int:
        return len(self._broker.log)

    async def watch(self, last_sequence: int) -> bool:
        return False

    async def cursor(self) -> CommittedCursor | None:
        await self._faults.pause()
        if not self._broker.batches:
            return None
        last = self._broker.batches[-1]
        return CommittedCursor(cursor=last.cursor, sequence=last.sequence)

    async def first_missing(self, committed: CommittedCursor) -> int | None:
        return None

    async def ever_committed(self) -> bool:
        return bool(self._broker.batches)

    async def commit(self, commit: Commit, expected: int) -> int:
        await self._faults.pause()
        if self._faults.happens("crash_before_commit"):
            raise CrashError
        sequence = self._broker.store(commit, expected)
        await self._faults.pause()
        if self._faults.happens("crash_after_commit"):
            raise CrashError
        return sequence

    async def close(self) -> None:
        return


class MemorySnapshots:
    """`SnapshotStore` of one owner."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._faults = broker.faults

    async def latest(self) -> list[Saved]:
        await self._faults.pause()
        return [versions[-1] for _, versions in sorted(self._broker.saved.items())]

    async def newest(self, subject: str) -> Saved | None:
        await self._faults.pause()
        versions = self._broker.saved.get(subject)
        return versions[-1] if versions else None

    async def older(self, subject: str, before: int) -> Saved | None:
        versions = [s for s in self._broker.saved[subject] if s.sequence < before]
        return versions[-1] if versions else None

    async def write(self, subject: str, data: bytes, expected: int) -> int:
        await self._faults.pause()
        if self._faults.happens("crash_before_snapshot"):
            raise CrashError
        sequence = self._broker.save(subject, data, expected)
        await self._faults.pause()
        if self._faults.happens("crash_after_snapshot"):
            raise CrashError
        return sequence


def _is_on(pattern: str, subject: str) -> bool:
    """Return whether a subject is `pattern`, where a token `*` stands for any."""
    asked, had = pattern.split("."), subject.split(".")
    return len(asked) == len(had) and all(a in ("*", h) for a, h in zip(asked, had, strict=True))
