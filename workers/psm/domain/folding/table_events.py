"""Control messages: what an operator says to every partition."""

from __future__ import annotations

import msgspec

from psm.contracts import registry
from psm.contracts.control_events import CONTROL_SUBJECTS
from psm.contracts.envelope import Envelope
from psm.contracts.events import RulesEnabled
from psm.domain.books import RULES_VERSION, Books
from psm.domain.delivery.rules import history_wanted
from psm.domain.folding.account import stream_fold
from psm.domain.folding.market_events import fold_table, is_stale
from psm.domain.folding.rebooking import with_market
from psm.domain.messages import (
    Emit,
    Folded,
    History,
    LogMessage,
    NeedHistory,
    Outcome,
    UnknownRulesError,
)
from psm.domain.publication.updates import UpdateWriter


def fold_control(
    books: Books, message: LogMessage, token: str, history: History | None, emit: Emit
) -> Folded | NeedHistory:
    """Take an operator's message to every partition; unknown rules stop the worker."""
    writer = UpdateWriter(books, message, "event", emit)
    if message.subject in ("control.log", "control.region"):
        return fold_table(books, message, token, writer, _Noted(books, message))
    rules = _NewRules(books, message, history or {}, emit)
    result = fold_table(books, message, token, writer, rules)
    if not isinstance(result, Folded):
        return result
    parts = [result, *rules.released]
    return msgspec.structs.replace(
        result,
        placements=[one for part in parts for one in part.placements],
        updates=[one for part in parts for one in part.updates],
        payloads=[one for part in parts for one in part.payloads],
        hashes=[one for part in parts for one in part.hashes],
    )


class _Noted:
    """A message that says something to those who read the log, and changes nothing in the books."""

    numbered = False

    def __init__(self, books: Books, message: LogMessage) -> None:
        self._books = books
        self._message = message
        self.event_types = tuple(
            name for name, subject in CONTROL_SUBJECTS.items() if subject == message.subject
        )

    def take(self, envelope: Envelope) -> Outcome:
        books, message = self._books, self._message
        if is_stale(books, message, envelope):
            return Outcome.STALE
        registry.codec_for(envelope).decode(envelope.payload)
        books.market.take_number(message.subject, envelope.sequence_number)
        return Outcome.APPLIED

    def publish(self) -> None:
        """Nothing: no figure is another one."""


class _NewRules:
    numbered = False

    def __init__(self, books: Books, message: LogMessage, history: History, emit: Emit) -> None:
        self._books = books
        self._message = message
        self._history = history
        self._emit: Emit = emit
        rules = message.subject == "control.rules"
        self.event_types: tuple[str, ...] = ("RulesEnabled",) if rules else ()
        self.released: list[Folded] = []

    def take(self, envelope: Envelope) -> Outcome | NeedHistory:
        books, message = self._books, self._message
        if is_stale(books, message, envelope):
            return Outcome.STALE
        event = registry.codec_for(envelope).decode(envelope.payload)
        assert isinstance(event, RulesEnabled)
        if event.rules_version > RULES_VERSION:
            raise UnknownRulesError(
                f"log sequence {message.log_sequence} enables rules {event.rules_version}; "
                f"this version knows rules up to {RULES_VERSION}: run a newer version"
            )
        if event.rules_version != books.market.rules:
            wanted = self._enable(event.rules_version, envelope)
            if wanted is not None:
                return wanted
        books.market.take_number(message.subject, envelope.sequence_number)
        return Outcome.APPLIED

    def publish(self) -> None:
        """Nothing but what the released streams published."""

    def _enable(self, version: int, cause: Envelope) -> NeedHistory | None:
        """Judge by other rules from here on; release each stream that an unknown event blocked.

        Streams go on in ascending order, each as if it were retried by itself.
        """
        books, message = self._books, self._message
        waiting = [
            account.delivery
            for _, account in sorted(books.accounts.items())
            if account.delivery.blocked is not None
            and message.log_sequence > account.delivery.as_of
            and account.delivery.blocked.known_by(version)
        ]
        for delivery in waiting:
            assert delivery.blocked is not None
            if delivery.blocked.log_sequence not in self._history:
                number = delivery.version + 1
                wanted = history_wanted(delivery, number, message.log_sequence, correction=False)
                assert wanted is not None
                return with_market(books, wanted)
        books.market.enable_rules(message.log_sequence, version)
        for delivery in waiting:
            stream_id = delivery.stream_id
            own = {at: m for at, m in self._history.items() if m.stream_id in (None, stream_id)}
            fold = stream_fold(books, message, stream_id, own, self._emit)
            self.released.append(fold.resume(cause))
        return None
