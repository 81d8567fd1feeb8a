"""The sequence rules of a stream: which message is next, known, too early, or no event at all."""

from __future__ import annotations

import msgspec

from psm.contracts.codec import decode_envelope
from psm.contracts.envelope import Envelope, event_hash
from psm.contracts.errors import ContractError
from psm.contracts.sequencing import OPERATOR_EVENTS, SEQUENCE_AHEAD_MAX
from psm.contracts.subjects import is_stream_id
from psm.domain.account import Account
from psm.domain.messages import LogMessage
from psm.domain.outcomes import NeedHistory, Outcome
from psm.domain.waiting import GAP_OVERFLOW, Parked
from psm.domain.windows import VOIDED, same_hash

NO_NUMBER = 0
"""Stands for the number of an operator event: it takes no place among the numbers."""
_CORRECTIONS = ("TradeBusted", "TradeAmended")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An account event ready to take its place, or an operator event (`NO_NUMBER`)."""

    envelope: Envelope
    number: int
    identity: bytes
    hashed: bytes
    log_sequence: int


class RejectedError(Exception):
    """A message that is no event of its stream: it takes no place. Never leaves the fold."""

    def __init__(self, error: ContractError, envelope: Envelope | None) -> None:
        super().__init__(error.reason)
        self.error = error
        self.envelope = envelope


def read(message: LogMessage, stream_id: str, version: int) -> Entry:
    """Return the event in a message on `trades.*`; raises `RejectedError` where it is none."""
    envelope = None
    try:
        envelope = decode_envelope(message.data)
        if not is_stream_id(envelope.stream_id):
            raise ContractError(
                "malformed_field", "stream_id must be 1 to 64 letters, digits, _ or -", "stream_id"
            )
        if envelope.stream_id != stream_id:
            raise ContractError(
                "stream_mismatch",
                f"stream_id {envelope.stream_id} came on the subject of {stream_id}",
                "stream_id",
            )
        if envelope.event_type in OPERATOR_EVENTS:
            return _entry(envelope, NO_NUMBER, message)
        if envelope.sequence_number is None:
            raise ContractError(
                "sequence_missing", "sequence_number is required on trades.*", "sequence_number"
            )
        if envelope.sequence_number > version + SEQUENCE_AHEAD_MAX:
            raise ContractError(
                "sequence_too_far",
                f"sequence_number {envelope.sequence_number} is more than "
                f"{SEQUENCE_AHEAD_MAX} beyond {version}",
                "sequence_number",
            )
    except ContractError as error:
        raise RejectedError(error, envelope) from None
    return _entry(envelope, envelope.sequence_number, message)


def is_rejected(message: LogMessage, stream_id: str, version: int) -> bool:
    """Return whether a message on `trades.*` is no event of its stream and takes no place."""
    try:
        read(message, stream_id, version)
    except RejectedError:
        return True
    return False


def entry_of(envelope: Envelope, message: LogMessage) -> Entry:
    """Return the entry of a numbered event."""
    assert envelope.sequence_number is not None
    return _entry(envelope, envelope.sequence_number, message)


def _entry(envelope: Envelope, number: int, message: LogMessage) -> Entry:
    return Entry(
        envelope=envelope,
        number=number,
        identity=envelope.identity,
        hashed=event_hash(message.data),
        log_sequence=message.log_sequence,
    )


def is_plainly_next(account: Account, number: int, identity: bytes) -> bool:
    """Return whether nothing waits and the event is new and next: `classify` in short."""
    return (
        number == account.version + 1
        and account.undisturbed
        and account.identities.hash_of(identity) is None
    )


def classify(
    account: Account, number: int, identity: bytes, hashed: bytes
) -> tuple[Outcome | None, str, str]:
    """Return (outcome, reason, detail) by the sequence rules; outcome None is next in order."""
    expected = account.version + 1
    if account.blocked is not None and number >= expected:
        missing = account.blocked.reason == GAP_OVERFLOW and number == expected
        if not missing:
            return Outcome.HELD, account.blocked.reason, ""
    remembered = account.identities.hash_of(identity)
    parked_number = _parked_under(account, identity)
    if remembered is None and parked_number is not None:
        remembered = account.parked[parked_number].event_hash[:16]
    if remembered is not None and not same_hash(remembered, hashed):
        return Outcome.CONFLICT, "event_id_conflict", "this event_id came before with other bytes"
    taken = "another event has this sequence_number; the first in the log wins"
    if number < expected:
        place = account.identities.at(account.version - number)
        if place is None:
            detail = f"number {number} is older than the places remembered at {account.version}"
            return Outcome.STALE, "stale_unverified", detail
        if place[1] == VOIDED:
            return Outcome.CONFLICT, "sequence_voided", f"an operator voided number {number}"
        if place[0] == identity and same_hash(place[1], hashed):
            return Outcome.DUPLICATE, "", ""
        return Outcome.CONFLICT, "sequence_conflict", taken
    if number in account.parked:
        if account.parked[number].event_hash == hashed:
            return Outcome.DUPLICATE, "", ""
        return Outcome.CONFLICT, "sequence_conflict", taken
    if number > expected:
        return Outcome.PARKED, "sequence_gap", ""
    return None, "", ""


def _parked_under(account: Account, identity: bytes) -> int | None:
    for number, parked in account.parked.items():
        if parked.identity == identity:
            return number
    return None


def run_after(account: Account, number: int) -> list[Parked]:
    """Return the parked events that follow `number` without a gap."""
    run = []
    while (number := number + 1) in account.parked:
        run.append(account.parked[number])
    return run


def history_wanted(
    account: Account, number: int, log_sequence: int, *, correction: bool
) -> NeedHistory | None:
    """Return the range of the stream that is needed when it goes on behind `number`.

    A correction among what is folded needs the whole stream.

    Args:
        account: as it waits.
        number: the last one that is settled before what waited is released.
        log_sequence: of the releasing message.
        correction: whether that message is a correction itself.
    """
    run = run_after(account, number)
    correction = correction or any(parked.correction for parked in run)
    positions = [parked.log_sequence for parked in run]
    end = max(positions, default=0)
    blocked = account.blocked
    if blocked is not None and blocked.is_next:
        positions.append(blocked.log_sequence)
        end = max(end, blocked.log_sequence)
        correction = correction or blocked.event_type in _CORRECTIONS
    if blocked is not None and blocked.held_from is not None:
        parked_all = account.parked.values()
        correction = correction or blocked.corrections or any(p.correction for p in parked_all)
        positions.extend((blocked.held_from, *(p.log_sequence for p in parked_all)))
        end = log_sequence - 1
    if correction:
        positions, end = [1], log_sequence - 1
    if not positions or end < 1:
        return None
    return NeedHistory(
        stream_id=account.stream_id, from_log_sequence=min(positions), to_log_sequence=end
    )


def is_correction(entry: Entry) -> bool:
    """Return whether the event corrects an earlier one."""
    return entry.envelope.event_type in _CORRECTIONS
