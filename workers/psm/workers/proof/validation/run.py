"""One run of the determinism gate: fold a spooled log and print what every message gave.

Runs in a process of its own, `python -m psm.workers.proof.validation.run`, without any connection:
its hash seed, time zone, locale and interpreter are set by whoever starts it. Everything else that
must not matter is an argument: batch size, number of partitions, how often accounts go through a
snapshot, the thread's decimal context.
"""

from __future__ import annotations

import decimal
import hashlib
import locale
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from psm.contracts import subjects
from psm.contracts.codec import decode_untyped
from psm.contracts.envelope import event_hash
from psm.contracts.errors import PSMError
from psm.domain.books import Books
from psm.domain.market.slots import ValuationSlots
from psm.domain.messages import Folded, LogMessage, NeedHistory, Update
from psm.domain.publication.figures import state_document
from psm.domain.snapshot import dump_account, dump_checkpoint, load_account, load_checkpoint
from psm.workers.log.need_history import fold_from_memory

_LENGTH = 4


class ValidationRun(msgspec.Struct, frozen=True, kw_only=True):
    """What one run is told.

    Attributes:
        spool: file of the log, written by `spooled`.
        partitions: how many books the accounts are spread over.
        slots: of the log.
        batch: messages read at once.
        snapshot_every: messages between two passes of the changed accounts through their
            snapshots; 0 for never.
        precision: digits of the thread's decimal context, which the fold must not use.
        detail: log sequence after which the touched accounts are printed whole, and the run ends.
    """

    spool: str
    partitions: int
    slots: ValuationSlots
    batch: int = 1
    snapshot_every: int = 0
    precision: int = 28
    detail: int | None = None


class Advance(msgspec.Struct, frozen=True, array_like=True):
    """The hashes of a stream after one of its events, as its `StateUpdated` says them.

    Attributes:
        log_sequence: of the message whose folding gave the event its place.
        event_log_sequence: of the event itself.
    """

    log_sequence: int
    stream_id: str
    sequence_number: int
    chain_hash: str
    ledger_hash: str
    state_hash: str
    event_log_sequence: int

    @property
    def key(self) -> tuple[str, int, int, int]:
        """What tells it from any other: an operator's event has the number of the one before."""
        return self.stream_id, self.sequence_number, self.log_sequence, self.event_log_sequence


class Print(msgspec.Struct, frozen=True, kw_only=True):
    """The fingerprint of one message: what must be the same in every run.

    Attributes:
        chain_hash, ledger_hash, state_hash: of the message's account afterwards.
        touched: how many accounts changed or were valued anew.
        accounts: digest over the ids and hashes of these accounts.
        updates: how many updates were published.
        published: digest over the bytes of the updates, account by account.
        advances: one per event that took a place in its stream.
        blocked, resumed: streams that stopped or went on.
        states: the touched accounts, whole; only where they were asked for.
    """

    log_sequence: int
    subject: str
    event_hash: str
    stream_id: str
    sequence_number: int | None
    outcome: str
    reason: str | None
    chain_hash: str | None
    ledger_hash: str | None
    state_hash: str | None
    touched: int
    accounts: str
    updates: int
    published: str
    advances: list[Advance]
    blocked: list[str]
    resumed: list[str]
    states: dict[str, Any] | None = None


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed", tag_field="kind"):
    """The fold raised where it must not."""

    log_sequence: int
    subject: str
    error: str


class Spooled(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message of the log as it stands in a spool; its subject as bytes."""

    log_sequence: int
    subject: bytes
    time: int
    data: bytes
    traceparent: str | None

    @property
    def message(self) -> LogMessage:
        """The message, as the fold takes it."""
        return LogMessage(
            log_sequence=self.log_sequence,
            subject=self.subject.decode(errors="surrogateescape"),
            time=self.time,
            data=self.data,
            traceparent=self.traceparent,
        )


def spooled(file: IO[bytes], message: LogMessage) -> None:
    """Append a message to a spool."""
    spooling = Spooled(
        message.log_sequence,
        subjects.token_bytes(message.subject),  # which may be no UTF-8
        message.time,
        message.data,
        message.traceparent,
    )
    frame = msgspec.msgpack.encode(spooling)
    file.write(len(frame).to_bytes(_LENGTH, "big") + frame)


MISPLACED = "repair.-."
"""Begin of the subject, in a spool, of an operator's event in no partition of its stream."""


class Spool:
    """A spooled log: read in order, and by stream and range for those who need history.

    Of each message only the place in the file is kept, 16 bytes.
    """

    def __init__(self, path: str) -> None:
        self._decoder = msgspec.msgpack.Decoder(Spooled)
        self._path = path
        self._sequences: dict[str, array[int]] = {}
        self._offsets: dict[str, array[int]] = {}

    def batches(self, size: int) -> Iterator[list[LogMessage]]:
        """Yield all messages, up to `size` at once."""
        batch: list[LogMessage] = []
        with Path(self._path).open("rb") as file:
            offset = 0
            while head := file.read(_LENGTH):
                length = int.from_bytes(head, "big")
                message = self._decoder.decode(file.read(length)).message
                place = message.history_name  # no account's name has a point
                self._sequences.setdefault(place, array("Q")).append(message.log_sequence)
                self._offsets.setdefault(place, array("Q")).append(offset)
                offset += _LENGTH + length
                batch.append(message)
                if len(batch) == size:
                    yield batch
                    batch = []
        if batch:
            yield batch

    def history(self, wanted: NeedHistory) -> Iterator[LogMessage]:
        """Yield the messages of stream and market in the range that a fold asked for."""
        with Path(self._path).open("rb") as file:
            for name in (wanted.stream_id, *wanted.market_subjects()):
                known = self._sequences.get(name, array("Q"))
                first = bisect_left(known, wanted.from_log_sequence)
                last = bisect_right(known, wanted.to_log_sequence)
                for offset in self._offsets.get(name, array("Q"))[first:last]:
                    file.seek(offset)
                    length = int.from_bytes(file.read(_LENGTH), "big")
                    yield self._decoder.decode(file.read(length)).message


class Replay:
    """Folds a spooled log as `partitions` workers would."""

    def __init__(self, run: ValidationRun) -> None:
        self._run = run
        self._spool = Spool(run.spool)
        self._books = [
            Books(
                partitions=run.partitions,
                partition=number,
                slots=run.slots,
            )
            for number in range(run.partitions)
        ]
        self._unsaved: list[dict[str, None]] = [{} for _ in self._books]
        self._count = 0

    def prints(self) -> Iterator[Print | Failed]:
        """Yield the fingerprint of every message; a failed one is the last."""
        for batch in self._spool.batches(self._run.batch):
            for message in batch:
                try:
                    found = self._take(message)
                except (PSMError, ArithmeticError, LookupError, TypeError, ValueError,
                        AttributeError, AssertionError, RecursionError) as error:  # fmt: skip
                    text = f"{type(error).__name__}: {error}"
                    yield Failed(
                        log_sequence=message.log_sequence,
                        subject=subjects.printable(message.subject),
                        error=text,
                    )
                    return
                yield found
                if self._run.detail == message.log_sequence:
                    return

    def _take(self, message: LogMessage) -> Print:
        head, token = message.kind, message.token
        concerned = range(self._run.partitions)
        if message.stream_id is not None:
            own = subjects.partition_of(token, self._run.partitions)
            message = self._placed(message)
            concerned = range(own, own + 1)
        results = []
        for number in concerned:
            self._books[number].dirty.clear()  # then it names the accounts this message touches
            results.append(self._fold(self._books[number], message))
        print_ = self._print(message, subjects.printable(f"{head}.{token}"), results, concerned)
        self._save_and_load(message, concerned)
        return print_

    def _fold(self, books: Books, message: LogMessage) -> Folded:
        def read(wanted: NeedHistory) -> dict[int, LogMessage]:
            return {
                m.log_sequence: m if m.stream_id is None else self._placed(m)
                for m in self._spool.history(wanted)
            }

        return fold_from_memory(books, message, read)

    def _placed(self, message: LogMessage) -> LogMessage:
        """Return a stream's message as a log with so many partitions would store it."""
        if message.subject.startswith(MISPLACED):
            return message
        subject = subjects.stored(message.kind, message.token, self._run.partitions)
        return msgspec.structs.replace(message, subject=subject)

    def _print(
        self, message: LogMessage, subject: str, results: list[Folded], concerned: range
    ) -> Print:
        touched = {s: self._books[n] for n in concerned for s in self._books[n].dirty}
        hashes = {s: _hashes(books, s) for s, books in sorted(touched.items())}
        updates = [update for result in results for update in result.updates]
        own: tuple[str | None, str | None, str | None] = (None, None, None)
        if message.stream_id is not None:
            own = _hashes(self._books[concerned[0]], message.stream_id)
        states = None
        if self._run.detail == message.log_sequence:
            states = {s: state_document(b, b.accounts[s]) for s, b in sorted(touched.items())}
        return Print(
            log_sequence=message.log_sequence,
            subject=subject,
            event_hash=event_hash(message.data).hex(),
            stream_id=subjects.printable(results[0].stream_id),
            sequence_number=results[0].sequence_number,
            outcome=" ".join(dict.fromkeys(result.outcome.value for result in results)),
            reason=" ".join(dict.fromkeys(r.reason for r in results if r.reason)) or None,
            chain_hash=own[0],
            ledger_hash=own[1],
            state_hash=own[2],
            touched=len(touched),
            accounts=_digest(f"{s} {h}".encode() for s, h in hashes.items()),
            updates=len(updates),
            published=_digest(_placed(u) for u in sorted(updates, key=lambda u: u.stream_id)),
            advances=[a for u in updates for a in _advance(u)],
            blocked=[u.stream_id for u in updates if u.kind == "stream.blocked"],
            resumed=[u.stream_id for u in updates if u.kind == "stream.resumed"],
            states=states,
        )

    def _save_and_load(self, message: LogMessage, concerned: range) -> None:
        """Every so often put what changed through its snapshots, as a takeover would."""
        if not self._run.snapshot_every:
            return
        for number in concerned:
            self._unsaved[number].update(dict.fromkeys(self._books[number].dirty))
        self._count += 1
        if self._count % self._run.snapshot_every:
            return
        digest = event_hash(message.data)
        for books, unsaved in zip(self._books, self._unsaved, strict=True):
            saved = dump_checkpoint(books, message.log_sequence, digest)
            books.market.restore(load_checkpoint(saved).tables)
            for stream_id in unsaved:
                account = books.accounts.get(stream_id)
                if account is not None:
                    saved = dump_account(account, message.log_sequence, digest)
                    books.restore(load_account(saved)[0])
            unsaved.clear()


def _placed(update: Update) -> bytes:
    """Return an update with its place among those of its account: it must be the same, too."""
    return b"%d/%d/%d " % (update.number, update.count, update.previous or 0) + update.data


def _hashes(books: Books, stream_id: str) -> tuple[str | None, str | None, str | None]:
    account = books.accounts.get(stream_id)
    if account is None:
        return None, None, None
    ledger = account.ledger_hash()
    state = account.valuation.hash(ledger, account.value())
    return account.delivery.chain_hash.hex(), ledger.hex(), state.hex()


def _advance(update: Update) -> Iterator[Advance]:
    if update.kind != "state.updated":
        return
    advance = advance_of(update.data)
    if advance is not None:
        yield advance


def advance_of(data: bytes) -> Advance | None:
    """Return the hashes in a `StateUpdated`; None for one that a mark caused."""
    payload = decode_untyped(data)["payload"]
    if payload["cause"] != "event":
        return None
    return Advance(
        payload["log_sequence"],
        payload["account_id"],
        payload["sequence_number"],
        payload["chain_hash"],
        payload["ledger_hash"],
        payload["state_hash"],
        payload.get("event_log_sequence", payload["log_sequence"]),
    )


def _digest(parts: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def main() -> int:
    """Run as the only argument says, a `ValidationRun` as JSON; print one JSON line per message."""
    run = msgspec.json.decode(sys.argv[1], type=ValidationRun)
    locale.setlocale(locale.LC_ALL, "")  # otherwise the environment's locale would do nothing
    decimal.setcontext(decimal.Context(prec=run.precision, rounding=decimal.ROUND_UP))
    encoder = msgspec.json.Encoder()
    for found in Replay(run).prints():
        sys.stdout.buffer.write(encoder.encode(found) + b"\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
