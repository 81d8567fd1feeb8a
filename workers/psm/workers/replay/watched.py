"""A fold of lines that shows each step: books and message, and which events took effect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from psm.contracts import codec
from psm.domain.books import Books
from psm.domain.messages import Folded, LogMessage, Outcome
from psm.workers.replay.lines import LineFolder


class FoldedStep(msgspec.Struct, frozen=True, kw_only=True):
    """One message that was folded.

    Attributes:
        books: after it.
        events: messages of the events that took effect with it, in order; released ones, too.
        applied: the same events, decoded.
    """

    message: LogMessage
    result: Folded
    books: Books
    events: list[LogMessage]
    applied: list[Mapping[str, Any]]


class WatchedFolder(LineFolder):
    """A folder of lines that is watched.

    Args:
        partitions: of the log.
        before: told each message and the books before it.
        after: told what it did.
    """

    def __init__(
        self,
        partitions: int,
        *,
        after: Callable[[FoldedStep], None],
        before: Callable[[LogMessage, Books], None] | None = None,
    ) -> None:
        super().__init__(partitions=partitions, emit="payloads")
        self._before, self._after = before, after

    def _fold(self, message: LogMessage) -> Folded:
        if self._before is not None:
            self._before(message, self.books)
        result = super()._fold(message)
        events = [
            self.message_at(placement.stream_id, placement.log_sequence)
            for placement in result.placements
            if placement.outcome is Outcome.APPLIED
        ]
        self._after(
            FoldedStep(
                message=message,
                result=result,
                books=self.books,
                events=events,
                applied=[codec.decode_untyped(event.data) for event in events],
            )
        )
        return result
