"""Whatever bytes come on whatever subject: a reason, never an exception; nothing odd goes out."""

from __future__ import annotations

import re

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.domain import Log
from tests.support.events import SAMPLES, Sent, deposit, dismissed, instrument, mark, trade

from psm.contracts import codec, limits, recorded, subjects
from psm.contracts.drafts import draft_of
from psm.contracts.errors import ContractError
from psm.domain.fold import fold
from psm.domain.messages import Folded, LogMessage

EVENTS = (
    deposit(1),
    trade(1, "buy", "1", "100", fill_id="f"),
    dismissed(1),
    mark(1, "100"),
    instrument(1),
)
BODIES = [*(sent.data for sent in EVENTS), *SAMPLES]
HEADS = subjects.LOG_HEADS

ESCAPES = st.text('uUdD089aAfFcC\\"/bnt é\u20ac', max_size=14).map(
    lambda text: '"' + text.replace('"', "") + '"'
)
STRINGS = st.one_of(
    st.text(max_size=8).map(lambda text: codec.encode(text).decode()),
    ESCAPES,
    st.sampled_from([r'"\u0000"', r'"\ud800"', r'"\udfff\ud800"', r'"\ud83d\ude00"', r'"\\ud800"']),
)
NUMBERS = st.one_of(
    st.integers().map(str),
    st.from_regex(r"-?[0-9]{1,70}(\.[0-9]{0,70})?([eE][+-]?[0-9]{1,6})?", fullmatch=True),
    st.sampled_from(["9" * 5000, "-" + "9" * 5000, "0." + "1" * 5000, "1e999999999", "0" * 70]),
)
LEAVES = st.one_of(STRINGS, NUMBERS, st.sampled_from(["null", "true", "[]", "{}"]))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]"),
        st.dictionaries(st.sampled_from(["a", "payload", "symbol"]), inner, max_size=3).map(
            lambda d: "{" + ",".join(f'"{k}":{v}' for k, v in d.items()) + "}"
        ),
    ),
    max_leaves=6,
)
NAMES = (
    *("event_id", "event_type", "stream_id", "sequence_number", "timestamp", "schema_version"),
    *("payload", "correlation_id", "metadata", "note", "account_id", "symbol", "side", "quantity"),
    *("price", "amount", "currency", "fill_id", "log_sequence", "margin_tiers", "kind"),
)
TOKENS = st.one_of(
    st.sampled_from(["acc_001", "BTC-PERP", "rules", "a" * 4000, "a:b", "_invalid"]),
    st.binary(min_size=1, max_size=6)
    .filter(lambda raw: b"." not in raw)
    .map(lambda raw: raw.decode(errors="surrogateescape")),
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Bytes that are almost an event: a value replaced or added, a piece cut out, or anything."""
    body = draw(st.sampled_from(BODIES))
    for _ in range(draw(st.integers(0, 3))):
        name, value = draw(st.sampled_from(NAMES)), draw(VALUES).encode()
        pattern = rb'"%s":("[^"]*"|[0-9.-]+|\{[^{}]*\})' % name.encode()
        if draw(st.booleans()) and re.search(pattern, body):
            field = b'"%s":%s' % (name.encode(), value.replace(b"\\", rb"\\"))
            body = re.sub(pattern, field, body, count=1)
        else:
            body = body.replace(b"{", b'{"%s":%s,' % (name.encode(), value), 1)
    if draw(st.integers(0, 9)) == 0:
        place = draw(st.integers(0, len(body)))
        body = body[:place] + draw(st.binary(max_size=4)) + body[place + draw(st.integers(0, 3)) :]
    return body


@given(bodies())
@example(b'{"event_type":[]}')
@example(b'{"a":' + b"[" * 30_000)
def test_reading_gives_an_event_or_a_reason(body: bytes) -> None:
    """Every way in: the envelope, a recorded event, a draft, fields as they stand."""
    for read in (codec.decode_envelope, recorded.decode_recorded, draft_of, codec.raw_fields):
        try:
            read(body)
        except ContractError as error:
            told = [error.reason, error.detail, error.field]
            codec.encode(told)


@given(st.sampled_from(HEADS), TOKENS, bodies(), st.booleans())
def test_folding_gives_one_outcome(head: str, token: str, body: bytes, known: bool) -> None:
    """On any subject, before and behind other events; what goes out can be held everywhere."""
    log = Log()
    if known:
        log.when(deposit(1, salt="first"), instrument(1), mark(1, "90"))
    of_stream = head in subjects.OF_STREAMS
    subject = subjects.stored(head, token, 16) if of_stream else f"{head}.{token}"
    message = LogMessage(log_sequence=log.books.position + 1, subject=subject, time=1, data=body)
    result = fold(log.books, message)
    assert isinstance(result, Folded)
    for update in result.updates:
        assert len(update.subject) <= limits.SUBJECT_BYTES
        assert all(map(subjects.is_token, update.subject.split(".")))
        assert len(update.data) < limits.UPDATE_BYTES
        decoded = msgspec.json.decode(update.data)
        assert decoded["stream_id"] == update.stream_id
        assert not [text for text in decoded["payload"].values() if "\0" in str(text)]


@given(st.sampled_from(EVENTS[:2]), VALUES, st.sampled_from(["note", "metadata"]), st.booleans())
def test_what_is_not_read_decides_nothing(sent: Sent, value: str, name: str, inside: bool) -> None:
    """Any JSON in a field that nobody knows: the event is applied, and a draft enters as it is."""
    try:
        codec.decode_untyped(f'{{"value":{value}}}'.encode())
    except ContractError:
        return  # no JSON at all
    before = '"payload":{' if inside else "{"
    data = sent.data.replace(before.encode(), f'{before}"{name}":{value},'.encode(), 1)
    log = Log()
    seen = log.when(msgspec.structs.replace(sent, data=data))
    assert seen.outcome == "applied", (seen.reason, data)
    assert draft_of(data).body == data


@given(st.text("0123456789-T:.Z+", max_size=30))
@example("2025-12-12T24:00:00Z")
def test_times_exist(text: str) -> None:
    """What is a time is one to every library, in every version."""
    if codec.is_timestamp(text):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|\+00:00)", text)


@given(st.datetimes().map(lambda moment: f"{moment.isoformat()}Z"))
def test_every_moment_is_a_time(text: str) -> None:
    """No day of the calendar is missing."""
    assert codec.is_timestamp(text)
