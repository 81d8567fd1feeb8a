"""The sequence rules at work: one message on `trades.*`, its outcome, and what it releases.

A message releases what waited in one way only, `_release`, whether it is the missing number, an
operator's event, or new rules that know the message which blocked. What an event does when its turn
has come is left to `_take`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import msgspec

from psm.contracts import registry
from psm.contracts.codec import decode_envelope
from psm.contracts.envelope import Envelope, event_hash
from psm.contracts.errors import ContractError, InvariantError
from psm.contracts.events import EventDismissed, SequenceVoided
from psm.contracts.payload_codec import PayloadCodec
from psm.contracts.registry import UnknownEventError
from psm.domain import operators
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.messages import LogMessage
from psm.domain.outcomes import Folded, History, NeedHistory, Outcome
from psm.domain.publish import Emitter
from psm.domain.sequence import (
    NO_NUMBER,
    Entry,
    RejectedError,
    classify,
    entry_of,
    history_wanted,
    is_correction,
    is_plainly_next,
    read,
    run_after,
)
from psm.domain.waiting import GAP_OVERFLOW, PARKED_MAX, Blocked, Parked
from psm.domain.windows import same_hash

Taken = tuple[Outcome, str | None]
"""Outcome of an event whose turn had come, and the reason of a refusal."""


class StreamFold(ABC):
    """Folds one message on `trades.*`, and what it releases."""

    def __init__(
        self, books: Books, message: LogMessage, stream_id: str, history: History | None
    ) -> None:
        self.books = books
        self.message = message
        self.stream_id = stream_id
        self.history = history
        self.emitter = Emitter(books, message, "event")
        self._run: list[Parked] = []
        self._gap_announced = False

    @abstractmethod
    def _take(
        self, account: Account, entry: Entry, codec: PayloadCodec, released: int | None = None
    ) -> Taken:
        """Let the event that is next in order take its place.

        Args:
            account: whose stream it is in.
            entry: the event.
            codec: of its payload.
            released: its own log sequence, where another message released it.
        """

    def run(self) -> Folded | NeedHistory:
        """Fold the message; `NeedHistory` before anything is changed."""
        account = self.books.accounts.get(self.stream_id)
        if account is not None and self.message.log_sequence <= account.as_of:
            return self._folded(Outcome.SKIPPED)
        try:
            entry = read(self.message, self.stream_id, account.version if account else 0)
        except RejectedError as rejected:
            self.emitter.caused_by(rejected.envelope)
            self.emitter.refusal(
                self.stream_id, account, "rejected", rejected.envelope, rejected.error
            )
            result = self._folded(Outcome.REJECTED, rejected.error.reason, rejected.envelope)
        else:
            known = account or Account(self.stream_id)
            judge = self._operate if entry.number == NO_NUMBER else self._judge
            judged = judge(known, entry)
            if isinstance(judged, NeedHistory):
                return judged
            result = judged
        account = self.books.accounts.get(self.stream_id)
        if account is not None:
            # Where the stream was seen last must be in the next snapshot too, whatever the outcome.
            account.last_log_sequence = self.message.log_sequence
            self.books.touch(account, self.message.log_sequence)
        return result

    def _judge(self, account: Account, entry: Entry) -> Folded | NeedHistory:
        if is_plainly_next(account, entry.number, entry.identity):
            return self._next_in_order(entry)
        outcome, reason, detail = classify(account, entry.number, entry.identity, entry.hashed)
        if outcome is None:
            return self._next_in_order(entry)
        if outcome in (Outcome.CONFLICT, Outcome.STALE):
            self.emitter.caused_by(entry.envelope)
            known = self.books.accounts.get(self.stream_id)
            error = ContractError(reason, detail)
            self.emitter.refusal(self.stream_id, known, outcome.value, entry.envelope, error)
        elif outcome is Outcome.PARKED:
            return self._park(entry)
        elif outcome is Outcome.HELD:
            self._hold(entry)
        return self._folded(outcome, reason or None, entry.envelope)

    def _park(self, entry: Entry, event_log_sequence: int | None = None) -> Folded:
        account = self.books.open(self.stream_id)
        self.books.touch(account, self.message.log_sequence)
        self.emitter.caused_by(entry.envelope, event_log_sequence)
        expected = account.version + 1
        if len(account.parked) >= PARKED_MAX:
            account.block(
                msgspec.structs.replace(
                    _blocked_by(entry, GAP_OVERFLOW),
                    held_from=entry.log_sequence,
                    corrections=is_correction(entry),
                )
            )
            detail = f"{PARKED_MAX} events wait for number {expected}; later ones are held"
            self.emitter.blocked(account, GAP_OVERFLOW, detail)
            return self._folded(Outcome.BLOCKED, GAP_OVERFLOW, entry.envelope)
        first = not account.parked
        account.park(
            entry.number,
            Parked(
                identity=entry.identity,
                event_hash=entry.hashed,
                log_sequence=entry.log_sequence,
                correction=is_correction(entry),
            ),
        )
        if first:
            detail = f"number {entry.number} came, number {expected} is missing"
            self.emitter.blocked(account, "sequence_gap", detail)
            self._gap_announced = True
        return self._folded(Outcome.PARKED, "sequence_gap", entry.envelope)

    def _hold(self, entry: Entry) -> None:
        account = self.books.open(self.stream_id)
        assert account.blocked is not None
        held = account.blocked
        if held.held_from is None:
            held = msgspec.structs.replace(held, held_from=entry.log_sequence)
        if is_correction(entry):
            held = msgspec.structs.replace(held, corrections=True)
        account.block(held)

    def _next_in_order(self, entry: Entry) -> Folded | NeedHistory:
        existing = self.books.accounts.get(self.stream_id)
        try:
            codec = registry.account_codec_for(entry.envelope, self.books.rules)
        except UnknownEventError as unknown:
            self._block(entry, unknown)
            return self._folded(Outcome.BLOCKED, unknown.reason, entry.envelope)
        if (existing is None or existing.undisturbed) and not is_correction(entry):
            account = existing or self.books.open(self.stream_id)
            outcome, reason = self._take(account, entry, codec)
            return self._folded(outcome, reason, entry.envelope)
        if existing is not None and self.history is None:
            wanted = history_wanted(
                existing,
                entry.number,
                self.message.log_sequence,
                correction=is_correction(entry),
            )
            if wanted is not None:
                return wanted
        if existing is not None and self.history is not None:
            self._check_history(existing, entry.number)
        account = self.books.open(self.stream_id)
        self.books.touch(account, self.message.log_sequence)
        outcome, reason = self._release(
            account, entry.envelope, entry.number, lambda: self._take(account, entry, codec)
        )
        return self._folded(outcome, reason, entry.envelope)

    def _operate(self, account: Account, entry: Entry) -> Folded | NeedHistory:
        """Fold an operator's event: it has no number, and repairs a stream that stopped."""
        remembered = account.operators.hash_of(entry.identity) if account.operators else None
        if remembered is not None and same_hash(remembered, entry.hashed):
            return self._folded(Outcome.DUPLICATE, None, entry.envelope)
        if remembered is not None:
            error = ContractError(
                "event_id_conflict", "this event_id came before with other bytes", "event_id"
            )
            self.emitter.caused_by(entry.envelope)
            self.emitter.refusal(self.stream_id, account, "conflict", entry.envelope, error)
            return self._folded(Outcome.CONFLICT, error.reason, entry.envelope)
        try:
            repair = operators.judge(account, entry.envelope)
        except ContractError as error:
            self._chain(entry)
            self._publish(entry, refusal=error)
            return self._folded(Outcome.REFUSED, error.reason, entry.envelope)
        event, blocked = repair.event, account.blocked
        retried = not isinstance(event, SequenceVoided | EventDismissed)
        if retried and blocked is not None and not blocked.known_by(self.books.rules):
            self._chain(entry)
            self._publish(entry)
            detail = f"{blocked.event_type} is still not known by rules {self.books.rules}"
            self.emitter.caused_by(entry.envelope, blocked.log_sequence)
            self.emitter.blocked(account, blocked.reason, detail)
            return self._folded(Outcome.BLOCKED, blocked.reason, entry.envelope)
        if self.history is None:
            wanted = history_wanted(
                account, repair.last, self.message.log_sequence, correction=False
            )
            if wanted is not None:
                return wanted
        self._check_history(account, repair.last)
        if isinstance(event, SequenceVoided):
            account = self._chain(entry)
            settle = partial(self._void, account, entry, event)
        else:
            assert blocked is not None
            blocking = self._from_history(blocked.log_sequence, blocked.event_hash)
            account = self._chain(entry)
            settle = (
                partial(self._dismiss, account, blocking, event)
                if isinstance(event, EventDismissed)
                else partial(self._retry, account, blocking)
            )
        self._release(account, entry.envelope, repair.last, settle)
        return self._folded(Outcome.APPLIED, None, entry.envelope)

    def resume(self, cause: Envelope | None) -> None:
        """Let a blocked stream go on whose message the rules know by now; needs its history."""
        account = self.books.accounts[self.stream_id]
        blocked = account.blocked
        assert blocked is not None
        self._check_history(account, account.version + 1)
        blocking = self._from_history(blocked.log_sequence, blocked.event_hash)
        self.books.touch(account, self.message.log_sequence)
        self._release(account, cause, blocking.number, partial(self._retry, account, blocking))

    def _chain(self, entry: Entry) -> Account:
        account = self.books.open(self.stream_id)
        self.books.touch(account, self.message.log_sequence)
        account.take_operator(entry.identity, entry.hashed)
        return account

    def _publish(self, entry: Entry, refusal: ContractError | None = None) -> None:
        """Publish an account whose chain alone moved, or its numbers alone."""
        self.emitter.caused_by(entry.envelope)
        account = self.books.accounts[self.stream_id]
        self.emitter.account(account, refusal=(entry.envelope, refusal) if refusal else None)

    def _void(self, account: Account, entry: Entry, event: SequenceVoided) -> Taken:
        account.void(event.last, entry.hashed)
        self._count_applied()
        self._publish(entry)
        return Outcome.APPLIED, None

    def _dismiss(self, account: Account, entry: Entry, event: EventDismissed) -> Taken:
        """Refuse the event that blocked; it keeps its place."""
        error = ContractError("dismissed", f"dismissed by {event.actor}: {event.reason}")
        account.refused.append(entry.number)
        account.take_place(entry.number, entry.identity, entry.hashed)
        self._count_applied()
        self.emitter.caused_by(entry.envelope, entry.log_sequence)
        self.emitter.account(account, refusal=(entry.envelope, error))
        return Outcome.REFUSED, error.reason

    def _retry(self, account: Account, entry: Entry) -> Taken:
        codec = registry.account_codec_for(entry.envelope, self.books.rules)
        return self._take(account, entry, codec, entry.log_sequence)

    def _count_applied(self) -> None:
        applied = self.books.applied
        applied[self.stream_id] = applied.get(self.stream_id, 0) + 1

    def _release(
        self,
        account: Account,
        cause: Envelope | None,
        last: int,
        settle: Callable[[], Taken],
    ) -> Taken:
        """Settle the numbers up to `last`, then fold what waited for them.

        Args:
            account: whose next number is settled.
            cause: of the releasing message.
            last: number that `settle` brings the account to.
            settle: applies, refuses or voids.
        """
        held, version = account.blocked, account.version
        waited = bool(account.parked) or held is not None
        account.block(None)
        self._seal_run(account, last)
        result = settle()
        self._release_run(account)
        if held is not None and held.held_from is not None:
            self._release_held(account, held, version)
        if waited and account.status == "open":
            self.emitter.caused_by(cause)
            self.emitter.resumed(account, version + 1)
        elif held is not None and account.status == "gap" and not self._gap_announced:
            self.emitter.caused_by(cause)
            detail = f"number {min(account.parked)} came, number {account.version + 1} is missing"
            self.emitter.blocked(account, "sequence_gap", detail)
        return result

    def _block(self, entry: Entry, unknown: ContractError, released: int | None = None) -> None:
        account = self.books.open(self.stream_id)
        self.books.touch(account, self.message.log_sequence)
        before = account.blocked  # what a gap overflow holds back stays held
        blocked = _blocked_by(entry, unknown.reason)
        if before is not None:
            blocked = msgspec.structs.replace(
                blocked,
                held_from=before.held_from,
                corrections=before.corrections,
                came_at=before.came_at,
            )
        account.block(blocked)
        self.emitter.caused_by(entry.envelope, released)
        self.emitter.blocked(account, unknown.reason, unknown.detail)

    def _seal_run(self, account: Account, number: int) -> None:
        """Take the events that follow `number` without a gap off the parked list.

        They leave it before the first of them is applied: at each place the ledger hash is that of
        a stream that never had the gap.
        """
        after = range(number + 1, number + 1 + len(run_after(account, number)))
        self._run = [account.unpark(parked) for parked in after]

    def _release_run(self, account: Account) -> None:
        for place, parked in enumerate(self._run):
            entry = self._from_history(parked.log_sequence, parked.event_hash)
            try:
                codec = registry.account_codec_for(entry.envelope, self.books.rules)
            except UnknownEventError as unknown:
                for number, later in enumerate(self._run[place + 1 :], entry.number + 1):
                    account.park(number, later)
                self._block(entry, unknown, parked.log_sequence)
                break
            self._take(account, entry, codec, parked.log_sequence)
        self._run = []

    def _release_held(self, account: Account, held: Blocked, version: int) -> None:
        """Fold the messages that were held while the stream was blocked, as if they came now.

        Args:
            account: with its next number settled, and what was parked behind it.
            held: the block that is released.
            version: of the account before that.
        """
        assert self.history is not None
        assert held.held_from is not None
        start = held.held_from
        for log_sequence in sorted(self.history):
            if account.blocked is not None:
                break
            if not start <= log_sequence < self.message.log_sequence:
                continue
            start = log_sequence + 1
            then = held.version_at(log_sequence, version)
            try:
                entry = read(self.history[log_sequence], self.stream_id, then)
            except RejectedError:
                continue  # was rejected, and published as such, when it came
            if entry.number <= then:
                continue  # was judged when it came: it concerned a place already taken
            self._judge_held(account, entry)
        if account.blocked is not None:
            self._hold_rest(account, account.blocked, held, start, version)

    def _hold_rest(
        self, account: Account, blocked: Blocked, held: Blocked, start: int, version: int
    ) -> None:
        """Keep held what a release did not reach, each with the version it came at."""
        if blocked.held_from is not None:  # the one that did not fit is judged again
            start = blocked.held_from
        earlier = [pair for pair in held.came_at if pair[0] > start]
        came_at = (*earlier, (self.message.log_sequence, version))
        account.block(
            msgspec.structs.replace(
                blocked,
                held_from=start,
                corrections=blocked.corrections or held.corrections,
                came_at=came_at,
            )
        )

    def _judge_held(self, account: Account, entry: Entry) -> None:
        outcome, reason, detail = classify(account, entry.number, entry.identity, entry.hashed)
        if outcome is Outcome.PARKED:
            self._park(entry, entry.log_sequence)
        elif outcome in (Outcome.CONFLICT, Outcome.STALE):
            self.emitter.caused_by(entry.envelope, entry.log_sequence)
            error = ContractError(reason, detail)
            self.emitter.refusal(self.stream_id, account, outcome.value, entry.envelope, error)
        elif outcome is None:
            try:
                codec = registry.account_codec_for(entry.envelope, self.books.rules)
            except UnknownEventError as unknown:
                self._block(entry, unknown, entry.log_sequence)
                return
            self._seal_run(account, entry.number)
            self._take(account, entry, codec, entry.log_sequence)
            self._release_run(account)

    def _check_history(self, account: Account, number: int) -> None:
        """Raise before anything is changed if a message that may be released is not as it was."""
        held = account.blocked is not None and account.blocked.held_from is not None
        released = list(account.parked.values()) if held else run_after(account, number)
        for parked in released:
            self._from_history(parked.log_sequence, parked.event_hash)

    def _from_history(self, log_sequence: int, hashed: bytes) -> Entry:
        message = (self.history or {}).get(log_sequence)
        if message is None or event_hash(message.data) != hashed:
            raise InvariantError(
                f"{self.stream_id}: the waiting message {log_sequence} is missing or has other "
                "bytes"
            )
        return entry_of(decode_envelope(message.data), message)

    def _folded(
        self, outcome: Outcome, reason: str | None = None, envelope: Envelope | None = None
    ) -> Folded:
        return Folded(
            outcome=outcome,
            reason=reason,
            stream_id=self.stream_id,
            sequence_number=envelope.sequence_number if envelope else None,
            updates=self.emitter.updates,
            hashes=self.emitter.hashes,
        )


def _blocked_by(entry: Entry, reason: str) -> Blocked:
    return Blocked(
        reason=reason,
        log_sequence=entry.log_sequence,
        event_hash=entry.hashed,
        event_type=entry.envelope.event_type,
        major=entry.envelope.major,
    )
