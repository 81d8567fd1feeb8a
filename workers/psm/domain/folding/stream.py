"""The sequence rules at work: one message of a stream, its outcome, and what it releases.

`delivery.states` has the rules as a table; this performs them. A message releases what waited in
one way only, `_release`, whether it is the missing number, an operator's event, or new rules that
know the message which blocked. What an event does when its turn has come is a `Settle`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec

from psm.contracts import registry
from psm.contracts.codec import decode_envelope
from psm.contracts.envelope import Envelope
from psm.contracts.errors import ContractError, InvariantError
from psm.contracts.events import EventDismissed, SequenceVoided
from psm.contracts.payload_codec import PayloadCodec
from psm.contracts.registry import UnknownEventError
from psm.contracts.sequencing import ACCOUNT_REPORTED
from psm.contracts.subjects import REPAIRS
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.delivery import repairs
from psm.domain.delivery.delivery import Delivery
from psm.domain.delivery.parked import (
    GAP_OVERFLOW,
    PARKED_MAX,
    STATE_TOO_LARGE,
    Blocked,
    Parked,
)
from psm.domain.delivery.rules import (
    ID_USED,
    NO_NUMBER,
    Entry,
    RejectedError,
    arrival_of,
    contiguous_parked,
    entry_of,
    history_wanted,
    is_correction,
    is_misplaced,
    is_next,
    read,
    report_of,
)
from psm.domain.delivery.states import REACTIONS, Arrival, Reaction, state_of
from psm.domain.folding.rebooking import still_wanted
from psm.domain.folding.reports import answer_report
from psm.domain.ledger.bounds import StateTooLargeError
from psm.domain.messages import Folded, History, LogMessage, NeedHistory, Outcome, Placement
from psm.domain.publication.updates import UpdateWriter
from psm.domain.windows import same_hash

Taken = tuple[Outcome, str | None, tuple[str, ...]]
"""Outcome of an event whose turn had come, reason of a refusal, and flags of the event itself."""


class Settle(Protocol):
    """Effect of an event whose turn has come: `ApplyToAccount`, or `DecodeOnly`."""

    def apply(
        self, account: Account, entry: Entry, codec: PayloadCodec, released: int | None
    ) -> Taken:
        """Let the event that is next in order take its place.

        Args:
            account: whose stream it is in.
            entry: the event.
            codec: of its payload.
            released: its own log sequence, where another message released it.
        """
        ...


class StreamFold:
    """Folds one message on `trades.*` or `repair.*`, and what it releases."""

    def __init__(
        self,
        books: Books,
        message: LogMessage,
        stream_id: str,
        history: History | None,
        settle: Settle,
        writer: UpdateWriter,
    ) -> None:
        self._books = books
        self._message = message
        self._stream_id = stream_id
        self._history = history
        self._settle = settle
        self._writer = writer
        self._placements: list[Placement] = []
        self._run: list[tuple[int, Parked]] = []
        self._gap_announced = False

    def run(self) -> Folded | NeedHistory:
        """Fold the message; `NeedHistory` before anything is changed."""
        message, account = self._message, self._books.accounts.get(self._stream_id)
        if message.subject.startswith(REPAIRS) and is_misplaced(message, self._books.partitions):
            return self._folded(Outcome.REJECTED, "stream_mismatch")
        if account is not None and message.log_sequence <= account.delivery.as_of:
            return self._folded(Outcome.SKIPPED)
        delivery = Delivery(self._stream_id) if account is None else account.delivery
        try:
            entry = read(message, self._stream_id, delivery.version)
        except RejectedError as rejected:
            result: Folded | NeedHistory = self._reject(account, rejected)
        else:
            if entry.envelope.event_type == ACCOUNT_REPORTED:
                result = self._compare(account, entry)
            elif entry.number == NO_NUMBER:
                result = self._operate(delivery, entry)
            else:
                result = self._react(account, delivery, entry)
        if isinstance(result, NeedHistory):
            return result
        account = account or self._books.accounts.get(self._stream_id)
        if account is not None:
            # Where the stream was seen last must be in the next snapshot too, whatever the outcome.
            account.delivery.seen_at(message.log_sequence)
            self._books.touch(account, message.log_sequence)
        return result

    def resume(self, cause: Envelope | None) -> Folded:
        """Let a blocked stream go on whose message the rules know by now; needs its history."""
        account = self._books.accounts[self._stream_id]
        blocked = account.delivery.blocked
        assert blocked is not None
        self._check_history(account.delivery, account.delivery.version + 1)
        blocking = self._from_history(blocked.log_sequence, blocked.event_hash)
        self._books.touch(account, self._message.log_sequence)
        self._release(account, cause, blocking.number, partial(self._retry, account, blocking))
        return self._folded(Outcome.APPLIED)

    # --- one event --------------------------------------------------------------------------

    def _reject(self, account: Account | None, rejected: RejectedError) -> Folded:
        envelope, error = rejected.envelope, rejected.error
        self._writer.caused_by(envelope)
        self._writer.refusal(self._stream_id, account, "rejected", envelope, error)
        return self._folded(Outcome.REJECTED, error.reason, envelope)

    def _react(
        self, account: Account | None, delivery: Delivery, entry: Entry
    ) -> Folded | NeedHistory:
        """Do what the table of `delivery.states` says."""
        undisturbed = is_next(delivery, entry.number, entry.identity)
        if undisturbed:
            arrival, reaction = Arrival.NEXT, Reaction.TAKE
        else:
            arrival = arrival_of(delivery, entry.number, entry.identity, entry.hashed)
            reaction = REACTIONS[arrival][state_of(delivery)]
        if reaction is Reaction.TAKE:
            try:
                codec = registry.account_codec_for(entry.envelope, self._books.market.rules)
            except UnknownEventError as unknown:
                self._block(entry, unknown)
                return self._folded(Outcome.BLOCKED, unknown.reason, entry.envelope)
            if undisturbed and not is_correction(entry):
                account = account or self._books.open(self._stream_id)
                outcome, reason, _ = self._take(account, entry, codec)
                return self._folded(outcome, reason, entry.envelope)
            return self._take_and_release(delivery, entry, codec)
        if reaction is Reaction.PARK:
            outcome, reason = self._park(entry)
            return self._folded(outcome, reason, entry.envelope)
        if reaction is Reaction.HOLD:
            return self._folded(Outcome.HELD, self._hold(entry), entry.envelope)
        if reaction is Reaction.REPORT:
            outcome, error = report_of(arrival, entry.number, delivery.version)
            return self._report(outcome, error, entry)
        return self._folded(Outcome.DUPLICATE, None, entry.envelope)

    def _take_and_release(
        self, delivery: Delivery, entry: Entry, codec: PayloadCodec
    ) -> Folded | NeedHistory:
        """Take the next event, and what waited for it; a correction reads the whole stream."""
        wanted = history_wanted(
            delivery, entry.number, self._message.log_sequence, correction=is_correction(entry)
        )
        if self._stream_id in self._books.accounts:
            more = still_wanted(self._books, wanted, self._message, self._history)
            if more is not None:
                return more
        if self._history is not None:
            self._check_history(delivery, entry.number)
        account = self._opened()
        outcome, reason, _ = self._release(
            account, entry.envelope, entry.number, lambda: self._take(account, entry, codec)
        )
        return self._folded(outcome, reason, entry.envelope)

    def _take(
        self, account: Account, entry: Entry, codec: PayloadCodec, released: int | None = None
    ) -> Taken:
        try:
            taken = self._settle.apply(account, entry, codec, released)
        except StateTooLargeError as full:
            account.delivery.note_too_large(entry.log_sequence, self._books.market.rules)
            self._block(entry, full.error, released)
            return Outcome.BLOCKED, STATE_TOO_LARGE, ()
        self._books.count_applied(self._stream_id)
        self._place(entry, entry.number, *taken)
        return taken

    def _park(self, entry: Entry, event_log_sequence: int | None = None) -> tuple[Outcome, str]:
        """Remember an event until the numbers before it came; one too many blocks the stream."""
        account = self._opened()
        delivery = account.delivery
        self._writer.caused_by(entry.envelope, event_log_sequence)
        expected = delivery.version + 1
        if len(delivery.parked) >= PARKED_MAX:
            delivery.block(
                msgspec.structs.replace(
                    self._blocked_by(entry, GAP_OVERFLOW),
                    held_from=entry.log_sequence,
                    corrections=is_correction(entry),
                )
            )
            detail = f"{PARKED_MAX} events wait for number {expected}; later ones are held"
            self._writer.blocked(account, GAP_OVERFLOW, detail)
            return Outcome.BLOCKED, GAP_OVERFLOW
        first = not delivery.parked
        delivery.park(
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
            self._writer.blocked(account, "sequence_gap", detail)
            self._gap_announced = True
        return Outcome.PARKED, "sequence_gap"

    def _hold(self, entry: Entry) -> str:
        """Leave an event in the log until the stream goes on; return why it does not."""
        delivery = self._books.accounts[self._stream_id].delivery
        held = delivery.blocked
        assert held is not None
        if held.held_from is None:
            held = msgspec.structs.replace(held, held_from=entry.log_sequence)
        if is_correction(entry):
            held = msgspec.structs.replace(held, corrections=True)
        delivery.block(held)
        return held.reason

    def _report(
        self,
        outcome: Outcome,
        error: ContractError,
        entry: Entry,
        event_log_sequence: int | None = None,
    ) -> Folded:
        """Publish that an event changed nothing, and why."""
        self._writer.caused_by(entry.envelope, event_log_sequence)
        known = self._books.accounts.get(self._stream_id)
        self._writer.refusal(self._stream_id, known, outcome.value, entry.envelope, error)
        return self._folded(outcome, error.reason, entry.envelope)

    def _block(self, entry: Entry, unknown: ContractError, released: int | None = None) -> None:
        account = self._opened()
        before = account.delivery.blocked  # what a gap overflow holds back stays held
        blocked = self._blocked_by(entry, unknown.reason)
        if before is not None:
            blocked = msgspec.structs.replace(
                blocked,
                held_from=before.held_from,
                corrections=before.corrections,
                came_at=before.came_at,
            )
        account.delivery.block(blocked)
        self._writer.caused_by(entry.envelope, released)
        self._writer.blocked(account, unknown.reason, unknown.detail)

    def _blocked_by(self, entry: Entry, reason: str) -> Blocked:
        return Blocked(
            reason=reason,
            log_sequence=entry.log_sequence,
            event_hash=entry.hashed,
            event_type=entry.envelope.event_type,
            major=entry.envelope.major,
            rules=self._books.market.rules,
        )

    def _opened(self) -> Account:
        account = self._books.open(self._stream_id)
        self._books.touch(account, self._message.log_sequence)
        return account

    def _compare(self, account: Account | None, entry: Entry) -> Folded:
        """Answer what somebody reports that the account has; its books stay as they are."""
        outcome, error = answer_report(self._books, self._stream_id, account, entry, self._writer)
        if error is not None:
            return self._report(outcome, error, entry)
        return self._folded(outcome, None, entry.envelope)

    # --- operators' events ------------------------------------------------------------------

    def _operate(self, delivery: Delivery, entry: Entry) -> Folded | NeedHistory:
        """Fold an operator's event: it has no number, and repairs a stream that stopped."""
        remembered = delivery.operators.hash_of(entry.identity) if delivery.operators else None
        if remembered is not None and same_hash(remembered, entry.hashed):
            return self._folded(Outcome.DUPLICATE, None, entry.envelope)
        if remembered is not None:
            error = ContractError("event_id_conflict", ID_USED, "event_id")
            return self._report(Outcome.CONFLICT, error, entry)
        try:
            repair = repairs.judge(delivery, entry.envelope)
        except ContractError as error:
            account = self._chain(entry, Outcome.REFUSED, error.reason)
            self._writer.caused_by(entry.envelope)
            self._writer.account(account, refusal=(entry.envelope, error))
            return self._folded(Outcome.REFUSED, error.reason, entry.envelope)
        event, blocked, rules = repair.event, delivery.blocked, self._books.market.rules
        retried = not isinstance(event, SequenceVoided | EventDismissed)
        if retried and blocked is not None and not blocked.known_by(rules):
            return self._retry_in_vain(entry, blocked)
        wanted = history_wanted(delivery, repair.last, self._message.log_sequence, correction=False)
        more = still_wanted(self._books, wanted, self._message, self._history)
        if more is not None:
            return more
        self._check_history(delivery, repair.last)
        if isinstance(event, SequenceVoided):
            account = self._chain(entry, Outcome.APPLIED, number=event.last)
            settle = partial(self._void, account, entry, event)
        else:
            assert blocked is not None
            blocking = self._from_history(blocked.log_sequence, blocked.event_hash)
            account = self._chain(entry, Outcome.APPLIED, announced=False)
            settle = (
                partial(self._dismiss, account, blocking, entry.envelope.event_id)
                if isinstance(event, EventDismissed)
                else partial(self._retry, account, blocking)
            )
        self._release(account, entry.envelope, repair.last, settle)
        return self._folded(Outcome.APPLIED, None, entry.envelope)

    def _retry_in_vain(self, entry: Entry, blocked: Blocked) -> Folded:
        """The rules still do not know the message that blocks: the chain alone moves."""
        account = self._chain(entry, Outcome.BLOCKED, blocked.reason)
        self._writer.caused_by(entry.envelope)
        self._writer.account(account)
        what = "too large for the state" if blocked.reason == STATE_TOO_LARGE else "not known"
        detail = f"{blocked.event_type} is still {what} by rules {self._books.market.rules}"
        self._writer.caused_by(entry.envelope, blocked.log_sequence)
        self._writer.blocked(account, blocked.reason, detail)
        return self._folded(Outcome.BLOCKED, blocked.reason, entry.envelope)

    def _chain(
        self,
        entry: Entry,
        outcome: Outcome,
        reason: str | None = None,
        *,
        number: int | None = None,
        announced: bool = True,
    ) -> Account:
        account = self._opened()
        account.delivery.take_operator(entry.identity, entry.hashed)
        standing = account.delivery.version if number is None else number
        self._place(entry, standing, outcome, reason, announced=announced)
        return account

    def _void(self, account: Account, entry: Entry, event: SequenceVoided) -> Taken:
        account.delivery.void(event.last, entry.hashed)
        self._books.count_applied(self._stream_id)
        self._writer.caused_by(entry.envelope)
        self._writer.account(account)
        return Outcome.APPLIED, None, ()

    def _dismiss(self, account: Account, entry: Entry, by: str) -> Taken:
        """Refuse the event that blocked; it keeps its place."""
        error = ContractError("dismissed", f"dismissed by operator event {by}")
        account.delivery.refuse_place(entry.number, entry.identity, entry.hashed)
        self._books.count_applied(self._stream_id)
        self._writer.caused_by(entry.envelope, entry.log_sequence)
        self._writer.account(account, refusal=(entry.envelope, error))
        self._place(entry, entry.number, Outcome.REFUSED, error.reason)
        return Outcome.REFUSED, error.reason, ()

    def _retry(self, account: Account, entry: Entry) -> Taken:
        codec = registry.account_codec_for(entry.envelope, self._books.market.rules)
        return self._take(account, entry, codec, entry.log_sequence)

    # --- what was waiting -------------------------------------------------------------------

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
        delivery = account.delivery
        held, version = delivery.blocked, delivery.version
        waited = not delivery.undisturbed
        delivery.block(None)
        self._unpark_run(delivery, last)
        result = settle()
        self._take_run(account)
        if held is not None and held.held_from is not None:
            self._take_held(account, held, version)
        if waited and delivery.status == "open":
            self._writer.caused_by(cause)
            self._writer.resumed(account, version + 1)
        elif held is not None and delivery.status == "gap" and not self._gap_announced:
            self._writer.caused_by(cause)
            lowest, missing = min(delivery.parked), delivery.version + 1
            detail = f"number {lowest} came, number {missing} is missing"
            self._writer.blocked(account, "sequence_gap", detail)
        return result

    def _unpark_run(self, delivery: Delivery, number: int) -> None:
        """Take the events that follow `number` without a gap off the parked list.

        They leave it before the first of them is applied: at each place the ledger hash is that of
        a stream that never had the gap.
        """
        after = range(number + 1, number + 1 + len(contiguous_parked(delivery, number)))
        self._run = [(parked, delivery.unpark(parked)) for parked in after]

    def _take_run(self, account: Account) -> None:
        """Take what left the parked list; from where the stream blocks it goes back there."""
        run, self._run = self._run, []
        for number, parked in run:
            if account.delivery.blocked is not None:
                account.delivery.park(number, parked)
                continue
            entry = self._from_history(parked.log_sequence, parked.event_hash)
            try:
                codec = registry.account_codec_for(entry.envelope, self._books.market.rules)
            except UnknownEventError as unknown:
                self._block(entry, unknown, parked.log_sequence)
            else:
                self._take(account, entry, codec, parked.log_sequence)

    def _take_held(self, account: Account, held: Blocked, version: int) -> None:
        """Fold the messages that were held while the stream was blocked, as if they came now.

        Args:
            account: with its next number settled, and what was parked after it.
            held: the block that is released.
            version: of the account before that.
        """
        assert self._history is not None
        assert held.held_from is not None
        start = held.held_from
        for log_sequence in sorted(self._history):
            if account.delivery.blocked is not None:
                break
            if not start <= log_sequence < self._message.log_sequence:
                continue
            if self._history[log_sequence].stream_id is None:
                continue  # a correction has the market read, too
            start = log_sequence + 1
            then = held.version_at(log_sequence, version)
            try:
                entry = read(self._history[log_sequence], self._stream_id, then)
            except RejectedError:
                continue  # was rejected, and published as such, when it came
            if entry.number <= then:
                continue  # was judged when it came: it concerned a place already taken
            self._react_to_held(account, entry)
        blocked = account.delivery.blocked
        if blocked is not None:
            self._hold_rest(account.delivery, blocked, held, start, version)

    def _react_to_held(self, account: Account, entry: Entry) -> None:
        """Do what the table of `delivery.states` says, for a message that came earlier."""
        delivery, at = account.delivery, entry.log_sequence
        arrival = arrival_of(delivery, entry.number, entry.identity, entry.hashed)
        reaction = REACTIONS[arrival][state_of(delivery)]
        if reaction is Reaction.PARK:
            self._park(entry, at)
        elif reaction is Reaction.REPORT:
            self._report(*report_of(arrival, entry.number, delivery.version), entry, at)
        elif reaction is Reaction.TAKE:
            try:
                codec = registry.account_codec_for(entry.envelope, self._books.market.rules)
            except UnknownEventError as unknown:
                self._block(entry, unknown, at)
                return
            self._unpark_run(delivery, entry.number)
            self._take(account, entry, codec, at)
            self._take_run(account)

    def _hold_rest(
        self, delivery: Delivery, blocked: Blocked, held: Blocked, start: int, version: int
    ) -> None:
        """Keep held what a release did not reach, each with the version it came at."""
        if blocked.held_from is not None:  # the one that did not fit is judged again
            start = blocked.held_from
        earlier = [pair for pair in held.came_at if pair[0] > start]
        came_at = (*earlier, (self._message.log_sequence, version))
        delivery.block(
            msgspec.structs.replace(
                blocked,
                held_from=start,
                corrections=blocked.corrections or held.corrections,
                came_at=came_at,
            )
        )

    def _check_history(self, delivery: Delivery, number: int) -> None:
        """Raise before anything is changed if a message that may be released is not as it was."""
        held = delivery.blocked is not None and delivery.blocked.held_from is not None
        released = list(delivery.parked.values()) if held else contiguous_parked(delivery, number)
        for parked in released:
            self._from_history(parked.log_sequence, parked.event_hash)

    def _from_history(self, log_sequence: int, hashed: bytes) -> Entry:
        message = (self._history or {}).get(log_sequence)
        if message is None or message.event_hash != hashed:
            raise InvariantError(
                f"{self._stream_id}: the waiting message {log_sequence} is missing or has other "
                "bytes"
            )
        return entry_of(decode_envelope(message.data), message)

    # --- result -----------------------------------------------------------------------------

    def _place(
        self,
        entry: Entry,
        number: int,
        outcome: Outcome,
        reason: str | None,
        flags: tuple[str, ...] = (),
        *,
        announced: bool = True,
    ) -> None:
        envelope = entry.envelope
        self._placements.append(
            Placement(
                stream_id=self._stream_id,
                number=number,
                event_id=envelope.event_id,
                event_type=envelope.event_type,
                timestamp=envelope.timestamp,
                event_hash=entry.hashed,
                log_sequence=entry.log_sequence,
                outcome=outcome,
                reason=reason,
                flags=flags,
                announced=announced,
            )
        )

    def _folded(
        self, outcome: Outcome, reason: str | None = None, envelope: Envelope | None = None
    ) -> Folded:
        writer = self._writer
        return Folded(
            outcome=outcome,
            reason=reason,
            stream_id=self._stream_id,
            sequence_number=envelope.sequence_number if envelope else None,
            placements=self._placements,
            updates=writer.finished(),
            payloads=writer.payloads,
            hashes=writer.hashes,
        )
