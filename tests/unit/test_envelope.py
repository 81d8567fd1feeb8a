"""Identity and hashes of an event."""

from __future__ import annotations

import hashlib

from tests.support.events import deposit

from psm.contracts.codec import decode_envelope
from psm.contracts.envelope import chain_next, chain_start, event_hash


def test_event_hash_is_of_the_stored_bytes() -> None:
    """One blank more is another event, though it means the same."""
    data = deposit(1).data
    assert event_hash(data) == hashlib.sha256(data).digest()
    assert event_hash(data) != event_hash(data + b" ")


def test_chain_starts_with_the_stream() -> None:
    """Two streams with the same events have different chains."""
    assert chain_start("a") == hashlib.sha256(b"psm:a").digest()
    assert chain_next(chain_start("a"), b"x" * 32) != chain_next(chain_start("b"), b"x" * 32)


def test_identity_and_major() -> None:
    """The id as 16 bytes, and the number that decides about understanding."""
    envelope = decode_envelope(deposit(1, schema_version="12.3").data)
    assert envelope.identity.hex() == envelope.event_id.replace("-", "")
    assert envelope.major == 12
