"""Which event took which place of a stream, found by folding it by the sequence rules alone."""

from __future__ import annotations

from typing import cast

import msgspec

from psm.contracts.errors import ContractError
from psm.contracts.events import AccountEvent, EventDismissed
from psm.contracts.payload_codec import PayloadCodec
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.corrections import Place
from psm.domain.messages import LogMessage
from psm.domain.outcomes import History, Outcome
from psm.domain.sequence import Entry
from psm.domain.stream_fold import StreamFold, Taken


class _PlaceFinder(StreamFold):
    """Folds a stream by the sequence rules only and notes which event took which place."""

    def __init__(
        self,
        books: Books,
        message: LogMessage,
        stream_id: str,
        history: History,
        places: list[Place],
    ) -> None:
        super().__init__(books, message, stream_id, history)
        self._found = places

    def _take(
        self, account: Account, entry: Entry, codec: PayloadCodec, released: int | None = None
    ) -> Taken:
        del released
        try:
            event = cast("AccountEvent", codec.decode(entry.envelope.payload))
        except ContractError:
            event = None
        self._note(entry, entry.number, event)
        account.take_place(entry.number, entry.identity, entry.hashed)
        return Outcome.APPLIED, None

    def resume_if_known(self) -> None:
        """Let the stream go on if the rules know the message that blocks it."""
        account = self.books.accounts.get(self.stream_id)
        blocked = account.blocked if account else None
        if blocked is not None and blocked.known_by(self.books.rules):
            self.resume(None)

    def _dismiss(self, account: Account, entry: Entry, event: EventDismissed) -> Taken:
        self._note(entry, entry.number, None)
        return super()._dismiss(account, entry, event)

    def _chain(self, entry: Entry) -> Account:
        account = super()._chain(entry)
        self._note(entry, account.version, None)
        return account

    def _note(self, entry: Entry, number: int, event: AccountEvent | None) -> None:
        self._found.append(
            Place(
                number=number,
                event_id=entry.envelope.event_id,
                event_hash=entry.hashed,
                log_sequence=self.message.log_sequence,
                event=event,
            )
        )


def find_places(current: StreamFold) -> list[Place]:
    """Return every event that enters the chain, up to and including what `current` releases."""
    history = dict(current.history or {})
    rules = dict(current.books.rules_enabled)
    if current.message.log_sequence not in rules:
        history[current.message.log_sequence] = current.message
    books = Books(partitions=current.books.partitions)
    books.publishing = "nothing"
    places: list[Place] = []
    for log_sequence in sorted({**history, **rules}):
        if log_sequence in history:
            message = history[log_sequence]
            _PlaceFinder(books, message, current.stream_id, history, places).run()
        else:
            books.rules_enabled.append((log_sequence, rules[log_sequence]))
            moved = msgspec.structs.replace(current.message, log_sequence=log_sequence)
            finder = _PlaceFinder(books, moved, current.stream_id, history, places)
            finder.resume_if_known()
    return places
