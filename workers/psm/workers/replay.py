"""Folds the log again, without writing anything: replay of one account, rebuild of views.

The same fold as live, on the same messages, so the same updates and hashes. What needs history
gets it from the messages read so far of that stream, or from the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import read_range, stream_info
from psm.contracts import subjects
from psm.domain.books import Books
from psm.domain.messages import LogMessage
from psm.domain.outcomes import Folded, NeedHistory
from psm.workers.history import fold_with_history
from psm.workers.log_store import TRADES, log_message

_BREATH = 100

Progress = Callable[[int, int], None]
"""Told (log sequence reached, last log sequence) once per batch."""

Stop = Callable[[LogMessage], bool]
"""Says of a message that it and what follows is not wanted."""


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """One message and what the fold made of it."""

    message: LogMessage
    result: Folded


async def refold_partition(
    nc: Client,
    books: Books,
    partition: int,
    last: int,
    *,
    progress: Progress | None = None,
) -> AsyncIterator[list[Replayed]]:
    """Yield every message of a partition up to log sequence `last`, folded into empty `books`."""
    filters = subjects.partition_filters(partition)
    read = partial(read_history, nc, books.partitions)
    async for batch in read_range(nc, TRADES, filters, books.position + 1, last):
        folded = [
            Replayed(message=message, result=await fold_with_history(books, message, read))
            for message in map(log_message, batch)
        ]
        if progress is not None and batch:
            progress(batch[-1].sequence, last)
        yield folded


async def refold_stream(
    nc: Client,
    books: Books,
    stream_id: str,
    last: int,
    *,
    marks: Sequence[str] | None = None,
    stop: Stop | None = None,
    progress: Progress | None = None,
) -> AsyncIterator[Replayed]:
    """Yield what decides one account's state up to log sequence `last`, folded into `books`.

    Only that account's events, the marks, instruments and rules are read. While a message is in
    the caller's hands, the books are as it left them.

    Args:
        nc: connection.
        books: empty, or as an earlier call left them: it goes on behind their position.
        stream_id: whose events.
        last: log sequence of the last message that counts.
        marks: symbols whose marks are read; None for all.
        stop: ends before the first message it returns true for.
        progress: told how far the log is read.
    """
    filters = subjects.stream_filters(stream_id, books.partitions, marks)
    folded = 0
    read = partial(read_history, nc, books.partitions)
    async for batch in read_range(nc, TRADES, filters, books.position + 1, last):
        for stored in batch:
            message = log_message(stored)
            if stop is not None and stop(message):
                return
            result = await fold_with_history(books, message, read)
            yield Replayed(message=message, result=result)
            folded += 1
            if folded % _BREATH == 0:
                await asyncio.sleep(0)  # others on this event loop, such as requests, go on
        if progress is not None and batch:
            progress(batch[-1].sequence, last)


async def last_log_sequence(nc: Client) -> int:
    """Return the log sequence of the log's last message; 0 for an empty log."""
    return (await stream_info(nc, TRADES)).last_sequence


async def read_history(nc: Client, partitions: int, wanted: NeedHistory) -> dict[int, LogMessage]:
    """Return the messages that a fold asked for, by log sequence."""
    subject = subjects.stored_trades(wanted.stream_id, partitions)
    found: dict[int, LogMessage] = {}
    async for batch in read_range(
        nc, TRADES, [subject], wanted.from_log_sequence, wanted.to_log_sequence
    ):
        found.update((stored.sequence, log_message(stored)) for stored in batch)
    return found


async def fold_message(nc: Client, books: Books, message: LogMessage) -> Folded:
    """Fold one message; what it needs of the past is read from the log."""
    return await fold_with_history(books, message, partial(read_history, nc, books.partitions))
