"""What must be true of a world once it is at rest, decided from the log alone.

The log is folded again from the first message, all of it at once, and everything that was made of
it meanwhile is compared.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from tests.support import log_oracle

from psm.adapters.jetstream import StoredMessage
from psm.adapters.jetstream.streams import LogSettings
from psm.contracts import subjects
from psm.contracts.codec import decode_untyped
from psm.domain.books import Books
from psm.domain.fold import fold
from psm.domain.messages import LogMessage, Update
from psm.domain.outcomes import NeedHistory
from psm.projections.current_state import CURRENT_STATE
from psm.projections.projection import ReadUpdate

Rows = dict[tuple[Any, ...], dict[str, Any]]


class Refold(msgspec.Struct):
    """One partition, folded from its first message."""

    books: Books
    updates: list[Update]
    outcomes: Counter[str]


def refold(log: Sequence[LogMessage], settings: LogSettings, partition: int) -> Refold:
    """Fold all of a partition."""
    books = Books(
        partitions=settings.partitions,
        partition=partition,
        valuation_interval_ns=settings.valuation_interval_ms * 1_000_000,
    )
    done = Refold(books, [], Counter())
    for message in log:
        if message.subject.split(".")[0] == "trades" and _partition(message) != partition:
            continue
        history: dict[int, LogMessage] = {}
        result = fold(books, message)
        while isinstance(result, NeedHistory):
            wanted = subjects.stored_trades(result.stream_id, settings.partitions)
            for one in log[result.from_log_sequence - 1 : result.to_log_sequence]:
                if one.subject == wanted:
                    history[one.log_sequence] = one
            result = fold(books, message, history)
        done.updates += result.updates
        done.outcomes[result.outcome] += 1
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
    check_chains(stored)


def check_chains(stored: list[StoredMessage]) -> None:
    """Each link of a published chain follows from the one before and the event's own hash."""
    heads: dict[str, str] = {}
    for message in stored:
        if not message.subject.startswith("psm.state.updated."):
            continue
        state = decode_untyped(message.data)["payload"]
        stream = state["account_id"]
        before = heads.get(stream) or hashlib.sha256(f"psm:{stream}".encode()).hexdigest()
        if state["cause"] == "event" and state["event_hash"] is not None:
            linked = hashlib.sha256(bytes.fromhex(before) + bytes.fromhex(state["event_hash"]))
            found = state["chain_hash"]
            assert found == linked.hexdigest(), f"{stream}: the chain breaks at {message.sequence}"
        heads[stream] = state["chain_hash"]


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
