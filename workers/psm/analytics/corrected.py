"""The log as its corrections leave it, folded again.

It is without what was busted or reversed, and with amended fills as amended. Of each account that
was corrected it has what took effect, and of the market everything. So whoever folds it sees
positions, and marks between fills, as if the wrong fill had never been: as the ledger books them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from heapq import merge

import msgspec

from psm.analytics.revision import BookedPast, Pasts
from psm.analytics.timelines import TimelineRows, Timelines
from psm.contracts import codec
from psm.contracts.errors import InvariantError
from psm.contracts.events import AccountEvent
from psm.domain.books import Books
from psm.domain.corrections import ChainPlace, Correction, Corrections
from psm.domain.fold import fold
from psm.domain.folding.placements import find_places
from psm.domain.messages import Folded, LogMessage

_NAMES = [kind.__name__.encode() for kind in Correction.__args__]


class _Step(msgspec.Struct, frozen=True):
    """A message of the log as corrected; `past`: it came before its account's last correction."""

    message: LogMessage
    past: bool = False


def _place(step: _Step) -> int:
    return step.message.log_sequence


def corrected_rows(
    books: Books, streams: Mapping[str, Sequence[LogMessage]], timelines: Timelines
) -> dict[str, TimelineRows]:
    """Return rows of the accounts that were corrected, by account, of the log as corrected.

    Args:
        books: after the whole log.
        streams: its messages by `LogMessage.history_name`, each in order.
        timelines: that nothing was told yet.
    """
    found: dict[str, list[_Step]] = {}
    for name in sorted(books.accounts):
        messages = streams.get(name, ())
        if any(correction in one.data for one in messages for correction in _NAMES):
            steps, is_corrected = _corrected(books, name, messages)
            if is_corrected:
                found[name] = steps
    if not found:  # of the market there may be millions
        return {}
    market = [
        map(_Step, messages) for messages in streams.values() if messages[0].stream_id is None
    ]
    again = _LogAgain(books.partitions, timelines)
    merged: Iterator[_Step] = merge(*market, *found.values(), key=_place)
    for step in merged:
        again.take(step)
    again.finish()
    return {name: timelines.rows[name] for name in found}


class PastsFold:
    """Positions of an account without its last correction and with it, folded from the log.

    Args:
        books: after the input of the correction.
        stream_id: of the account.
        messages: of the account up to there, in order.
        number: of the correction among the account's events.
    """

    def __init__(
        self, books: Books, stream_id: str, messages: Sequence[LogMessage], number: int
    ) -> None:
        self._folds = []
        for through in (number - 1, number):
            steps, _ = _corrected(books, stream_id, messages, through)
            self._folds.append(_PastFold(books.partitions, stream_id, steps))

    def take(self, messages: Sequence[LogMessage]) -> None:
        """Take the next messages of the market, of those up to the correction's input."""
        for fold_ in self._folds:
            for message in messages:
                fold_.take(message)

    def pasts(self) -> Pasts:
        """Return both pasts; nothing can be taken after it."""
        was, is_now = (fold_.past() for fold_ in self._folds)
        for key, past in is_now.items():
            if past.cycle is not None and past != was.get(key):
                past.cycle.is_lived = False  # with many marks the ledger keeps what it stood at
        return Pasts(was=was, is_now=is_now)


class _PastFold:
    """A fold of an account's events, each before what came after it of the market."""

    def __init__(self, partitions: int, stream_id: str, steps: Sequence[_Step]) -> None:
        self._stream_id, self._steps, self._next = stream_id, steps, 0
        self._log = _LogAgain(partitions, Timelines((), shares=True))

    def take(self, message: LogMessage) -> None:
        """Fold a message of the market."""
        while self._next < len(self._steps) and (
            _place(self._steps[self._next]) < message.log_sequence
        ):
            self._take_own()
        self._log.take(_Step(message))

    def past(self) -> dict[str, BookedPast]:
        """Fold what is left; return the account's positions."""
        while self._next < len(self._steps):
            self._take_own()
        self._log.finish()
        return self._log.timelines.past(self._stream_id)

    def _take_own(self) -> None:
        self._log.take(self._steps[self._next])
        self._next = self._next + 1


class _LogAgain:
    """Folds messages, in their order at places of their own, and feeds timelines."""

    def __init__(self, partitions: int, timelines: Timelines) -> None:
        self.timelines = timelines
        self._books = Books(partitions=partitions)
        self._last: LogMessage | None = None

    def take(self, step: _Step) -> None:
        """Fold the next message; no identity that came before is a reason against it."""
        books, message = self._books, step.message
        account = books.accounts.get(message.history_name)
        if account is not None:
            account.ledger.forget_keys()
        books.corrected = step.past
        self._last = msgspec.structs.replace(message, log_sequence=books.position + 1)
        folded = fold(books, self._last, emit="unhashed")
        if not isinstance(folded, Folded):
            raise InvariantError(f"a log as corrected needs its history at {message.log_sequence}")
        self.timelines.take_folded(books, folded)

    def finish(self) -> None:
        """Tell what waits for a slot."""
        if self._last is not None:
            self.timelines.finish(self._books, self._last)


def _corrected(
    books: Books, name: str, messages: Sequence[LogMessage], through: int | None = None
) -> tuple[list[_Step], bool]:
    """Return what took effect in a stream, as corrected, and whether anything was corrected.

    Args:
        books: after the last of the messages.
        name: of the stream.
        messages: of it, all up to there.
        through: number of the last event that counts; None for all.
    """
    *before, last = messages
    places = find_places(books, last, name, {one.log_sequence: one for one in before})
    corrections = Corrections(books.accounts[name], places, through=through)
    by_hash = {one.event_hash: one for one in messages}
    steps: list[_Step] = []
    for place, event in corrections.events():
        if event is not None:
            message = LogMessage(
                log_sequence=place.log_sequence,
                subject=by_hash[place.event_hash].subject,
                time=place.time,
                data=_numbered(by_hash[place.event_hash].data, place, event, len(steps) + 1),
            )
            steps.append(_Step(message, past=place.number < corrections.last))
    return steps, bool(corrections.last)


def _numbered(data: bytes, place: ChainPlace, event: AccountEvent, number: int) -> bytes:
    """Return the bytes of an event that say what it was corrected to, and its number now."""
    body = codec.decode_untyped(data)
    body["sequence_number"] = number
    if event is not place.event:
        was, is_now = msgspec.to_builtins(place.event), msgspec.to_builtins(event)
        changed = {field: value for field, value in is_now.items() if value != was.get(field)}
        body["payload"] = {**body["payload"], **changed}
    return codec.encode(body)
