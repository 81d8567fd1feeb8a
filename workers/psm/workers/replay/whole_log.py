"""The whole log folded again: every outcome and hash, and how fast."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator

import msgspec
from nats.aio.client import Client

from psm.domain.books import Books
from psm.domain.publication.log_times import log_time
from psm.workers.log.reader import last_log_sequence, log_message, read_stored
from psm.workers.log.refold import Progress, fold_message
from psm.workers.log.shape import LogShape
from psm.workers.process.times import is_later
from psm.workers.replay.bundle import Head, head_of


class ShownRange(msgspec.Struct, frozen=True, kw_only=True):
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

    async def steps(
        self, selection: ShownRange, progress: Progress | None = None
    ) -> AsyncIterator[LogStep]:
        """Fold the log from its beginning; yield the messages in range."""
        end = await last_log_sequence(self._nc)
        end = end if selection.last is None else min(end, selection.last)
        started = time.monotonic()
        async for batch in read_stored(self._nc, [">"], 1, end):
            for stored in batch:
                at = log_time(stored.time_ns)
                if is_later(at, selection.until):
                    return
                # Outcomes and hashes are all that is shown.
                message = log_message(stored)
                result = await fold_message(self._nc, self._books, message, "nothing")
                self.folded += 1
                self.outcomes[result.outcome.value] += 1
                if stored.sequence < selection.first or is_later(selection.since, at):
                    continue
                account = self._books.accounts.get(message.stream_id or "")
                yield LogStep(
                    log_sequence=stored.sequence,
                    log_time=at,
                    subject=stored.subject,
                    stream_id=result.stream_id,
                    sequence_number=result.sequence_number,
                    outcome=result.outcome.value,
                    reason=result.reason,
                    ledger_hash=account.ledger_hash().hex() if account else None,
                    chain_hash=account.delivery.chain_hash.hex() if account else None,
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
