"""Bytes <-> envelope, and canonical bytes. Payloads are read by `payload_codec`.

Whether bytes are accepted, and the text of a refusal, enter published updates and must be the same
in seven years. So the decision and its words are made here: msgspec is the fast path for what is
valid, `_explain_*` finds the first field that is not. Nothing passes through a binary float.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any

import msgspec

from psm.contracts import limits, subjects, upcasters
from psm.contracts.envelope import MAX_BODY_BYTES, Envelope
from psm.contracts.errors import ContractError

MAX_DEPTH = limits.DEPTH
MAX_SEQUENCE_NUMBER = limits.SEQUENCE_NUMBER
INVALID_JSON = (msgspec.MsgspecError, ValueError, RecursionError)
"""What msgspec raises where bytes are not the JSON that was asked for."""

_EVENT_ID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TIMESTAMP = re.compile(
    r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
    r"T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|\+00:00)",
    re.ASCII,
)
_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_PART = rf"(0|[1-9]\d{{0,{limits.VERSION_DIGITS - 1}}})"
_VERSION = re.compile(rf"{_PART}(\.{_PART})?(\.{_PART})?", re.ASCII)

# A surrogate that stands alone is an escape like any other to JSON, and no letter of any encoding:
# parsers differ in what they make of it. It is read as NUL, which no field may hold that is read.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}(?:\\u[dD][c-fC-F][0-9a-fA-F]{2})?"
    rb"|u[dD][c-fC-F][0-9a-fA-F]{2}|.)",
    re.DOTALL,
)
_ALONE = len(rb"\ud800")
# So many digits are in no range that is allowed: they stay text, because converting them depends on
# limits of the interpreter.
_MANY_DIGITS = re.compile(rb"[0-9]{%d}" % (limits.NUMBER_BYTES + 1))
_STRING_OR_NUMBER = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*', re.DOTALL)

_Text = Annotated[str, msgspec.Meta(max_length=limits.ENVELOPE_TEXT_BYTES)]


class _Wire(msgspec.Struct, frozen=True, gc=False):
    """The envelope's fast path: what JSON must look like before its values are checked."""

    event_id: str
    event_type: str
    timestamp: str
    schema_version: str
    payload: msgspec.Raw
    stream_id: str | None = None
    sequence_number: int | None = None
    source_service: _Text | None = None
    user_id: _Text | None = None
    correlation_id: _Text | None = None
    causation_id: _Text | None = None


_wire = msgspec.json.Decoder(_Wire)
_untyped = msgspec.json.Decoder(dict[str, Any], float_hook=str)
_raw = msgspec.json.Decoder(dict[str, msgspec.Raw])
_canonical = msgspec.json.Encoder(order="sorted")
_encoder = msgspec.json.Encoder(order="deterministic")
_in_order = msgspec.json.Encoder()
_LAST_DIGITS = "123456789"


# --- decimals and canonical bytes -------------------------------------------------------------


def canonical_decimal(value: Decimal) -> str:
    """Return `value` without exponent, trailing zeros or `-0`; exact at any precision."""
    text = str(value)
    if "." not in text and "E" not in text:
        return "0" if text == "-0" else text
    if text[-1] in _LAST_DIGITS and "E" not in text:
        return text
    if "E" in text:
        text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def json_text(text: str) -> str:
    """Return a string as JSON, quotes included."""
    return _encoder.encode(text).decode()


json_name = lru_cache(maxsize=65536)(json_text)
"""The same, remembered: for names that come again and again."""


def canonical_bytes(value: object) -> bytes:
    """Return canonical JSON: keys sorted, no blanks. Decimals must be canonical strings already."""
    return _canonical.encode(value)


def encode(value: object) -> bytes:
    """Return JSON, struct fields in their order, dict keys sorted; same value, same bytes."""
    return _encoder.encode(value)


def encode_event(fields: Mapping[str, Any]) -> bytes:
    """Return the body of an event that comes as values, as `encode` does.

    Raises:
        ContractError: something in it is no JSON: a set, text without UTF-8, endless nesting.
    """
    try:
        return _encoder.encode(fields)
    except (*INVALID_JSON, TypeError, OverflowError) as error:
        raise ContractError("invalid_json", "the event cannot be written as JSON") from error


def encode_fields(fields: Mapping[str, object]) -> bytes:
    """Return a JSON object with the fields in the order they stand in."""
    return _in_order.encode(fields)


def decode_untyped(data: bytes | str) -> dict[str, Any]:
    """Return the JSON object in `data`.

    Numbers with a point or exponent stay their literal text, and so do integers that are longer
    than any number may be.

    Raises:
        ContractError: `data` is not a JSON object.
    """
    try:
        return _untyped.decode(readable(data))
    except INVALID_JSON as error:
        raise ContractError("invalid_json", "the body is not a JSON object") from error


def readable(data: bytes | str) -> bytes:
    """Return JSON that every parser reads alike: no surrogates alone, no endless integers.

    Raises:
        UnicodeError: `data` is text that has no UTF-8.
    """
    raw = data.encode() if isinstance(data, str) else data
    raw = _without_surrogates(raw)
    if _MANY_DIGITS.search(raw) is None:
        return raw
    return _STRING_OR_NUMBER.sub(_quoted_if_endless, raw)


def _quoted_if_endless(match: re.Match[bytes]) -> bytes:
    text = match[0]
    digits = text.removeprefix(b"-")
    endless = len(text) > limits.NUMBER_BYTES and digits.isdigit() and digits[:1] != b"0"
    return b'"%s"' % text if endless else text


def _without_surrogates(raw: bytes) -> bytes:
    if b"\\" not in raw or _SURROGATE.search(raw) is None:
        return raw
    return _ESCAPE.sub(lambda match: rb"\u0000" if len(match[0]) == _ALONE else match[0], raw)


def with_fields(data: bytes, fields: Mapping[str, object]) -> bytes:
    """Return the JSON object in `data` with these fields added in front, where they are missing.

    Every value that is there keeps its bytes: a number stays the text it was written as.

    Raises:
        ContractError: `data` is not a JSON object.
    """
    present = raw_fields(data)
    added = {name: value for name, value in fields.items() if _is_missing(present.get(name))}
    if not added:
        return data
    head = msgspec.json.encode(added)
    if not present:
        return head
    if any(name in present for name in added):
        kept = {name: value for name, value in present.items() if name not in added}
        return msgspec.json.encode({**added, **kept})
    return head[:-1] + b"," + data.lstrip()[1:]


def _is_missing(value: msgspec.Raw | None) -> bool:
    return value is None or bytes(value) == b"null"


def raw_fields(data: bytes | str) -> dict[str, msgspec.Raw]:
    """Return the fields of the JSON object in `data`, each still in its own bytes.

    Raises:
        ContractError: `data` is not a JSON object.
    """
    try:
        return _raw.decode(_without_surrogates(data.encode() if isinstance(data, str) else data))
    except INVALID_JSON as error:
        raise ContractError("invalid_json", "the body is not a JSON object") from error


# --- envelope ---------------------------------------------------------------------------------


def decode_envelope(data: bytes, *, named: bool = True) -> Envelope:
    """Return the envelope in `data`, its values checked; the payload stays undecoded.

    Unless it must be `named` its `stream_id` may be left out, and is empty then.

    Raises:
        ContractError: reason `invalid_json`, `missing_field`, `malformed_field` or, for an
            unnumbered flat draft, `sequence_missing`; `field` names the first offending field.
    """
    check_text(data)
    escaped = b"\\" in data
    try:
        wire = _wire.decode(_without_surrogates(data) if escaped else data)
    except INVALID_JSON:
        raise _explain_envelope(data) from None
    payload, number = bytes(wire.payload), wire.sequence_number
    version = _checked_version(wire.schema_version)
    if (
        _EVENT_ID.fullmatch(wire.event_id) is None
        or not wire.event_type
        or len(wire.event_type) > limits.EVENT_TYPE_BYTES
        or (named if wire.stream_id is None else not is_stream_token(wire.stream_id))
        or (number is not None and not 1 <= number <= MAX_SEQUENCE_NUMBER)
        or not is_timestamp(wire.timestamp)
        or version is None
        or payload[:1] != b"{"
        or ((escaped or not data.isascii()) and not _are_texts(wire))
    ):
        raise _explain_envelope(data)
    return Envelope(
        event_id=wire.event_id.lower(),
        event_type=wire.event_type,
        stream_id=wire.stream_id or "",
        sequence_number=number,
        timestamp=wire.timestamp,
        schema_version=version,
        payload=payload,
        source_service=wire.source_service,
        user_id=wire.user_id,
        correlation_id=wire.correlation_id,
        causation_id=wire.causation_id,
    )


def is_text(text: str, longest: int) -> bool:
    """Return whether every stage can hold `text`: no NUL, at most `longest` bytes of UTF-8."""
    return len(text) <= longest and "\0" not in text and len(text.encode()) <= longest


def _are_texts(wire: _Wire) -> bool:
    texts = (wire.source_service, wire.user_id, wire.correlation_id, wire.causation_id)
    return is_text(wire.event_type, limits.EVENT_TYPE_BYTES) and all(
        text is None or is_text(text, limits.ENVELOPE_TEXT_BYTES) for text in texts
    )


@lru_cache(maxsize=1024)
def _checked_version(text: str) -> str | None:
    """Return a semantic version in full, None where it is none."""
    return normal_version(text) if _VERSION.fullmatch(text) else None


is_stream_token = subjects.is_token
"""Whether a text may be a `stream_id`: an account's, or an encoded symbol."""


def is_timestamp(text: str) -> bool:
    """Return whether `text` is an RFC 3339 time in UTC with at most microseconds."""
    if _TIMESTAMP.fullmatch(text) is None:
        return False
    if text[8:10] <= "28":
        return text[:4] != "0000"
    year, month, day = int(text[:4]), int(text[5:7]), int(text[8:10])
    leap = month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return year > 0 and day <= _DAYS[month - 1] + leap


def normal_version(text: str) -> str:
    """Return `1`, `1.0` and `1.0.0` as `1.0.0`."""
    return text + ".0" * (2 - text.count("."))


def check_text(data: bytes) -> None:
    """Refuse what different parsers or Python versions might judge differently.

    Raises:
        ContractError: `data` is too long, too deep or no UTF-8.
    """
    if len(data) > MAX_BODY_BYTES:
        raise ContractError("invalid_json", f"the body is larger than {MAX_BODY_BYTES} bytes")
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            raise ContractError("invalid_json", "the body is not UTF-8") from None
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH and _depth(data) > MAX_DEPTH:
        raise ContractError("invalid_json", f"the body nests deeper than {MAX_DEPTH} levels")


def _depth(data: bytes) -> int:
    """Return how deep brackets nest outside of strings."""
    deepest = depth = 0
    for match in re.finditer(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', data):
        if match[0] in (b"{", b"["):
            depth += 1
            deepest = max(deepest, depth)
        elif match[0] in (b"}", b"]"):
            depth -= 1
    return deepest


def require_fields(fields: Mapping[str, Any]) -> None:
    """Raise if required fields of an envelope are missing or null, naming all of them at once.

    Raises:
        ContractError: `missing_field`; `field` is the first of them.
    """
    rules = _ENVELOPE_RULES.items()
    missing = [name for name, (required, *_) in rules if required and fields.get(name) is None]
    if missing:
        *first, last = missing
        named = f"{', '.join(first)} and {last} are" if first else f"{last} is"
        raise ContractError("missing_field", f"{named} required", missing[0])


def _explain_envelope(data: bytes) -> ContractError:
    """Return the error for the first field of an envelope that is not as it must be."""
    try:
        fields = decode_untyped(data)
    except ContractError as error:
        return error
    if upcasters.is_flat(fields):
        return ContractError(
            "sequence_missing",
            "a flat draft has no sequence_number: append it through POST /psm/events "
            "or psm publish, which assign one",
            "sequence_number",
        )
    for name, (required, accepts, expected) in _ENVELOPE_RULES.items():
        value = fields.get(name)
        if value is None:
            if required:
                return ContractError("missing_field", f"{name} is required", name)
        elif not accepts(value):
            return ContractError("malformed_field", f"{name} must be {expected}", name)
    return ContractError("invalid_json", "the body is not a valid JSON envelope")


def _is_text(value: object, longest: int = limits.ENVELOPE_TEXT_BYTES) -> bool:
    return isinstance(value, str) and is_text(value, longest)


_TEXT_RULE = f"text of at most {limits.ENVELOPE_TEXT_BYTES} bytes, without NUL"

_ENVELOPE_RULES: dict[str, tuple[bool, Any, str]] = {
    "event_id": (True, lambda v: _is_text(v) and _EVENT_ID.fullmatch(v), "a UUID"),
    "event_type": (
        True,
        lambda v: _is_text(v, limits.EVENT_TYPE_BYTES) and v,
        f"1 to {limits.EVENT_TYPE_BYTES} bytes, without NUL",
    ),
    "stream_id": (
        True,
        lambda v: _is_text(v) and is_stream_token(v),
        f"{subjects.STREAM_ID_RULE} (or an encoded symbol)",
    ),
    "sequence_number": (
        False,
        lambda v: type(v) is int and 1 <= v <= MAX_SEQUENCE_NUMBER,
        "an integer from 1",
    ),
    "timestamp": (
        True,
        lambda v: _is_text(v) and is_timestamp(v),
        "RFC 3339 in UTC, such as 2025-12-12T10:30:00.123456Z",
    ),
    "schema_version": (
        True,
        lambda v: _is_text(v) and _VERSION.fullmatch(v),
        "a semantic version such as 1.0.0",
    ),
    "payload": (True, lambda v: isinstance(v, dict), "an object"),
    "source_service": (False, _is_text, _TEXT_RULE),
    "user_id": (False, _is_text, _TEXT_RULE),
    "correlation_id": (False, _is_text, _TEXT_RULE),
    "causation_id": (False, _is_text, _TEXT_RULE),
}
