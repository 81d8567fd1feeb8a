"""Which event took which place of a stream, found by folding it by the sequence rules alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import msgspec

from psm.contracts.errors import ContractError
from psm.contracts.events import AccountEvent
from psm.contracts.payload_codec import PayloadCodec
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.corrections import ChainPlace
from psm.domain.delivery.rules import Entry
from psm.domain.folding.stream import StreamFold, Taken
from psm.domain.ledger.bounds import StateTooLargeError
from psm.domain.messages import Folded, History, LogMessage, Outcome
from psm.domain.publication.updates import UpdateWriter


class DecodeOnly:
    """Lets events take their places without any effect, and keeps what they say.

    Attributes:
        events: by event hash; None where the payload cannot be read.
    """

    def __init__(self, books: Books, too_large: Mapping[int, int]) -> None:
        self.events: dict[bytes, AccountEvent | None] = {}
        self._books = books
        self._too_large = too_large

    def apply(
        self, account: Account, entry: Entry, codec: PayloadCodec, released: int | None
    ) -> Taken:
        """Decode the event that is next in order, and give it its place.

        Where the state had no room for it, it blocks as it did.
        """
        del released
        if self._books.market.rules <= self._too_large.get(entry.log_sequence, 0):
            raise StateTooLargeError("as it was when it came")
        try:
            event = cast("AccountEvent", codec.decode(entry.envelope.payload))
        except ContractError:
            event = None
        self.events[entry.hashed] = event
        account.delivery.take_place(entry.number, entry.identity, entry.hashed)
        return Outcome.APPLIED, None, ()


def find_places(
    books: Books, current: LogMessage, stream_id: str, history: History | None
) -> list[ChainPlace]:
    """Return every event that enters the chain, up to and including what `current` releases.

    Args:
        books: which rules the log enabled, and when.
        current: the message that is being folded.
        stream_id: whose events.
        history: all earlier messages of the stream.
    """
    messages = {at: m for at, m in (history or {}).items() if m.stream_id is not None}
    rules = dict(books.market.rules_enabled)
    if current.log_sequence not in rules:
        messages[current.log_sequence] = current
    apart = Books(partitions=books.partitions)
    account = books.accounts.get(stream_id)
    settle = DecodeOnly(apart, account.delivery.too_large if account else {})
    places: list[ChainPlace] = []
    for log_sequence in sorted({**messages, **rules}):
        if log_sequence in messages:
            message = messages[log_sequence]
            folded = _fold(apart, message, stream_id, messages, settle).run()
            assert isinstance(folded, Folded), "its history is all there"
        else:
            apart.market.enable_rules(log_sequence, rules[log_sequence])
            message = msgspec.structs.replace(current, log_sequence=log_sequence)
            account = apart.accounts.get(stream_id)
            blocked = account.delivery.blocked if account else None
            if blocked is None or not blocked.known_by(apart.market.rules):
                continue
            folded = _fold(apart, message, stream_id, messages, settle).resume(None)
        places.extend(
            ChainPlace(
                number=placement.number,
                event_id=placement.event_id,
                event_hash=placement.event_hash,
                log_sequence=log_sequence,
                time=message.time,
                event=settle.events.get(placement.event_hash),
            )
            for placement in folded.placements
        )
    return places


def _fold(
    books: Books, message: LogMessage, stream_id: str, history: History, settle: DecodeOnly
) -> StreamFold:
    writer = UpdateWriter(books, message, "event", "nothing")
    return StreamFold(books, message, stream_id, history, settle, writer)
