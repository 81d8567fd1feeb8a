"""What the venue says on `orders.status.*`: orders that ended, and what had filled of them."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.contracts import codec
from psm.contracts.errors import ContractError
from psm.contracts.recorded import decode_audit, decode_recorded
from psm.contracts.subjects import order_status
from psm.domain.money import ZERO
from psm.risk.messages import Stored

_ENDED = ("filled", "cancelled", "rejected", "expired")


class OrderEnd(msgspec.Struct, frozen=True, kw_only=True):
    """An order that will not fill any more.

    Attributes:
        filled: of it, in all.
        rejected: the venue did not take it, or not a change of it: it does not say which.
        sequence: in ORDERS; `time` when that stored it, us.
    """

    account_id: str
    order_id: str
    filled: Decimal
    rejected: bool
    sequence: int
    time: int


def read_end(message: Stored) -> OrderEnd | None:
    """Return the end of an order that an `order_result` tells.

    None of one that tells none, or not of which account, or not how much had filled: what may have
    filled counts until PSM shows it. Only of a rejected order nothing has filled, if not told.
    """
    try:
        envelope = decode_recorded(message.data)
        if envelope.event_type != "order_result":
            return None
        decode_audit(envelope)
        fields = codec.decode_untyped(envelope.payload)
    except ContractError:
        return None
    status, filled = fields["status"], fields.get("filled_quantity")
    rejected = status == "rejected"
    if status not in _ENDED or message.subject != order_status(fields["order_id"]):
        return None
    if fields.get("account_id") is None or (filled is None and not rejected):
        return None
    return OrderEnd(
        account_id=fields["account_id"],
        order_id=fields["order_id"],
        filled=ZERO if filled is None else Decimal(str(filled)),
        rejected=rejected,
        sequence=message.sequence,
        time=message.time,
    )


def left_of(quantity: Decimal, end: OrderEnd) -> Decimal:
    """Return what still counts of an approved quantity: what filled of it."""
    return min(quantity, end.filled)
