"""What the stream PSM says of the log's events: which took a place, and which changed nothing."""

from __future__ import annotations

from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

from psm.adapters.jetstream import StoredMessage
from psm.contracts.errors import InvariantError
from psm.projections.archive.writer import Chained, Refusal
from psm.projections.storable import storable_text

Verdict = Chained | Refusal | None


class _State(msgspec.Struct, gc=False):
    """The part of `StateUpdated` that says which event took which place."""

    account_id: str
    sequence_number: int
    log_sequence: int
    cause: str
    event_hash: str | None
    chain_hash: str
    ledger_hash: str
    state_hash: str
    event_log_sequence: int | UnsetType = UNSET


class _Refused(msgspec.Struct, gc=False):
    """The part of `EventRefused` that says what was wrong with which message."""

    account_id: str
    log_sequence: int
    outcome: str
    reason: str
    detail: str
    field: str | None = None
    event_log_sequence: int | UnsetType = UNSET


class _StateEnvelope(msgspec.Struct, gc=False):
    payload: _State


class _RefusedEnvelope(msgspec.Struct, gc=False):
    timestamp: datetime
    payload: _Refused


_state = msgspec.json.Decoder(_StateEnvelope)
_refused = msgspec.json.Decoder(_RefusedEnvelope)


def verdict(message: StoredMessage) -> Verdict:
    """Return what a message of PSM says; None where it is about no event.

    Raises:
        InvariantError: PSM published something that is not its own contract.
    """
    try:
        if message.subject.startswith("psm.state.updated."):
            return _chained(message.sequence, _state.decode(message.data).payload)
        if message.subject.startswith("psm.event.refused."):
            return _refusal(message.sequence, _refused.decode(message.data))
    except msgspec.DecodeError as error:
        raise InvariantError(f"PSM message {message.sequence} cannot be read: {error}") from error
    return None


def _chained(psm_sequence: int, state: _State) -> Chained | None:
    if state.cause != "event" or state.event_hash is None:
        return None  # a mark: the account's last event was published before
    return Chained(
        psm_sequence=psm_sequence,
        stream_id=storable_text(state.account_id),
        sequence_number=state.sequence_number,
        log_sequence=_own(state.event_log_sequence, state.log_sequence),
        folded_log_sequence=state.log_sequence,
        event_hash=state.event_hash,
        chain_hash=state.chain_hash,
        ledger_hash=state.ledger_hash,
        state_hash=state.state_hash,
    )


def _refusal(psm_sequence: int, update: _RefusedEnvelope) -> Refusal:
    refused = update.payload
    return Refusal(
        psm_sequence=psm_sequence,
        refused_at=update.timestamp,
        stream_id=storable_text(refused.account_id),
        log_sequence=_own(refused.event_log_sequence, refused.log_sequence),
        folded_log_sequence=refused.log_sequence,
        outcome=refused.outcome,
        reason=refused.reason,
        # Words of a producer may be quoted here.
        detail=storable_text(refused.detail),
        field=refused.field and storable_text(refused.field),
    )


def _own(event_log_sequence: int | UnsetType, log_sequence: int) -> int:
    """The position of the event itself, which may have been folded later."""
    return log_sequence if event_log_sequence is UNSET else event_log_sequence
