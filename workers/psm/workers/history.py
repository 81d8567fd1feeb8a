"""Answers the fold's `NeedHistory` until it is content."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping

from psm.contracts.errors import InvariantError
from psm.domain.books import Books
from psm.domain.fold import fold
from psm.domain.messages import LogMessage
from psm.domain.outcomes import Folded, NeedHistory

Messages = Mapping[int, LogMessage]
ReadHistory = Callable[[NeedHistory], Awaitable[Messages]]


async def fold_with_history(books: Books, message: LogMessage, read: ReadHistory) -> Folded:
    """Fold a message, reading back what it releases; new rules may release several streams.

    Args:
        books: changed in place, once everything is read.
        message: the next of the log.
        read: returns the messages that the fold asks for.

    Raises:
        InvariantError: what was asked for does not satisfy the fold: the log changed.
    """
    result = fold(books, message)
    if isinstance(result, Folded):
        return result
    steps = _satisfied(books, message, result)
    wanted = next(steps)
    while True:
        found = await read(wanted)
        try:
            wanted = steps.send(found)
        except StopIteration as end:
            folded: Folded = end.value
            return folded


def fold_from_memory(
    books: Books, message: LogMessage, read: Callable[[NeedHistory], Messages]
) -> Folded:
    """Do the same where nothing has to be waited for."""
    result = fold(books, message)
    if isinstance(result, Folded):
        return result
    steps = _satisfied(books, message, result)
    wanted = next(steps)
    while True:
        try:
            wanted = steps.send(read(wanted))
        except StopIteration as end:
            folded: Folded = end.value
            return folded


def _satisfied(
    books: Books, message: LogMessage, wanted: NeedHistory
) -> Generator[NeedHistory, Messages, Folded]:
    """Yield what the fold asks for, take the messages, return what it made of them."""
    result: Folded | NeedHistory = wanted
    history: dict[int, LogMessage] = {}
    asked: list[str] = []
    while isinstance(result, NeedHistory):
        if result.stream_id in asked:
            raise InvariantError(
                f"log sequence {message.log_sequence}: what {result.stream_id} waits for is not "
                f"at log sequences {result.from_log_sequence} to {result.to_log_sequence} any more"
            )
        asked.append(result.stream_id)
        history.update((yield result))
        result = fold(books, message, history)
    return result
