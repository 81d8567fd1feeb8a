"""Business identities of events: what a venue's fact is known by, whatever its `event_id`.

A fill is (`symbol`, `fill_id`, `side`, `order_id`): both legs of a self-trade are facts, and so is
one trade that fills two orders. Where an order is not named the fill is the same as any remembered
one of that symbol, id and side. All else that moves money or quantity is known by its `reference`,
transfers by their `transfer_id`; those have a window of their own.
"""

from __future__ import annotations

from functools import cache

from psm.contracts.errors import ContractError
from psm.contracts.events import TradeExecuted
from psm.contracts.fields import Payload, PositionSide
from psm.contracts.order_events import Side
from psm.contracts.reversals import CashReversed, TransferReversed
from psm.domain.ledger.booked_flows import BookedFlow
from psm.domain.ledger.ledger import Ledger
from psm.domain.windows import FillKey, digest16, fill_key

_OPAQUE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-"
NOT_OPAQUE = "reference_not_opaque"


def fill_keys_of(ledger: Ledger, event: TradeExecuted) -> list[FillKey]:
    """Return the packed identities that a fill may be remembered by; none without a `fill_id`.

    The first is its own; the others are those of its symbol's former names.
    """
    if event.fill_id is None:
        return []
    symbol = ledger.renames.aliases.get(event.symbol, event.symbol)
    return [
        fill_key(name, event.fill_id, event.side, event.order_id)
        for name in ledger.renames.keys_of(symbol)
    ]


def new_fill_key(ledger: Ledger, event: TradeExecuted) -> FillKey | None:
    """Return the packed identity of a fill that was not booked before.

    Raises:
        ContractError: reason `duplicate_fill`, the account remembers it.
    """
    if event.fill_id is None:
        return None
    return new_fill(ledger, event.symbol, event.fill_id, event.side, event.order_id)


def new_fill(
    ledger: Ledger, symbol: str, fill_id: str, side: Side, order_id: str | None
) -> FillKey:
    """Return the packed identity of a fill that was not booked before, by its names.

    Raises:
        ContractError: reason `duplicate_fill`, the account remembers it.
    """
    keys = [fill_key(name, fill_id, side, order_id) for name in ledger.renames.keys_of(symbol)]
    for key in keys:
        if key in ledger.fill_keys:
            raise ContractError(
                "duplicate_fill",
                "this fill_id of this symbol and side was booked before under another event_id",
                "payload.fill_id",
            )
    return keys[0]


def new_reference(
    ledger: Ledger,
    event_type: str,
    of: str,
    reference: str | None,
    position_side: PositionSide | None = None,
) -> tuple[bytes | None, tuple[str, ...]]:
    """Return the packed identity of a fact without a fill, and the flags its look raises.

    A reference that is not opaque is booked: money is never refused for the look of its name.

    Args:
        ledger: of the account.
        event_type: of the event.
        of: symbol or asset that it moves.
        reference: of the venue; None where it names none.
        position_side: leg that the event names: both legs may have one reference.

    Raises:
        ContractError: reason `duplicate_reference`, the account remembers it.
    """
    if reference is None:
        return None, ()
    leg = () if position_side is None else (position_side,)
    names = ledger.renames.keys_of(of)
    keys = [digest16("reference", event_type, name, reference, *leg) for name in names]
    for key in keys:
        if key in ledger.reference_keys:
            raise ContractError(
                "duplicate_reference",
                "this reference was booked before under another event_id",
                "payload.reference",
            )
    return keys[0], () if all(letter in _OPAQUE for letter in reference) else (NOT_OPAQUE,)


def new_transfer(ledger: Ledger, transfer_id: str) -> bytes:
    """Return the packed identity of a transfer that was not booked before, in or out.

    Raises:
        ContractError: reason `duplicate_transfer`, the account remembers it.
    """
    key = _transfer_key(transfer_id)
    if key in ledger.reference_keys:
        raise ContractError(
            "duplicate_transfer",
            "this transfer_id was booked before under another event_id",
            "payload.transfer_id",
        )
    return key


def original_flow(ledger: Ledger, event: CashReversed | TransferReversed) -> BookedFlow | None:
    """Return what the flow was booked at that a reversal takes back; None: not remembered."""
    if isinstance(event, TransferReversed):
        return ledger.booked_flows.get(_transfer_key(event.transfer_id))
    kind = "CashDeposited" if event.direction == "in" else "CashWithdrawn"
    names = ledger.renames.keys_of(event.currency or ledger.currency or "")
    keys = [digest16("reference", kind, name, event.reference) for name in names]
    return next((ledger.booked_flows[key] for key in keys if key in ledger.booked_flows), None)


def _transfer_key(transfer_id: str) -> bytes:
    return digest16("transfer", transfer_id)


def fact_name(event: Payload) -> str | None:
    """Return what the venue calls a fact; None where it has no name, or only its target has."""
    for field in _names_of(type(event)):
        name: str | None = getattr(event, field)
        if name is not None:
            return name
    return None


@cache
def _names_of(kind: type[Payload]) -> tuple[str, ...]:
    fields = kind.__struct_fields__
    if "event_id" in fields:  # a correction
        return ()
    if "reversal_reference" in fields:
        return ("reversal_reference",)
    return tuple(name for name in ("reference", "transfer_id", "fill_id") if name in fields)
