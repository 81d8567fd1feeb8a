"""The check before a partition goes on: is this still the log that was committed against?

Recovery compares the log with cursor, checkpoint and snapshots. All of these live on the broker
and are lost or rolled back together with it, so the heads in PostgreSQL are compared too. A
PostgreSQL that is away does not keep a worker from folding: the check is left out, and said so.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec
import structlog
from nats.aio.client import Client

from psm.adapters import postgres
from psm.adapters.jetstream import stream_info
from psm.adapters.metrics import Metrics
from psm.contracts.errors import ConfigError, LogDamagedError, TransientError
from psm.domain.account import Account
from psm.domain.books import Books
from psm.projections import heads
from psm.projections.heads import ChainHead, LogHead
from psm.workers import damage
from psm.workers.damage import WHAT_NEXT, Damage
from psm.workers.log_store import PSM, TRADES
from psm.workers.recover.signoff import signed_off
from psm.workers.recovery import ChainEnd, CursorLostError, Recovered, Recovery

PATIENCE_S = 2.0
"""How long the start of a partition waits for PostgreSQL."""

_NAMED_MAX = 2000
_log = structlog.get_logger(__name__)


class Heads(msgspec.Struct, frozen=True, kw_only=True):
    """What PostgreSQL remembers of one partition.

    Attributes:
        newest: last message committed against; None before the first.
        chains: by stream.
    """

    newest: LogHead | None
    chains: dict[str, ChainHead]


class HeadStore(Protocol):
    """Where the heads are read from."""

    async def read(self, partition: int) -> Heads:
        """Return the partition's heads; raises `TransientError` or `ConfigError` if it cannot."""

    async def history(self, partition: int) -> list[LogHead]:
        """Return the partition's log heads, ascending."""


class NoHeads:
    """`HeadStore` where there is no PostgreSQL: the broker's own count is compared all the same."""

    async def read(self, partition: int) -> Heads:
        """Return nothing to compare with."""
        return Heads(newest=None, chains={})

    async def history(self, partition: int) -> list[LogHead]:
        """Return nothing."""
        return []


class PostgresHeads:
    """`HeadStore` of one process; connects when it is first asked."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pool: postgres.Pool | None = None
        self._opening = asyncio.Lock()

    async def read(self, partition: int) -> Heads:
        """Return the partition's heads."""
        async with postgres.acquired(await self._opened()) as connection:
            newest = await heads.newest_log_head(connection, partition)
            chains = await heads.chain_heads(connection, partition)
        return Heads(newest=newest, chains={head.stream_id: head for head in chains})

    async def history(self, partition: int) -> list[LogHead]:
        """Return the partition's log heads, ascending."""
        async with postgres.acquired(await self._opened()) as connection:
            return await heads.log_heads(connection, partition)

    def close(self) -> None:
        """Drop the connections."""
        if self._pool is not None:
            self._pool.terminate()

    async def _opened(self) -> postgres.Pool:
        async with self._opening:
            if self._pool is None:
                self._pool = await postgres.open_pool(self._dsn, name="psm-heads", size_max=2)
            return self._pool


class Guard:
    """Watches one recovery of one partition. Not reusable."""

    def __init__(
        self, nc: Client, partition: int, metrics: Metrics, store: HeadStore | None
    ) -> None:
        """`store` None: nothing is compared, damage that recovery finds is named all the same."""
        self._nc = nc
        self._partition = partition
        self._metrics = metrics
        self._store = store
        self._pending: dict[str, ChainHead] = {}
        self._evicted: dict[str, ChainEnd] = {}

    async def recover(self, recovery: Recovery, books: Books) -> Recovered:
        """Run the recovery; raise `LogDamagedError` with the first damaged event named."""
        # Before the cursor is read: what another owner commits meanwhile must not look like a loss.
        known = await self._read()
        try:
            hole = await damage.first_hole(self._nc) if self._store is not None else None
            if hole is not None:
                raise self._refused(f"the log lost messages, the first is log sequence {hole}")
            recovered = await self._run(recovery, books, known)
            if known is not None:
                await self._compare(known, recovered)
        except LogDamagedError as error:
            self._metrics.heads_checked(self._partition, "damaged")
            raise await self._named(error) from error
        return recovered

    def check_live(self, books: Books) -> None:
        """Compare the streams that stood behind their heads before the tail was folded.

        Raises:
            LogDamagedError: the log gives a stream another history than it had.
        """
        pending, self._pending = self._pending, {}
        evicted, self._evicted = self._evicted, {}
        try:
            for stream_id, head in pending.items():
                account = books.accounts.get(stream_id) or evicted.get(stream_id)
                version = account.version if account else 0
                if account is None or version < head.sequence_number:
                    raise self._refused(
                        f"{stream_id} has events up to {version} in the log, PostgreSQL knows "
                        f"event {head.sequence_number} at log sequence {head.log_sequence}"
                    )
                self._compare_chain(head, account)
        except LogDamagedError as error:
            self._metrics.heads_checked(self._partition, "damaged")
            raise LogDamagedError(f"{error}; {WHAT_NEXT}") from error

    async def _run(self, recovery: Recovery, books: Books, known: Heads | None) -> Recovered:
        try:
            return await recovery.run(books)
        except CursorLostError:
            if not await self._signed_off(known):
                raise
        return await recovery.run(books, anew=True)

    async def _signed_off(self, known: Heads | None) -> bool:
        """Whether somebody signed off that this partition publishes again what PSM lost."""
        run_id = await signed_off(self._nc, self._partition, known.newest if known else None)
        if run_id is not None:
            _log.warning("partition.refilling", partition=self._partition, signed_off_by=run_id)
        return run_id is not None

    async def _read(self) -> Heads | None:
        if self._store is None:
            return None
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._store.read(self._partition)
        except TimeoutError:
            reason = f"PostgreSQL did not answer within {PATIENCE_S:g} s"
        except (TransientError, ConfigError) as error:
            reason = str(error)
        self._metrics.heads_checked(self._partition, "unavailable")
        _log.warning("heads.not_compared", partition=self._partition, reason=reason)
        return None

    async def _compare(self, known: Heads, recovered: Recovered) -> None:
        lost = None
        if known.newest is not None:
            lost = await self._compare_log(known.newest, recovered)
        if lost is not None and not await self._signed_off(known):
            raise lost
        books = recovered.books
        for stream_id, head in known.chains.items():
            evicted = recovered.evicted.get(stream_id)
            account = books.accounts.get(stream_id) or evicted
            if account is not None and account.as_of >= head.log_sequence:
                self._compare_chain(head, account)
            elif lost is None:  # its last events are in the tail that is folded next, or nowhere
                self._pending[stream_id] = head
                if evicted is not None:
                    self._evicted[stream_id] = evicted
        # Where a loss was signed off, the others were compared then, by a fold of the whole log.
        compared = "agreed" if known.newest is not None else "none"
        self._metrics.heads_checked(self._partition, compared)

    async def _compare_log(self, newest: LogHead, recovered: Recovered) -> LogDamagedError | None:
        """Compare with the newest head; return what is wrong if only PSM lost something.

        Raises:
            LogDamagedError: the log itself is not as it was.
        """
        found = await damage.log_hash(self._nc, newest.log_sequence)
        if found != newest.event_hash:
            what = "is missing" if found is None else "has other bytes"
            raise self._refused(
                f"log sequence {newest.log_sequence}, up to which PostgreSQL was written, {what}"
            )
        if recovered.cursor.log_sequence < newest.log_sequence:
            info = await stream_info(self._nc, PSM)
            return self._refused(
                f"updates up to log sequence {newest.log_sequence} were committed and read by the "
                f"projector at PSM sequence {newest.stream_sequence}, the commit cursor stands at "
                f"log sequence {recovered.cursor.log_sequence}: PSM lost acknowledged updates, "
                f"the first behind its sequence {info.last_sequence}"
            )
        return None

    def _compare_chain(self, head: ChainHead, account: Account | ChainEnd) -> None:
        # Ahead of its head is normal: the projector reads what this worker's predecessor committed.
        # An operator's event moves the chain and not the number, hence both.
        if account.version > head.sequence_number or account.last_log_sequence > head.log_sequence:
            return
        if account.version < head.sequence_number or account.chain_hash.hex() != head.chain_hash:
            raise self._refused(
                f"{head.stream_id}: the hash chain up to event {account.version} is not the one "
                f"that PostgreSQL remembers from log sequence {head.log_sequence}: an event was "
                "altered"
            )

    async def _named(self, error: LogDamagedError) -> LogDamagedError:
        """Return the error with the first missing or altered event; the search may fail."""
        try:
            found = await self._first()
        except TransientError:
            found = None
        where = f". The first damaged event: {found}" if found else ""
        return LogDamagedError(f"{error}{where}; {WHAT_NEXT}")

    async def _first(self) -> Damage | None:
        return await damage.by_updates(self._nc, self._partition) or await self._first_by_heads()

    async def _first_by_heads(self) -> Damage | None:
        """Return the first event that PostgreSQL remembers and the log has no more."""
        if self._store is None:
            return None
        try:
            known = await self._store.read(self._partition)
            history = await self._store.history(self._partition)
        except (TransientError, ConfigError):
            return None
        between = await damage.by_log_heads(self._nc, history)
        after = between[0] if between else 0
        behind = [head for head in known.chains.values() if head.log_sequence > after]
        behind.sort(key=lambda head: head.log_sequence)
        last = (await stream_info(self._nc, TRADES)).last_sequence
        found = await damage.by_chain_heads(self._nc, behind[:_NAMED_MAX])
        if between is None or (found is not None and found.log_sequence <= last):
            return found
        if between[1].log_sequence > last:
            # The log ends too early: whatever event stood there, its place is known.
            own = found if found is not None and found.log_sequence == last + 1 else None
            return own or Damage(log_sequence=last + 1)
        head = between[1]
        now = await damage.log_hash(self._nc, head.log_sequence)
        return found or Damage(log_sequence=head.log_sequence, expected=head.event_hash, found=now)

    def _refused(self, text: str) -> LogDamagedError:
        return LogDamagedError(f"partition {self._partition}: {text}")
