"""What the partition loop needs of the outside: the log, the commit, the snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from psm.domain.messages import LogMessage, Update
from psm.workers.log.cursor import Cursor


class CommittedCursor(msgspec.Struct, frozen=True, kw_only=True):
    """A cursor as stored, and the sequence that the next commit must expect."""

    cursor: Cursor
    sequence: int


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """One atomic batch: the new cursor, the updates, and the log messages they came from."""

    cursor: Cursor
    updates: tuple[Update, ...]
    traceparents: dict[int, str]


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot or checkpoint as stored; `sequence` is what its next version must expect."""

    subject: str
    sequence: int
    data: bytes


class EventLog(Protocol):
    """The log of one partition, and the place its updates are committed to.

    Methods raise `TransientError` when the broker does not answer.
    """

    async def start_at(self, log_sequence: int) -> None:
        """Read on from this log sequence, forwards or backwards."""

    async def fetch(
        self, max_messages: int, max_wait_s: float, linger_s: float
    ) -> list[LogMessage]:
        """Return the partition's next messages in log order; empty when none came in time."""

    async def message_at(self, log_sequence: int) -> LogMessage | None:
        """Return one message of the log from the leader, of whatever partition."""

    async def next_on(self, subject: str, log_sequence: int) -> LogMessage | None:
        """Return a stored subject's first message at or after this position, from the leader."""

    async def history(self, stream_id: str, first: int, last: int) -> dict[int, LogMessage]:
        """Return the stream's messages in a range of log sequences, both included."""

    async def market_history(
        self, market: Sequence[str], first: int, last: int
    ) -> dict[int, LogMessage]:
        """Return the messages on subjects of the market in a range of log sequences."""

    async def last_sequence(self) -> int:
        """Return the log sequence of the partition's last message, from the leader; 0 if none."""

    async def watch(self, last_sequence: int) -> bool:
        """Tell the reader what exists; return whether it had to start over."""

    async def cursor(self) -> CommittedCursor | None:
        """Return the partition's cursor, from the leader."""

    async def first_missing(self, committed: CommittedCursor) -> int | None:
        """Return where an update should be that this cursor announces; None if all are there."""

    async def ever_committed(self) -> bool:
        """Return whether anything but the cursor shows that this partition was committed to."""

    async def commit(self, commit: Commit, expected: int) -> int:
        """Store a batch behind the cursor at `expected`; return the new cursor's sequence.

        Resolves unknown outcomes by reading the cursor; waits while the broker is away.

        Raises:
            FencedError: another worker committed.
        """

    async def close(self) -> None:
        """Stop reading."""


class SnapshotStore(Protocol):
    """Snapshots and checkpoints of one partition."""

    async def latest(self) -> list[Saved]:
        """Return the newest snapshot of every account and the newest checkpoint."""

    async def newest(self, subject: str) -> Saved | None:
        """Return the newest version of `subject`, from the leader; waits while it is away."""

    async def older(self, subject: str, before: int) -> Saved | None:
        """Return the version of `subject` that precedes the one at sequence `before`."""

    async def write(self, subject: str, data: bytes, expected: int) -> int:
        """Store the next version of `subject`; return its sequence.

        Raises:
            FencedError: another worker wrote it since `expected`.
        """
