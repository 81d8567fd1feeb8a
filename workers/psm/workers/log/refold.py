"""Folds the log again, without writing anything: replay of one account, rebuild of views.

The same fold as live, on the same messages, so the same updates and hashes. What needs history
gets it from the messages read so far of that stream, or from the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import partial

import msgspec
from nats.aio.client import Client

from psm.contracts import subjects
from psm.contracts.updates_read import ReadUpdate
from psm.domain.books import Books
from psm.domain.messages import Emit, Folded, LogMessage, NeedHistory
from psm.workers.log.need_history import Messages, ReadHistory, fold_with_history
from psm.workers.log.reader import read_history, read_log

_YIELD_EVERY = 10
"""Messages, about a millisecond: a request takes several turns at the event loop."""

Progress = Callable[[int, int], None]
"""Told (log sequence reached, last log sequence) once per batch."""

StopBefore = Callable[[LogMessage], bool]
"""True for the first message to leave out."""

EmitOf = Callable[[LogMessage], Emit]
"""What the fold of a message makes beside the outcome."""


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """One message and what the fold made of it.

    Attributes:
        closed_through: end of the last minute all of whose closes are told by now, ns.
    """

    message: LogMessage
    result: Folded
    closed_through: int | None

    def updates(self, stream_id: str | None = None) -> list[ReadUpdate]:
        """Return what the fold published, of one stream or of all, as a projection reads it."""
        return [
            ReadUpdate(
                kind=update.kind,
                data=update.data,
                partition=update.partition,
                traceparent=self.message.traceparent,
            )
            for update in self.result.updates
            if stream_id is None or update.stream_id == stream_id
        ]


async def refold_partition(
    nc: Client,
    books: Books,
    partition: int,
    last: int,
    *,
    emit: Emit = "updates",
    progress: Progress | None = None,
) -> AsyncIterator[list[Replayed]]:
    """Yield every message of a partition up to log sequence `last`, folded into empty `books`."""
    filters = subjects.partition_filters(partition)
    read = partial(read_history, nc, books.partitions)
    async for batch in read_log(nc, filters, books.position + 1, last):
        folded = [
            Replayed(
                message=message,
                result=await fold_with_history(books, message, read, emit),
                closed_through=books.market.closed_through,
            )
            for message in batch
        ]
        if progress is not None and batch:
            progress(batch[-1].log_sequence, last)
        yield folded


async def refold_stream(
    nc: Client,
    books: Books,
    stream_id: str,
    last: int,
    *,
    marks: Sequence[str] | None = None,
    stop: StopBefore | None = None,
    emit: Emit | EmitOf = "updates",
    progress: Progress | None = None,
) -> AsyncGenerator[Replayed]:
    """Yield what decides one account's state up to log sequence `last`, folded into `books`.

    Only that account's events, the marks, instruments and rules are read. While a message is in
    the caller's hands, the books are as it left them; nobody else may look at them meanwhile.

    Args:
        nc: connection.
        books: empty, or as an earlier call left them: it goes on after their position.
        stream_id: whose events.
        last: log sequence of the last message that counts.
        marks: symbols whose marks are read; None for all.
        stop: ends before the first message it returns true for.
        emit: what each fold makes beside the outcome; a function where that depends on the message.
        progress: told how far the log is read.
    """
    filters = subjects.stream_filters(stream_id, books.partitions, marks)
    folded = 0
    read = _seen(partial(read_history, nc, books.partitions), marks)
    async with aclosing(read_log(nc, filters, books.position + 1, last)) as batches:
        async for batch in batches:
            for message in batch:
                if stop is not None and stop(message):
                    return
                made: Emit = emit(message) if callable(emit) else emit
                result = await fold_with_history(books, message, read, made, aside=True)
                yield Replayed(
                    message=message, result=result, closed_through=books.market.closed_through
                )
                folded += 1
                if folded % _YIELD_EVERY == 0:
                    await asyncio.sleep(0)  # others on this event loop, such as requests, go on
            if progress is not None and batch:
                progress(batch[-1].log_sequence, last)


def _seen(read: ReadHistory, marks: Sequence[str] | None) -> ReadHistory:
    """Return what reads back no more marks than these books were folded with.

    A correction books the account again, which must give the same ledger.
    """
    if marks is None:
        return read

    async def seen(wanted: NeedHistory) -> Messages:
        known = None
        if wanted.marks is not None:
            known = tuple(symbol for symbol in wanted.marks if symbol in marks)
        return await read(msgspec.structs.replace(wanted, marks=known))

    return seen


async def fold_message(
    nc: Client, books: Books, message: LogMessage, emit: Emit = "updates"
) -> Folded:
    """Fold one message; what it needs of the past is read from the log."""
    read = partial(read_history, nc, books.partitions)
    return await fold_with_history(books, message, read, emit)
