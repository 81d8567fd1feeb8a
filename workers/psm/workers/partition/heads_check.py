"""The check before a partition goes on: is this still the log that was committed against?

Recovery compares the log with cursor, checkpoint and snapshots. All of these live on the broker
and are lost or rolled back together with it, so the heads in PostgreSQL are compared too. A
PostgreSQL that is away does not keep a worker from folding: the check is left out, and said so.
"""

from __future__ import annotations

import asyncio

from nats.aio.client import Client

from psm.adapters.jetstream import stream_info
from psm.adapters.logs import get_logger
from psm.adapters.metrics import Metrics
from psm.contracts.errors import ConfigError, LogDamagedError, TransientError
from psm.contracts.subjects import PSM
from psm.domain.books import Books
from psm.domain.delivery.delivery import Delivery
from psm.projections.witness.heads import ChainHead, LogHead
from psm.workers.log.reader import last_log_sequence
from psm.workers.ops.signoff import signed_off
from psm.workers.partition import damage
from psm.workers.partition.damage import WHAT_NEXT, Damage
from psm.workers.partition.heads_store import Heads, HeadStore
from psm.workers.partition.recovery import ChainEnd, CursorLostError, Recovered, Recovery

PATIENCE_S = 2.0
"""How long the start of a partition waits for PostgreSQL."""

_NAMED_MAX = 2000
_log = get_logger()


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
                end = _end_of(books, stream_id) or evicted.get(stream_id)
                version = end.version if end else 0
                if end is None or version < head.sequence_number:
                    raise self._refused(
                        f"{stream_id} has events up to {version} in the log, PostgreSQL knows "
                        f"event {head.sequence_number} at log sequence {head.log_sequence}"
                    )
                self._compare_chain(head, end)
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
            end = _end_of(books, stream_id) or evicted
            if end is not None and end.as_of >= head.log_sequence:
                self._compare_chain(head, end)
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

    def _compare_chain(self, head: ChainHead, end: Delivery | ChainEnd) -> None:
        # Ahead of its head is normal: the projector reads what this worker's predecessor committed.
        # An operator's event moves the chain and not the number, hence both.
        if end.version > head.sequence_number or end.last_log_sequence > head.log_sequence:
            return
        if end.version < head.sequence_number or end.chain_hash.hex() != head.chain_hash:
            raise self._refused(
                f"{head.stream_id}: the hash chain up to event {end.version} is not the one "
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
        last = await last_log_sequence(self._nc)
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


def _end_of(books: Books, stream_id: str) -> Delivery | None:
    account = books.accounts.get(stream_id)
    return account.delivery if account else None
