"""A partition's loop: recover, fold, commit, snapshot, check. The exactly-once heart.

Cursor and updates are one atomic batch, and the cursor expects its predecessor: a crash leaves
both or neither, and a worker that lost the partition without noticing is refused, not believed.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import msgspec
import structlog

from psm.adapters.allocator import give_back
from psm.adapters.metrics import Metrics
from psm.adapters.tracing import child_span
from psm.contracts.envelope import event_hash
from psm.contracts.errors import InvariantError, LogDamagedError, TransientError
from psm.domain.books import Books
from psm.domain.messages import LogMessage, Update
from psm.domain.outcomes import Folded, NeedHistory, Outcome, UnknownRulesError
from psm.domain.sequence import is_rejected
from psm.workers.checkpoints import Checkpoints
from psm.workers.cursor import Cursor, Digest, digest_of
from psm.workers.faults import crash_point
from psm.workers.guard import Guard
from psm.workers.history import fold_with_history
from psm.workers.ports import Commit, EventLog, SnapshotStore
from psm.workers.recovery import Recovery
from psm.workers.residents import ACCOUNTS_IN_MEMORY, Census, Residents

UPDATES_PER_COMMIT = 999
"""The broker takes 1 000 messages in one atomic batch; the cursor is one of them."""

_FETCH_WAIT_S = 0.5
_WATCH_EVERY_S = 1.0
SILENCE_S = 5.0
"""A partition that hears nothing of its log's leader for so long is not live, whatever it holds."""

_STOP_WAIT_S = 0.02
_MANY = 2_000  # updates of one input, or snapshots: their bytes are worth giving back
_log = structlog.get_logger(__name__)


class PartitionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the loop may be tuned by.

    Attributes:
        partitions: of the log.
        batch_messages: folded into one commit at most.
        batch_wait_s: how long more messages are waited for while a commit is on its way.
        snapshot_interval_s: changed accounts are saved this often ...
        snapshot_events: ... or after this many events of one account, but not more often than
            a twelfth of the interval.
        quiet_messages: after this many messages without updates a cursor is committed, after this
            many that changed no account a checkpoint is written.
        quiet_s: a cursor is committed this long after the last one if messages came.
        idle_s: a cursor is committed this long after the last one, before it ages out.
        accounts_in_memory: of a worker; beyond it, idle accounts wait in their snapshots.
    """

    partitions: int
    valuation_interval_ns: int = 1_000_000_000
    batch_messages: int = 300
    batch_wait_s: float = 0.002
    snapshot_interval_s: float = 60.0
    snapshot_events: int = 100
    quiet_messages: int = 10_000
    quiet_s: float = 60.0
    idle_s: float = 86_400.0
    accounts_in_memory: int = ACCOUNTS_IN_MEMORY


class PartitionStats:
    """What an observer may read at any time.

    Attributes:
        live: whether everything up to the cursor at the start was folded again.
        position: log sequence of the last message folded.
        last_known: of the partition's last message, as the leader told a second ago.
        last_time_ns: log time of the last message folded.
        accounts: in memory.
        answered_at: when a leader last answered a read or acknowledged a commit, monotonic.
        committing_since: when the commit in flight was sent, None without one.
    """

    def __init__(self) -> None:
        self.live = False
        self.answered_at = time.monotonic()
        self.committing_since: float | None = None
        self.position = 0
        self.last_known = 0
        self.last_time_ns = 0
        self.accounts = 0
        self.commits = 0
        self.updates = 0
        self.checkpoints = 0

    def is_serving(self) -> bool:
        """Whether it is live, and the log and the commit answer."""
        now = time.monotonic()
        sent = self.committing_since
        stuck = sent is not None and now - sent >= SILENCE_S
        return self.live and not stuck and now - self.answered_at < SILENCE_S


class HiddenMessageError(TransientError):
    """The consumer did not show a message that the leader has: read again."""


class Partition:
    """Runs one partition until it is stopped or fenced.

    Not reusable: after an exception the books are worthless, make a new one.
    """

    def __init__(
        self,
        partition: int,
        log: EventLog,
        store: SnapshotStore,
        settings: PartitionSettings,
        metrics: Metrics,
        guard: Guard | None = None,
        census: Census | None = None,
    ) -> None:
        self.partition = partition
        self.stats = PartitionStats()
        self._metrics = metrics
        self._guard = guard
        self._outcomes: Counter[str] = Counter()
        self._event_log = log
        self._store = store
        self._census = census or Census(settings.accounts_in_memory)
        self._settings = settings
        self._stopping = asyncio.Event()
        self._log = _log.bind(partition=partition)
        self._books = Books(
            partitions=settings.partitions,
            partition=partition,
            valuation_interval_ns=settings.valuation_interval_ns,
        )
        self._replay_hash = ""
        self._recovered_part: tuple[int, str | None] = (0, None)
        self._submitted = 0  # log sequence of the last cursor handed to a commit
        self._cursor_sequence = 0  # of the last batch that was acknowledged
        self._replay_to = 0
        self._folded = (0, "")  # log sequence and message hash, hex, of the last input
        self._updates: list[Update] = []
        self._traceparents: dict[int, str] = {}
        self._quiet_messages = 0
        self._cut = False
        self._committing: asyncio.Task[None] | None = None
        self._fetching: asyncio.Future[list[LogMessage]] | None = None
        self._watching: asyncio.Task[int | None] | None = None
        self._checkpoints = Checkpoints(
            partition, store, self._books, settings, metrics, self.stats
        )
        self._residents = Residents(
            partition, store, self._books, self._census, metrics, self._checkpoints.saved
        )
        self._committed_at = self._watched_at = time.monotonic()

    def stop(self) -> None:
        """Ask the loop to drain, commit, snapshot and return."""
        self._stopping.set()
        if self._fetching is not None and self._may_end():
            # What it would have brought is left to the next owner. Nothing may be folded after
            # this: the reader may have counted messages as handed out that nobody will see.
            self._cut = self._fetching.cancel() or self._cut

    async def run(self) -> None:
        """Recover, then fold and commit until stopped.

        Raises:
            FencedError: another worker owns the partition.
            LogDamagedError: the log is not what was committed against.
            UnknownRulesError: the log needs a newer version; what came before is committed.
            TransientError: the broker does not answer while recovering.
        """
        try:
            await self._recover()
            while not self._may_end():
                messages = await self._fetch()
                crash_point("worker.after_fetch")
                await self._residents.bring_back(messages)
                for message in messages:
                    if self._is_large(message):
                        async with self._census.one_large:
                            await self._take(message)
                    else:
                        await self._take(message)
                await self._after_batch()
            await self._drain()
        except UnknownRulesError:
            await self._drain()  # nothing was changed by them, and what came before is right
            raise
        finally:
            await self._abandon()

    def _may_end(self) -> bool:
        """Return whether it was told to stop, and the drain will be short."""
        if not self._stopping.is_set():
            return False
        if self._cut or not self.stats.live or self._inside_input:
            return True
        return self._checkpoints.few_changed()

    async def _fetch(self) -> list[LogMessage]:
        """Return the next messages; none, at once, when told to stop and the drain is short."""
        wait_s = _STOP_WAIT_S if self._stopping.is_set() else _FETCH_WAIT_S
        most = self._settings.batch_messages
        self._fetching = asyncio.ensure_future(self._event_log.fetch(most, wait_s, 0.0))
        try:
            messages = await self._fetching
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._cut or (task is not None and task.cancelling()):
                raise
            return []
        if self._committing is not None and 0 < len(messages) < most:
            # What is folded now is committed after that one anyway, so it may become more.
            await asyncio.wait([self._committing], timeout=self._settings.batch_wait_s)
            messages += await self._event_log.fetch(most - len(messages), 0.0, 0.0)
        return messages

    async def _recover(self) -> None:
        started = time.monotonic()
        recovery = Recovery(self._event_log, self._store, self.partition, self._census)
        if self._guard is None:
            recovered = await recovery.run(self._books)
        else:
            recovered = await self._guard.recover(recovery, self._books)
        cursor, self._cursor_sequence = recovered.cursor, recovered.cursor_sequence
        if len(recovered.saved) >= _MANY:
            give_back()
        self._checkpoints.saved.update(recovered.saved)
        self._residents.have_no_snapshot(recovered.unreadable)
        self._replay_to = self._submitted = cursor.log_sequence
        self._replay_hash = cursor.event_hash or ""
        self._recovered_part = (cursor.part, cursor.digest)
        self._folded = (cursor.log_sequence, self._replay_hash)
        await self._event_log.start_at(self._books.position + 1)
        self.stats.position = self._books.position
        self.stats.last_known = await self._event_log.last_sequence()
        self.stats.answered_at = time.monotonic()
        self._metrics.recovered(self.partition, seconds=time.monotonic() - started)
        self._log.info(
            "partition.acquired",
            log_sequence=self._books.position,
            cursor=self._replay_to,
            accounts=len(self._books.accounts),
            evicted=len(recovered.evicted),
            seconds=round(time.monotonic() - started, 3),
        )
        self._check_live()

    def _check_live(self) -> None:
        if not self.stats.live and self._books.position >= self._replay_to:
            if self._guard is not None:
                self._guard.check_live(self._books)
            self.stats.live = True
            self._log.info("partition.recovered", log_sequence=self._books.position)

    # --- fold ---------------------------------------------------------------------------------

    async def _take(self, message: LogMessage) -> None:
        """Fold one message and queue its updates."""
        replaying = message.log_sequence <= self._replay_to
        self._books.publishing = "nothing" if replaying else "updates"
        seen = self._last_seen(message)
        result = await self._fold(message)
        if result.outcome is Outcome.PARKED:
            await self._check_hidden(message, seen)
        self._checkpoints.unsaved += 1
        if replaying:
            self._check_replayed(message)
            return
        if not self.stats.live:
            # The cursor names a message of this partition, so it must have come before any later.
            raise HiddenMessageError(
                f"partition {self.partition}: log sequence {self._replay_to} was not delivered"
            )
        self._outcomes[result.outcome] += 1
        await self._queue(message, event_hash(message.data).hex(), result.updates)
        self.stats.position = message.log_sequence
        self.stats.last_time_ns = message.time

    def _is_large(self, message: LogMessage) -> bool:
        """Return whether it may move so many accounts that their updates take much memory."""
        if not message.subject.startswith("marks.") or message.log_sequence <= self._replay_to:
            return False
        books = self._books
        holders = books.holders.get(message.subject.rpartition(".")[2], {})
        return len(holders) + len(books.unpublished) > UPDATES_PER_COMMIT

    def _last_seen(self, message: LogMessage) -> int:
        """Return where the message's stream was seen last; 0 if never."""
        if not message.subject.startswith("trades."):
            return 0
        account = self._books.accounts.get(message.subject.rpartition(".")[2])
        return account.last_log_sequence if account else 0

    async def _fold(self, message: LogMessage) -> Folded:
        return await fold_with_history(self._books, message, self._read_history)

    async def _read_history(self, wanted: NeedHistory) -> dict[int, LogMessage]:
        return await self._event_log.history(
            wanted.stream_id, wanted.from_log_sequence, wanted.to_log_sequence
        )

    def _check_replayed(self, message: LogMessage) -> None:
        self.stats.position = message.log_sequence
        if message.log_sequence == self._replay_to:
            if event_hash(message.data).hex() != self._replay_hash:
                raise LogDamagedError(
                    f"partition {self.partition}: the message at log sequence "
                    f"{message.log_sequence} has other bytes than when it was committed"
                )
            self._check_live()

    async def _check_hidden(self, message: LogMessage, seen: int) -> None:
        """A gap may be the producer's, or a damaged replica's that hides a message: ask the leader.

        Raises:
            HiddenMessageError: the leader has one in between; the books are dropped, read again.
        """
        stream_id = message.subject.rpartition(".")[2]
        version = self._books.accounts[stream_id].version
        while True:
            found = await self._event_log.next_of_stream(stream_id, seen + 1)
            if found is None or found.log_sequence >= message.log_sequence:
                return
            if not is_rejected(found, stream_id, version):
                raise HiddenMessageError(
                    f"{stream_id}: log sequence {found.log_sequence} was not delivered"
                )
            seen = found.log_sequence

    # --- commit -------------------------------------------------------------------------------

    async def _queue(self, message: LogMessage, hashed: str, updates: list[Update]) -> None:
        """Add an input's updates to the next commit; a batch is split between inputs."""
        done = self._committed_part(message, updates)
        if self._updates and len(self._updates) + len(updates) > UPDATES_PER_COMMIT:
            await self._flush()
        if message.traceparent is not None and updates:
            self._traceparents[message.log_sequence] = message.traceparent
        if len(updates) <= UPDATES_PER_COMMIT and not done:
            self._updates += updates
            self._folded = (message.log_sequence, hashed)
            self._quiet_messages += 1
            return
        # Only a single input with more updates than a batch takes is committed in parts.
        before, before_hash = self._folded
        so_far = Digest()
        so_far.add(updates[:done])
        while len(updates) - done > UPDATES_PER_COMMIT:
            chunk = updates[done : done + UPDATES_PER_COMMIT]
            done += len(chunk)
            digest = so_far.add(chunk)
            await self._submit(
                Cursor(
                    log_sequence=before, part=done, digest=digest, event_hash=before_hash or None
                ),
                chunk,
            )
        self._updates = updates[done:]
        self._folded = (message.log_sequence, hashed)
        many = len(updates) >= _MANY
        updates.clear()
        await self._flush()
        if many:
            give_back()

    def _committed_part(self, message: LogMessage, updates: list[Update]) -> int:
        """Return how many of the input's updates an earlier owner committed; they must be the same.

        Only the first input behind the recovered cursor can have been committed in part.
        """
        part, digest = self._recovered_part
        self._recovered_part = (0, None)
        if part and digest_of(updates[:part]) != digest:
            raise InvariantError(
                f"log sequence {message.log_sequence}: its first {part} updates are not those that "
                "were committed; the fold is not deterministic, or the log was changed"
            )
        return part

    async def _flush(self) -> None:
        """Commit what is folded: the cursor at the last input, and the updates queued."""
        updates, self._updates = self._updates, []
        log_sequence, hashed = self._folded
        await self._submit(Cursor(log_sequence=log_sequence, event_hash=hashed or None), updates)
        self._quiet_messages = 0

    async def _submit(self, cursor: Cursor, updates: list[Update]) -> None:
        """Start a commit when the one before it is acknowledged: one in flight, folding goes on."""
        await self._settle()
        commit = Commit(
            cursor=msgspec.structs.replace(cursor, updates=len(updates)),
            updates=tuple(updates),
            traceparents=self._traceparents,
        )
        if cursor.part == 0:
            self._traceparents = {}
            self._submitted = cursor.log_sequence
        self._committing = asyncio.create_task(self._commit(commit))

    async def _commit(self, commit: Commit) -> None:
        crash_point("worker.before_commit")
        started = self.stats.committing_since = time.monotonic()
        attributes = {"psm.partition": self.partition, "psm.updates": len(commit.updates)}
        with child_span("psm.commit", None, attributes, commit.traceparents.values()):
            self._cursor_sequence = await self._event_log.commit(commit, self._cursor_sequence)
        crash_point("worker.after_commit")
        self._committed_at = self.stats.answered_at = time.monotonic()
        self.stats.committing_since = None
        self.stats.commits += 1
        self.stats.updates += len(commit.updates)
        self._metrics.committed(
            self.partition, updates=len(commit.updates), seconds=self._committed_at - started
        )

    async def _settle(self) -> None:
        """Wait until the commit in flight is acknowledged; raise what it raised."""
        if self._committing is not None:
            task, self._committing = self._committing, None
            await task

    # --- what is due between batches ----------------------------------------------------------

    async def _after_batch(self) -> None:
        crash_point("worker.after_fold")
        if self._committing is not None and self._committing.done():
            await self._settle()  # fencing must be noticed even when nothing more is to commit
        now = time.monotonic()
        await self._watch(now)
        if self._outcomes:
            self._metrics.folded(self.partition, self._outcomes)
            self._outcomes.clear()
        if self._inside_input:
            return
        quiet = self._folded[0] > self._submitted and (
            self._quiet_messages >= self._settings.quiet_messages
            or now - self._committed_at >= self._settings.quiet_s
        )
        idle = self._folded[0] and now - self._committed_at >= self._settings.idle_s
        if self._updates or quiet or (idle and self.stats.live):
            await self._flush()
        await self._checkpoints.settle()
        if not self.stats.live:
            return
        if self._folded[0] and self._checkpoints.due(now, stopping=self._stopping.is_set()):
            await self._start_checkpoint()
        if not self._checkpoints.saving:
            self._residents.sweep(now, self.stats.checkpoints)

    @property
    def _inside_input(self) -> bool:
        """Whether an earlier owner committed a part of the next input, which is not here yet.

        Until then nothing may be committed: a cursor with part 0 would let the next owner commit
        that part again. Nor may anything be saved, which needs a commit.
        """
        return self._recovered_part[0] > 0

    async def _watch(self, now: float) -> None:
        """Compare the reader's position with what the leader has, about once a second.

        The leader is asked beside the loop: one that died does not answer for seconds, in which
        what has arrived is folded and committed.
        """
        if self._watching is None:
            if now - self._watched_at >= _WATCH_EVERY_S:
                self._watched_at = now
                self._watching = asyncio.create_task(self._ask_leader())
            return
        if not self._watching.done():
            return
        task, self._watching = self._watching, None
        last = await task
        self._report_lag()
        if last is not None and await self._event_log.watch(last):
            self._log.warning("stream.gap_found", last=last)

    async def _ask_leader(self) -> int | None:
        """Return the log sequence of the partition's last message; None without an answer."""
        try:
            self.stats.last_known = await self._event_log.last_sequence()
        except TransientError as error:
            self._log.info("partition.watch_failed", reason=str(error))
            return None
        self.stats.answered_at = time.monotonic()
        return self.stats.last_known

    def _report_lag(self) -> None:
        """Lag in events is exact only where the log is one partition's; it is 0 when caught up."""
        behind = max(0, self.stats.last_known - self.stats.position)
        age_s = time.time() - self.stats.last_time_ns / 1e9 if behind else 0.0
        self.stats.accounts = len(self._books.accounts)
        self._metrics.consumer_lag(self.partition, events=behind, seconds=age_s)
        self._metrics.accounts_in_memory(self.partition, self.stats.accounts)

    async def _start_checkpoint(self) -> None:
        await self._flush()
        assert self._committing is not None
        self._checkpoints.start(self._committing, *self._folded)

    async def _drain(self) -> None:
        """Leave nothing folded and uncommitted, nothing committed and unsaved."""
        if not self.stats.live or self._inside_input:
            return
        if self._updates or self._folded[0] > self._submitted:
            await self._flush()
        await self._settle()
        await self._checkpoints.finish()
        if (self._books.dirty or self._checkpoints.unsaved) and self._folded[0]:
            await self._start_checkpoint()
            await self._checkpoints.finish()
            await self._settle()
        self._log.info("partition.released", log_sequence=self._folded[0])

    async def _abandon(self) -> None:
        self._residents.leave()
        own = (self._committing, self._watching, *self._checkpoints.tasks())
        tasks: list[asyncio.Task[Any]] = [task for task in own if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._event_log.close()
