"""The places of one stream: which event took each number, when, and what the ledger was then.

The ledger follows from the account's own events and the instruments, so nothing else is read: the
time this takes depends on the account, not on the length of the log.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Any

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream.streams import LogSettings
from psm.contracts.codec import decode_envelope, decode_untyped
from psm.contracts.errors import ContractError, PSMError
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.publish import log_time
from psm.workers.replay import Progress, Replayed, last_log_sequence, refold_stream


class UnknownStreamError(PSMError):
    """No event of this stream is in the log."""


class NoSuchPlaceError(PSMError):
    """The stream has not come to that number, or had not come to any at that time."""


class LogShape(msgspec.Struct, frozen=True, kw_only=True):
    """What of the log's settings decides a fold.

    Attributes:
        partitions: virtual partitions of the log.
        valuation_interval_ns: how often marks publish.
    """

    partitions: int
    valuation_interval_ns: int

    def books(self) -> Books:
        """Return empty books for this log."""
        return Books(partitions=self.partitions, valuation_interval_ns=self.valuation_interval_ns)


def log_shape(settings: LogSettings) -> LogShape:
    """Return the shape of the log that settings describe."""
    return LogShape(
        partitions=settings.partitions,
        valuation_interval_ns=settings.valuation_interval_ms * 1_000_000,
    )


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
        state: payload of the `StateUpdated`, but what follows from marks is not in it.
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
    state: dict[str, Any]


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """A stream's whole history.

    Attributes:
        stream_id: whose.
        places: by ascending sequence number. Numbers that were voided together have one place, and
            an operator's event that took no number, such as one that was refused, has a place
            beside that of the number it came behind.
        symbols: whose marks its valuation ever depended on, rates included; ascending.
        last: log sequence up to which the log was read.
    """

    stream_id: str
    places: list[Place]
    symbols: tuple[str, ...]
    last: int

    @property
    def last_number(self) -> int:
        """The number that the stream has come to."""
        return self.places[-1].sequence_number

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


def _number(place: Place) -> int:
    return place.sequence_number


async def read_ledger(
    nc: Client, shape: LogShape, stream_id: str, *, progress: Progress | None = None
) -> Ledger:
    """Fold a stream without marks.

    Raises:
        UnknownStreamError: the log has no event that took a place in this stream.
    """
    books = shape.books()
    last = await last_log_sequence(nc)
    places: list[Place] = []
    symbols: dict[str, None] = {}
    events: dict[str, tuple[str, str]] = {}
    async for replayed in refold_stream(nc, books, stream_id, last, marks=(), progress=progress):
        if not replayed.message.subject.startswith("trades."):
            continue
        _remember(replayed, events)
        places += _taken(replayed, events)
        account = books.accounts.get(stream_id)
        if account is not None:
            symbols.update(dict.fromkeys(_valued_by(account)))
    if not places:
        raise UnknownStreamError(f"no event of account {stream_id} is in the log")
    return Ledger(stream_id=stream_id, places=places, symbols=tuple(sorted(symbols)), last=last)


def _valued_by(account: Account) -> tuple[str, ...]:
    orders = (order.symbol for order in account.open_orders())
    return (*account.positions, *orders, *account.rates)


def _remember(replayed: Replayed, events: dict[str, tuple[str, str]]) -> None:
    """Keep type and time of an event: its update comes when it is released, maybe later."""
    try:
        envelope = decode_envelope(replayed.message.data)
    except ContractError:
        return
    events.setdefault(envelope.event_id, (envelope.event_type, envelope.timestamp))


def _taken(replayed: Replayed, events: dict[str, tuple[str, str]]) -> list[Place]:
    message, result = replayed.message, replayed.result
    folded_at = log_time(message.time)
    places: list[Place] = []
    refusals: dict[str, str] = {}
    for update in result.updates:
        if update.kind == "event.refused":
            payload = decode_untyped(update.data)["payload"]
            if payload["outcome"] == "refused" and "event_id" in payload:
                refusals[payload["event_id"]] = payload["reason"]
        elif update.kind == "state.updated":
            envelope = decode_untyped(update.data)
            state, cause = envelope["payload"], envelope["causation_id"]
            event = events.get(cause)
            reason = refusals.get(cause)
            places.append(
                Place(
                    sequence_number=state["sequence_number"],
                    event_id=cause,
                    event_type=event[0] if event else None,
                    log_sequence=state.get("event_log_sequence", message.log_sequence),
                    folded_at=message.log_sequence,
                    timestamp=event[1] if event else folded_at,
                    log_time=folded_at,
                    outcome="refused" if reason else "applied",
                    reason=reason,
                    state=state,
                )
            )
    return places
