"""Decides whether what is in PSM is exactly what the log says, however it came about.

Every partition is folded offline from the first message and compared byte for byte. What does not
need the fold is checked without it: batches, cursors, ids, and one `StateUpdated` per number.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import defaultdict
from typing import Any

import msgspec
from nats.aio.client import Client

from psm.adapters.jetstream import StoredMessage, read_range
from psm.contracts.codec import decode_envelope, decode_untyped
from psm.contracts.errors import ContractError
from psm.contracts.sequencing import OPERATOR_EVENTS
from psm.domain.books import Books
from psm.domain.messages import LogMessage
from psm.workers.log.cursor import Cursor, load_cursor
from psm.workers.log.reader import last_log_sequence
from psm.workers.log.refold import refold_partition
from psm.workers.process.settings import Settings

_END = 2**62
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was found right.

    Attributes:
        updates: (subject, bytes) in order, by partition.
        cursors: by partition.
        outcomes: how often each outcome came about in the offline fold.
        books: as the offline fold left them, by partition.
    """

    updates: dict[int, list[tuple[str, bytes]]]
    cursors: dict[int, list[Cursor]]
    outcomes: dict[str, int]
    books: dict[int, Books]

    @property
    def count(self) -> int:
        """Updates in PSM."""
        return sum(map(len, self.updates.values()))

    @property
    def parts(self) -> int:
        """Batches that committed an input in part."""
        return sum(cursor.part > 0 for found in self.cursors.values() for cursor in found)

    def payloads(self, event_type: str) -> list[dict[str, Any]]:
        """Return the payloads of the updates of one type, in order within a partition."""
        envelopes = [decode_untyped(data) for found in self.updates.values() for _, data in found]
        return [e["payload"] for e in envelopes if e["event_type"] == event_type]


class Expected(msgspec.Struct):
    """What the offline fold says; updates, books by partition, messages by log sequence.

    `headers` are those that each update must carry, by the id in it.
    """

    updates: dict[int, list[tuple[str, bytes]]]
    outcomes: dict[str, int]
    books: dict[int, Books]
    messages: dict[int, LogMessage]
    headers: dict[str, dict[str, str]] = {}


async def judge(nc: Client, settings: Settings, *, timeout_s: float = 60.0) -> Verdict:
    """Wait until everything in the log has its updates in PSM, then check all of it.

    Raises:
        AssertionError: something is missing, doubled, out of order or different.
    """
    expected = await _refold(nc, settings)
    wanted = sum(map(len, expected.updates.values()))
    deadline = time.monotonic() + timeout_s
    while True:
        stored = await _read_all(nc)
        found = sum(not message.subject.startswith("psm.cursor.") for message in stored)
        if found >= wanted or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.05)
    return check(stored, expected)


async def _refold(nc: Client, settings: Settings) -> Expected:
    last = await last_log_sequence(nc)
    result = Expected({}, defaultdict(int), {}, {})
    for partition in range(settings.partitions):
        books = Books(
            partitions=settings.partitions,
            partition=partition,
            slots=settings.valuation_slots,
        )
        result.updates[partition] = []
        async for batch in refold_partition(nc, books, partition, last):
            for one in batch:
                result.messages[one.message.log_sequence] = one.message
                result.outcomes[one.result.outcome] += 1
                result.updates[partition] += [(u.subject, u.data) for u in one.result.updates]
                result.headers |= {u.event_id: u.headers for u in one.result.updates}
        result.books[partition] = books
    return result


async def _read_all(nc: Client) -> list[StoredMessage]:
    return [m async for batch in read_range(nc, "PSM", ["psm.>"], 1, _END) for m in batch]


def check(stored: list[StoredMessage], expected: Expected) -> Verdict:
    """Compare all messages of PSM with what is expected."""
    updates: dict[int, list[tuple[str, bytes]]] = {p: [] for p in expected.updates}
    cursors: dict[int, list[Cursor]] = {p: [] for p in expected.updates}
    at: dict[int, int] = defaultdict(int)
    place = 0
    while place < len(stored):
        head = stored[place]
        assert head.subject.startswith("psm.cursor."), f"PSM {head.sequence} is in no batch"
        partition = int(head.subject.rpartition(".")[2])
        cursor = load_cursor(head.data)
        batch = stored[place + 1 : place + 1 + cursor.updates]
        _check_batch(head, cursor, batch, partition)
        _check_cursor(head, cursor, batch, cursors[partition], at[partition], expected.messages)
        cursors[partition].append(cursor)
        at[partition] = head.sequence
        updates[partition] += [(m.subject, m.data) for m in batch]
        place += 1 + cursor.updates
    _check_ids(stored)
    _check_headers(stored, expected.headers)
    for partition, wanted in expected.updates.items():
        _check_same(partition, updates[partition], wanted)
        _check_numbers(updates[partition], expected.books[partition], _operators(expected.messages))
    return Verdict(
        updates=updates, cursors=cursors, outcomes=dict(expected.outcomes), books=expected.books
    )


def _check_batch(
    head: StoredMessage, cursor: Cursor, batch: list[StoredMessage], partition: int
) -> None:
    sequences = [message.sequence for message in batch]
    first = head.sequence + 1
    assert sequences == list(range(first, first + cursor.updates)), "a batch is not contiguous"
    for message in batch:
        assert message.subject.split(".")[3] == str(partition), f"{message.subject} in batch of p"


def _check_cursor(
    head: StoredMessage,
    cursor: Cursor,
    batch: list[StoredMessage],
    before: list[Cursor],
    before_at: int,
    messages: dict[int, LogMessage],
) -> None:
    where = f"cursor at PSM {head.sequence}"
    assert head.header(_EXPECTED) == str(before_at), f"{where} does not expect its predecessor"
    last = before[-1] if before else Cursor(log_sequence=0)
    now, then = (cursor.log_sequence, cursor.part), (last.log_sequence, last.part)
    assert now > then or (now == then and not batch), f"{where}: {now} after {then}"
    if cursor.log_sequence:
        hashed = hashlib.sha256(messages[cursor.log_sequence].data).hexdigest()
        assert cursor.event_hash == hashed, f"{where} has the hash of another message"
    inputs = [decode_untyped(message.data)["payload"]["log_sequence"] for message in batch]
    assert inputs == sorted(inputs), f"{where}: inputs are out of order"
    if cursor.part:
        assert len(set(inputs)) == 1, f"{where}: a batch in parts has one input"
        assert inputs[0] > cursor.log_sequence, f"{where}: a part belongs to the next input"
        assert cursor.digest is not None, f"{where}: a part without a digest"
    elif inputs:
        assert last.log_sequence < inputs[0], f"{where}: an input behind the last cursor"
        assert inputs[-1] <= cursor.log_sequence, f"{where}: an input beyond the cursor"
        assert cursor.digest is None, f"{where}: a digest without a part"


def _check_ids(stored: list[StoredMessage]) -> None:
    seen: dict[str, int] = {}
    for message in stored:
        if message.subject.startswith("psm.cursor."):
            continue
        event_id = decode_untyped(message.data)["event_id"]
        assert event_id not in seen, f"PSM {message.sequence} repeats PSM {seen[event_id]}"
        seen[event_id] = message.sequence


def _check_headers(stored: list[StoredMessage], wanted: dict[str, dict[str, str]]) -> None:
    """Each update says where it stands among those of its account, as the offline fold does."""
    for message in stored:
        if not message.subject.startswith("psm.cursor."):
            event_id = decode_untyped(message.data)["event_id"]
            found = {name: message.header(name) for name in wanted.get(event_id, {})}
            assert found == wanted.get(event_id, {}), f"PSM {message.sequence}: {found}"


def _check_same(
    partition: int, found: list[tuple[str, bytes]], wanted: list[tuple[str, bytes]]
) -> None:
    for place, (one, other) in enumerate(zip(found, wanted, strict=False)):
        assert one == other, f"partition {partition}, update {place}: {one} instead of {other}"
    assert len(found) == len(wanted), f"partition {partition}: {len(found)} of {len(wanted)}"


def _operators(messages: dict[int, LogMessage]) -> list[str]:
    """Return the ids of operator events: a void passes over numbers, others may take none."""
    found = []
    for message in messages.values():
        try:
            envelope = decode_envelope(message.data)
        except ContractError:
            continue
        if envelope.event_type in OPERATOR_EVENTS:
            found.append(envelope.event_id)
    return found


def _check_numbers(updates: list[tuple[str, bytes]], books: Books, operators: list[str]) -> None:
    """Every number that took a place has one `StateUpdated` with cause event, in order."""
    versions: dict[str, int] = defaultdict(int)
    for subject, data in updates:
        if not subject.startswith("psm.state.updated."):
            continue
        envelope = decode_untyped(data)
        payload = envelope["payload"]
        if payload["cause"] != "event":
            continue
        stream_id = payload["account_id"]
        if envelope["causation_id"] in operators:
            assert payload["sequence_number"] >= versions[stream_id], f"{stream_id}: {payload}"
            versions[stream_id] = payload["sequence_number"]
            continue
        assert payload["sequence_number"] == versions[stream_id] + 1, f"{stream_id}: {payload}"
        versions[stream_id] += 1
    wanted = {s: a.delivery.version for s, a in books.accounts.items() if a.delivery.version}
    assert {s: version for s, version in versions.items() if version} == wanted
