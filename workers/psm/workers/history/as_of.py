"""An account's documents as they were at a number or a time, folded from the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from nats.aio.client import Client

from psm.contracts.documents import HOLDINGS, figures_in, put_update
from psm.contracts.errors import InvariantError
from psm.contracts.live import LiveRead
from psm.contracts.updates import TOLD_ONCE
from psm.domain.books import Books
from psm.domain.messages import Emit, LogMessage
from psm.domain.publication.documents import document_of
from psm.domain.publication.figures import margin_figures, order_figures, state_document
from psm.domain.publication.log_times import log_time
from psm.workers.history.timeline import (
    Enough,
    NoSuchPlaceError,
    Place,
    StreamHistory,
    beyond,
    read_ledger,
)
from psm.workers.log.refold import Progress, Replayed, refold_stream
from psm.workers.log.shape import LogShape
from psm.workers.process.times import is_later


class When(msgspec.Struct, frozen=True, kw_only=True):
    """A moment of an account's past; exactly one of `sequence` and `at` is given.

    Attributes:
        sequence: right after this number was folded.
        at: a UTC time: after the longest run of events before the first one later than this, at
            the marks up to there. If no event is later, at the marks of that time.
        log_time: `at` is compared with the log's times (what was known then), not the events'.
    """

    sequence: int | None = None
    at: str | None = None
    log_time: bool = False


class PastState(msgspec.Struct, frozen=True, kw_only=True):
    """An account at a moment.

    Attributes:
        place: the last event that counts.
        as_of: place in the log at whose marks all of it is valued, as documents say it.
        state: what `GET /psm/state` answered then, but for that.
        margin: the figures of the margin document.
        orders: every order kept then, ended ones included.
    """

    place: Place
    as_of: dict[str, Any]
    state: dict[str, Any]
    margin: dict[str, Any]
    orders: dict[str, Any]

    def document(self, name: LiveRead) -> dict[str, Any]:
        """Return one of the documents that reads answer with."""
        state = {**self.state, "as_of": self.as_of}
        return document_of(name, state, self.margin, self.orders)


async def past_state(
    nc: Client,
    shape: LogShape,
    stream_id: str,
    when: When,
    *,
    ledger: StreamHistory | None = None,
    progress: Progress | None = None,
) -> PastState:
    """Return an account as it was.

    Reads the account's events up to there twice, and the marks of the symbols that concerned it by
    then. So no event or mark behind the moment changes the answer.

    Args:
        nc: connection; only read.
        shape: of the log.
        stream_id: whose.
        when: the moment.
        ledger: its places, where they are known already.
        progress: called with how far the log is read.

    Raises:
        UnknownStreamError: the stream does not exist.
        NoSuchPlaceError: it has not come to that number, or its first event is later.
    """
    ledger = ledger or await read_until(nc, shape, stream_id, when)
    place = place_at(ledger, when)
    if _is_released_with_next(ledger, place):
        # One message folded both, so the state between them is only in its updates.
        books = shape.books()
        folded = await _fold_to(nc, books, ledger, place, place.folded_at - 1, progress)
        before = _document(books, stream_id, place, folded)
        released = await _fold_to(nc, books, ledger, place, place.folded_at, progress)
        return _between(before, released)
    books, folded = await _books_at(nc, shape, ledger, place, when, progress)
    past = _document(books, stream_id, place, folded)
    if books.position == place.folded_at:
        # Only the update knows what was said of the event itself, such as its flags.
        past.state.update(_of_the_account(_announced(folded, place)))
    else:
        past.state["cause"] = "mark"
    return past


async def read_until(nc: Client, shape: LogShape, stream_id: str, *moments: When) -> StreamHistory:
    """Return an account's places up to some moments and behind them, or all that there are.

    Raises:
        UnknownStreamError: the stream does not exist.
    """
    checks = [_enough(when) for when in moments]

    def enough(places: Sequence[Place]) -> bool:
        return all(check(places) for check in checks)

    return await read_ledger(nc, shape, stream_id, enough=enough)


def _enough(when: When) -> Enough:
    if when.sequence is not None:
        return beyond(when.sequence)
    return lambda places: is_later(_time(places[-1], when), when.at)


async def past_books(
    nc: Client,
    shape: LogShape,
    ledger: StreamHistory,
    when: When,
    *,
    progress: Progress | None = None,
) -> tuple[Books, Place]:
    """Return the books with one account in them as it was, and its last event that counts.

    Raises:
        NoSuchPlaceError: there was no such moment, or it lies inside of one message's fold.
    """
    place = place_at(ledger, when)
    if _is_released_with_next(ledger, place):
        last = max(p.sequence_number for p in ledger.places if p.folded_at == place.folded_at)
        raise NoSuchPlaceError(
            f"{ledger.stream_id}: event {place.sequence_number} was folded together with those up "
            f"to {last}, as they had waited for a number that was missing; ask for {last}"
        )
    books, _ = await _books_at(nc, shape, ledger, place, when, progress)
    return books, place


def _is_released_with_next(ledger: StreamHistory, place: Place) -> bool:
    following = ledger.following(place)
    return following is not None and following.folded_at == place.folded_at


async def _books_at(
    nc: Client,
    shape: LogShape,
    ledger: StreamHistory,
    place: Place,
    when: When,
    progress: Progress | None,
) -> tuple[Books, Replayed]:
    following = ledger.following(place)
    end, until = ledger.last, when.at
    if when.sequence is not None:
        end, until = place.folded_at, None
    elif following:
        end, until = following.folded_at - 1, when.at if when.log_time else None
    books = shape.books()
    return books, await _fold_to(nc, books, ledger, place, end, progress, until)


def place_at(ledger: StreamHistory, when: When) -> Place:
    """Return the last event that counts at a moment.

    Raises:
        NoSuchPlaceError: the stream has not come to that number, or its first event is later.
    """
    if when.sequence is not None:
        return ledger.place(when.sequence)
    found: Place | None = None
    for place in ledger.places:
        if is_later(_time(place, when), when.at):
            break
        found = place
    if found is None:
        first = _time(ledger.places[0], when)
        raise NoSuchPlaceError(
            f"{ledger.stream_id} had no event at {when.at}: its first one is of {first}"
        )
    return found


def _time(place: Place, when: When) -> str:
    return place.log_time if when.log_time else place.timestamp


async def _fold_to(
    nc: Client,
    books: Books,
    ledger: StreamHistory,
    place: Place,
    end: int,
    progress: Progress | None,
    until: str | None = None,
) -> Replayed:
    """Fold up to log sequence `end`; return what the last message did, payloads if it has `place`.

    `until` ends it before the first message behind `place` of a later log time.
    """

    def too_late(message: LogMessage) -> bool:
        return message.log_sequence > place.folded_at and is_later(log_time(message.time), until)

    def emit(message: LogMessage) -> Emit:
        return "payloads" if message.log_sequence == place.folded_at else "nothing"

    folded: Replayed | None = None
    async for replayed in refold_stream(
        nc,
        books,
        ledger.stream_id,
        end,
        marks=ledger.symbols_until(max(end, place.folded_at)),
        stop=too_late if until else None,
        emit=emit,
        progress=progress,
    ):
        folded = replayed
    if folded is None:
        raise InvariantError(f"{ledger.stream_id}: the log lost what it had a moment ago")
    return folded


def _document(books: Books, stream_id: str, place: Place, folded: Replayed) -> PastState:
    account = books.open(stream_id)
    ledger = account.ledger
    return PastState(
        place=place,
        as_of=_as_of(folded),
        state=state_document(books, account),
        margin=margin_figures(account.value(), ledger.leverage_limit),
        orders={order_id: order_figures(o) for order_id, o in sorted(ledger.orders.by_id.items())},
    )


def _as_of(folded: Replayed) -> dict[str, Any]:
    message = folded.message
    return {"log_sequence": message.log_sequence, "time": log_time(message.time)}


def _announced(folded: Replayed, place: Place) -> dict[str, Any]:
    """Return the payload that announced a place, from the message that brought it."""
    result = folded.result
    placements = [placement for placement in result.placements if placement.announced]
    states = [told.payload for told in result.payloads if told.kind == "state.updated"]
    for placement, payload in zip(placements, states, strict=True):
        if (placement.number, placement.event_id) == (place.sequence_number, place.event_id):
            return payload
    raise InvariantError(f"log sequence {place.folded_at}: nothing announced its place")


def _of_the_account(payload: dict[str, Any]) -> dict[str, Any]:
    """Return what an update says of its account, and not of what happened."""
    return {name: value for name, value in payload.items() if name not in TOLD_ONCE}


def _between(before: PastState, released: Replayed) -> PastState:
    """Apply the updates of one message up to those of a number, as a projection would."""
    state = {**before.state, **{name: dict(before.state[name]) for name in HOLDINGS}}
    orders, margin = dict(before.orders), before.margin
    last = _announced(released, before.place)
    for published in released.result.payloads:
        payload = published.payload
        put_update(state, published.kind, payload)
        if published.kind == "order.updated":
            orders[payload["order_id"]] = figures_in(payload)
        elif published.kind == "margin.updated":
            margin = figures_in(payload)
        elif payload is last:
            break
    return PastState(
        place=before.place, as_of=_as_of(released), state=state, margin=margin, orders=orders
    )
