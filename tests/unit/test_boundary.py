"""What the fold accepts, every later stage can hold; what it does not read, decides nothing."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from tests.support.domain import Log, given
from tests.support.events import SAMPLES, Sent, changed, deposit, trade

from psm.contracts import codec, limits, registry, subjects
from psm.contracts.drafts import draft_of
from psm.contracts.errors import ContractError
from psm.domain.messages import Outcome

ODD_VALUES = {
    "nul": rb'"\u0000"',
    "surrogate": rb'"\ud800"',
    "low surrogate": rb'"\udc00 and more"',
    "reversed pair": rb'"\udc00\ud83d"',
    "escaped escape": rb'"\\ud800"',
    "pair": rb'"\ud83d\ude00"',
    "endless integer": b"9" * 5000,
    "endless fraction": b"0." + b"1" * 5000,
    "endless exponent": b"1e999999999999999999999",
    "deep": b"[" * 60 + b"]" * 60,
    "long": b'"' + b"x" * 50_000 + b'"',
    "list": b"[1]",
    "number": b"0.10",
}


def with_field(sent: Sent, raw: bytes, *, name: bytes = b"note", payload: bool = False) -> Sent:
    """Return a message with one more field, in its own bytes."""
    field = b'"%s":%s,' % (name, raw)
    before = b'"payload":{' if payload else b"{"
    return msgspec.structs.replace(sent, data=sent.data.replace(before, before + field, 1))


@pytest.mark.parametrize("raw", ODD_VALUES.values(), ids=ODD_VALUES)
@pytest.mark.parametrize("where", ["envelope", "metadata", "payload"])
def test_field_that_is_not_read_decides_nothing(raw: bytes, where: str) -> None:
    """A venue's fill is money, whatever else the venue says with it; doors judge as the fold."""
    fill = trade(1, "buy", "1", "100", fill_id="é+b")  # looked at field by field
    name = b"metadata" if where == "metadata" else b"note"
    sent = with_field(fill, raw, name=name, payload=where == "payload")
    seen = given(sent)
    assert seen.position()["size"] == "1"
    assert draft_of(sent.data).body == sent.data


@pytest.mark.parametrize("raw", [rb'"\u0000"', rb'"\ud800"', b'"' + b"x" * 129 + b'"'])
@pytest.mark.parametrize("name", [b"order_id", b"symbol", b"fill_id"])
def test_known_field_that_cannot_be_stored_is_refused(raw: bytes, name: bytes) -> None:
    """The place is kept, the field is named, and the door refuses it for the same reason."""
    fill = trade(1, "buy", "1", "100")
    if name == b"symbol":
        sent = msgspec.structs.replace(fill, data=fill.data.replace(b'"BTC-PERP"', raw))
    else:
        sent = with_field(fill, raw, name=name, payload=True)
    seen = Log().when(sent)
    assert (seen.outcome, seen.reason) == (Outcome.REFUSED, "invalid_payload")
    field = f"payload.{name.decode()}"
    assert seen.payload("EventRefused")["field"] == field
    with pytest.raises(ContractError) as refused:
        draft_of(sent.data)
    assert refused.value.field == field


@pytest.mark.parametrize("raw", [rb'"\u0000"', rb'"\ud800"', b'"' + b"x" * 257 + b'"', b"[]"])
@pytest.mark.parametrize("name", [b"correlation_id", b"causation_id", b"user_id"])
def test_envelope_that_cannot_be_stored_is_rejected(raw: bytes, name: bytes) -> None:
    """No place is taken, the field is named, and the door refuses it for the same reason."""
    sent = with_field(deposit(1), raw, name=name)
    seen = Log().when(sent)
    assert (seen.outcome, seen.reason) == (Outcome.REJECTED, "malformed_field")
    assert seen.payload("EventRefused")["field"] == name.decode()
    with pytest.raises(ContractError) as refused:
        draft_of(sent.data)
    assert refused.value.field == name.decode()


def test_lengths_are_bytes() -> None:
    """32 letters of two bytes are no currency of 32 bytes; 16 are."""
    assert Log().when(deposit(1, currency="é" * 32)).outcome is Outcome.REFUSED
    assert Log().when(deposit(1, currency="é" * 16)).outcome is Outcome.APPLIED


BAD_TOKENS = {
    "no utf-8": b"\xff\xfe",
    "surrogate": b"\xed\xa0\x80",
    "control": b"a\x00b",
    "delete": b"a\x7f",
    "not ascii": "é".encode(),
    "long": b"x" * 4070,
}


@pytest.mark.parametrize("head", subjects.LOG_HEADS)
@pytest.mark.parametrize("token", BAD_TOKENS.values(), ids=BAD_TOKENS)
@pytest.mark.parametrize("body", [b"{}", b"\xff", deposit(1).data], ids=["{}", "junk", "deposit"])
def test_subject_that_no_update_can_have(head: str, token: bytes, body: bytes) -> None:
    """The refusal stands under `_invalid` with the hash of the token, and is short."""
    text = token.decode(errors="surrogateescape")
    subject = f"{head}.{text}"
    if head in subjects.OF_STREAMS:
        subject = subjects.stored(head, text, 16)
    log = Log()
    seen = log.take(log.message(Sent(subject=subject, data=body)))
    assert (seen.outcome, seen.reason) == (Outcome.REJECTED, "invalid_subject")
    (update,) = seen.result.updates
    partition = subjects.partition_of(text, 16)
    assert update.subject == f"psm.event.refused.{partition}.{limits.INVALID_TOKEN}"
    refused = seen.payload("EventRefused")
    assert refused["token_hash"] == hashlib.sha256(token).hexdigest()
    assert refused["account_id"] == limits.INVALID_TOKEN
    assert log.books.accounts == {}


def test_longest_subject_of_an_update() -> None:
    """No token that is taken as it is makes one longer than it may be."""
    for kind in ("event.refused", "position.updated", "margin.warning"):
        subject = subjects.update(kind, 2**31, "x" * limits.TOKEN_BYTES)
        assert len(subjects.entrance(subject)) <= limits.SUBJECT_BYTES
    symbol = subjects.encode_token("€" * (limits.SYMBOL_BYTES // 3))
    assert subjects.is_token(symbol)


ODD_DRAFTS = {
    "type is a list": b'{"event_type":[]}',
    "type is an object": b'{"event_type":{},"account_id":"a"}',
    "side is a list": SAMPLES[2].replace(b'"short"', b"[]"),
    "account is a list": SAMPLES[2].replace(b'"acc_001"', b"[]"),
    "quantity is endless": SAMPLES[2].replace(b"0.2,", b"9" * 5000 + b","),
    "number is endless": changed(deposit(1), sequence_number=77).data.replace(b"77", b"9" * 5000),
    "deep": b'{"a":' + b"[" * 50_000,
    "deep and closed": b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}",
    "a list": b"[]",
    "nothing": b"",
    "not utf-8": b'{"event_type":"\xff"}',
    "larger than a body": b'{"a":"' + b"x" * 70_000 + b'"}',
}  # fmt: skip


@pytest.mark.parametrize("body", ODD_DRAFTS.values(), ids=ODD_DRAFTS)
def test_odd_draft_has_a_reason(body: bytes) -> None:
    """What is no event is refused with a code, never with another exception."""
    with pytest.raises(ContractError) as refused:
        draft_of(body)
    assert refused.value.reason != ""


@pytest.mark.parametrize(
    "value",
    ["\ud800", {1, 2}, object(), 10**30, float("nan"), 1.5],
    ids=["surrogate", "set", "object", "integer", "nan", "float"],
)
def test_odd_values_of_a_draft_have_a_reason(value: object) -> None:
    """The library's callers hand over values, which may be no JSON at all."""
    event = {**msgspec.json.decode(deposit(1).data), "correlation_id": value}
    with pytest.raises(ContractError):
        draft_of(event)


def test_draft_that_contains_itself_has_a_reason() -> None:
    """Also where it never ends."""
    event = msgspec.json.decode(deposit(1).data)
    event["metadata"] = event
    with pytest.raises(ContractError, match="cannot be written as JSON"):
        draft_of(event)


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("2024-02-29T00:00:00Z", True),
        ("2000-02-29T00:00:00Z", True),
        ("1900-02-29T00:00:00Z", False),
        ("2025-02-29T00:00:00Z", False),
        ("2025-04-30T23:59:59.999999Z", True),
        ("2025-04-31T00:00:00Z", False),
        ("2025-12-31T23:59:60Z", False),
        ("2025-12-31T24:00:00Z", False),
        ("2025-12-31T24:00:00.000000+00:00", False),
        ("0000-01-01T00:00:00Z", False),
        ("0001-01-01T00:00:00Z", True),
        ("2025-00-01T00:00:00Z", False),
        ("2025-01-00T00:00:00Z", False),
        ("٢٠٢٥-01-01T00:00:00Z", False),
    ],
)
def test_times_are_judged_by_an_own_rule(text: str, valid: bool) -> None:
    """The library accepts 24:00:00 from Python 3.13 on, and refused it before."""
    assert codec.is_timestamp(text) is valid


def test_integers_end_where_columns_do() -> None:
    """One number beyond is refused on the quick way, too."""
    decode = registry.codec_for(codec.decode_envelope(_dismissed(1))).decode
    assert decode(codec.decode_envelope(_dismissed(limits.INTEGER)).payload)
    with pytest.raises(ContractError, match="must be an integer"):
        decode(codec.decode_envelope(_dismissed(limits.INTEGER + 1)).payload)


def _dismissed(log_sequence: int) -> bytes:
    payload = {"log_sequence": log_sequence, "actor": "a", "reason": "b"}
    fields = {"event_type": "EventDismissed", "payload": payload}
    return codec.encode({**msgspec.json.decode(deposit(1).data), **fields})
