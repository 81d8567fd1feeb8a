"""The same events give the same state: whatever is repeated, moved, restarted or divided."""

from __future__ import annotations

from decimal import Decimal
from typing import get_args

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from tests.support.domain import Log
from tests.support.domain import given as log_of
from tests.support.events import Sent
from tests.support.strategies import Story, disturbed, stories

from psm.contracts import codec, events, subjects
from psm.contracts.envelope import Envelope
from psm.contracts.events import MarginTier, Payload
from psm.contracts.payload_codec import PayloadCodec
from psm.domain.books import Books, restore_tables
from psm.domain.messages import Update
from psm.domain.outcomes import Outcome
from psm.domain.snapshot import dump_account, dump_checkpoint, load_account, load_checkpoint

DIGITS = st.integers(1, 10**36 - 1)
POSITIVE = DIGITS.map(lambda n: Decimal(f"{n // 10**18}.{n % 10**18:018d}"))
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=32)


def payloads() -> st.SearchStrategy[Payload]:
    """Return payloads of every event type, with every optional field present or not."""
    return st.one_of([_payload(kind) for kind in get_args(events.Event)])


def _payload(kind: type[Payload]) -> st.SearchStrategy[Payload]:
    names = {field.encode_name: field.name for field in msgspec.structs.fields(kind)}
    rules = {names[rule.name]: rule for rule in PayloadCodec(kind)._fields}
    fields: dict[str, st.SearchStrategy[object]] = {}
    for name, rule in rules.items():
        if rule.sign:
            field: st.SearchStrategy[object] = POSITIVE
        elif rule.choices:
            field = st.sampled_from(rule.choices)
        elif rule.items is not None:
            tier = st.builds(MarginTier, notional_floor=POSITIVE, maintenance_rate=POSITIVE)
            field = st.lists(tier, max_size=3).map(tuple)
        elif rule.integer:
            field = st.integers(1, 2**31)
        elif rule.boolean:
            field = st.booleans()
        else:
            field = TEXT
        fields[name] = st.none() | field if rule.nullable else field
    return st.builds(kind, **fields)


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
    for subject in ("trades.a", "marks.A", "instruments.A", "control.rules"):
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
    restore_tables(books, table)
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
