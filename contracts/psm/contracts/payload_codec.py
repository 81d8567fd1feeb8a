"""Payload bytes -> struct, strictly: what each field may be, and the words when it is not.

As in `codec`, msgspec is the fast path for what is valid. Whether bytes are accepted, and the text
of a refusal, is decided here, because it enters published updates and must never change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import msgspec

from psm.contracts.codec import INVALID_JSON, MAX_SEQUENCE_NUMBER, decode_untyped
from psm.contracts.errors import ContractError
from psm.contracts.events import Payload

MAX_DIGITS = 18

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


class _NumberText(str):
    """The literal text of a JSON number with a point or exponent, where a string is not one."""

    __slots__ = ()


_literal = msgspec.json.Decoder(dict[str, Any], float_hook=_NumberText)


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
        except INVALID_JSON:
            raise self._explain(raw) from None
        looks = _SUSPICIOUS if self._nested else _look(raw)
        if looks == _PLAIN:
            for name, sign in self._numbers:
                value = getattr(payload, name)
                if value is not None and not (
                    value.is_finite()
                    and ((value and not value.is_signed()) or _may_be(value, sign))
                ):
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
        or '".' in seen
        or '0."' in seen
        or '"-.' in seen
        or "0.e" in seen
        or (" " in seen and ('" ' in seen or "0 " in seen or ". " in seen))
        or ("_" in seen and _has_odd_underscore(seen))
    ):
        return _SUSPICIOUS
    if _NINETEEN in seen:
        return _SUSPICIOUS if _TWENTY in seen or _has_long_exponent(seen) else _IN_DOUBT
    if "e0" not in seen and "e-0" not in seen:
        return _PLAIN
    if _has_long_exponent(seen):
        return _SUSPICIOUS
    return _IN_DOUBT if "0e0" in seen or "0e-0" in seen else _PLAIN


def _has_long_exponent(seen: str) -> bool:
    """Return whether something may be an exponent of five digits."""
    return "e00000" in seen or "e-00000" in seen


def _has_odd_underscore(seen: str) -> bool:
    """Return whether any stands elsewhere than behind a letter, as in a name."""
    return any(pair in seen for pair in ("0_", "._", "-_", '"_', "__", " _", "!_"))


def _may_be(value: Decimal, sign: str) -> bool:
    """Return whether a number that is not above zero has the right sign."""
    return sign == "any" or (sign == "not_negative" and not value)
