"""What readers get of the books at the end of a golden log: documents, reports, rates, headers.

The fold itself asks for none of it, and a worker answers with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, get_args

import msgspec

from psm.contracts.live import LiveRead
from psm.domain.books import Books, is_idle
from psm.domain.market.rates import rate_path
from psm.domain.messages import Emit, LogMessage, NeedHistory
from psm.domain.publication.documents import document_at
from psm.domain.reconciliation import holdings_of, report_of
from psm.workers.log.need_history import fold_from_memory
from psm.workers.proof.validation.run import Spool

_EMITS: tuple[Emit, ...] = ("updates", "nothing", "hashes", "nothing")
_AS_OF = "2025-12-12T10:30:00Z"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one account answers, or what one message published."""

    what: str
    found: Any


def told(spool: str) -> Iterator[Answer]:
    """Fold a short log, not always publishing; yield what the books answer at the end."""
    books, log = Books(partitions=1), Spool(spool)

    def read(wanted: NeedHistory) -> dict[int, LogMessage]:
        kept = (m for m in log.history(wanted) if wanted.holds(m, 1) or m.stream_id is not None)
        return {message.log_sequence: message for message in kept}

    time = 0
    for number, (message,) in enumerate(log.batches(1)):
        time = message.time
        result = fold_from_memory(books, message, read, emit=_EMITS[number % len(_EMITS)])
        if result.updates:
            found = [(update.subject, update.headers) for update in result.updates]
            yield Answer(what="published", found=_digest(found))
    yield from answers(books, time)


def answers(books: Books, time: int) -> Iterator[Answer]:
    """Yield what the books answer about every account, as of a log time in ns."""
    at = books.position
    for stream_id, account in sorted(books.accounts.items()):
        reads: tuple[LiveRead, ...] = get_args(LiveRead)
        documents = [document_at(books, account, read, at, time) for read in reads]
        through = None if len(account.ledger.positions) % 2 else "last"
        report = report_of(holdings_of(account), source="books", as_of=_AS_OF, through=through)
        home, prices = account.ledger.currency, account.prices
        assets = account.ledger.cash if home else ()
        paths = {asset: rate_path(prices.rate_steps(asset)) for asset in assets if asset != home}
        found = (_digest([documents, report, paths]), is_idle(account), books.count_due(time, 0))
        yield Answer(what=stream_id, found=found)


def _digest(found: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(found)).hexdigest()
