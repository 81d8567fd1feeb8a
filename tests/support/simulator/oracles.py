"""What must be true of a world once it is at rest, decided from the log alone.

The log is folded again from the first message, all of it at once, and everything that was made of
it meanwhile is compared.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from tests.support import log_oracle
from tests.support.simulator.streams import EXPECTED, GARBAGE
from tests.support.simulator.traffic import type_of

from psm.adapters.jetstream import StoredMessage
from psm.adapters.jetstream.streams import LogSettings
from psm.contracts.codec import decode_untyped
from psm.contracts.envelope import event_hash
from psm.contracts.sequencing import OPERATOR_EVENTS
from psm.contracts.updates_read import ReadUpdate
from psm.domain.books import Books
from psm.domain.fold import fold
from psm.domain.messages import LogMessage, NeedHistory, Update
from psm.domain.snapshot import dump_account, load_account, load_checkpoint
from psm.domain.snapshot_records import AccountRecord, record_of
from psm.projections.current_state import CURRENT_STATE
from psm.workers.log.cursor import load_cursor
from psm.workers.partition.jetstream import CHUNKS_HEADER

SUBJECT_BYTES_MAX = 512
"""Of everything that PSM publishes: brokers take no long ones, and a client that sends one ends."""

Rows = dict[tuple[Any, ...], dict[str, Any]]


class Refold(msgspec.Struct):
    """One partition, folded from its first message; snapshots and records by stream and place.

    `outcomes` are counted alone and, as `<event type> <outcome>`, by type.
    """

    books: Books
    updates: list[Update]
    outcomes: Counter[str]
    snapshots: dict[tuple[str, int], bytes]
    records: dict[tuple[str, int], AccountRecord]


def refold(
    log: Sequence[LogMessage],
    settings: LogSettings,
    partition: int,
    wanted: Mapping[str, Collection[int]] | None = None,
) -> Refold:
    """Fold all of a partition.

    Args:
        log: all of it.
        settings: of the log.
        partition: number.
        wanted: log sequences at which snapshots and records of a stream are wanted.
    """
    at = sorted((place, stream) for stream, places in (wanted or {}).items() for place in places)
    books = Books(
        partitions=settings.partitions,
        partition=partition,
        slots=settings.valuation_slots,
    )
    done = Refold(books, [], Counter(), {}, {})
    for message in log:
        if message.stream_id is not None and _partition(message) != partition:
            continue
        history: dict[int, LogMessage] = {}
        result = fold(books, message)
        while isinstance(result, NeedHistory):
            for one in log[result.from_log_sequence - 1 : result.to_log_sequence]:
                if result.holds(one, settings.partitions):
                    history[one.log_sequence] = one
            result = fold(books, message, history)
        done.updates += result.updates
        done.outcomes[result.outcome] += 1
        done.outcomes[f"{type_of(message.data)} {result.outcome}"] += 1
        while at and at[0][0] <= message.log_sequence:
            place, stream = at.pop(0)
            if place == message.log_sequence and stream in books.accounts:
                hashed = event_hash(message.data)
                account = books.accounts[stream]
                done.snapshots[stream, place] = dump_account(account, place, hashed)
                done.records[stream, place] = record_of(account)
    return done


def _partition(message: LogMessage) -> int:
    return int(message.subject.split(".")[1])


def check_log(log: Sequence[LogMessage], acked: Mapping[int, str]) -> None:
    """No acknowledged event is missing, and each is what was sent."""
    hashes = {m.log_sequence: hashlib.sha256(m.data).hexdigest() for m in log}
    for sequence, hashed in acked.items():
        assert hashes.get(sequence) == hashed, f"acknowledged event {sequence} is not in the log"


def check_updates(
    log: Sequence[LogMessage], stored: list[StoredMessage], folds: Mapping[int, Refold]
) -> None:
    """PSM has the expected updates, each once, in order, in well-formed batches."""
    expected = log_oracle.Expected(
        updates={p: [(u.subject, u.data) for u in f.updates] for p, f in folds.items()},
        outcomes={},
        books={p: f.books for p, f in folds.items()},
        messages={m.log_sequence: m for m in log},
    )
    log_oracle.check(stored, expected)
    longest = max((m.subject for m in stored), key=len, default="")
    assert len(longest.encode()) <= SUBJECT_BYTES_MAX, f"{longest[:80]}… is {len(longest)} long"
    check_chains(stored, log)


def check_chains(stored: list[StoredMessage], log: Sequence[LogMessage]) -> None:
    """Each link of a published chain follows from the one before and the event's own hash.

    An operator's event is a link of its own, in front of the first event that it releases.
    """
    heads: dict[str, str] = {}
    operators = {m.log_sequence: m.data for m in log if type_of(m.data) in OPERATOR_EVENTS}
    for message in stored:
        if not message.subject.startswith("psm.state.updated."):
            continue
        state = decode_untyped(message.data)["payload"]
        stream = state["account_id"]
        head = heads.get(stream) or hashlib.sha256(f"psm:{stream}".encode()).hexdigest()
        if state["cause"] == "event" and state["event_hash"] is not None:
            operator = operators.pop(state["log_sequence"], None)
            if operator is not None and event_hash(operator).hex() != state["event_hash"]:
                head = _linked(head, event_hash(operator).hex())
            head = _linked(head, state["event_hash"])
            assert state["chain_hash"] == head, f"{stream}: the chain breaks at {message.sequence}"
        heads[stream] = state["chain_hash"]


def _linked(head: str, hashed: str) -> str:
    return hashlib.sha256(bytes.fromhex(head) + bytes.fromhex(hashed)).hexdigest()


def snapshots_of(history: Sequence[StoredMessage]) -> dict[str, set[int]]:
    """Return the log sequences of the snapshots and records that were stored, by stream."""
    found: dict[str, set[int]] = defaultdict(set)
    for message in _saved(history):
        if message.data == GARBAGE:
            continue
        if _is_checkpoint(message):
            checkpoint = load_checkpoint(message.data)
            for stream in checkpoint.records:
                found[stream].add(checkpoint.log_sequence)
        else:
            _, snapshot = load_account(message.data)
            found[message.subject.split(".")[2]].add(snapshot.log_sequence)
    return found


def _saved(history: Sequence[StoredMessage]) -> Iterator[StoredMessage]:
    """Yield what was saved, whole; garbage where any of its chunks is."""
    stored = [message for message in history if message.subject.startswith("snapshots.")]
    for place, message in enumerate(stored):
        chunks = int(message.header(CHUNKS_HEADER) or 0)
        parts = stored[place - chunks : place] or [message]
        if chunks and GARBAGE not in (message.data, *(part.data for part in parts)):
            yield msgspec.structs.replace(message, data=b"".join(part.data for part in parts))
        elif chunks:
            yield msgspec.structs.replace(message, data=GARBAGE)
        elif not _is_chunk(message):
            yield message


def _is_chunk(message: StoredMessage) -> bool:
    return message.subject.split(".")[-2] in ("chunk", "part")


def check_snapshots(history: Sequence[StoredMessage], folds: Mapping[int, Refold]) -> None:
    """What is saved was committed before, follows its predecessor, and is what the log says."""
    committed: dict[int, set[int]] = defaultdict(set)
    last: dict[str, int] = {}
    saved = {message.sequence: message for message in _saved(history)}
    for message in history:
        kind, _, rest = message.subject.partition(".")
        if message.subject.startswith("psm.cursor."):
            cursor = load_cursor(message.data)
            if cursor.part == 0:
                committed[int(rest.split(".")[1])].add(cursor.log_sequence)
        if kind != "snapshots" or message.sequence not in saved:
            continue
        where = f"{message.subject} at {message.sequence}"
        expected, before = message.header(EXPECTED), last.get(message.subject, 0)
        assert expected == str(before), f"{where} expects {expected}, its predecessor is {before}"
        last[message.subject] = message.sequence
        data, partition = saved[message.sequence].data, int(message.subject.split(".")[1])
        if data == GARBAGE:
            continue
        place = _check_saved(message.subject, data, folds[partition], where)
        assert place in committed[partition], f"{where}: log sequence {place} was not committed"


def _check_saved(subject: str, data: bytes, made: Refold, where: str) -> int:
    """Compare a snapshot, or a checkpoint's records, with the log; return of when it is."""
    if subject.count(".") > 1:
        _, snapshot = load_account(data)
        place = snapshot.log_sequence
        same = data == made.snapshots[subject.split(".")[2], place]
        assert same, f"{where}: not the state as of log sequence {place}"
        return place
    checkpoint = load_checkpoint(data)
    place = checkpoint.log_sequence
    for stream, record in checkpoint.records.items():
        same = record == made.records[stream, place]
        assert same, f"{where}: the record of {stream} is not that of log sequence {place}"
    return place


def _is_checkpoint(message: StoredMessage) -> bool:
    return message.subject.count(".") == 1


def check_shown(stored: list[StoredMessage], shown: set[tuple[int, int]]) -> None:
    """No reader ever saw half an input: checkpoints stood where an input ends, nowhere else."""
    ends: set[tuple[int, int]] = set()
    for message in stored:
        if message.subject.startswith("psm.cursor."):
            cursor = load_cursor(message.data)
            if cursor.part == 0:
                partition = int(message.subject.rpartition(".")[2])
                ends.add((partition, message.sequence + cursor.updates))
    assert shown <= ends, f"checkpoints within an input: {sorted(shown - ends)[:5]}"


def check_views(tables: Mapping[str, Rows], folds: Mapping[int, Refold]) -> None:
    """Every row is what the updates of the refold, reduced at once, say."""
    updates = [
        ReadUpdate(kind=u.kind, data=u.data, partition=partition)
        for partition, done in folds.items()
        for u in done.updates
    ]
    for view in CURRENT_STATE.views:
        reduced = view.reduce(updates)
        expected: Rows = {}
        for row in (*reduced["upsert"], *reduced.get("set_status", ())):
            plain = msgspec.json.decode(msgspec.json.encode(row))
            expected[tuple(plain[name] for name in view.key)] = plain
        found = tables[view.table]
        assert found.keys() == expected.keys(), f"{view.table}: {found.keys() ^ expected.keys()}"
        for key, row in expected.items():
            wrong = {n: (found[key].get(n), v) for n, v in row.items() if found[key].get(n) != v}
            assert not wrong, f"{view.table} {key}, view and refold: {wrong}"
