"""Drives a fold that needs history."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping

from psm.adapters.tasks import to_its_end
from psm.contracts.errors import InvariantError
from psm.domain.books import Books
from psm.domain.fold import fold
from psm.domain.messages import Emit, Folded, LogMessage, NeedHistory

Messages = Mapping[int, LogMessage]
ReadHistory = Callable[[NeedHistory], Awaitable[Messages]]


async def fold_with_history(
    books: Books,
    message: LogMessage,
    read: ReadHistory,
    emit: Emit = "updates",
    *,
    aside: bool = False,
) -> Folded:
    """Fold a message, reading back what it releases; new rules may release several streams.

    Args:
        books: changed in place, once everything is read.
        message: the next of the log.
        read: returns the messages that the fold asks for.
        emit: what the fold makes beside the outcome.
        aside: fold what was read in a thread, for books that nobody else looks at: a correction
            books the whole past again, and others on this event loop go on meanwhile.

    Raises:
        InvariantError: what was asked for does not satisfy the fold: the log changed.
    """
    result = fold(books, message, emit=emit)
    if isinstance(result, Folded):
        return result
    steps = _satisfied(books, message, result, emit)
    wanted: Folded | NeedHistory = next(steps)
    while isinstance(wanted, NeedHistory):
        found = await read(wanted)
        if aside:
            thread = asyncio.ensure_future(asyncio.to_thread(_send, steps, found))
            wanted = await to_its_end(thread)
        else:
            wanted = _send(steps, found)
    return wanted


def fold_from_memory(
    books: Books,
    message: LogMessage,
    read: Callable[[NeedHistory], Messages],
    emit: Emit = "updates",
) -> Folded:
    """Fold a message whose history is in memory: synchronous variant of `fold_with_history`."""
    result = fold(books, message, emit=emit)
    if isinstance(result, Folded):
        return result
    steps = _satisfied(books, message, result, emit)
    wanted: Folded | NeedHistory = next(steps)
    while isinstance(wanted, NeedHistory):
        wanted = _send(steps, read(wanted))
    return wanted


def _send(steps: Generator[NeedHistory, Messages, Folded], found: Messages) -> Folded | NeedHistory:
    try:
        return steps.send(found)
    except StopIteration as end:
        folded: Folded = end.value
        return folded


def _satisfied(
    books: Books, message: LogMessage, wanted: NeedHistory, emit: Emit
) -> Generator[NeedHistory, Messages, Folded]:
    """Yield what the fold asks for, take the messages, return what it made of them."""
    result: Folded | NeedHistory = wanted
    history: dict[int, LogMessage] = {}
    asked: list[NeedHistory] = []
    while isinstance(result, NeedHistory):
        if result in asked:
            raise InvariantError(
                f"log sequence {message.log_sequence}: what {result.stream_id} waits for is not "
                f"at log sequences {result.from_log_sequence} to {result.to_log_sequence} any more"
            )
        asked.append(result)
        history.update((yield result))
        result = fold(books, message, history, emit=emit)
    return result
