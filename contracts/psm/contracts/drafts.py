"""What a producer hands over, as the body that enters the log.

An event comes as bytes, as a dict or as an `Envelope`, with or without its number. Bytes that
have a number enter unchanged, because their hash is the event's; a number that is assigned is
inserted without touching the rest. No number passes through a binary float.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from psm.contracts import codec, registry, upcasters
from psm.contracts.control_events import CONTROL_SUBJECTS
from psm.contracts.envelope import MAX_BODY_BYTES, Envelope
from psm.contracts.errors import ContractError
from psm.contracts.sequencing import ACCOUNT_REPORTED, NO_PLACE, OPERATOR_EVENTS, UNNUMBERED
from psm.contracts.subjects import is_stream_id, repair, trades
from psm.contracts.table_events import TABLE_SUBJECTS

NUMBER = "sequence_number"
_LONGEST_NUMBER = 19

Event = Mapping[str, Any] | bytes | Envelope


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """An event that is checked and ready for its number.

    Attributes:
        subject: to publish to.
        envelope: as it will be read; its number is only a stand-in where `number` is None.
        number: the number the producer gave, or None.
        numbered: whether an event of this type has a number at all.
        body: the bytes, without a number if one is to be assigned.
    """

    subject: str
    envelope: Envelope
    number: int | None
    numbered: bool
    body: bytes

    def with_number(self, number: int | None) -> bytes:
        """Return the body as it enters the log under `number`."""
        if self.number is not None or number is None:
            return self.body
        return _inserted(self.body, number)


def draft_of(
    event: Event,
    *,
    sequence_number: int | None = None,
    validate: bool = True,
    partitions: int | None = None,
) -> Draft:
    """Return the draft of an event.

    A flat 0.x draft (no `payload`) becomes a 1.x event with the same `event_id`.

    Args:
        event: the envelope in any of its forms.
        sequence_number: its number, where the event itself has none.
        validate: also check the payload, so that nothing enters that the fold would refuse
            for its form.
        partitions: of the log; an operator's event needs them, because its subject has the
            partition in it. None refuses such events `operators_only`.

    Raises:
        ContractError: it is not an event; `field` names what is wrong.
    """
    body = _numbered(_body(event), sequence_number)
    envelope = codec.decode_envelope(body)
    numbered = envelope.event_type not in UNNUMBERED
    if envelope.event_type == ACCOUNT_REPORTED and envelope.sequence_number is not None:
        raise ContractError("malformed_field", NO_PLACE, NUMBER)
    if len(body) > MAX_BODY_BYTES - len(NUMBER) - _LONGEST_NUMBER - len('"":,'):
        raise ContractError("invalid_json", f"the body is larger than {MAX_BODY_BYTES} bytes")
    subject = _subject(envelope, partitions)
    if validate:
        on_account = numbered and subject.startswith("trades.")
        find = registry.account_codec_for if on_account else registry.codec_for
        find(envelope).decode(envelope.payload)
    return Draft(
        subject=subject,
        envelope=envelope,
        number=envelope.sequence_number if numbered else None,
        numbered=numbered,
        body=body,
    )


def _numbered(body: bytes, sequence_number: int | None) -> bytes:
    """Return the body as a 1.x event, with the number if one is given for an event without."""
    codec.check_text(body)
    fields = codec.decode_untyped(body)
    if upcasters.is_flat(fields):
        fields = upcasters.upcast_flat(fields)
        body = codec.encode(fields)
    if NUMBER in fields and fields[NUMBER] is None:
        fields.pop(NUMBER)
        body = codec.encode(fields)
    given = fields.get(NUMBER, sequence_number)
    if sequence_number is not None and given != sequence_number:
        raise ContractError(
            "malformed_field", f"{NUMBER} is {given} in the event, not {sequence_number}", NUMBER
        )
    codec.require_fields(fields)
    if given is not None and NUMBER not in fields:
        return _inserted(body, given)
    return body


def _body(event: Event) -> bytes:
    if isinstance(event, bytes):
        return event
    if isinstance(event, Envelope):
        fields = msgspec.structs.asdict(event)
        fields["payload"] = msgspec.Raw(event.payload)
        return codec.encode({name: value for name, value in fields.items() if value is not None})
    body = codec.encode_event(event)  # first: what nests without end is no JSON
    _refuse_floats(event, "")
    return body


def _refuse_floats(value: object, path: str) -> None:
    if isinstance(value, float):
        raise ContractError(
            "malformed_field", f"{path} is a binary float: pass a string or a Decimal", path
        )
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _refuse_floats(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            _refuse_floats(inner, f"{path}[{place}]")


def _inserted(body: bytes, number: int) -> bytes:
    return b'{"%s":%d,%s' % (NUMBER.encode(), number, body.lstrip()[1:])


def _subject(envelope: Envelope, partitions: int | None) -> str:
    control = CONTROL_SUBJECTS.get(envelope.event_type)
    if control is not None:
        return control
    head = TABLE_SUBJECTS.get(envelope.event_type)
    if head is not None:
        return f"{head}.{envelope.stream_id}"
    if not is_stream_id(envelope.stream_id):
        raise ContractError(
            "malformed_field", "stream_id must be 1 to 64 letters, digits, _ or -", "stream_id"
        )
    if envelope.event_type not in OPERATOR_EVENTS:
        return trades(envelope.stream_id)
    if partitions is None:
        raise ContractError(
            "operators_only",
            f"{envelope.event_type} is an operator's event: append it with `psm dlq`",
            "event_type",
        )
    return repair(envelope.stream_id, partitions)
