"""What the event archive answers over HTTP, as structs: for the service's description of itself.

The documents are made by PostgreSQL; a test decodes real answers with these.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from psm.workers.access.vouched import Author


class ArchivedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One archived message.

    Attributes:
        archive_sequence: place in the archive; the sequence of every list.
        js_stream, js_sequence: where the broker keeps or kept it.
        log_sequence: logical time, on the log only.
        role: part in a decision, such as `signal`.
        outcome: what the fold made of it; null for recorded streams, marks and duplicates.
        bytes: size of the message.
        left_out: fields that are null or escaped here although the message has them: no column
            can hold what it says, or the answer would be too large. Its bytes have them.
        payload, metadata: null where the message is not the JSON of an event.
    """

    archive_sequence: int
    js_stream: str
    js_sequence: int
    log_sequence: int | None
    subject: str
    stored_at: str
    event_id: str | None
    event_type: str | None
    role: str | None
    stream_id: str | None
    sequence_number: int | None
    timestamp: str | None
    schema_version: str | None
    source_service: str | None
    user_id: str | None
    correlation_id: str | None
    causation_id: str | None
    event_hash: str
    chain_hash: str | None
    ledger_hash: str | None
    state_hash: str | None
    outcome: Literal["applied", "refused", "rejected", "conflict", "stale"] | None
    refusal_reason: str | None
    refusal_detail: str | None
    bytes: int
    left_out: list[str]
    metadata: Any
    payload: Any


class WholeEvent(ArchivedEvent, frozen=True, kw_only=True):
    """One archived message with its bytes.

    Attributes:
        headers: of the producer.
        subject_base64: the subject's bytes, where `subject` cannot hold them.
        raw_base64: the body as it was stored; `event_hash` is its SHA-256. Null for more than a
            megabyte, which `/events/{event_id}/bytes` gives in pieces.
        deliveries: `archive_sequence` of messages with this `event_id`, the first 1000.
        author: who appended it, as far as a service vouched for it.
    """

    headers: dict[str, str] | None
    subject_base64: str | None
    raw_base64: str | None
    deliveries: list[int]
    author: Author


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """Events in the order of archiving; `next_sequence` is where the next page starts."""

    events: list[ArchivedEvent]
    next_sequence: int | None


class CausalStep(msgspec.Struct, frozen=True, kw_only=True):
    """An event and how many causes or effects lie between."""

    depth: int
    event: ArchivedEvent


class Causation(msgspec.Struct, frozen=True, kw_only=True):
    """Causes, the first one first and the event itself last, and effects.

    Attributes:
        missing_cause: what the first of them names as its cause, where that is not archived.
    """

    event_id: str
    chain: list[CausalStep]
    effects: list[CausalStep]
    missing_cause: str | None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why an event is there.

    Attributes:
        checks, risk_state: of the decision's payload.
        found_by: how decision, signal and market data were found: `causation`, `effect`, when
            only the correlation links them `correlation`, and `named` for the mark of which a
            decision says that it was made with it.
    """

    event: ArchivedEvent
    decision: ArchivedEvent | None
    signal: ArchivedEvent | None
    market_data: ArchivedEvent | None
    checks: Any
    risk_state: Any
    found_by: dict[str, str]
    causation_chain: list[CausalStep]
    effects: list[CausalStep]
    missing_cause: str | None


class RelatedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a correlation, or one that only causation links to it."""

    relation: Literal["correlated", "cause", "effect"]
    event: ArchivedEvent


class Correlation(msgspec.Struct, frozen=True, kw_only=True):
    """All events of a correlation, with causes and effects outside of it."""

    correlation_id: str
    events: list[RelatedEvent]
