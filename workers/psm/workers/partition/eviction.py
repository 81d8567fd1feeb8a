"""Which accounts a partition has in memory: idle ones go, and come back before they are needed.

An account that has a snapshot and is not in the books was evicted; only one that has none is new.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from psm.adapters.logs import get_logger
from psm.adapters.metrics import Metrics
from psm.contracts import subjects
from psm.contracts.errors import ContractError, FencedError, LogDamagedError, TransientError
from psm.domain.account import Account
from psm.domain.books import Books, is_idle
from psm.domain.messages import LogMessage
from psm.domain.snapshot import load_account
from psm.workers.partition.ports import SnapshotStore

ACCOUNTS_IN_MEMORY = 200_000
"""How many a worker keeps, unless told."""

_READS = 16  # at once
_LOOKS = 2_000  # at accounts between two batches: under a millisecond
_ROUND_EVERY_S = 10.0
_log = get_logger()


class BadSnapshotError(TransientError):
    """An evicted account's snapshot cannot be read: recover, which falls back to an older one."""


class Census:
    """What the partitions of one worker have in memory together.

    Attributes:
        one_large: whoever folds a mark with very many holders keeps others from doing so until
            its updates are sent: a mark comes to all partitions at the same moment.
    """

    def __init__(self, limit: int = ACCOUNTS_IN_MEMORY) -> None:
        self.one_large = asyncio.Lock()
        self._limit = limit
        self._counts: dict[int, int] = {}
        self._total = 0

    @property
    def excess(self) -> int:
        """How many are too many; below zero there is room."""
        return self._total - self._limit

    def count(self, partition: int, accounts: int) -> None:
        """Note how many a partition has."""
        self._total += accounts - self._counts.pop(partition, 0)
        if accounts:
            self._counts[partition] = accounts


class Residents:
    """Evicts accounts of one partition and brings them back."""

    def __init__(
        self,
        partition: int,
        store: SnapshotStore,
        books: Books,
        census: Census,
        metrics: Metrics,
        saved: dict[str, int],
    ) -> None:
        """`saved` is kept by whoever writes snapshots: last sequence by subject."""
        self._partition = partition
        self._store = store
        self._books = books
        self._census = census
        self._metrics = metrics
        self._saved = saved
        self._unreadable: dict[str, None] = {}
        self._round: deque[str] = deque()
        self._round_at = float("-inf")
        self._round_saved = -1

    def have_no_snapshot(self, stream_ids: Iterable[str]) -> None:
        """Treat these as new, although something was saved: no version of it can be read."""
        self._unreadable.update(dict.fromkeys(stream_ids))

    async def bring_back(self, messages: Iterable[LogMessage]) -> None:
        """Put evicted accounts that these messages concern into the books again.

        Raises:
            BadSnapshotError: a snapshot cannot be read.
            FencedError: another worker wrote one.
            LogDamagedError: one is gone.
        """
        absent: dict[str, None] = {}
        for message in messages:
            stream_id = message.stream_id
            if stream_id is None or stream_id in self._books.accounts:
                continue
            if self._was_evicted(stream_id):
                absent[stream_id] = None
        if not absent:
            return
        names = list(absent)
        for start in range(0, len(names), _READS):
            group = names[start : start + _READS]
            for account in await asyncio.gather(*(self._read(name) for name in group)):
                self._books.restore(account)
        self._metrics.accounts_returned(self._partition, len(names))

    async def peek(self, stream_id: str) -> Account | None:
        """Return an account that is not in the books, leaving it where it is; None for a new one.

        Raises:
            BadSnapshotError: its snapshot cannot be read.
            FencedError: another worker wrote one.
            LogDamagedError: it is gone.
        """
        return await self._read(stream_id) if self._was_evicted(stream_id) else None

    def sweep(self, now: float, checkpoints: int) -> None:
        """Evict idle accounts while there are too many in memory, oldest comers first.

        To be called between batches, while no snapshot is being written: what is not dirty then
        is as it was saved. A checkpoint begins a new round through all accounts.

        Args:
            now: monotonic.
            checkpoints: how many were written.
        """
        accounts, dirty = self._books.accounts, self._books.dirty
        self._count()
        excess = self._census.excess
        if excess <= 0:
            self._round.clear()
            return
        if not self._round:
            if checkpoints == self._round_saved and now - self._round_at < _ROUND_EVERY_S:
                return
            self._round_at, self._round_saved = now, checkpoints
            self._round.extend(accounts)
        evicted = 0
        for _ in range(min(_LOOKS, len(self._round))):
            if evicted == excess:
                break
            stream_id = self._round.popleft()
            account = accounts.get(stream_id)
            if account is not None and stream_id not in dirty and is_idle(account):
                self._books.evict(stream_id)
                self._unreadable.pop(stream_id, None)
                evicted += 1
        if evicted:
            self._count()
            self._metrics.accounts_evicted(self._partition, evicted)
            _log.info(
                "accounts.evicted",
                partition=self._partition,
                evicted=evicted,
                accounts=len(accounts),
            )

    def leave(self) -> None:
        """Give the room back: the partition ends."""
        self._census.count(self._partition, 0)

    def _count(self) -> None:
        self._census.count(self._partition, len(self._books.accounts))

    def _was_evicted(self, stream_id: str) -> bool:
        subject = subjects.snapshot(self._partition, stream_id)
        return subject in self._saved and stream_id not in self._unreadable

    async def _read(self, stream_id: str) -> Account:
        subject = subjects.snapshot(self._partition, stream_id)
        saved, expected = await self._store.newest(subject), self._saved[subject]
        if saved is None or saved.sequence < expected:
            raise LogDamagedError(
                f"partition {self._partition}: the snapshot of {stream_id} at SNAPSHOTS sequence "
                f"{expected} is gone: SNAPSHOTS lost acknowledged messages"
            )
        if saved.sequence > expected:
            raise FencedError(f"another worker wrote {subject}")
        try:
            account, _ = load_account(saved.data)
        except ContractError as error:
            raise BadSnapshotError(
                f"the snapshot of {stream_id} at SNAPSHOTS sequence {expected}: {error.detail}"
            ) from error
        return account
