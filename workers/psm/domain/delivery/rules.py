"""Sequence rules of a stream: which message is next, known, too early, or no event at all."""

from __future__ import annotations

import msgspec

from psm.contracts import subjects
from psm.contracts.codec import decode_envelope
from psm.contracts.envelope import Envelope
from psm.contracts.errors import ContractError
from psm.contracts.sequencing import (
    ACCOUNT_REPORTED,
    NO_PLACE,
    OPERATOR_EVENTS,
    SEQUENCE_AHEAD_MAX,
)
from psm.contracts.subjects import REPAIRS, STREAM_ID_RULE, is_stream_id
from psm.domain.delivery.delivery import Delivery
from psm.domain.delivery.parked import Parked
from psm.domain.delivery.states import Arrival
from psm.domain.messages import LogMessage, NeedHistory, Outcome
from psm.domain.windows import VOIDED, same_hash

NO_NUMBER = 0
"""Stands for the number of what has none: operator events and reports take no place."""
ID_USED = "this event_id came before with other bytes"
_CORRECTIONS = ("TradeBusted", "TradeAmended", "EventReversed")


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An account event ready to take its place, or what takes none (`NO_NUMBER`)."""

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
    """Return the event in a message of a stream; raises `RejectedError` where it is none."""
    envelope = None
    try:
        if not is_stream_id(stream_id):
            raise ContractError(
                "invalid_subject", f"the last token must be {STREAM_ID_RULE}", "subject"
            )
        envelope = decode_envelope(message.data)
        if envelope.stream_id != stream_id:
            raise _not_of(stream_id, envelope)
        operators = envelope.event_type in OPERATOR_EVENTS
        if operators != message.subject.startswith(REPAIRS):
            raise _wrong_door(envelope, message)
        if operators or is_report(envelope):
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


def _not_of(stream_id: str, envelope: Envelope) -> ContractError:
    """Return the error of an event that names another stream than its subject, or none at all."""
    if not is_stream_id(envelope.stream_id):
        return ContractError("malformed_field", f"stream_id must be {STREAM_ID_RULE}", "stream_id")
    return ContractError(
        "stream_mismatch",
        f"stream_id {envelope.stream_id} came on the subject of {stream_id}",
        "stream_id",
    )


def is_report(envelope: Envelope) -> bool:
    """Return whether this is what somebody says that the account has, and no event of it.

    Raises:
        ContractError: it is, and has a number.
    """
    if envelope.event_type != ACCOUNT_REPORTED:
        return False
    if envelope.sequence_number is not None:
        raise ContractError("malformed_field", NO_PLACE, "sequence_number")
    return True


def _wrong_door(envelope: Envelope, message: LogMessage) -> ContractError:
    """Return the error of an event that came where others' events do.

    Operators' subject is theirs alone, and their only one.
    """
    operators = envelope.event_type in OPERATOR_EVENTS
    where = "repair.<partition>.<stream_id>" if operators else "trades.<stream_id>"
    return ContractError(
        "operators_only",
        f"{envelope.event_type} belongs on {where}, it came on {message.kind}.*",
        "event_type",
    )


def is_misplaced(message: LogMessage, partitions: int) -> bool:
    """Return whether an operator's tool computed another partition than that of the stream.

    Nobody who has the stream reads it, so it is nothing, and in each of its readers.
    """
    if not message.subject.startswith(REPAIRS):
        return False
    return message.subject != subjects.repair(message.token, partitions)


def is_rejected(message: LogMessage, stream_id: str, version: int) -> bool:
    """Return whether a message of a stream is no event of it and takes no place."""
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
        hashed=message.event_hash,
        log_sequence=message.log_sequence,
    )


def is_next(delivery: Delivery, number: int, identity: bytes) -> bool:
    """Return whether nothing waits and the event is new and next: fast path of `arrival_of`."""
    return (
        number == delivery.version + 1
        and not delivery.parked
        and delivery.blocked is None
        and delivery.identities.hash_of(identity) is None
    )


def arrival_of(delivery: Delivery, number: int, identity: bytes, hashed: bytes) -> Arrival:
    """Return what an event is to its stream; whether its type is known is not looked at."""
    expected = delivery.version + 1
    used = _id_used(delivery, identity, hashed)
    if number < expected:
        return Arrival.TAKEN_ID_USED if used else _taken(delivery, number, identity, hashed)
    if number == expected:
        return Arrival.NEXT_ID_USED if used else Arrival.NEXT
    if used:
        return Arrival.AHEAD_ID_USED
    parked = delivery.parked.get(number)
    if parked is None:
        return Arrival.AHEAD
    return Arrival.PARKED_SAME if parked.event_hash == hashed else Arrival.PARKED_OTHER


def _id_used(delivery: Delivery, identity: bytes, hashed: bytes) -> bool:
    """Return whether the stream remembers this event id with other bytes."""
    remembered = delivery.identities.hash_of(identity)
    if remembered is None:
        remembered = next(
            (p.event_hash[:16] for p in delivery.parked.values() if p.identity == identity), None
        )
    return remembered is not None and not same_hash(remembered, hashed)


def _taken(delivery: Delivery, number: int, identity: bytes, hashed: bytes) -> Arrival:
    place = delivery.identities.at(delivery.version - number)
    if place is None:
        return Arrival.FORGOTTEN
    if place[1] == VOIDED:
        return Arrival.VOIDED
    if place[0] == identity and same_hash(place[1], hashed):
        return Arrival.TAKEN_SAME
    return Arrival.TAKEN_OTHER


def report_of(arrival: Arrival, number: int, version: int) -> tuple[Outcome, ContractError]:
    """Return outcome and reason of an arrival that changes nothing and is reported."""
    match arrival:
        case Arrival.FORGOTTEN:
            detail = f"number {number} is older than the places remembered at {version}"
            return Outcome.STALE, ContractError("stale_unverified", detail)
        case Arrival.VOIDED:
            detail = f"an operator voided number {number}"
            return Outcome.CONFLICT, ContractError("sequence_voided", detail)
        case Arrival.TAKEN_OTHER | Arrival.PARKED_OTHER:
            detail = "another event has this sequence_number; the first in the log wins"
            return Outcome.CONFLICT, ContractError("sequence_conflict", detail)
    return Outcome.CONFLICT, ContractError("event_id_conflict", ID_USED)


def contiguous_parked(delivery: Delivery, number: int) -> list[Parked]:
    """Return the parked events that follow `number` without a gap."""
    run = []
    while (number := number + 1) in delivery.parked:
        run.append(delivery.parked[number])
    return run


def history_wanted(
    delivery: Delivery, number: int, log_sequence: int, *, correction: bool
) -> NeedHistory | None:
    """Return the range of the stream that is needed when it goes on after `number`.

    A correction among what is folded needs the whole stream.

    Args:
        delivery: as it waits.
        number: the last one that is settled before what waited is released.
        log_sequence: of the releasing message.
        correction: whether that message is a correction itself.
    """
    run = contiguous_parked(delivery, number)
    correction = correction or any(parked.correction for parked in run)
    positions = [parked.log_sequence for parked in run]
    end = max(positions, default=0)
    blocked = delivery.blocked
    if blocked is not None and blocked.is_next:
        positions.append(blocked.log_sequence)
        end = max(end, blocked.log_sequence)
        correction = correction or blocked.event_type in _CORRECTIONS
    if blocked is not None and blocked.held_from is not None:
        parked_all = delivery.parked.values()
        correction = correction or blocked.corrections or any(p.correction for p in parked_all)
        positions.extend((blocked.held_from, *(p.log_sequence for p in parked_all)))
        end = log_sequence - 1
    if correction:
        positions, end = [1], log_sequence - 1
    if not positions or end < 1:
        return None
    return NeedHistory(
        stream_id=delivery.stream_id,
        from_log_sequence=min(positions),
        to_log_sequence=end,
        correction=correction,
    )


def is_correction(entry: Entry) -> bool:
    """Return whether the event corrects an earlier one."""
    return entry.envelope.event_type in _CORRECTIONS
