"""A partition's loop: recover, fold, commit, snapshot, check. The exactly-once heart.

Cursor and updates are one atomic batch, and the cursor expects its predecessor: a crash leaves
both or neither, and a worker that lost the partition without noticing is refused, not believed.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

from psm.adapters.allocator import give_back
from psm.adapters.logs import get_logger
from psm.adapters.metrics import Metrics
from psm.adapters.tasks import end_all
from psm.contracts.envelope import event_hash
from psm.contracts.errors import LogDamagedError, TransientError
from psm.contracts.heads import SubjectHead
from psm.contracts.live import LiveQuestion
from psm.contracts.subjects import log_subject
from psm.domain.books import Books
from psm.domain.messages import Emit, Folded, LogMessage, NeedHistory, UnknownRulesError
from psm.workers.log.need_history import fold_with_history
from psm.workers.partition import commit_queue as commits
from psm.workers.partition.commit_queue import Commits
from psm.workers.partition.eviction import Census, Residents
from psm.workers.partition.heads_check import Guard
from psm.workers.partition.hidden import HiddenMessageError, HiddenMessages
from psm.workers.partition.live import stream_head, table_head
from psm.workers.partition.live_budget import LiveBudget
from psm.workers.partition.live_reads import LiveBooks
from psm.workers.partition.outcomes import comparisons_in, refusals_in
from psm.workers.partition.ports import CommittedCursor, EventLog, SnapshotStore
from psm.workers.partition.recovery import Recovery
from psm.workers.partition.settings import PartitionSettings, PartitionStats
from psm.workers.partition.snapshots import Checkpoints
from psm.workers.process.crash_points import crash_point

_FETCH_WAIT_S = 0.5
_WATCH_EVERY_S = 1.0
_STOP_WAIT_S = 0.02
_TURN_S = 0.05
"""So long one partition may fold at a stretch; one message of a large account takes as long."""

_log = get_logger()


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
        budget: LiveBudget | None = None,
    ) -> None:
        self.partition = partition
        self.stats = PartitionStats()
        self._metrics = metrics
        self._guard = guard
        self._outcomes: Counter[str] = Counter()
        self._refusals: Counter[tuple[str, str]] = Counter()
        self._comparisons: Counter[str] = Counter()
        self._event_log = log
        self._store = store
        self._census = census or Census(settings.accounts_in_memory)
        self._settings = settings
        self._stopping = asyncio.Event()
        self._log = _log.bind(partition=partition)
        self._books = Books(
            partitions=settings.partitions,
            partition=partition,
            slots=settings.slots,
        )
        self._replay_hash = ""
        self._replay_to = 0
        self._cut = False
        self._fetching: asyncio.Future[list[LogMessage]] | None = None
        self._watching: asyncio.Task[int | None] | None = None
        self._checkpoints = Checkpoints(
            partition, store, self._books, settings, metrics, self.stats
        )
        self._residents = Residents(
            partition, store, self._books, self._census, metrics, self._checkpoints.saved
        )
        self._hidden = HiddenMessages(log, self._books)
        self._live = LiveBooks(
            log, self._books, self._residents, self.stats, budget or LiveBudget(metrics)
        )
        self._commits = Commits(partition, log, settings, metrics, self.stats)
        self._watched_at = time.monotonic()

    async def head(self, subject: str) -> SubjectHead | None:
        """Return what a producer numbers by, a public subject's head; None before it is known.

        Raises:
            PSMError: an evicted account's snapshot cannot be read.
        """
        if not self.stats.live:
            return None
        kind, token = log_subject(subject)
        if kind != "trades":
            return table_head(self._books, subject)
        account, position = self._books.accounts.get(token), self._books.position
        if account is None:
            # As of `position` it is what its snapshot holds, whatever is folded meanwhile.
            account = await self._residents.peek(token)
        return stream_head(account.delivery if account else None, subject, position)

    async def live(self, question: LiveQuestion) -> bytes:
        """Return a document from the books, as JSON.

        Raises:
            LiveRefusedError: it cannot be answered here, or not now.
            PSMError: the log, or an evicted account's snapshot, cannot be read.
        """
        return await self._live.answer(question)

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
                await self._take_all(messages)
                await self._after_batch()
            self._live.end()
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
        if self._cut or not self.stats.live or self._commits.inside_input:
            return True
        return self._checkpoints.few_changed()

    async def _fetch(self) -> list[LogMessage]:
        """Return the next messages.

        None when there are none for a while, when a commit is acknowledged behind which updates
        wait, and, at once, when told to stop and the drain is short.
        """
        if self._fetching is None:
            wait_s = _STOP_WAIT_S if self._stopping.is_set() else _FETCH_WAIT_S
            most = self._settings.batch_messages - self._commits.queued
            self._fetching = asyncio.ensure_future(self._event_log.fetch(most, wait_s, 0.0))
        waiting: list[asyncio.Future[Any]] = [self._fetching]
        if self._commits.in_flight is not None and self._commits.queued:
            waiting.append(self._commits.in_flight)
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not self._fetching.done():
            return []  # it goes on; what it brings is taken next time
        fetching, self._fetching = self._fetching, None
        return [] if self._cut and fetching.cancelled() else fetching.result()

    async def _recover(self) -> None:
        started = time.monotonic()
        recovery = Recovery(self._event_log, self._store, self.partition, self._census)
        if self._guard is None:
            recovered = await recovery.run(self._books)
        else:
            recovered = await self._guard.recover(recovery, self._books)
        cursor = recovered.cursor
        self._commits.resume(CommittedCursor(cursor=cursor, sequence=recovered.cursor_sequence))
        if len(recovered.saved) >= commits.MANY:
            give_back()
        self._checkpoints.saved.update(recovered.saved)
        self._residents.have_no_snapshot(recovered.unreadable)
        self._replay_to = cursor.log_sequence
        self._replay_hash = cursor.event_hash or ""
        self._hidden.start_behind(self._books.position)
        self._live.start_behind(self._books.position)
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

    async def _take_all(self, messages: list[LogMessage]) -> None:
        turn_ends = time.monotonic() + _TURN_S
        for message in messages:
            if self._is_large(message):
                async with self._census.one_large:
                    await self._take(message)
            else:
                await self._take(message)
            if time.monotonic() >= turn_ends:
                # The neighbours, and the connection, whose broker wants to hear from it.
                await asyncio.sleep(0)
                turn_ends = time.monotonic() + _TURN_S

    async def _take(self, message: LogMessage) -> None:
        """Fold one message and queue its updates."""
        replaying = message.log_sequence <= self._replay_to
        before = self._hidden.seen_before(message)
        result = await self._fold(message, "nothing" if replaying else "updates")
        await self._hidden.check(message, before, result)
        self._live.advance(message)
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
        self._refusals.update(refusals_in(result.updates))
        self._comparisons.update(comparisons_in(result.updates))
        await self._commits.queue(message, result.updates, self._books.market.closed_through)
        self.stats.position = message.log_sequence
        self.stats.last_time_ns = message.time

    def _is_large(self, message: LogMessage) -> bool:
        """Return whether it may move so many accounts that their updates take much memory."""
        if message.kind != "marks" or message.log_sequence <= self._replay_to:
            return False
        books = self._books
        holders = len(books.holders.get(message.token, {}))
        most = commits.UPDATES_PER_COMMIT
        return holders > most or holders + books.count_due(message.time, most - holders) > most

    async def _fold(self, message: LogMessage, emit: Emit) -> Folded:
        return await fold_with_history(self._books, message, self._read_history, emit)

    async def _read_history(self, wanted: NeedHistory) -> dict[int, LogMessage]:
        first, last = wanted.from_log_sequence, wanted.to_log_sequence
        found = await self._event_log.history(wanted.stream_id, first, last)
        if wanted.symbols:
            market = wanted.market_subjects()
            found.update(await self._event_log.market_history(market, first, last))
        return found

    def _check_replayed(self, message: LogMessage) -> None:
        self.stats.position = message.log_sequence
        if message.log_sequence == self._replay_to:
            if event_hash(message.data).hex() != self._replay_hash:
                raise LogDamagedError(
                    f"partition {self.partition}: the message at log sequence "
                    f"{message.log_sequence} has other bytes than when it was committed"
                )
            self._check_live()

    # --- what is due between batches ----------------------------------------------------------

    async def _after_batch(self) -> None:
        crash_point("worker.after_fold")
        committing = self._commits.in_flight
        if committing is not None and committing.done():
            # Fencing must be noticed even when nothing more is to commit.
            await self._commits.settle()
        now = time.monotonic()
        await self._watch(now)
        if self._outcomes:
            self._metrics.folded(self.partition, self._outcomes)
            self._metrics.refused(self._refusals)
            self._metrics.compared(self._comparisons)
            for counted in (self._outcomes, self._refusals, self._comparisons):
                counted.clear()
        if self._commits.inside_input:
            return
        if self._commits.is_due(now, live=self.stats.live) and not self._commits.may_grow():
            await self._commits.flush()
        await self._checkpoints.settle()
        if not self.stats.live:
            return
        if self._commits.anything_folded and self._checkpoints.due(
            now, stopping=self._stopping.is_set()
        ):
            await self._start_checkpoint()
        if not self._checkpoints.saving:
            self._residents.sweep(now, self.stats.checkpoints)

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
            await self._hidden.compare_unnumbered()
        except HiddenMessageError:
            raise
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
        self._metrics.checkpoint_age(self.partition, self._checkpoints.age_s)

    async def _start_checkpoint(self) -> None:
        committing = await self._commits.flush()
        boundary = self._commits.folded
        assert boundary.event_hash is not None
        self._checkpoints.start(committing, boundary.log_sequence, boundary.event_hash)

    async def _drain(self) -> None:
        """Leave nothing folded and uncommitted, nothing committed and unsaved."""
        if not self.stats.live or self._commits.inside_input:
            return
        await self._commits.drain()
        await self._checkpoints.finish()
        changed = self._books.dirty or self._checkpoints.unsaved
        if changed and self._commits.anything_folded:
            await self._start_checkpoint()
            await self._checkpoints.finish()
            await self._commits.settle()
        self._log.info("partition.released", log_sequence=self._commits.folded.log_sequence)

    async def _abandon(self) -> None:
        self._live.end()
        self._residents.leave()
        own = (self._fetching, self._commits.in_flight, self._watching, *self._checkpoints.tasks())
        await end_all(task for task in own if task is not None)
        await self._event_log.close()
        self._metrics.released(self.partition)
