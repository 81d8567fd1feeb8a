"""Payload bytes -> struct, strictly: what each field may be, and the words when it is not.

As in `codec`, msgspec is the fast path for what is valid. Whether bytes are accepted, and the text
of a refusal, is decided here, because it enters published updates and must never change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import msgspec

from psm.contracts import limits
from psm.contracts.codec import INVALID_JSON, decode_untyped, is_text, readable
from psm.contracts.errors import ContractError
from psm.contracts.fields import Payload
from psm.contracts.number_look import PLAIN, SUSPECT, SUSPICIOUS, look
from psm.contracts.personal import is_sealed

MAX_DIGITS = limits.DIGITS

_NUMBER = re.compile(rf"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{{1,{limits.EXPONENT_DIGITS}}})?")


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
        self._numbers = [(r.name, r.sign) for r in self._fields if r.sign and not r.nested]
        self._personal = [(rule.name, rule.longest) for rule in self._fields if rule.personal]
        self._nested = any(rule.items or rule.each or rule.within for rule in self._fields)
        self._maps = [rule.name for rule in self._fields if rule.entry is not None]

    def decode(self, raw: bytes) -> Payload:
        """Return the payload in `raw`.

        Raises:
            ContractError: reason `invalid_payload` or `unknown_side`, with the field's path.
        """
        try:
            payload = self._decoder.decode(raw)
        except INVALID_JSON:
            raise self._explain(raw) from None
        for name, longest in self._personal:
            text = getattr(payload, name)
            if text is not None and len(text) > longest and not is_sealed(text):
                raise self._explain(raw)
        for name in self._maps:
            if getattr(payload, name) is not None:
                self._check_fields(raw)
                return payload
        looks = SUSPICIOUS if self._nested else look(raw)
        if looks == PLAIN:
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
        if looks == SUSPICIOUS and (self._nested or SUSPECT.search(raw) is not None):
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
        self._named = {rule.name: rule for rule in self._fields}
        self._required = tuple(rule.name for rule in self._fields if rule.required)

    def decode(self, raw: bytes) -> dict[str, Any]:
        """Return every field of the payload in `raw`, numbers as their literal text.

        Raises:
            ContractError: reason `invalid_payload` or `unknown_side`, with the field's path.
        """
        fields = decode_untyped(raw)
        # Judged in a form that still tells a number's text from a string.
        literal = _literal.decode(readable(raw))
        if not self._is_plain(literal):
            _check_rules(self._fields, literal, "payload")
        return fields

    def _is_plain(self, fields: Mapping[str, Any]) -> bool:
        """Return whether nothing is missing, and every field is a scalar as it must be."""
        for name, value in fields.items():
            rule = self._named.get(name)
            if rule is not None and (rule.nested or value is None or not _is_scalar(rule, value)):
                return False
        return all(name in fields for name in self._required)


class _FieldRule(msgspec.Struct, frozen=True, kw_only=True):
    """Rule of one payload field.

    `nullable`: null means left out. `sign` is set for decimals, `choices` for literals, `items` for
    lists of structs, `each` for lists of names, `entry` for maps with a rule for each value,
    `within` for a struct that may stand in place of a number, `free` for what an open payload may
    hold in any form: `object` or `scalar`. `longest` of a text is in bytes of UTF-8, or in
    characters where `unit` says so. `personal`: a text that may be sealed instead, and longer then.
    """

    name: str
    required: bool
    nullable: bool = False
    sign: str = ""
    choices: tuple[str, ...] = ()
    items: tuple[_FieldRule, ...] | None = None
    each: _FieldRule | None = None
    entry: _FieldRule | None = None
    within: tuple[_FieldRule, ...] | None = None
    free: str = ""
    integer: bool = False
    boolean: bool = False
    shortest: int = 0
    longest: int = 0
    unit: str = "bytes"
    personal: bool = False

    @property
    def nested(self) -> bool:
        """Whether other rules are in it."""
        rules = (self.items, self.each, self.entry, self.within)
        return any(rule is not None for rule in rules)


def _field_rules(struct: type[msgspec.Struct]) -> tuple[_FieldRule, ...]:
    hints = get_type_hints(struct, include_extras=True)
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    return tuple(
        _rule_of(fields[name].encode_name, hint, required=fields[name].required)
        for name, hint in hints.items()
        if name in fields
    )


def _rule_of(name: str, hint: Any, *, required: bool) -> _FieldRule:
    hints = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    rule = partial(_FieldRule, name=name, required=required, nullable=NoneType in hints)
    hint, *instead = (arg for arg in hints if arg is not NoneType)
    if instead:  # a number, or an object in its place
        number, other = (_rule_of(name, part, required=required) for part in (hint, *instead))
        return msgspec.structs.replace(other, sign=number.sign, nullable=NoneType in hints)
    meta: list[msgspec.Meta] = []
    if get_origin(hint) is Annotated:
        hint, *meta = get_args(hint)
    if hint is Decimal:
        sign = next(str(m.extra["sign"]) for m in meta if m.extra)
        return rule(sign=sign)
    if get_origin(hint) is Literal:
        return rule(choices=get_args(hint))
    if get_origin(hint) is tuple:
        return _list_rule(rule, name, get_args(hint)[0])
    if get_origin(hint) is dict and get_args(hint)[1] is not Any:
        key, value = (_rule_of(name, part, required=False) for part in get_args(hint))
        most = next(m.max_length or 0 for m in meta)
        value = msgspec.structs.replace(value, shortest=key.shortest, longest=key.longest)
        return rule(entry=value, longest=most)
    if get_origin(hint) is dict:
        return rule(free="object")
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return rule(within=_field_rules(hint))
    if hint is Any:
        return rule(free="scalar")
    if hint is int:
        return rule(integer=True)
    if hint is bool:
        return rule(boolean=True)
    assert hint is str, f"no rule for {name}: {hint!r}"
    extra = next((m.extra for m in meta if m.extra), {})
    return rule(
        shortest=max((m.min_length or 0 for m in meta), default=0),
        longest=extra.get("clear") or max((m.max_length or 0 for m in meta), default=0),
        unit=extra.get("unit", "bytes"),
        personal="clear" in extra,
    )


def _list_rule(rule: Callable[..., _FieldRule], name: str, item: Any) -> _FieldRule:
    """Return the rule of a list: of objects, or of names and choices, which are no bare types."""
    if isinstance(item, type):
        return rule(items=_field_rules(item))
    return rule(each=_rule_of(name, item, required=True))


def _check_rules(rules: tuple[_FieldRule, ...], fields: Mapping[str, Any], path: str) -> None:
    for rule in rules:
        value = fields.get(rule.name)
        if value is None and not rule.required and rule.name not in fields:
            continue
        field = f"{path}.{rule.name}"
        if value is None:
            if rule.required:
                raise ContractError("invalid_payload", f"{rule.name} is required", field)
            if rule.name in fields and not rule.nullable:
                _refuse(rule, field)
            continue
        _check_value(rule, value, field)


def _check_value(rule: _FieldRule, value: object, field: str) -> None:
    if rule.entry is not None and isinstance(value, dict):
        _check_map(rule, rule.entry, value, field)
    elif rule.within is not None and isinstance(value, dict):
        _check_rules(rule.within, value, field)
    elif (rule.items is not None or rule.each is not None) and isinstance(value, list):
        _check_list(rule, value, field)
    elif (rule.nested and not rule.sign) or not _is_scalar(rule, value):
        _refuse(rule, field)


def _check_list(rule: _FieldRule, value: list[Any], field: str) -> None:
    for place, item in enumerate(value):
        if rule.each is not None:
            _check_value(rule.each, item, f"{field}[{place}]")
        elif rule.items is not None and isinstance(item, dict):
            _check_rules(rule.items, item, f"{field}[{place}]")
        else:
            _refuse(rule, f"{field}[{place}]")


def _check_map(rule: _FieldRule, entry: _FieldRule, value: dict[str, Any], field: str) -> None:
    """Check the names and the values of a map; null may be a value of its own."""
    if len(value) > rule.longest:
        _refuse(rule, field)
    for name, item in value.items():
        if not name or not is_text(name, entry.longest):
            expected = f"{entry.shortest} to {entry.longest} bytes, without NUL"
            detail = f"each name in {rule.name} must be text of {expected}"
            raise ContractError("invalid_payload", detail, field)
        if item is None and not entry.nullable:
            _refuse(entry, f"{field}.{name}")
        if item is not None:
            _check_value(entry, item, f"{field}.{name}")


def _is_scalar(rule: _FieldRule, value: object) -> bool:
    """Return whether a value is what its field must be."""
    if rule.sign:
        return is_number(value, rule.sign)
    if rule.choices:
        return value in rule.choices
    if rule.free:
        return isinstance(value, dict) == (rule.free == "object") and not isinstance(value, list)
    if rule.boolean:
        return type(value) is bool
    if rule.integer:
        return type(value) is int and 1 <= value <= limits.INTEGER
    return type(value) is str and _is_text(rule, value)


def _is_text(rule: _FieldRule, value: str) -> bool:
    if rule.personal and is_sealed(value):
        return True
    if rule.unit == "characters":
        return rule.shortest <= len(value) <= rule.longest and is_text(value, 4 * rule.longest)
    return rule.shortest <= len(value) and is_text(value, rule.longest)


def _refuse(rule: _FieldRule, field: str) -> NoReturn:
    reason, expected = "invalid_payload", _expected(rule)
    if rule.choices and rule.name == "side":
        reason = "unknown_side"
        expected += "; long and short belong to the flat 0.x draft"
    raise ContractError(reason, f"{rule.name} must be {expected}", field)


def _expected(rule: _FieldRule) -> str:
    """Return in words what a field must be."""
    if rule.sign:
        return _expected_number(rule)
    if rule.nested:
        return _expected_nested(rule)
    if rule.choices:
        return " or ".join(rule.choices)
    if rule.free:
        return "an object" if rule.free == "object" else "text, a number, true or false"
    if rule.boolean:
        return "true or false"
    if rule.integer:
        return "an integer from 1"
    sealed = ", or sealed" if rule.personal else ""
    return f"text of {rule.shortest} to {rule.longest} {rule.unit}, without NUL{sealed}"


def _expected_nested(rule: _FieldRule) -> str:
    if rule.items is not None:
        return "a list of objects"
    if rule.each is not None:
        return "a list, each " + _expected(rule.each)
    if rule.entry is not None:
        each = "a decimal or null" if rule.entry.nullable else "a decimal or an object"
        return f"an object of at most {rule.longest} names, each with {each}"
    return "an object"


def _expected_number(rule: _FieldRule) -> str:
    least = {"any": "", "positive": " above zero", "not_negative": " of zero or more"}
    decimal = (
        f"a decimal{least[rule.sign]} with at most {MAX_DIGITS} digits before "
        f"and {MAX_DIGITS} after the point"
    )
    return f"{decimal}, or an object" if rule.nested else decimal


def is_number(value: object, sign: str) -> bool:
    """Return whether a value, or its text, is a decimal of this sign and in range."""
    text = str(value) if type(value) is int else value
    if not isinstance(text, str) or len(text) > limits.NUMBER_BYTES:
        return False
    if _NUMBER.fullmatch(text) is None:
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


def _may_be(value: Decimal, sign: str) -> bool:
    """Return whether a number that is not above zero has the right sign."""
    return sign == "any" or (sign == "not_negative" and not value)
