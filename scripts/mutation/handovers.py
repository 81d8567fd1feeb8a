"""Reads a golden log a second time, as production does: workers that fail and take over.

The first reading folds everything once, publishes all of it and asks for all hashes. What it cannot
notice, this one does: recovery from a checkpoint with older and newer snapshots, books that publish
hashes only or nothing, what is to be saved, the document a reader gets, history and snapshots that
were altered, and rules that enable what was not known before.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import msgspec
from scripts.mutation.answers import Answer, answers

from psm.contracts import registry
from psm.contracts.errors import PSMError
from psm.contracts.events import InterestAccrued
from psm.contracts.fields import Payload
from psm.contracts.payload_codec import PayloadCodec
from psm.contracts.reversals import TradeBusted
from psm.domain.books import Books
from psm.domain.delivery.rules import is_rejected
from psm.domain.fold import fold
from psm.domain.folding import table_events as table_fold
from psm.domain.messages import Emit, Folded, LogMessage, NeedHistory, StateHashes
from psm.domain.publication.figures import state_document
from psm.domain.snapshot import dump_account, dump_checkpoint, load_account, load_checkpoint
from psm.domain.snapshot_records import lay_over, record_of
from psm.workers.proof.validation.run import Spool

CHECKPOINT_EVERY = 25
CRASH_AFTER = 13
"""Messages between a checkpoint and the crash that makes the next worker start from it."""
_EMITS: tuple[Emit, ...] = ("updates", "hashes", "nothing", "updates")
_FUTURE: dict[tuple[str, int], type[Payload]] = {
    ("MoonPhaseChanged", 1): InterestAccrued,
    ("TradeBusted", 2): TradeBusted,
}
"""What rules 2 know, which stand for rules of tomorrow."""


class Second(msgspec.Struct, frozen=True, kw_only=True):
    """What one message gave, or one look at the books."""

    what: str
    found: Any


def handed_over(spool: str) -> Iterator[Second | Answer]:
    """Yield what every message of a spooled log gives to workers that take over in turn."""
    with ExitStack() as patches:
        patches.enter_context(patch.object(table_fold, "RULES_VERSION", 2))
        patches.enter_context(patch.object(registry, "_account_codecs", {}))
        types = {*registry._ACCOUNT_TYPES, *(name for name, _ in _FUTURE)}  # noqa: SLF001
        patches.enter_context(patch.object(registry, "_ACCOUNT_TYPES", frozenset(types)))
        patches.enter_context(patch.dict(registry._FROM_RULES, dict.fromkeys(_FUTURE, 2)))  # noqa: SLF001
        codecs = {key: PayloadCodec(payload) for key, payload in _FUTURE.items()}
        patches.enter_context(patch.dict(registry._CODECS, codecs))  # noqa: SLF001
        yield from Relay(Spool(spool)).run()


class Relay:
    """One worker after the other on the same log."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._books = Books(partitions=2, partition=1)
        self._checkpoint = dump_checkpoint(self._books, 0, None)
        self._saved: dict[str, bytes] = {}
        self._tail: list[LogMessage] = []
        self._emit: Emit = "updates"
        self._time = 0

    def run(self) -> Iterator[Second | Answer]:
        """Fold the log; save, crash and recover on the way; look at everything at the end."""
        for number, (message,) in enumerate(self._spool.batches(1)):
            self._emit, self._time = _EMITS[number // 3 % len(_EMITS)], message.time
            yield from self._take(message, "folded")
            self._tail.append(message)
            phase = number % CHECKPOINT_EVERY
            if phase == 0:
                self._save_all(message)
                self._tail.clear()
            elif phase == CRASH_AFTER:
                self._save(message, self._books.to_save()[0][::2])
                yield from self._recovered()
        yield from self._documents()
        yield from _altered(self._saved)
        if self._time:
            yield from answers(self._books, self._time)

    def _save_all(self, message: LogMessage) -> None:
        """Save what changed, and the checkpoint with the records of those that marks touched."""
        books, digest = self._books, hashlib.sha256(message.data).digest()
        whole, marked = books.to_save()
        self._save(message, whole)
        records = {stream_id: record_of(books.accounts[stream_id]) for stream_id in marked}
        self._checkpoint = dump_checkpoint(books, message.log_sequence, digest, records)
        books.all_saved(whole)

    def _save(self, message: LogMessage, chosen: Sequence[str]) -> None:
        """Save accounts whole."""
        digest = hashlib.sha256(message.data).digest()
        for stream_id in chosen:
            account = self._books.accounts[stream_id]
            self._saved[stream_id] = dump_account(account, message.log_sequence, digest)
            self._books.saved(stream_id)

    def _recovered(self) -> Iterator[Second]:
        """Start from what was saved and fold the tail again, also what snapshots include."""
        checkpoint = load_checkpoint(self._checkpoint)
        self._books = Books(partitions=2, partition=1)
        self._books.market.restore(checkpoint.tables)
        self._books.advance(checkpoint.log_sequence)
        for stream_id, saved in self._saved.items():
            account, snapshot = load_account(saved)
            record = checkpoint.records.get(stream_id)
            if record is not None and snapshot.log_sequence < checkpoint.log_sequence:
                lay_over(account, record)
                self._books.marked[stream_id] = None
            self._books.restore(account)
        self._emit = "updates"
        for message in self._tail:
            yield from self._take(message, "recovered")
        yield from self._documents()

    def _take(self, message: LogMessage, what: str) -> Iterator[Second]:
        books, history = self._books, dict[int, LogMessage]()
        token = message.subject.rpartition(".")[2]
        rejected = message.stream_id is not None and is_rejected(message, token, 0)
        result = fold(books, message, emit=self._emit)
        while isinstance(result, NeedHistory):
            wanted = {m.log_sequence: m for m in self._spool.history(result)}
            yield Second(what="altered", found=self._refused(message, {**history, **wanted}))
            history.update(wanted)
            result = fold(books, message, history, emit=self._emit)
        yield Second(
            what=what,
            found=(
                *(result.outcome.value, result.reason, result.stream_id, result.sequence_number),
                [(u.subject, u.event_id, _digest(u.data)) for u in result.updates],
                [msgspec.json.encode(_hashes(hashes)) for hashes in result.hashes],
                sorted(books.dirty.items()),
                sorted(books.applied.items()),
                rejected,
            ),
        )

    def _refused(self, message: LogMessage, history: Mapping[int, LogMessage]) -> str:
        """Return what a fold says about a history that lacks what was parked or blocked."""
        account = self._books.accounts.get(message.subject.rpartition(".")[2])
        if account is None:
            return ""
        waiting = [parked.log_sequence for parked in account.delivery.parked.values()]
        if account.delivery.blocked is not None:
            waiting.append(account.delivery.blocked.log_sequence)
        missing = next((place for place in waiting if place in history), None)
        if missing is None or missing == message.log_sequence:
            return ""
        kept = {place: m for place, m in history.items() if place != missing}
        copy = Books(partitions=2, partition=1)
        checkpoint = dump_checkpoint(self._books, self._books.position, None)
        copy.market.restore(load_checkpoint(checkpoint).tables)
        digest = hashlib.sha256(message.data).digest()
        saved = dump_account(account, self._books.position, digest)
        copy.restore(load_account(saved)[0])
        try:
            found: Folded | NeedHistory = fold(copy, message, kept)
        except PSMError as error:
            left = copy.accounts[account.stream_id]  # as it was: nothing may have changed
            hashes = f"{left.ledger_hash().hex()} {left.delivery.chain_hash.hex()}"
            return f"{type(error).__name__} {hashes}"
        return type(found).__name__

    def _documents(self) -> Iterator[Second]:
        books = self._books
        for stream_id, account in sorted(books.accounts.items()):
            document = msgspec.json.encode(state_document(books, account), order=None)
            yield Second(what="document", found=(stream_id, _digest(document)))


def _altered(saved: Mapping[str, bytes]) -> Iterator[Second]:
    """Yield what is said about snapshots that were altered."""
    for stream_id, data in sorted(saved.items())[:1]:
        fields = msgspec.json.decode(zlib.decompress(data))
        for changes in ({"form": 2}, {"rules_version": 2}, {"version": 9_999}, {"currency": 1}):
            other = zlib.compress(msgspec.json.encode({**fields, **changes}))
            yield Second(what="snapshot", found=(stream_id, _loaded(other)))
        yield Second(what="snapshot", found=(stream_id, _loaded(data[:-9])))


def _loaded(data: bytes) -> str:
    try:
        load_account(data)
    except PSMError as error:
        return str(error)
    return "loaded"


def _hashes(hashes: StateHashes) -> dict[str, Any]:
    names = ("stream_id", "sequence_number", "ledger_hash", "state_hash")
    return {name: getattr(hashes, name) for name in names}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
