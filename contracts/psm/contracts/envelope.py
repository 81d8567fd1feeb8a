"""The envelope: what every event on every subject carries around its payload."""

from __future__ import annotations

import hashlib

import msgspec

from psm.contracts import limits

MAX_BODY_BYTES = limits.BODY_BYTES
"""A larger body is rejected; large payloads belong elsewhere."""


class Envelope(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event as it was read, its payload still in the bytes that were hashed.

    Attributes:
        event_id: UUID in canonical lower-case form; the event's identity.
        event_type: past tense, such as `TradeExecuted`.
        stream_id: account or portfolio; the encoded symbol on `marks.*` and `instruments.*`.
        sequence_number: place in the stream, 1, 2, 3, ...; None where none is required.
        timestamp: RFC 3339 in UTC, as it was sent; explains, never orders.
        schema_version: normalised SemVer, `1.0.0`.
        payload: the payload's bytes.
        correlation_id: same trade or session.
        causation_id: the event that caused this one.
    """

    event_id: str
    event_type: str
    stream_id: str
    sequence_number: int | None
    timestamp: str
    schema_version: str
    payload: bytes
    source_service: str | None = None
    user_id: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None

    @property
    def major(self) -> int:
        """Major schema version."""
        return int(self.schema_version[: self.schema_version.index(".")])

    @property
    def identity(self) -> bytes:
        """The event id as its 16 bytes."""
        return bytes.fromhex(self.event_id.replace("-", ""))


def event_hash(data: bytes) -> bytes:
    """Return SHA-256 of a message's bytes as stored, envelope and payload. Never re-encoded."""
    return hashlib.sha256(data).digest()


def chain_start(stream_id: str) -> bytes:
    """Return the chain hash of a stream before its first event."""
    return hashlib.sha256(b"psm:" + stream_id.encode(errors="surrogateescape")).digest()


def chain_next(chain: bytes, hashed: bytes) -> bytes:
    """Return the chain hash after the event with hash `hashed` took its place."""
    return hashlib.sha256(chain + hashed).digest()
