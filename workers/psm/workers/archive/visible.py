"""Which archived events a reader may see, and documents with stubs in place of the others."""

from __future__ import annotations

from typing import Any

import msgspec

from psm.projections.names import ALL_NAMES, Names

STUB = msgspec.Raw(b'{"stub":true}')
"""What stands for an event of somebody else: that it is there, and nothing of it."""

_NULL, _NONE = msgspec.Raw(b"null"), msgspec.Raw(b"[]")


class _Whose(msgspec.Struct, frozen=True):
    stream_id: str | None
    js_stream: str


class _Linked(msgspec.Struct):
    depth: int
    event: msgspec.Raw


class _Causes(msgspec.Struct):
    event_id: str
    chain: list[_Linked]
    effects: list[_Linked]
    missing_cause: msgspec.Raw


class _Explained(msgspec.Struct):
    event: msgspec.Raw
    decision: msgspec.Raw
    signal: msgspec.Raw
    market_data: msgspec.Raw
    checks: msgspec.Raw
    risk_state: msgspec.Raw
    found_by: msgspec.Raw
    causation_chain: list[_Linked]
    effects: list[_Linked]
    missing_cause: msgspec.Raw


class _Related(msgspec.Struct):
    relation: str
    event: msgspec.Raw


class _Correlated(msgspec.Struct):
    correlation_id: msgspec.Raw
    events: list[_Related]


class Visible(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader may see: events of accounts, and whole streams of the broker."""

    accounts: Names = ALL_NAMES
    streams: Names = ALL_NAMES

    @property
    def is_everything(self) -> bool:
        """Whether nothing is hidden."""
        return self.accounts == ALL_NAMES or self.streams == ALL_NAMES

    def likes(self) -> list[Any]:
        """Return the patterns for accounts and for streams, as SQL takes them."""
        return [self.accounts.likes(), self.streams.likes()]

    def shows(self, account_id: str | None, js_stream: str) -> bool:
        """Return whether the reader may see an event."""
        return self.is_everything or self.accounts.has(account_id) or self.streams.has(js_stream)

    def causation(self, document: bytes) -> bytes:
        """Return the document of an event's causes and effects as the reader may see it."""
        if self.is_everything:
            return document
        told = msgspec.json.decode(document, type=_Causes)
        self._stub(told.chain + told.effects)
        told.missing_cause = _NULL
        return msgspec.json.encode(told)

    def explain(self, document: bytes) -> bytes:
        """Return the document of an event's explanation as the reader may see it."""
        if self.is_everything:
            return document
        told = msgspec.json.decode(document, type=_Explained)
        self._stub(told.causation_chain + told.effects)
        told.signal, told.market_data = self._seen(told.signal), self._seen(told.market_data)
        told.decision = self._seen(told.decision)
        if told.decision is STUB:
            told.checks, told.risk_state = _NONE, _NULL
        told.missing_cause = _NULL
        return msgspec.json.encode(told)

    def correlation(self, document: bytes) -> bytes | None:
        """Return the document of a correlation as the reader may see it; None without any event."""
        if self.is_everything:
            return document
        told = msgspec.json.decode(document, type=_Correlated)
        for related in told.events:
            related.event = self._seen(related.event)
        if all(related.event is STUB for related in told.events):
            return None
        return msgspec.json.encode(told)

    def _stub(self, linked: list[_Linked]) -> None:
        for link in linked:
            link.event = self._seen(link.event)

    def _seen(self, event: msgspec.Raw) -> msgspec.Raw:
        """Return an event's document, or a stub in its place."""
        whose = msgspec.json.decode(event, type=_Whose | None)
        if whose is None or self.shows(whose.stream_id, whose.js_stream):
            return event
        return STUB


EVERYTHING = Visible()
