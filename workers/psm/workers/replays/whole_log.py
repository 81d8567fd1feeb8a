"""The whole log folded again: every outcome and hash, and how fast."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import read_range
from psm.domain.books import Books
from psm.domain.publish import log_time
from psm.workers.log_store import TRADES, log_message
from psm.workers.past.places import LogShape
from psm.workers.replay import Progress, fold_message, last_log_sequence
from psm.workers.replays.bundle import Head, head_of
from psm.workers.times import is_later


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """Which messages of the log are shown; all before them are folded too, as state needs them.

    Attributes:
        first, last: log sequences, both included.
        since, until: log times, RFC 3339.
    """

    first: int = 1
    last: int | None = None
    since: str | None = None
    until: str | None = None


class LogStep(msgspec.Struct, frozen=True, kw_only=True):
    """One message and what it did; hashes of its account afterwards, None for a mark."""

    log_sequence: int
    log_time: str
    subject: str
    stream_id: str
    sequence_number: int | None
    outcome: str
    reason: str | None
    ledger_hash: str | None
    chain_hash: str | None


class LogReplay:
    """A replay of the whole log; iterate `steps`, then read the rest.

    Attributes:
        folded: messages so far.
        outcomes: how often each came about.
        seconds: spent so far.
    """

    def __init__(self, nc: Client, shape: LogShape) -> None:
        self.folded = 0
        self.outcomes: Counter[str] = Counter()
        self.seconds = 0.0
        self._nc = nc
        self._books: Books = shape.books()
        self._books.publishing = "nothing"  # outcomes and hashes are all that is shown

    async def steps(
        self, selection: Range, progress: Progress | None = None
    ) -> AsyncIterator[LogStep]:
        """Fold the log from its beginning; yield the messages in range."""
        end = await last_log_sequence(self._nc)
        end = end if selection.last is None else min(end, selection.last)
        started = time.monotonic()
        async for batch in read_range(self._nc, TRADES, [">"], 1, end):
            for stored in batch:
                at = log_time(stored.time_ns)
                if is_later(at, selection.until):
                    return
                result = await fold_message(self._nc, self._books, log_message(stored))
                self.folded += 1
                self.outcomes[result.outcome.value] += 1
                if stored.sequence < selection.first or is_later(selection.since, at):
                    continue
                trades = stored.subject.startswith("trades.")
                account = self._books.accounts.get(result.stream_id) if trades else None
                yield LogStep(
                    log_sequence=stored.sequence,
                    log_time=at,
                    subject=stored.subject,
                    stream_id=result.stream_id,
                    sequence_number=result.sequence_number,
                    outcome=result.outcome.value,
                    reason=result.reason,
                    ledger_hash=account.ledger_hash().hex() if account else None,
                    chain_hash=account.chain_hash.hex() if account else None,
                )
            self.seconds = time.monotonic() - started
            if progress is not None and batch:
                progress(batch[-1].sequence, end)

    def heads(self) -> dict[str, Head]:
        """Return what identifies each account's state now, ascending."""
        accounts = sorted(self._books.accounts.items())
        return {stream_id: head_of(self._books, account) for stream_id, account in accounts}

    def result_hash(self) -> str:
        """Return SHA-256 over the heads of all accounts."""
        return hashlib.sha256(msgspec.json.encode(self.heads())).hexdigest()
