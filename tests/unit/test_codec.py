"""The codec: which bytes are an event, how numbers are read, what canonical bytes look like."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from tests.support.events import deposit, trade

from psm.contracts import codec
from psm.contracts.codec import canonical_decimal
from psm.contracts.errors import ContractError
from psm.contracts.events import AccountOpened, TradeExecuted
from psm.contracts.payload_codec import PayloadCodec
from psm.contracts.table_events import InstrumentDefined

TRADE = '{"symbol":"BTC_PERP","side":"buy","quantity":%s,"price":"1"}'
EXACT = '{"symbol":"BTC-PERP","side":"buy","quantity":%s,"price":"1"}'


def quantity(text: str, template: str = EXACT) -> Decimal:
    """Return the quantity that is read from this JSON text."""
    payload = PayloadCodec(TradeExecuted).decode((template % text).encode())
    assert isinstance(payload, TradeExecuted)
    return payload.quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"0.5"', "0.5"),
        ("0.5", "0.5"),
        ("42000.00", "42000.00"),
        ("2.10", "2.10"),
        ("1e2", "1E+2"),
        ("0.1000000000000000055", None),
        ('"999999999999999999.999999999999999999"', "999999999999999999.999999999999999999"),
        ("999999999999999999.999999999999999999", "999999999999999999.999999999999999999"),
        ('"1000000000000000000"', None),
        ('"0.0000000000000000001"', None),
        ('"1e18"', None),
        ('"1e-19"', None),
        ("1e400", None),
        ("1e9999999999999999999999", None),
        ('"0"', None),
        ('"-1"', None),
        ('"-0"', None),
        ('"NaN"', None),
        ('"sNaN"', None),
        ('"Infinity"', None),
        ('"1_000"', None),
        ('" 1"', None),
        ('"1 "', None),
        ('"\\n1"', None),
        ('"+1"', None),
        ('".5"', None),
        ('"5."', None),
        ('"5.e3"', None),
        ('"1e+2"', "1E+2"),
        ('"\\u0031"', "1"),
        ('"\u0661"', None),
        ('"\\u0661"', None),
        ('"' + "0" * 70 + '1"', None),
        ('"1e00001"', None),
        ('""', None),
        ("true", None),
        ("null", None),
        ("[1]", None),
        ("{}", None),
    ],
)
def test_numbers_are_judged_by_their_text(text: str, value: str | None) -> None:
    """The same text is accepted or refused whatever else the payload holds."""
    for template in (EXACT, TRADE):
        if value is None:
            with pytest.raises(ContractError) as caught:
                quantity(text, template)
            assert caught.value.reason == "invalid_payload"
            assert caught.value.field == "payload.quantity"
        else:
            assert str(quantity(text, template)) == value


@pytest.mark.parametrize(
    ("raw", "reason", "field"),
    [
        (b'{"side":"buy","quantity":"1","price":"1"}', "invalid_payload", "payload.symbol"),
        (
            b'{"symbol":"A","side":"long","quantity":"1","price":"1"}',
            "unknown_side",
            "payload.side",
        ),
        (b'{"symbol":"","side":"buy","quantity":"1","price":"1"}', None, "payload.symbol"),
        (b'{"symbol":5,"side":"buy","quantity":"1","price":"1"}', None, "payload.symbol"),
        (
            b'{"symbol":"A","side":"buy","quantity":"1","price":"1","execution":null}',
            None,
            "payload.execution",
        ),
        (
            b'{"symbol":"A","side":"buy","quantity":"1","price":"1","fill_id":""}',
            None,
            "payload.fill_id",
        ),
    ],
)
def test_refusal_names_the_field(raw: bytes, reason: str | None, field: str) -> None:
    """The reason and the first offending field are our own words, not a library's."""
    with pytest.raises(ContractError) as caught:
        PayloadCodec(TradeExecuted).decode(raw)
    assert caught.value.reason == (reason or "invalid_payload")
    assert caught.value.field == field


def test_null_where_a_default_stands_is_named() -> None:
    """Null is no multiplier, and no list of tiers."""
    base = '{"symbol":"A","kind":"spot","base":"A","quote":"B","settle":"B","%s":null}'
    for name in ("multiplier", "margin_tiers"):
        with pytest.raises(ContractError) as caught:
            PayloadCodec(InstrumentDefined).decode((base % name).encode())
        assert caught.value.field == f"payload.{name}"


def test_null_means_left_out_where_a_field_is_optional() -> None:
    """An optional field may be null, and unknown fields are ignored."""
    raw = b'{"currency":"EUR","leverage_limit":null,"shoe_size":44}'
    assert PayloadCodec(AccountOpened).decode(raw) == AccountOpened(currency="EUR")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0", "0"),
        ("-0", "0"),
        ("0E+5", "0"),
        ("-0E-5", "0"),
        ("1.0", "1"),
        ("1.50", "1.5"),
        ("100", "100"),
        ("1E+3", "1000"),
        ("-1.20E-7", "-0.00000012"),
        ("123456789012345678901234567890.5", "123456789012345678901234567890.5"),
    ],
)
def test_canonical_decimals(value: str, text: str) -> None:
    """No exponent, no trailing zeros, no -0."""
    assert canonical_decimal(Decimal(value)) == text


def test_canonical_bytes_sort_keys_at_every_depth() -> None:
    """The order of insertion is not the order of bytes."""
    one = codec.canonical_bytes({"b": {"d": "1", "c": None}, "a": [1]})
    assert one == codec.canonical_bytes({"a": [1], "b": {"c": None, "d": "1"}})
    assert one == b'{"a":[1],"b":{"c":null,"d":"1"}}'


def test_envelope_is_read_with_its_payload_untouched() -> None:
    """The payload keeps its bytes; versions and ids are normalised; the rest is as sent."""
    data = (
        b' {"payload" : {"a": 1.50 } , "event_id":"7B0E0C0E-8A57-4D8C-9C56-0B7F3F0F2A01",'
        b'"event_type":"T","stream_id":"a","timestamp":"2025-12-12T10:30:00.123+00:00",'
        b'"schema_version":"1.2","shoe_size":44,"metadata":null,"correlation_id":"c"}'
    )
    envelope = codec.decode_envelope(data)
    assert envelope.payload == b'{"a": 1.50 }'
    assert envelope.event_id == "7b0e0c0e-8a57-4d8c-9c56-0b7f3f0f2a01"
    assert envelope.schema_version == "1.2.0"
    assert (envelope.sequence_number, envelope.correlation_id) == (None, "c")


def test_brackets_in_strings_do_not_nest() -> None:
    """Only real nesting counts against the limit of depth."""
    sent = deposit(1, metadata={"text": '"[{' * 100})
    assert codec.decode_envelope(sent.data).event_type == "CashDeposited"


@pytest.mark.parametrize("depth", [62, 63])
def test_nesting_has_a_limit(depth: int) -> None:
    """64 levels are read, 65 are not."""
    nested: dict[str, Any] = {}
    for _ in range(depth):
        nested = {"a": nested}
    sent = deposit(1, metadata=nested)
    if depth == 62:
        assert codec.decode_envelope(sent.data)
    else:
        with pytest.raises(ContractError, match="nests deeper"):
            codec.decode_envelope(sent.data)


def test_body_has_a_limit() -> None:
    """64 KiB are read, one byte more is not."""
    body = trade(1, "buy", "1", "1", metadata={"x": "."}).data
    fitting = body.replace(b'"."', b'"' + b"x" * (64 * 1024 - len(body) + 1) + b'"')
    assert len(fitting) == 64 * 1024
    assert codec.decode_envelope(fitting)
    with pytest.raises(ContractError, match="larger than"):
        codec.decode_envelope(fitting + b" ")


@pytest.mark.parametrize(
    ("data", "fields", "result"),
    [
        (b'{"a":1.50}', {"a": 2}, b'{"a":1.50}'),
        (b' {"a":1.50, "c":"x"}', {"b": 2}, b'{"b":2,"a":1.50, "c":"x"}'),
        (b'{"a":null,"c": 1.0}', {"a": 2}, b'{"a":2,"c":1.0}'),
        (b"{}", {"a": 2}, b'{"a":2}'),
        (b"{ }", {}, b"{ }"),
    ],
)
def test_fields_are_added_without_touching_the_others(
    data: bytes, fields: dict[str, object], result: bytes
) -> None:
    """A left-out field is put in front; every other byte stays."""
    assert codec.with_fields(data, fields) == result


@pytest.mark.parametrize("data", [b"", b"[]", b'"a"', b"{", b'{"a":}'])
def test_only_objects_have_fields(data: bytes) -> None:
    """Anything else is no event."""
    with pytest.raises(ContractError, match="invalid_json"):
        codec.with_fields(data, {"a": 1})
    with pytest.raises(ContractError, match="invalid_json"):
        codec.decode_untyped(data)
