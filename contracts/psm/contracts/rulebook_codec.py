"""Bytes <-> events of the rulebook, and the bytes that their signatures are made over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from psm.contracts import codec
from psm.contracts.envelope import Envelope
from psm.contracts.errors import ContractError
from psm.contracts.payload_codec import OpenPayloadCodec
from psm.contracts.rulebook_events import RULEBOOK_EVENTS, RulebookEvent
from psm.contracts.subjects import encode_token, rulebook

_SIGNATURE = "signature"
_CODECS = {name: OpenPayloadCodec(kind) for name, kind in RULEBOOK_EVENTS.items()}


class SignedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the rulebook as it was read; nothing of its signature is verified yet.

    Attributes:
        envelope: around it.
        event: its payload.
        signed: what the signature is over.
    """

    envelope: Envelope
    event: RulebookEvent
    signed: bytes


def subject_of(event: RulebookEvent) -> str:
    """Return the subject that an event stands on."""
    return rulebook(*event.place())


def signed_bytes(
    event_id: str, event_type: str, schema_version: str, payload: Mapping[str, Any]
) -> bytes:
    """Return what is signed: id, type, version and payload less its signature, as canonical JSON.

    The id is in it, so that what was signed once cannot be said a second time.
    """
    said = {name: value for name, value in payload.items() if name != _SIGNATURE}
    return codec.canonical_bytes(
        {
            "event_id": event_id,
            "event_type": event_type,
            "schema_version": schema_version,
            "payload": said,
        }
    )


def decode_event(event_type: str, payload: bytes) -> RulebookEvent:
    """Return the event that a payload is.

    Raises:
        ContractError: the type is none of the rulebook's, or a field is not as it must be.
    """
    known = _CODECS.get(event_type)
    if known is None:
        text = f"{event_type} is no event of the rulebook"
        raise ContractError("unknown_event_type", text, "event_type")
    fields = known.decode(payload)
    try:
        return msgspec.convert(fields, RULEBOOK_EVENTS[event_type])
    except msgspec.ValidationError as error:
        raise ContractError("invalid_payload", "the payload cannot be read", "payload") from error


def decode_signed(subject: str, data: bytes) -> SignedEvent:
    """Return the event that a message of RULEBOOK is.

    Raises:
        ContractError: it is none, or one of another subject.
    """
    envelope = codec.decode_envelope(data)
    event = decode_event(envelope.event_type, envelope.payload)
    if envelope.major != 1:
        raise ContractError(
            "unknown_schema_version",
            f"{envelope.event_type} has no schema version {envelope.schema_version}",
            "schema_version",
        )
    place = subject_of(event)
    if subject != place or envelope.stream_id != encode_token(event.place()[1]):
        raise ContractError("stream_mismatch", f"the event belongs on {place}", "stream_id")
    fields = codec.decode_untyped(envelope.payload)
    signed = signed_bytes(envelope.event_id, envelope.event_type, envelope.schema_version, fields)
    return SignedEvent(envelope=envelope, event=event, signed=signed)
