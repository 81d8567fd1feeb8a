"""Bytes <-> envelope and event, and canonical bytes. The only caller of `msgspec.json`.

Whether bytes are accepted, and the text of a refusal, enter published updates and must be the same
in seven years. So the decision and its words are made here: msgspec is the fast path for what is
valid, `_explain_*` finds the first field that is not. Nothing passes through a binary float.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache, partial
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import msgspec

from psm.contracts import upcasters
from psm.contracts.envelope import MAX_BODY_BYTES, Envelope
from psm.contracts.errors import ContractError
from psm.contracts.events import Payload
from psm.contracts.subjects import is_stream_id

MAX_DIGITS = 18
MAX_DEPTH = 64
MAX_SEQUENCE_NUMBER = 2**63 - 1

_EVENT_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|\+00:00)", re.ASCII)
_TIMESTAMP_OF_ANY_MONTH = re.compile(  # every date it allows exists
    r"[1-9]\d{3}-(0[1-9]|1[0-2])-([01][1-9]|10|2[0-8])"
    r"T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|\+00:00)",
    re.ASCII,
)
_VERSION = re.compile(r"(0|[1-9]\d{0,5})(\.(0|[1-9]\d{0,5}))?(\.(0|[1-9]\d{0,5}))?", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?")
# `Decimal` also accepts "1_0", " 1", "+1", ".5", "5." and digits of other scripts. A body without
# any of these marks cannot hold such a string; one that has them is looked at field by field. So is
# one with many digits in a row: only the text shows how long a number was written.
_SUSPECT = re.compile(
    rb'[_\\\x80-\xff+]|[\d.]\s+"|"\s+[\d.-]|"-?\.|\d\.["eE]|[0-9]{20}|[eE]-?[0-9]{5}'
)
# A faster look, that may only err by suspecting too much: one letter stands for a class of bytes.
_CLASSES = bytes(
    ord("!") if byte >= 0x80 or chr(byte) in "\\+"
    else ord("0") if chr(byte) in "0123456789"
    else ord("e") if chr(byte) in "eE"
    else ord(" ") if chr(byte).isspace()
    else byte if chr(byte) in '_."-'
    else ord("a")
    for byte in range(256)
)  # fmt: skip
_TWENTY, _NINETEEN = "0" * 20, "0" * 19
_INVALID = (msgspec.MsgspecError, ValueError, RecursionError)


class _NumberText(str):
    """The literal text of a JSON number with a point or exponent, where a string is not one."""

    __slots__ = ()


class _Wire(msgspec.Struct, frozen=True, gc=False):
    """The envelope's fast path: what JSON must look like before its values are checked."""

    event_id: str
    event_type: str
    stream_id: str
    timestamp: str
    schema_version: str
    payload: msgspec.Raw
    sequence_number: int | None = None
    source_service: str | None = None
    user_id: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    metadata: msgspec.Raw = msgspec.Raw(b"{}")


_wire = msgspec.json.Decoder(_Wire)
_untyped = msgspec.json.Decoder(dict[str, Any], float_hook=str)
_literal = msgspec.json.Decoder(dict[str, Any], float_hook=_NumberText)
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


def encode_fields(fields: Mapping[str, object]) -> bytes:
    """Return a JSON object with the fields in the order they stand in."""
    return _in_order.encode(fields)


def decode_untyped(data: bytes | str) -> dict[str, Any]:
    """Return the JSON object in `data`; numbers with a point or exponent stay their literal text.

    Raises:
        ContractError: `data` is not a JSON object.
    """
    try:
        return _untyped.decode(data)
    except _INVALID as error:
        raise ContractError("invalid_json", "the body is not a JSON object") from error


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
        return _raw.decode(data)
    except _INVALID as error:
        raise ContractError("invalid_json", "the body is not a JSON object") from error


# --- envelope ---------------------------------------------------------------------------------


def decode_envelope(data: bytes) -> Envelope:
    """Return the envelope in `data`, its values checked; the payload stays undecoded.

    Raises:
        ContractError: reason `invalid_json`, `missing_field`, `malformed_field` or, for an
            unnumbered flat draft, `sequence_missing`; `field` names the first offending field.
    """
    _check_text(data)
    try:
        wire = _wire.decode(data)
    except _INVALID:
        raise _explain_envelope(data) from None
    payload, number = bytes(wire.payload), wire.sequence_number
    version = _checked_version(wire.schema_version)
    if (
        _EVENT_ID.fullmatch(wire.event_id) is None
        or not wire.event_type
        or len(wire.event_type) > 128
        or not is_stream_token(wire.stream_id)
        or (number is not None and not 1 <= number <= MAX_SEQUENCE_NUMBER)
        or not is_timestamp(wire.timestamp)
        or version is None
        or payload[:1] != b"{"
        or bytes(wire.metadata)[:1] not in (b"{", b"n")
    ):
        raise _explain_envelope(data)
    return Envelope(
        event_id=wire.event_id.lower(),
        event_type=wire.event_type,
        stream_id=wire.stream_id,
        sequence_number=number,
        timestamp=wire.timestamp,
        schema_version=version,
        payload=payload,
        source_service=wire.source_service,
        user_id=wire.user_id,
        correlation_id=wire.correlation_id,
        causation_id=wire.causation_id,
    )


@lru_cache(maxsize=1024)
def _checked_version(text: str) -> str | None:
    """Return a semantic version in full, None where it is none."""
    return normal_version(text) if _VERSION.fullmatch(text) else None


@lru_cache(maxsize=65536)
def is_stream_token(text: str) -> bool:
    """Return whether `text` may be a `stream_id`: an account's, or an encoded symbol."""
    return is_stream_id(text) or (0 < len(text) <= 256 and not set(text) & set(" .*>\t\r\n"))


def is_timestamp(text: str) -> bool:
    """Return whether `text` is an RFC 3339 time in UTC with at most microseconds."""
    if _TIMESTAMP_OF_ANY_MONTH.fullmatch(text) is not None:
        return True
    if _TIMESTAMP.fullmatch(text) is None:
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def normal_version(text: str) -> str:
    """Return `1`, `1.0` and `1.0.0` as `1.0.0`."""
    return text + ".0" * (2 - text.count("."))


def _check_text(data: bytes) -> None:
    """Refuse what different parsers or Python versions might judge differently."""
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


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_ENVELOPE_RULES: dict[str, tuple[bool, Any, str]] = {
    "event_id": (True, lambda v: _is_text(v) and _EVENT_ID.fullmatch(v), "a UUID"),
    "event_type": (True, lambda v: _is_text(v) and 0 < len(v) <= 128, "1 to 128 characters"),
    "stream_id": (
        True,
        lambda v: _is_text(v) and is_stream_token(v),
        "1 to 64 letters, digits, _ or - (or an encoded symbol)",
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
    "source_service": (False, _is_text, "a string"),
    "user_id": (False, _is_text, "a string"),
    "correlation_id": (False, _is_text, "a string"),
    "causation_id": (False, _is_text, "a string"),
    "metadata": (False, lambda v: isinstance(v, dict), "an object"),
}


# --- payload ----------------------------------------------------------------------------------


class PayloadCodec:
    """Decodes one payload type, strictly; built once per type and version."""

    def __init__(self, payload_type: type[Payload]) -> None:
        self.payload_type = payload_type
        self._decoder = msgspec.json.Decoder(payload_type)
        self._fields = _field_rules(payload_type)
        self._numbers = [(rule.name, rule.sign) for rule in self._fields if rule.sign]
        self._nested = any(rule.items is not None for rule in self._fields)

    def decode(self, raw: bytes) -> Payload:
        """Return the payload in `raw`.

        Raises:
            ContractError: reason `invalid_payload` or `unknown_side`, with the field's path.
        """
        try:
            payload = self._decoder.decode(raw)
        except _INVALID:
            raise self._explain(raw) from None
        looks = _SUSPICIOUS if self._nested else _look(raw)
        if looks == _PLAIN:
            for name, sign in self._numbers:
                value = getattr(payload, name)
                if value is not None and not _has_sign(value, sign):
                    raise self._explain(raw)
            return payload
        for name, sign in self._numbers:
            value = getattr(payload, name)
            if value is not None and not _in_range(value, sign):
                raise self._explain(raw)
        if looks == _SUSPICIOUS and (self._nested or _SUSPECT.search(raw) is not None):
            self._check_fields(raw)
        return payload

    def _explain(self, raw: bytes) -> ContractError:
        try:
            self._check_fields(raw)
        except ContractError as error:
            return error
        return ContractError("invalid_payload", "the payload cannot be read", "payload")

    def _check_fields(self, raw: bytes) -> None:
        _check_rules(self._fields, decode_untyped(raw), "payload")


class OpenPayloadCodec:
    """Checks one payload type whose unknown fields are kept; built once per type and version."""

    def __init__(self, payload_type: type[Payload]) -> None:
        self.payload_type = payload_type
        self._fields = _field_rules(payload_type)

    def decode(self, raw: bytes) -> dict[str, Any]:
        """Return every field of the payload in `raw`, numbers as their literal text.

        Raises:
            ContractError: reason `invalid_payload` or `unknown_side`, with the field's path.
        """
        fields = decode_untyped(raw)
        # Judged in a form that still tells a number's text from a string.
        _check_rules(self._fields, _literal.decode(raw), "payload")
        return fields


class _FieldRule(msgspec.Struct, frozen=True, kw_only=True):
    """What one payload field must be.

    `nullable`: null means left out. `sign` is set for decimals, `choices` for literals, `items` for
    lists of structs, `free` for what an open payload may hold in any form: `object` or `scalar`.
    """

    name: str
    required: bool
    nullable: bool = False
    sign: str = ""
    choices: tuple[str, ...] = ()
    items: tuple[_FieldRule, ...] | None = None
    free: str = ""
    integer: bool = False
    boolean: bool = False
    shortest: int = 0
    longest: int = 0


def _field_rules(struct: type[msgspec.Struct]) -> tuple[_FieldRule, ...]:
    hints = get_type_hints(struct, include_extras=True)
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    return tuple(
        _rule_of(fields[name].encode_name, hint, required=fields[name].required)
        for name, hint in hints.items()
        if name in fields
    )


def _rule_of(name: str, hint: Any, *, required: bool) -> _FieldRule:
    nullable = get_origin(hint) in (Union, UnionType)
    rule = partial(_FieldRule, name=name, required=required, nullable=nullable)
    if nullable:
        (hint,) = (arg for arg in get_args(hint) if arg is not NoneType)
    meta: list[msgspec.Meta] = []
    if get_origin(hint) is Annotated:
        hint, *meta = get_args(hint)
    if hint is Decimal:
        sign = next(str(m.extra["sign"]) for m in meta if m.extra)
        return rule(sign=sign)
    if get_origin(hint) is Literal:
        return rule(choices=get_args(hint))
    if get_origin(hint) is tuple:
        return rule(items=_field_rules(get_args(hint)[0]))
    if get_origin(hint) is dict:
        return rule(free="object")
    if hint is Any:
        return rule(free="scalar")
    if hint is int:
        return rule(integer=True)
    if hint is bool:
        return rule(boolean=True)
    assert hint is str, f"no rule for {name}: {hint!r}"
    return rule(
        shortest=max((m.min_length or 0 for m in meta), default=0),
        longest=max((m.max_length or 0 for m in meta), default=0),
    )


def _check_rules(rules: tuple[_FieldRule, ...], fields: Mapping[str, Any], path: str) -> None:
    for rule in rules:
        field = f"{path}.{rule.name}"
        value = fields.get(rule.name)
        if value is None:
            if rule.required:
                raise ContractError("invalid_payload", f"{rule.name} is required", field)
            if rule.name in fields and not rule.nullable:
                _refuse(rule, field)
            continue
        _check_value(rule, value, field)


def _check_value(rule: _FieldRule, value: object, field: str) -> None:
    if rule.items is None:
        if not _is_scalar(rule, value):
            _refuse(rule, field)
        return
    if not isinstance(value, list):
        _refuse(rule, field)
    for place, item in enumerate(value):
        if not isinstance(item, dict):
            _refuse(rule, f"{field}[{place}]")
        _check_rules(rule.items, item, f"{field}[{place}]")


def _is_scalar(rule: _FieldRule, value: object) -> bool:
    """Return whether a value is what its field must be."""
    if rule.sign:
        return _is_number(value, rule.sign)
    if rule.choices:
        return value in rule.choices
    if rule.free:
        return isinstance(value, dict) == (rule.free == "object") and not isinstance(value, list)
    if rule.boolean:
        return type(value) is bool
    if rule.integer:
        return type(value) is int and 1 <= value <= MAX_SEQUENCE_NUMBER
    if type(value) is not str:
        return False
    return rule.shortest <= len(value) <= (rule.longest or len(value))


def _refuse(rule: _FieldRule, field: str) -> NoReturn:
    reason = "invalid_payload"
    if rule.items is not None:
        expected = "a list of objects"
    elif rule.sign:
        least = {"any": "", "positive": " above zero", "not_negative": " of zero or more"}
        expected = (
            f"a decimal{least[rule.sign]} with at most {MAX_DIGITS} digits before "
            f"and {MAX_DIGITS} after the point"
        )
    elif rule.choices:
        expected = " or ".join(rule.choices)
        if rule.name == "side":
            reason = "unknown_side"
            expected += "; long and short belong to the flat 0.x draft"
    elif rule.free:
        expected = "an object" if rule.free == "object" else "text, a number, true or false"
    elif rule.boolean:
        expected = "true or false"
    elif rule.integer:
        expected = "an integer from 1"
    else:
        expected = f"text of {rule.shortest} to {rule.longest} characters"
    raise ContractError(reason, f"{rule.name} must be {expected}", field)


def _is_number(value: object, sign: str) -> bool:
    text = str(value) if type(value) is int else value
    if not isinstance(text, str) or len(text) > 64 or _NUMBER.fullmatch(text) is None:
        return False
    return _in_range(Decimal(text), sign)


def _in_range(value: Decimal, sign: str) -> bool:
    """Return whether `value` has at most 18 digits on each side of the point and the right sign."""
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -MAX_DIGITS or value.adjusted() >= MAX_DIGITS:
        return False
    if sign == "positive":
        return value > 0
    return sign == "any" or value >= 0


_PLAIN, _IN_DOUBT, _SUSPICIOUS = range(3)


def _look(raw: bytes) -> int:
    """Return what the numbers in `raw` may be, by the classes of its bytes.

    `_PLAIN`: surely digits with at most one point in between and at most 18 on each side of it,
    so only finiteness and sign are left to check. `_IN_DOUBT`: maybe with an exponent or too
    long, but surely nothing that `_SUSPECT` looks for. `_SUSPICIOUS`: anything else.
    """
    seen = raw.translate(_CLASSES).decode("ascii")
    if (
        "!" in seen
        or '" ' in seen
        or '".' in seen
        or '0."' in seen
        or "0 " in seen
        or ". " in seen
        or '"-.' in seen
        or "0.e" in seen
        or _TWENTY in seen
        or "e00000" in seen
        or "e-00000" in seen
        or ("_" in seen and _has_odd_underscore(seen))
    ):
        return _SUSPICIOUS
    return _IN_DOUBT if "0e0" in seen or "0e-0" in seen or _NINETEEN in seen else _PLAIN


def _has_odd_underscore(seen: str) -> bool:
    """Return whether any stands elsewhere than behind a letter, as in a name."""
    return any(pair in seen for pair in ("0_", "._", "-_", '"_', "__", " _", "!_"))


def _has_sign(value: Decimal, sign: str) -> bool:
    """Return whether `value` is a number with the right sign."""
    if not value.is_finite():
        return False
    if sign == "any":
        return True
    if sign == "positive":
        return bool(value) and not value.is_signed()
    return not value or not value.is_signed()
