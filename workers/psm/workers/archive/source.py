"""One recorded JetStream stream, read without a hole for the archive.

The reader hands out what the broker shows. Here every sequence must follow the one before: what is
missing is asked of the leader, and what the leader does not have either is a hole, which is
reported and, in the log itself, stops the archive of that stream.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import OrderedReader, StoredMessage, get, next_for, stream_info
from psm.adapters.logs import get_logger
from psm.contracts.errors import LogDamagedError
from psm.contracts.subjects import (
    FILLS,
    MARKETDATA,
    ORDERS,
    PSM,
    RISK,
    RULEBOOK,
    SIGNALS,
    TRADES,
)
from psm.projections.archive.writer import ArchiveCheckpoint, Incident

RECORDED = (RULEBOOK, SIGNALS, RISK, ORDERS, FILLS, MARKETDATA)
SOURCES = (TRADES, *RECORDED, PSM)
"""What is archived. PSM itself is not: it says what became of the events of the log."""

BATCH_MESSAGES = 2000
BATCH_BYTES = 16 * 1024 * 1024
"""Of one stream in one transaction; a message that is larger goes alone."""
FETCH_WAIT_S = 1.0
LINGER_S = 0.02
_NS = 1_000_000_000
# Cursors keep the checkpoint moving where no account does.
_PSM_FILTERS = ("psm.state.updated.*.*", "psm.event.refused.*.*", "psm.cursor.*")


class SourceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How far one stream is archived.

    Attributes:
        js_stream: its name.
        js_sequence: checkpoint, 0 before the first.
        lag_events: messages behind it, as far as the broker told.
        lag_s: age of the oldest of them, at most.
        retention_used: that age as a share of what the stream keeps; 0 where it keeps everything.
        detail: what is wrong and what to do, else None.
    """

    js_stream: str
    js_sequence: int
    lag_events: int
    lag_s: float
    retention_used: float
    detail: str | None


class Source:
    """Reads one stream from its checkpoint on.

    Attributes:
        js_stream: its name.
        checkpoint: what the database has.
        unread: messages fetched and not yet archived, in order.
        incidents: holes found in front of them.
    """

    def __init__(
        self,
        nc: Client,
        js_stream: str,
        checkpoint: ArchiveCheckpoint | None,
        on_reset: Callable[[str, str], None] | None = None,
    ) -> None:
        self.js_stream = js_stream
        self.checkpoint = checkpoint
        self.unread: list[StoredMessage] = []
        self.incidents: list[Incident] = []
        self._nc = nc
        self._on_reset = on_reset
        self._position = checkpoint.js_sequence if checkpoint else 0
        self._reader: OrderedReader | None = None
        self._max_age_s = 0.0
        self._read_ns = 0

    async def fetch(self) -> None:
        """Add the next messages to `unread`; returns after a second without any.

        Raises:
            LogDamagedError: the stream is not the one that was archived, or lost messages.
            ApiConfigError: there is no such stream.
            TransientError: NATS is away.
        """
        if self._reader is None:
            self._reader = await self._opened()
        messages = await self._reader.fetch(BATCH_MESSAGES, FETCH_WAIT_S, linger_s=LINGER_S)
        if self.js_stream != PSM:
            messages = await self._without_hole(messages)
        if messages:
            self._position, self._read_ns = messages[-1].sequence, messages[-1].time_ns
            self.unread += messages

    async def close(self) -> None:
        """Let go of the broker's consumer."""
        if self._reader is not None:
            await self._reader.close()

    def next_count(self) -> int:
        """Return how many of the unread messages go into the next transaction."""
        left = BATCH_BYTES
        for count, message in enumerate(self.unread):
            left -= len(message.data)
            if left < 0 and count:
                return count
        return len(self.unread)

    def archived(self, count: int) -> ArchiveCheckpoint:
        """Return the checkpoint behind the first `count` unread messages, at least one."""
        last = self.unread[count - 1]
        return ArchiveCheckpoint(
            js_stream=self.js_stream,
            js_sequence=last.sequence,
            event_hash=hashlib.sha256(last.data).hexdigest(),
        )

    def forget(self, count: int, checkpoint: ArchiveCheckpoint) -> None:
        """Drop what is archived now."""
        del self.unread[:count]
        self.incidents = []
        self.checkpoint = checkpoint

    def status(self, detail: str | None = None) -> SourceStatus:
        """Return how far it is."""
        pending = (self._reader.pending if self._reader else None) or 0
        lag_s = self._lag_s(pending)
        return SourceStatus(
            js_stream=self.js_stream,
            js_sequence=self.checkpoint.js_sequence if self.checkpoint else 0,
            lag_events=pending + len(self.unread),
            lag_s=lag_s,
            retention_used=lag_s / self._max_age_s if self._max_age_s else 0.0,
            detail=detail,
        )

    def _lag_s(self, pending: int) -> float:
        # Taken when asked: it grows while nothing can be fetched or written.
        if not self.unread and not pending:
            return 0.0
        # What is pending is at least as new as the last message read.
        since_ns = self.unread[0].time_ns if self.unread else self._read_ns
        return max(0.0, time.time() - since_ns / _NS) if since_ns else 0.0

    async def _opened(self) -> OrderedReader:
        info = await stream_info(self._nc, self.js_stream)
        self._max_age_s = info.config.get("max_age", 0) / _NS
        await self._check(info.first_sequence, info.last_sequence)
        if info.first_sequence > self._position + 1:
            self._hole(self._position + 1, info.first_sequence - 1)
            self._position = info.first_sequence - 1
        return OrderedReader(
            self._nc,
            self.js_stream,
            _PSM_FILTERS if self.js_stream == PSM else (">",),
            self._position + 1,
            on_reset=self._on_reset,
        )

    async def _check(self, first: int, last: int) -> None:
        """Make sure that the stream continues what was archived."""
        if self.checkpoint is None or self._position < first:
            return
        message = await get(self._nc, self.js_stream, self._position)
        found = hashlib.sha256(message.data).hexdigest() if message else None
        if found == self.checkpoint.event_hash:
            return
        what = "has other bytes" if message else f"is absent: it ends at {last}"
        raise LogDamagedError(
            f"{self.js_stream} is not the stream that was archived up to message "
            f"{self._position}: that message {what}; restore it, or create the stream anew with "
            f"first_seq {self._position + 1}"
        )

    async def _without_hole(self, messages: Sequence[StoredMessage]) -> list[StoredMessage]:
        """Return the messages with those that the reader was not shown."""
        whole: list[StoredMessage] = []
        position = self._position
        for message in messages:
            while message.sequence > position + 1:
                hidden = await next_for(self._nc, self.js_stream, ">", position + 1)
                until = min(hidden.sequence if hidden else message.sequence, message.sequence)
                if until > position + 1:
                    self._hole(position + 1, until - 1)
                elif hidden is not None:
                    whole.append(hidden)
                    until += 1
                position = until - 1
            whole.append(message)
            position = message.sequence
        return whole

    def _hole(self, first: int, last: int) -> None:
        """Report messages that nobody has any more.

        Raises:
            LogDamagedError: the log lost them; it never may.
        """
        detail = f"messages {first} to {last} of {self.js_stream} were gone before they were read"
        if self.js_stream == TRADES and self._position:
            raise LogDamagedError(f"{detail}; restore the log")
        get_logger().error(
            "archive.hole_found", js_stream=self.js_stream, first_sequence=first, last_sequence=last
        )
        self.incidents.append(
            Incident(
                kind="behind_retention",
                js_stream=self.js_stream,
                first_sequence=first,
                last_sequence=last,
                detail=detail,
            )
        )
