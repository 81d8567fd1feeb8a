"""The same events give the same state: whatever is repeated, moved, restarted or divided."""

from __future__ import annotations

from decimal import Decimal
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from tests.support.domain import Log
from tests.support.domain import given as log_of
from tests.support.events import Sent
from tests.support.strategies import Story, disturbed, stories

from psm.contracts import codec, events, subjects
from psm.contracts.envelope import Envelope
from psm.contracts.fields import Payload
from psm.contracts.payload_codec import PayloadCodec, _field_rules, _FieldRule
from psm.domain.books import Books
from psm.domain.messages import Outcome, Update
from psm.domain.snapshot import dump_account, dump_checkpoint, load_account, load_checkpoint

DIGITS = st.integers(1, 10**36 - 1)
POSITIVE = DIGITS.map(lambda n: Decimal(f"{n // 10**18}.{n % 10**18:018d}"))
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
"""At most 32 bytes, which every field of text takes."""


def payloads() -> st.SearchStrategy[Payload]:
    """Return payloads of every event type, with every optional field present or not."""
    return st.one_of([_payload(kind) for kind in get_args(events.Event)])


def _payload(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind)
    names = {field.encode_name: field.name for field in msgspec.structs.fields(kind)}
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for rule in _field_rules(kind):
        name = names[rule.name]
        field = _field(rule, hints[name])
        fields[name] = st.none() | field if rule.nullable else field
    return st.builds(kind, **fields)


def _field(rule: _FieldRule, hint: Any) -> st.SearchStrategy[Any]:
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    number = [POSITIVE] if rule.sign else []
    if rule.entry is not None:
        (mapping,) = (part for part in parts if get_origin(part) is dict)
        values = _field(rule.entry, get_args(mapping)[1])
        values = st.none() | values if rule.entry.nullable else values
        return st.one_of(st.dictionaries(TEXT, values, max_size=3), *number)
    if rule.within is not None:
        structs = [part for part in parts if part not in (Decimal, NoneType)]
        return st.one_of(*(_payload(part) for part in structs), *number)
    if rule.items is not None:
        return st.lists(_payload(get_args(parts[0])[0]), max_size=3).map(tuple)
    return number[0] if number else _scalar(rule)


def _scalar(rule: _FieldRule) -> st.SearchStrategy[Any]:
    if rule.choices:
        return st.sampled_from(rule.choices)
    if rule.integer:
        return st.integers(1, 2**31)
    if rule.boolean:
        return st.booleans()
    if rule.shortest > 1:
        return st.text("0123456789abcdef", min_size=rule.shortest, max_size=rule.longest)
    return TEXT


@given(payloads())
def test_decode_of_encode_is_identity(payload: Payload) -> None:
    """Every payload survives the wire, digit for digit."""
    again = PayloadCodec(type(payload)).decode(codec.encode(payload))
    assert again == payload
    assert codec.encode(again) == codec.encode(payload)


@given(
    st.builds(
        Envelope,
        event_id=st.uuids().map(str),
        event_type=TEXT,
        stream_id=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
        sequence_number=st.none() | st.integers(1, 2**63 - 1),
        timestamp=st.datetimes().map(lambda t: t.isoformat() + "Z"),
        schema_version=st.from_regex(r"[1-9][0-9]?\.[0-9]\.[1-9][0-9]?", fullmatch=True),
        payload=payloads().map(codec.encode),
        source_service=st.none() | TEXT,
        user_id=st.none() | TEXT,
        correlation_id=st.none() | TEXT,
        causation_id=st.none() | TEXT,
    )
)
def test_envelope_survives_the_wire(envelope: Envelope) -> None:
    """Every field comes back, and the payload byte for byte."""
    fields = {**msgspec.structs.asdict(envelope), "payload": msgspec.Raw(envelope.payload)}
    assert codec.decode_envelope(codec.encode(fields)) == envelope


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_junk_never_stops_the_fold(data: bytes) -> None:
    """Any bytes on any subject have an outcome."""
    log = Log()
    for subject in ("trades.a", "marks.A", "instruments.A", "collateral.A", "control.rules"):
        result = log.when(Sent(subject=subject, data=data))
        assert result.outcome is Outcome.REJECTED
        assert result.reason in ("invalid_json", "missing_field")


@given(stories(), st.integers(0, 2**32))
def test_duplicates_and_reorder_leave_the_ledger_unchanged(story: Story, seed: int) -> None:
    """At-least-once delivery in any order adds up to the same ledger."""
    messages = story.messages()
    assert log_of(*disturbed(messages, seed)).hashes() == log_of(*messages).hashes()


@given(stories(), st.integers(0, 2**32))
def test_the_fold_is_a_function(story: Story, seed: int) -> None:
    """The same log twice gives the same bytes, noise included."""
    messages = disturbed(story.messages(), seed)
    one, two = log_of(*messages), log_of(*messages)
    assert one.updates == two.updates
    assert one.end() == two.end()


@given(stories(), st.integers(0, 2**32), st.floats(0, 1))
def test_snapshot_and_tail_equal_the_full_replay(story: Story, seed: int, part: float) -> None:
    """From snapshots taken anywhere the rest of the log gives the same updates and states."""
    messages = disturbed(story.messages(), seed)
    place = int(part * len(messages))
    full = log_of(*messages)
    begun = log_of(*messages[:place])
    books = Books(partitions=16)
    table = load_checkpoint(dump_checkpoint(begun.books, place, b"")).tables
    books.market.restore(table)
    books.position = begun.books.position
    for account in begun.books.accounts.values():
        books.restore(load_account(dump_account(account, place, b""))[0])
    again = Log(books=books)
    for sequence, message in full.messages.items():
        again.messages[sequence] = message
        if sequence > place:
            again.take(message)
    assert again.updates == [u for u in full.updates if u.log_sequence > place]
    assert again.end() == full.end()
    for stream, account in full.books.accounts.items():
        assert dump_account(books.accounts[stream], 0, b"") == dump_account(account, 0, b"")


def essence(updates: list[Update]) -> list[tuple[int, str, str, str, bytes]]:
    """Return what subscribers see, by message and stream, without the partition."""
    seen = [(u.log_sequence, u.stream_id, u.kind, u.event_id, u.data) for u in updates]
    return sorted(seen, key=lambda update: update[:2])


@given(stories(accounts=3), st.integers(0, 2**32), st.sampled_from([1, 4, 16]))
def test_partitions_do_not_matter(story: Story, seed: int, partitions: int) -> None:
    """Folding each partition by itself publishes what folding all of them does."""
    together = log_of(*disturbed(story.messages(), seed), partitions=partitions)
    apart: list[Update] = []
    for partition in range(partitions):
        alone = Log(partitions=partitions, partition=partition)
        for message in together.messages.values():
            head, *rest = message.subject.split(".")
            if head != "trades" or rest[0] == str(partition):
                alone.take(message)
        apart += alone.updates
        for stream, account in alone.books.accounts.items():
            assert subjects.partition_of(stream, partitions) == partition
            assert account.ledger_hash() == together.account(stream).ledger_hash()
    assert essence(apart) == essence(together.updates)
    other = log_of(*disturbed(story.messages(), seed), partitions=7)
    assert essence(other.updates) == essence(together.updates)
