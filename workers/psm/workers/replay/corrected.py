"""A log as its corrections leave it: without what was busted or reversed, amended fills as amended.

Of each account that was corrected what took effect stands in it, and of the market everything. So
whoever folds it sees positions, and marks between fills, as if the wrong fill had never been.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from heapq import merge
from typing import Any

import msgspec

from psm.contracts import codec
from psm.contracts.events import AccountEvent
from psm.domain.books import Books
from psm.domain.corrections import ChainPlace, Correction, Corrections
from psm.domain.folding.placements import find_places
from psm.domain.messages import LogMessage

_NAMES = [kind.__name__.encode() for kind in Correction.__args__]
_Place = tuple[int, int, bytes]
"""Log sequence, 0 for the market, and the line."""


def corrected_lines(
    books: Books, streams: Mapping[str, Sequence[LogMessage]]
) -> tuple[list[str], Iterator[bytes]]:
    """Return the accounts that were corrected, and the lines of a log of them and of the market.

    Args:
        books: after the whole log.
        streams: its messages by `LogMessage.history_name`, each in order.
    """
    found = [
        (name, places)
        for name in sorted(books.accounts)
        if (places := _places_of(books, name, streams.get(name, ())))
    ]
    if not found:  # of the market there may be millions
        return [], iter(())
    market = [
        (_line(one.log_sequence, one.subject, one.time, one.data) for one in messages)
        for messages in streams.values()
        if messages[0].stream_id is None
    ]
    merged: Iterator[_Place] = merge(*market, *(places for _, places in found))
    return [name for name, _ in found], (line for _, _, line in merged)


def _places_of(books: Books, name: str, messages: Sequence[LogMessage]) -> list[_Place]:
    """Return what took effect in a stream, as corrected; nothing if no correction did."""
    if not any(correction in one.data for one in messages for correction in _NAMES):
        return []
    *before, last = messages
    places = find_places(books, last, name, {one.log_sequence: one for one in before})
    corrections = Corrections(books.accounts[name], places)
    if not corrections.last:
        return []
    data = {one.event_hash: one.data for one in messages}
    return [
        _line(
            place.log_sequence,
            f"trades.{name}",
            place.time,
            _amended(data[place.event_hash], place, event),
            of_account=True,
        )
        for place, event in corrections.events()
        if event is not None
    ]


def _amended(data: bytes, place: ChainPlace, event: AccountEvent) -> bytes:
    """Return the bytes of an event that say what it was corrected to, and no number."""
    body = codec.decode_untyped(data)
    del body["sequence_number"]
    if event is not place.event:
        was, is_now = msgspec.to_builtins(place.event), msgspec.to_builtins(event)
        changed = {field: value for field, value in is_now.items() if value != was.get(field)}
        body["payload"] = {**body["payload"], **changed}
    return codec.encode(body)


def _line(
    log_sequence: int, subject: str, time: int, data: bytes, *, of_account: bool = False
) -> _Place:
    line: dict[str, Any] = {"subject": subject, "time": time, "data": msgspec.Raw(data)}
    return log_sequence, int(of_account), msgspec.json.encode(line)
