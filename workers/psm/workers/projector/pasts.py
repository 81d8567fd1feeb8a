"""Reads what the log says of an account without a correction, and with it.

Asked where updates do not say enough: something that depends on what is held, such as a split, came
between a fill and its correction. The account's events are read, the definitions and the marks that
ever valued it: the time that takes depends on the account alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import ParamSpec, TypeVar

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream.streams import PARTITIONS_KEY
from psm.adapters.logs import get_logger
from psm.adapters.tasks import to_its_end
from psm.analytics.corrected import PastsFold
from psm.analytics.revision import Pasts
from psm.contracts import subjects
from psm.contracts.errors import LogDamagedError
from psm.domain.books import Books
from psm.domain.folding.rebooking import named_assets, valuing_symbols
from psm.domain.messages import LogMessage
from psm.workers.log.reader import log_info, read_log
from psm.workers.log.refold import refold_stream

P = ParamSpec("P")
T = TypeVar("T")

_log = get_logger()


class _Known(msgspec.Struct):
    """An account as far as its stream was folded.

    Attributes:
        symbols: whose marks were folded.
        messages: of the stream.
    """

    books: Books
    symbols: tuple[str, ...]
    messages: list[LogMessage]


class LogPasts:
    """Reader of the pasts of accounts.

    The account that was read last is kept: its next correction goes on from there. What failed is
    read anew.
    """

    def __init__(self, nc: Client) -> None:
        self._nc = nc
        self._kept: dict[str, _Known] = {}

    async def read(self, stream_id: str, log_sequence: int, number: int) -> Pasts:
        """Fold both pasts from the log, as `PastReader` says."""
        known = await self._folded(stream_id, log_sequence)
        account = known.books.accounts.get(stream_id)
        if account is None or account.delivery.version < number:
            raise LogDamagedError(
                f"{stream_id}: its correction {number} was committed at log sequence "
                f"{log_sequence}, and the log does not have the events up to there; what the "
                "correction did to trades follows from these: restore the log"
            )
        fold = await _apart(PastsFold, known.books, stream_id, known.messages, number)
        market = subjects.stream_filters(stream_id, known.books.partitions, known.symbols)
        count = 0
        async with aclosing(read_log(self._nc, market, 1, log_sequence)) as batches:
            async for batch in batches:
                count += len(batch)
                await _apart(fold.take, [one for one in batch if one.stream_id is None])
        pasts = await _apart(fold.pasts)
        self._kept = {stream_id: known}
        _log.info(
            "projection.past_read",
            stream_id=stream_id,
            log_sequence=log_sequence,
            sequence_number=number,
            messages=count,
        )
        return pasts

    async def _folded(self, stream_id: str, log_sequence: int) -> _Known:
        """Return the account as of a place in the log, with all marks that valued it."""
        known, self._kept = self._kept.get(stream_id), {}
        if known is None or known.books.position > log_sequence:
            known = await self._fresh(())
        while True:
            folds = refold_stream(
                self._nc,
                known.books,
                stream_id,
                log_sequence,
                marks=known.symbols,
                emit="nothing",
            )
            async with aclosing(folds):
                async for replayed in folds:
                    if replayed.message.stream_id is not None:
                        known.messages.append(replayed.message)
            symbols = _symbols(known, stream_id)
            if symbols == known.symbols:
                break
            known = await self._fresh(symbols)
        return known

    async def _fresh(self, symbols: tuple[str, ...]) -> _Known:
        info = await log_info(self._nc)
        partitions = int(info.config["metadata"][PARTITIONS_KEY])
        return _Known(Books(partitions=partitions), symbols, [])


def _symbols(known: _Known, stream_id: str) -> tuple[str, ...]:
    """Return the symbols whose marks are known to value the account, ascending."""
    account = known.books.accounts.get(stream_id)
    if account is None:
        return known.symbols
    found = valuing_symbols(account, named_assets(known.messages))
    return tuple(sorted(dict.fromkeys((*known.symbols, *found))))


async def _apart(work: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
    """Do what takes long in a thread: others on this event loop go on meanwhile."""
    return await to_its_end(asyncio.ensure_future(asyncio.to_thread(work, *given, **named)))
