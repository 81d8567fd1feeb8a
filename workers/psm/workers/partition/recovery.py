"""How a partition starts: cursor, checkpoint and snapshots become books to go on from.

Everything that is read is checked against the log: cursor, checkpoint and snapshots carry the hash
of the message at their position. Absent or different means that the log lost or changed something.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec

from psm.adapters.logs import get_logger
from psm.contracts import subjects
from psm.contracts.envelope import event_hash
from psm.contracts.errors import ContractError, LogDamagedError
from psm.contracts.subjects import last_token
from psm.domain.account import Account
from psm.domain.books import Books, is_idle
from psm.domain.snapshot import Checkpoint, load_account, load_checkpoint
from psm.domain.snapshot_records import AccountRecord, lay_over
from psm.workers.log.cursor import Cursor
from psm.workers.partition.eviction import Census
from psm.workers.partition.ports import CommittedCursor, EventLog, Saved, SnapshotStore

_TURN = 100
"""After so many snapshots others may run: a worker must show that it lives while it recovers."""

_log = get_logger()


class ChainEnd(msgspec.Struct, frozen=True, gc=False):
    """Where the hash chain of an account that is not in memory stands."""

    as_of: int
    last_log_sequence: int
    version: int
    chain_hash: bytes


class Recovered(msgspec.Struct, kw_only=True):
    """Where a partition goes on.

    Attributes:
        books: as of `books.position`; messages up to the cursor are folded again, unpublished.
        cursor: how far updates are committed.
        cursor_sequence: what the next commit must expect.
        saved: last sequence by snapshot subject, which its next version must expect.
        evicted: idle accounts for which there was no room; their snapshots were checked.
        unreadable: streams of which no snapshot can be read: they are folded from their beginning.
    """

    books: Books
    cursor: Cursor
    cursor_sequence: int
    saved: dict[str, int]
    evicted: dict[str, ChainEnd]
    unreadable: list[str]


class CursorLostError(LogDamagedError):
    """The commit cursor is gone although there was one: the partition may publish twice."""


class Recovery:
    """Reads back one partition."""

    def __init__(self, log: EventLog, store: SnapshotStore, partition: int, census: Census) -> None:
        self._log = log
        self._census = census
        self._store = store
        self._partition = partition
        self._verified: dict[int, str] = {}

    async def run(self, books: Books, *, anew: bool = False) -> Recovered:
        """Fill empty `books` and return where to go on.

        Args:
            books: empty.
            anew: whether a lost cursor was signed off; then it begins at the beginning.

        Raises:
            CursorLostError: updates or snapshots exist, and no cursor.
            LogDamagedError: the log lost or changed what was committed; the text names the point.
            TransientError: the broker does not answer.
        """
        # Snapshots first, the cursor last: what was read before it cannot be ahead of it unless
        # the updates were lost.
        latest = await self._store.latest()
        committed = await self._cursor(anew=anew)
        await self._check_whole(committed)
        limit = committed.cursor.log_sequence
        if limit:
            await self._verify(limit, committed.cursor.event_hash, "the commit cursor")
        subject = subjects.checkpoint(self._partition)
        checkpoints = [saved for saved in latest if saved.subject == subject]
        recovered = Recovered(
            books=books,
            cursor=committed.cursor,
            cursor_sequence=committed.sequence,
            saved={saved.subject: saved.sequence for saved in latest},
            evicted={},
            unreadable=[],
        )
        latest = [saved for saved in latest if saved.subject != subject]
        latest.reverse()
        with _no_collections():
            floor, accounts = limit, await self._accounts(latest, recovered)
        for _, at in accounts:
            floor = floor if at is None else min(floor, at)
        if recovered.unreadable:
            floor = 0
        kept = {account.stream_id: account for account, _ in accounts}
        found = await self._checkpoint(checkpoints, floor, kept, recovered.evicted)
        if found is not None:
            checkpoint, records = found
            books.market.restore(checkpoint.tables)
            books.advance(checkpoint.log_sequence)
            for stream_id, record in records.items():
                lay_over(kept[stream_id], record)
                books.marked[stream_id] = None
        for account in kept.values():
            books.restore(account)
        return recovered

    async def _accounts(
        self, latest: list[Saved], recovered: Recovered
    ) -> list[tuple[Account, int | None]]:
        """Return (account, highest position a checkpoint may have for it) of those to keep.

        Args:
            latest: newest snapshots; taken away one by one, so that their bytes make room.
            recovered: gets what is not kept.
        """
        limit = recovered.cursor.log_sequence
        accounts: list[tuple[Account, int | None]] = []
        while latest:
            if len(latest) % _TURN == 0:
                await asyncio.sleep(0)
            saved = latest.pop()
            account, at = await self._account(saved, limit)
            stream_id = last_token(saved.subject)
            if account is None:
                recovered.unreadable.append(stream_id)
                continue
            if at is not None:
                # What was fallen back to has to be saved anew before it may be evicted.
                recovered.books.touch(account, account.delivery.as_of)
            elif self._census.excess >= 0 and is_idle(account):
                recovered.evicted[stream_id] = _chain_end(account)
                continue
            accounts.append((account, at))
            self._census.count(self._partition, len(accounts))
        return accounts

    async def _cursor(self, *, anew: bool) -> CommittedCursor:
        committed = await self._log.cursor()
        if committed is None and not anew and await self._log.ever_committed():
            # Another owner may have committed for the first time between the two questions.
            committed = await self._log.cursor()
            if committed is None:
                raise CursorLostError(
                    f"partition {self._partition}: the commit cursor is gone although updates or "
                    "snapshots exist; PSM lost acknowledged messages. Restore the stream PSM"
                )
        return committed or CommittedCursor(cursor=Cursor(log_sequence=0), sequence=0)

    async def _check_whole(self, committed: CommittedCursor) -> None:
        """Make sure that the last commit is there as a whole: who folds on would never know."""
        missing = await self._log.first_missing(committed)
        if missing is not None:
            raise LogDamagedError(
                f"partition {self._partition}: the commit at PSM sequence {committed.sequence} "
                f"announces {committed.cursor.updates} updates, and number "
                f"{missing - committed.sequence} of them, at PSM sequence {missing}, is not there: "
                "PSM lost part of a commit"
            )

    async def _account(self, saved: Saved, limit: int) -> tuple[Account | None, int | None]:
        """Return (account, highest position a checkpoint may have for it, None without a bound).

        A good newest snapshot puts no bound on the checkpoint; a bad one lowers it to the next
        older version, at last to the beginning.
        """
        version: Saved | None = saved
        while version is not None:
            try:
                account, snapshot = load_account(version.data)
            except ContractError as error:
                reason = error.detail
            else:
                if snapshot.log_sequence <= limit:
                    await self._verify(
                        snapshot.log_sequence, snapshot.message_hash, version.subject
                    )
                    return account, None if version is saved else snapshot.log_sequence
                reason = f"it is ahead of the commit cursor at {limit}"
            _log.error(
                "snapshot.refused",
                partition=self._partition,
                stream_id=last_token(version.subject),
                sequence=version.sequence,
                reason=reason,
            )
            version = await self._store.older(version.subject, version.sequence)
        return None, 0

    async def _checkpoint(
        self,
        latest: list[Saved],
        floor: int,
        kept: Mapping[str, Account],
        evicted: Mapping[str, ChainEnd],
    ) -> tuple[Checkpoint, dict[str, AccountRecord]] | None:
        """Return the newest good checkpoint at or below `floor` with the records that are due.

        None for the beginning.
        """
        version = latest[0] if latest else None
        while version is not None:
            try:
                checkpoint = load_checkpoint(version.data)
                records = _due_records(checkpoint, kept, evicted)
            except ContractError as error:
                _log.error(
                    "snapshot.refused",
                    partition=self._partition,
                    sequence=version.sequence,
                    reason=error.detail,
                )
            else:
                if checkpoint.log_sequence <= floor:
                    await self._verify(
                        checkpoint.log_sequence, checkpoint.message_hash, "the checkpoint"
                    )
                    return checkpoint, records
            version = await self._store.older(version.subject, version.sequence)
        return None

    async def _verify(self, log_sequence: int, expected: str | None, what: str) -> None:
        """Compare the message at a position with the hash that was kept of it."""
        if log_sequence == 0:
            return
        if log_sequence not in self._verified:
            message = await self._log.message_at(log_sequence)
            if message is None:
                raise LogDamagedError(
                    f"partition {self._partition}: log sequence {log_sequence}, to which {what} "
                    "refers, is missing: the log lost acknowledged events"
                )
            self._verified[log_sequence] = event_hash(message.data).hex()
        if self._verified[log_sequence] != expected:
            raise LogDamagedError(
                f"partition {self._partition}: the message at log sequence {log_sequence} is not "
                f"the one {what} was made from: the log was changed"
            )


def _due_records(
    checkpoint: Checkpoint, kept: Mapping[str, Account], evicted: Mapping[str, ChainEnd]
) -> dict[str, AccountRecord]:
    """Return the records to lay over the accounts kept; a later snapshot includes its record.

    Raises:
        ContractError: reason `bad_snapshot`: one belongs to another snapshot than there is.
    """
    due: dict[str, AccountRecord] = {}
    for stream_id, record in checkpoint.records.items():
        account = kept.get(stream_id)
        end = evicted.get(stream_id) if account is None else account.delivery
        if end is not None and end.as_of >= checkpoint.log_sequence:
            continue
        if account is None or record.last_log_sequence != account.delivery.last_log_sequence:
            raise ContractError("bad_snapshot", f"the record of {stream_id} is of another snapshot")
        due[stream_id] = record
    return due


def _chain_end(account: Account) -> ChainEnd:
    end = account.delivery
    return ChainEnd(end.as_of, end.last_log_sequence, end.version, end.chain_hash)


@contextmanager
def _no_collections() -> Iterator[None]:
    """Leave the garbage collector off: it would search the growing accounts again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
