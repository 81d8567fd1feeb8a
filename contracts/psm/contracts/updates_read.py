"""Updates as a consumer reads them: bytes with their kind, and fast decoders of each kind."""

from __future__ import annotations

from typing import Generic, TypeVar, get_type_hints

import msgspec

from psm.contracts.errors import InvariantError

P = TypeVar("P", bound=msgspec.Struct)


class ReadUpdate(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One update as read from the stream PSM, or as folded again from the log.

    Attributes:
        kind: such as `position.updated`.
        data: bytes of the envelope.
        partition: of the stream PSM.
        traceparent: W3C trace context of the message, if it had one.
    """

    kind: str
    data: bytes
    partition: int = 0
    traceparent: str | None = None


class Decoded(msgspec.Struct, Generic[P], frozen=True, kw_only=True):
    """An update's envelope with a payload of a known type."""

    timestamp: str
    correlation_id: str | None = None
    causation_id: str | None = None
    payload: P


def decoder(payload: type[P]) -> msgspec.json.Decoder[Decoded[P]]:
    """Return a decoder of updates with this payload: fields and types, without the patterns.

    A pattern for each number and hash takes five times as long as all the rest of decoding.
    Workers write these strings, `psm audit` compares them, PostgreSQL parses the numbers again.
    """
    plain = get_type_hints(payload)  # leaves out what `Annotated` adds
    fields = [
        (field.encode_name, plain[field.name], *(() if field.required else (field.default,)))
        for field in msgspec.structs.fields(payload)
    ]
    relaxed = msgspec.defstruct(payload.__name__, fields, frozen=True, kw_only=True)
    return msgspec.json.Decoder(Decoded[relaxed])  # type: ignore[valid-type]


def decode(decoder: msgspec.json.Decoder[Decoded[P]], update: ReadUpdate) -> Decoded[P]:
    """Return the decoded envelope.

    Raises:
        InvariantError: PSM published something that is not its own contract.
    """
    try:
        return decoder.decode(update.data)
    except msgspec.DecodeError as error:
        raise InvariantError(f"a {update.kind} update cannot be read: {error}") from error
