"""Effects of an operator's event on a stream that waits or is blocked.

Decides only; `folding` performs. Operator events have no number. They are known by their
`event_id` among themselves, and the hash of each enters the chain once, before what it
releases, also when it changed nothing: what an operator tried is part of the record.
"""

from __future__ import annotations

import msgspec

from psm.contracts import registry
from psm.contracts.envelope import Envelope
from psm.contracts.errors import ContractError
from psm.contracts.events import EventDismissed, OperatorEvent, SequenceVoided, StreamRetried
from psm.contracts.sequencing import VOID_MAX
from psm.domain.delivery.delivery import Delivery
from psm.domain.delivery.parked import Blocked


class Repair(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers that an operator event settles: `first` to `last`, both included."""

    event: OperatorEvent
    first: int
    last: int


def judge(delivery: Delivery, envelope: Envelope) -> Repair:
    """Return what an operator event does.

    Raises:
        ContractError: it does nothing; reason `not_blocking`, `void_invalid`, or what is wrong
            with its payload or version.
    """
    event = registry.codec_for(envelope).decode(envelope.payload)
    assert isinstance(event, EventDismissed | SequenceVoided | StreamRetried)
    expected = delivery.version + 1
    if isinstance(event, SequenceVoided):
        _check_void(delivery, event)
        return Repair(event=event, first=event.first, last=event.last)
    blocked = _blocking(delivery)
    if isinstance(event, EventDismissed) and event.log_sequence != blocked.log_sequence:
        raise ContractError(
            "not_blocking",
            f"the message at log sequence {blocked.log_sequence} blocks, not {event.log_sequence}",
            "payload.log_sequence",
        )
    return Repair(event=event, first=expected, last=expected)


def _blocking(delivery: Delivery) -> Blocked:
    """Return the block that a message next in order makes."""
    blocked = delivery.blocked
    if blocked is None:
        waits = f"waits for number {delivery.version + 1}" if delivery.parked else "is open"
        raise ContractError("not_blocking", f"no message blocks the stream: it {waits}")
    if not blocked.is_next:
        raise ContractError(
            "not_blocking",
            f"the stream waits for number {delivery.version + 1}, too many came behind it: "
            "publish that event, or void its number",
        )
    return blocked


def _check_void(delivery: Delivery, event: SequenceVoided) -> None:
    """Make sure that numbers are the missing ones."""
    expected = delivery.version + 1
    blocked = delivery.blocked
    lowest = min(delivery.parked, default=None)
    wrong, field = None, "payload.to"
    if blocked is not None and blocked.is_next:
        wrong = (
            f"number {expected} came, at log sequence {blocked.log_sequence}: "
            "dismiss that event or retry it"
        )
    elif lowest is None:
        # Else a producer that numbers its next event would not see, in time, that it is taken.
        wrong = f"number {expected} is next and nothing waits behind it: no number is missing"
    elif event.first != expected:
        wrong, field = f"the first number missing is {expected}, not {event.first}", "payload.from"
    elif event.last < event.first:
        wrong = f"`to` {event.last} is below `from` {event.first}"
    elif event.last >= lowest:
        wrong = f"number {lowest} came and waits: `to` must be below it"
    elif event.last - VOID_MAX >= event.first:
        wrong = f"at most {VOID_MAX} numbers are voided at once"
    if wrong is not None:
        raise ContractError("void_invalid", wrong, field)
