"""Snapshots of what changed, and the checkpoint behind them: where a recovery starts.

Only states as of a commit boundary are written, and only once that commit is acknowledged. An
account that only the market changed since its snapshot has a record in each checkpoint instead.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from psm.adapters.logs import get_logger
from psm.adapters.metrics import Metrics
from psm.contracts import subjects
from psm.domain.books import Books
from psm.domain.snapshot import dump_account, dump_checkpoint
from psm.domain.snapshot_records import record_of
from psm.workers.partition.ports import SnapshotStore
from psm.workers.process.crash_points import crash_point

if TYPE_CHECKING:  # the loop owns its checkpoints
    from psm.workers.partition.settings import PartitionSettings, PartitionStats

_WRITES = 16  # at once
DRAIN_ACCOUNTS = 4 * _WRITES
"""So many are saved in a moment, while nobody folds."""

_LAST_SAVES = 3  # tries to get below that, once told to stop
_log = get_logger()


class Checkpoints:
    """Saves one partition's accounts.

    Attributes:
        saved: last sequence by snapshot subject, which its next version must expect.
        unsaved: messages folded since the last checkpoint.
    """

    def __init__(
        self,
        partition: int,
        store: SnapshotStore,
        books: Books,
        settings: PartitionSettings,
        metrics: Metrics,
        stats: PartitionStats,
    ) -> None:
        self.saved: dict[str, int] = {}
        self.unsaved = 0
        self._partition = partition
        self._store = store
        self._books = books
        self._settings = settings
        self._metrics = metrics
        self._stats = stats
        self._log = _log.bind(partition=partition)
        self._task: asyncio.Task[None] | None = None
        self._lost = False
        self._last_saves = 0
        self._at = self._saved_at = time.monotonic()

    @property
    def age_s(self) -> float:
        """Since the last checkpoint was stored, while an account waits for one; else 0."""
        waits = self.saving or self._books.dirty
        return time.monotonic() - self._saved_at if waits else 0.0

    @property
    def saving(self) -> bool:
        """Whether something frozen is not yet acknowledged."""
        return self._task is not None or self._lost

    def few_changed(self) -> bool:
        """Return whether a drain will be short, or was waited for long enough.

        Nobody folds between the drain and the next owner's start, so most of what changed is
        saved while the loop still runs.
        """
        if self._last_saves >= _LAST_SAVES:
            return True
        return self._task is None and not self._many_changed()

    def _many_changed(self) -> bool:
        """Return whether many are to be saved whole; records are written in one go."""
        dirty, marked = self._books.dirty, self._books.marked
        return len(dirty) > DRAIN_ACCOUNTS and len(dirty.keys() - marked.keys()) > DRAIN_ACCOUNTS

    def due(self, now: float, *, stopping: bool) -> bool:
        """Return whether it is time to save; `now` is monotonic."""
        if self._task is not None:
            return False
        if stopping:
            self._last_saves += 1
            return self._many_changed()
        since = now - self._at
        interval = self._settings.snapshot_interval_s
        if since >= interval:
            # Marks that concern no account are read again too: they move the start as well.
            return bool(self._books.dirty) or self.unsaved >= self._settings.quiet_messages
        most = max(self._books.applied.values(), default=0)
        return most >= self._settings.snapshot_events and since >= interval / 12

    def start(self, acknowledged: asyncio.Task[None], log_sequence: int, hashed: str) -> None:
        """Freeze all that is dirty at this commit boundary; write it once the commit is stored.

        Every dirty account is saved as of the same position, so that position is where recovery
        may start, and tables and records belong to it.

        Args:
            acknowledged: the commit of the boundary.
            log_sequence: of the boundary.
            hashed: hash of the message there, hex.
        """
        message_hash = bytes.fromhex(hashed)
        books = self._books
        whole, marked = books.to_save()
        frozen = []
        for stream_id in whole:
            dumped = dump_account(books.accounts[stream_id], log_sequence, message_hash)
            frozen.append((subjects.snapshot(self._partition, stream_id), dumped))
        records = {stream_id: record_of(books.accounts[stream_id]) for stream_id in marked}
        checkpoint = dump_checkpoint(books, log_sequence, message_hash, records)
        for stream_id in (*whole, *marked):
            books.accounts[stream_id].drop_caches()  # who is not idle makes them anew, once a time
        books.all_saved(whole)
        self.unsaved = 0
        self._at = time.monotonic()
        self._task = asyncio.create_task(
            self._save(acknowledged, frozen, checkpoint, log_sequence, len(records))
        )

    async def settle(self) -> None:
        """Take note of what was saved meanwhile; raise what saving raised."""
        if self._task is not None and self._task.done():
            await self.finish()

    async def finish(self) -> None:
        """Wait until everything frozen is saved."""
        if self._task is not None:
            await self._task
            self._task = None

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return what runs."""
        return [] if self._task is None else [self._task]

    async def _save(
        self,
        acknowledged: asyncio.Task[None],
        frozen: list[tuple[str, bytes]],
        checkpoint: bytes,
        log_sequence: int,
        records: int,
    ) -> None:
        await asyncio.wait([acknowledged])
        if acknowledged.cancelled() or acknowledged.exception() is not None:
            self._lost = True  # the loop learns of it by itself; nothing of this state may be kept
            return
        crash_point("worker.before_snapshot")
        started = time.monotonic()
        for start in range(0, len(frozen), _WRITES):
            group = frozen[start : start + _WRITES]
            await asyncio.gather(*(self._write(subject, data) for subject, data in group))
            crash_point("worker.after_snapshot")
        crash_point("worker.before_checkpoint")
        await self._write(subjects.checkpoint(self._partition), checkpoint)
        crash_point("worker.after_checkpoint")
        self._saved_at = time.monotonic()
        self._stats.checkpoints += 1
        self._metrics.snapshots_written(
            self._partition, accounts=len(frozen), records=records, checkpoints=1
        )
        self._log.info(
            "snapshot.written",
            accounts=len(frozen),
            records=records,
            log_sequence=log_sequence,
            seconds=round(time.monotonic() - started, 3),
        )

    async def _write(self, subject: str, data: bytes) -> None:
        self.saved[subject] = await self._store.write(subject, data, self.saved.get(subject, 0))
