"""The places of one stream: which event took each number, when, and what the ledger was then.

The ledger follows from the account's own events and the instruments, so nothing else is read: the
time this takes depends on the account, not on the length of the log.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing

import msgspec
from nats.aio.client import Client

from psm.contracts.errors import PSMError
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.folding.rebooking import needs_rates
from psm.domain.messages import Emit, Outcome
from psm.domain.publication.log_times import log_time
from psm.workers.log.reader import last_log_sequence
from psm.workers.log.refold import Progress, Replayed, refold_stream
from psm.workers.log.shape import LogShape


class UnknownStreamError(PSMError):
    """No event of this stream is in the log."""


class NoSuchPlaceError(PSMError):
    """The stream has not come to that number, or had not come to any at that time."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One number of the stream.

    Attributes:
        sequence_number: the place; the last one of those that `SequenceVoided` filled together.
        event_id: of the event that took it, or of the operator's that voided it.
        log_sequence: of the message that carries the event.
        folded_at: log sequence of the message that was folded; later where the event waited.
        timestamp: the event's own time.
        log_time: JetStream time of the message that was folded: when the event became known.
        outcome: applied or refused.
        reason: code of a refusal.
        chain_hash, ledger_hash: of the account after it, hex; empty where they were not asked for.
    """

    sequence_number: int
    event_id: str
    event_type: str | None
    log_sequence: int
    folded_at: int
    timestamp: str
    log_time: str
    outcome: str
    reason: str | None
    chain_hash: str = ""
    ledger_hash: str = ""


Enough = Callable[[Sequence[Place]], bool]
"""Whether the places read so far, in order, answer what is asked."""

_Read = tuple[Account | None, list[Place], dict[str, int]]
"""The account, its places, and symbols with the log sequence from which on they concern it."""


class StreamHistory(msgspec.Struct, frozen=True, kw_only=True):
    """A stream's history: all of it, or as far as was enough.

    Attributes:
        stream_id: whose.
        places: by ascending sequence number. Numbers that were voided together have one place, and
            an operator's event that took no number, such as one that was refused, has a place
            beside that of the number it came behind.
        symbols: whose marks its valuation ever depended on, rates included, ascending; each with
            the log sequence of the message that first made it so.
        booked_by: of these, those whose marks the ledger itself depends on: all where it has other
            assets than its currency, whose costs are at the rates of their time; else none.
        last: log sequence of the log's last message.
    """

    stream_id: str
    places: list[Place]
    symbols: dict[str, int]
    booked_by: tuple[str, ...]
    last: int

    @property
    def last_number(self) -> int:
        """The number that the stream has come to, as far as it was read."""
        return self.places[-1].sequence_number

    def symbols_until(self, log_sequence: int) -> tuple[str, ...]:
        """Return the symbols that concerned it by then, ascending."""
        return tuple(symbol for symbol, first in self.symbols.items() if first <= log_sequence)

    def places_of(self, number: int) -> list[Place]:
        """Return the places after which the stream stood at a number; those of its void's end.

        Raises:
            NoSuchPlaceError: the stream has not come that far.
        """
        if not 1 <= number <= self.last_number:
            raise NoSuchPlaceError(
                f"{self.stream_id} has no event {number}: its last one is {self.last_number}"
            )
        first = bisect_left(self.places, number, key=_number)
        end = bisect_right(self.places, self.places[first].sequence_number, lo=first, key=_number)
        return self.places[first:end]

    def place(self, number: int) -> Place:
        """Return the last place of a number: all that was known before the next number.

        Raises:
            NoSuchPlaceError: the stream has not come that far.
        """
        return self.places_of(number)[-1]

    def following(self, place: Place) -> Place | None:
        """Return the place behind one of these places."""
        index = bisect_left(self.places, place.sequence_number, key=_number)
        following = self.places.index(place, index) + 1
        return self.places[following] if following < len(self.places) else None


def beyond(number: int) -> Enough:
    """Return what says whether a place behind the last one of a number is among those read."""

    def is_behind(places: Sequence[Place]) -> bool:
        first = bisect_left(places, number, key=_number)
        # Numbers that were voided together have one place, and others may stand beside it.
        return first < len(places) and places[-1].sequence_number > places[first].sequence_number

    return is_behind


def _number(place: Place) -> int:
    return place.sequence_number


async def read_ledger(
    nc: Client,
    shape: LogShape,
    stream_id: str,
    *,
    enough: Enough | None = None,
    hashed: bool = False,
    progress: Progress | None = None,
) -> StreamHistory:
    """Fold a stream without marks; with those of its rates where its ledger depends on them.

    Args:
        nc: connection; only read.
        shape: of the log.
        stream_id: whose.
        enough: ends the read as soon as it is; None for all of the stream.
        hashed: whether places have their hashes, which takes half as long again.
        progress: told how far the log is read.

    Raises:
        UnknownStreamError: the log has no event that took a place in this stream.
    """
    last = await last_log_sequence(nc)
    emit: Emit = "hashes" if hashed else "nothing"

    async def read(marks: tuple[str, ...]) -> _Read:
        books = shape.books()
        folds = refold_stream(nc, books, stream_id, last, marks=marks, emit=emit, progress=progress)
        async with aclosing(folds):
            return await _places_and_symbols(folds, books, stream_id, enough)

    account, places, symbols = await read(())
    if account is None or not places:
        raise UnknownStreamError(f"no event of account {stream_id} is in the log")
    booked_by = tuple(symbols) if needs_rates(account) else ()
    if booked_by:
        _, places, symbols = await read(booked_by)
    return StreamHistory(
        stream_id=stream_id, places=places, symbols=symbols, booked_by=booked_by, last=last
    )


async def _places_and_symbols(
    folds: AsyncIterator[Replayed], books: Books, stream_id: str, enough: Enough | None
) -> _Read:
    places: list[Place] = []
    symbols: dict[str, int] = {}
    async for replayed in folds:
        found = _places_of(replayed)
        places += found
        account = books.accounts.get(stream_id)
        if account is not None and replayed.message.stream_id == stream_id:
            for symbol in _valued_by(account):
                symbols.setdefault(symbol, replayed.message.log_sequence)
        if found and enough is not None and enough(places):
            break
    return books.accounts.get(stream_id), places, dict(sorted(symbols.items()))


def _valued_by(account: Account) -> tuple[str, ...]:
    return (*account.ledger.symbols(), *account.valuation.rates)


def _places_of(replayed: Replayed) -> list[Place]:
    """Return the places that one message filled, with their hashes where those were made."""
    message, result = replayed.message, replayed.result
    folded_at = log_time(message.time)
    announced = [placement for placement in result.placements if placement.announced]
    if not announced:  # what a mark or a report published has no place
        return []
    places = [
        Place(
            sequence_number=placement.number,
            event_id=placement.event_id,
            event_type=placement.event_type,
            log_sequence=placement.log_sequence,
            folded_at=message.log_sequence,
            timestamp=placement.timestamp,
            log_time=folded_at,
            outcome="refused" if placement.outcome is Outcome.REFUSED else "applied",
            reason=placement.reason if placement.outcome is Outcome.REFUSED else None,
        )
        for placement in announced
    ]
    if not result.hashes:
        return places
    return [
        msgspec.structs.replace(
            place, chain_hash=hashes.chain_hash.hex(), ledger_hash=hashes.ledger_hash.hex()
        )
        for place, hashes in zip(places, result.hashes, strict=True)
    ]
