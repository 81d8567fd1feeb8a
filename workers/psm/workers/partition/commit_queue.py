"""What a partition has folded and not yet committed, and the commit on its way.

One commit is in flight at most: the next expects the cursor's sequence that this one is given, and
other partitions write to the same stream in between, so it cannot be known before. Folding goes on
meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec

from psm.adapters.allocator import give_back
from psm.adapters.metrics import Metrics
from psm.adapters.tracing import child_span
from psm.contracts.envelope import event_hash
from psm.contracts.errors import InvariantError
from psm.domain.messages import LogMessage, Update
from psm.domain.publication.log_times import log_time
from psm.workers.log.cursor import Cursor, Digest, digest_of
from psm.workers.partition.ports import Commit, CommittedCursor, EventLog
from psm.workers.partition.settings import PartitionSettings, PartitionStats
from psm.workers.process.crash_points import crash_point

UPDATES_PER_COMMIT = 999
"""The broker takes 1 000 messages in one atomic batch; the cursor is one of them."""

BYTES_PER_COMMIT = 4 * 1024 * 1024
"""Of the updates in one batch, but for a single larger one: who reads it holds it whole."""

_NS = 1_000_000_000

MANY = 2_000
"""So many updates of one input, or snapshots: their bytes are worth giving back."""


class Commits:
    """Collects updates and commits them in order, one batch after the other.

    Attributes:
        in_flight: the commit that is not known to be acknowledged, or None.
        queued: inputs whose updates wait for the next one.
        committed_at: when the last one was acknowledged, monotonic.
    """

    def __init__(
        self,
        partition: int,
        log: EventLog,
        settings: PartitionSettings,
        metrics: Metrics,
        stats: PartitionStats,
    ) -> None:
        self.in_flight: asyncio.Task[None] | None = None
        self.queued = 0
        self.committed_at = time.monotonic()
        self._partition = partition
        self._log = log
        self._settings = settings
        self._metrics = metrics
        self._stats = stats
        self._recovered_part: tuple[int, str | None] = (0, None)
        self._submitted = 0  # log sequence of the last cursor handed to a commit
        self._cursor_sequence = 0  # of the last batch that was acknowledged
        self._folded = Cursor(log_sequence=0)
        self._last: LogMessage | None = None  # input of `_folded`, until its hash is wanted
        self._closed_through: str | None = None  # as of `_last`
        self._updates: list[Update] = []
        self._bytes = 0  # of `_updates`
        self._traceparents: dict[int, str] = {}
        self._quiet_messages = 0
        self._oldest_ns: int | None = None  # log time of the first input whose updates wait

    def resume(self, committed: CommittedCursor) -> None:
        """Go on behind the cursor that a recovery found."""
        cursor, self._cursor_sequence = committed.cursor, committed.sequence
        self._submitted = cursor.log_sequence
        self._recovered_part = (cursor.part, cursor.digest)
        self._folded = Cursor(
            log_sequence=cursor.log_sequence,
            event_hash=cursor.event_hash,
            closed_through=cursor.closed_through,
        )
        self._closed_through = cursor.closed_through

    @property
    def inside_input(self) -> bool:
        """Whether an earlier owner committed a part of the next input, which is not here yet.

        Until then nothing may be committed: a cursor with part 0 would let the next owner commit
        that part again. Nor may anything be saved, which needs a commit.
        """
        return self._recovered_part[0] > 0

    @property
    def folded(self) -> Cursor:
        """The cursor behind the last input: its log sequence and hash."""
        if self._last is not None:
            message, self._last = self._last, None
            self._folded = Cursor(
                log_sequence=message.log_sequence,
                event_hash=event_hash(message.data).hex(),
                closed_through=self._closed_through,
            )
        return self._folded

    def is_due(self, now: float, *, live: bool) -> bool:
        """Return whether something is to be committed at the end of a batch; `now` is monotonic."""
        if self._updates:
            return True
        settings, since = self._settings, now - self.committed_at
        quiet = self._quiet_messages >= settings.quiet_messages or since >= settings.quiet_s
        if quiet and self.anything_folded and self.folded.log_sequence > self._submitted:
            return True
        return live and since >= settings.idle_s and self.anything_folded

    def may_grow(self) -> bool:
        """Return whether what is queued has to wait anyway, and more may join it.

        It is sent when the commit in flight is acknowledged; what comes until then and is left for
        the commit after it would wait for two.
        """
        return self.in_flight is not None and self.queued < self._settings.batch_messages

    @property
    def anything_folded(self) -> bool:
        """Whether there is an input that a cursor could name."""
        return self._last is not None or self._folded.log_sequence > 0

    async def queue(
        self, message: LogMessage, updates: list[Update], closed_through: int | None
    ) -> None:
        """Add an input's updates to the next commit; a batch is split between inputs.

        Args:
            message: the input.
            updates: of it.
            closed_through: end of the last minute all of whose closes are told by now, ns.
        """
        done = self._committed_part(message, updates) if self.inside_input else 0
        size = _size(updates)
        if self._updates and not _fits(len(self._updates) + len(updates), self._bytes + size):
            await self.flush()
        if updates and self._oldest_ns is None:
            self._oldest_ns = message.time
        if message.traceparent is not None and updates:
            self._traceparents[message.log_sequence] = message.traceparent
        if _fits(len(updates), size) and not done:
            self._updates += updates
            self._bytes += size
            self._take_last(message, closed_through)
            self._quiet_messages += 1
            self.queued += bool(self._updates)
            return
        # Only a single input with more updates than a batch takes is committed in parts.
        before = self.folded
        so_far = Digest()
        so_far.add(updates[:done])
        while (end := _end_of_batch(updates, done)) < len(updates):
            chunk = updates[done:end]
            done = end
            digest = so_far.add(chunk)
            await self._submit(msgspec.structs.replace(before, part=done, digest=digest), chunk)
        self._updates = updates[done:]
        self._take_last(message, closed_through)
        many = len(updates) >= MANY
        updates.clear()
        await self.flush()
        if many:
            give_back()

    def _take_last(self, message: LogMessage, closed_through: int | None) -> None:
        self._last = message
        self._closed_through = None if closed_through is None else log_time(closed_through)

    async def flush(self) -> asyncio.Task[None]:
        """Commit what is folded: the cursor at the last input, and the updates queued.

        Returns:
            The commit, once the one before it is acknowledged.
        """
        updates, self._updates, self._bytes = self._updates, [], 0
        self._quiet_messages = self.queued = 0
        return await self._submit(self.folded, updates)

    async def drain(self) -> None:
        """Leave nothing folded and uncommitted."""
        if self._updates or self.folded.log_sequence > self._submitted:
            await self.flush()
        await self.settle()

    async def settle(self) -> None:
        """Wait until the commit in flight is acknowledged; raise what it raised."""
        if self.in_flight is not None:
            task, self.in_flight = self.in_flight, None
            await task

    def _committed_part(self, message: LogMessage, updates: list[Update]) -> int:
        """Return how many of the input's updates an earlier owner committed; they must be the same.

        Only the first input behind the recovered cursor can have been committed in part.
        """
        part, digest = self._recovered_part
        self._recovered_part = (0, None)
        if digest_of(updates[:part]) != digest:
            raise InvariantError(
                f"log sequence {message.log_sequence}: its first {part} updates are not those that "
                "were committed; the fold is not deterministic, or the log was changed"
            )
        return part

    async def _submit(self, cursor: Cursor, updates: list[Update]) -> asyncio.Task[None]:
        """Start a commit when the one before it is acknowledged: one in flight, folding goes on."""
        await self.settle()
        commit = Commit(
            cursor=msgspec.structs.replace(cursor, updates=len(updates)),
            updates=tuple(updates),
            traceparents=self._traceparents,
        )
        if cursor.part == 0:
            self._traceparents = {}
            self._submitted = cursor.log_sequence
        oldest_ns = self._oldest_ns
        if cursor.part == 0:
            self._oldest_ns = None
        self.in_flight = asyncio.create_task(self._commit(commit, oldest_ns))
        return self.in_flight

    async def _commit(self, commit: Commit, oldest_ns: int | None) -> None:
        crash_point("worker.before_commit")
        stats = self._stats
        started = stats.committing_since = time.monotonic()
        attributes = {"psm.partition": self._partition, "psm.updates": len(commit.updates)}
        with child_span("psm.commit", None, attributes, commit.traceparents.values()):
            self._cursor_sequence = await self._log.commit(commit, self._cursor_sequence)
        crash_point("worker.after_commit")
        self.committed_at = stats.answered_at = time.monotonic()
        stats.committing_since = None
        stats.commits += 1
        stats.updates += len(commit.updates)
        self._metrics.committed(
            self._partition,
            updates=len(commit.updates),
            seconds=self.committed_at - started,
            latency_s=None if oldest_ns is None else time.time() - oldest_ns / _NS,
        )


def _size(updates: Sequence[Update]) -> int:
    return sum(len(update.data) for update in updates)


def _fits(count: int, size: int) -> bool:
    return count <= UPDATES_PER_COMMIT and size <= BYTES_PER_COMMIT


def _end_of_batch(updates: Sequence[Update], start: int) -> int:
    """Return where a batch ends that begins at `start`: one update at least is in it."""
    size = 0
    for place in range(start, len(updates)):
        size += len(updates[place].data)
        if place > start and not _fits(place - start + 1, size):
            return place
    return len(updates)
