"""Orders: their lifecycle, the races with fills, and the margin they reserve.

A fill is a venue fact. After a cancel, beyond the quantity, or for an order nobody announced, it is
booked and flagged; terminal states never reopen except by a bust.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.contracts.errors import ContractError
from psm.contracts.events import (
    AccountEvent,
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderRejected,
    OrderReplaced,
    OrderSubmitted,
    OrderType,
    Side,
    SplitApplied,
    TradeExecuted,
)
from psm.contracts.updates import OrderStatus
from psm.domain.money import ZERO, add, multiply, quotient, subtract

TERMINAL_KEPT = 256
_STATUS_AFTER: dict[type, OrderStatus] = {
    OrderAccepted: "accepted",
    OrderRejected: "rejected",
    OrderCancelled: "cancelled",
    OrderExpired: "expired",
}
TERMINAL: tuple[OrderStatus, ...] = ("filled", "cancelled", "rejected", "expired")


class Order(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One order as far as the account's own events tell.

    Attributes:
        filled_value: sum of filled quantity x price; the average price follows from it.
        external: nobody announced it: it is known by its fills only.
    """

    order_id: str
    symbol: str
    side: Side
    type: OrderType
    quantity: Decimal
    price: Decimal | None = None
    stop_price: Decimal | None = None
    reduce_only: bool = False
    time_in_force: str | None = None
    status: OrderStatus = "submitted"
    filled_quantity: Decimal = ZERO
    filled_value: Decimal = ZERO
    external: bool = False

    @property
    def open(self) -> bool:
        """Whether it may still fill by its own lifecycle."""
        return self.status not in TERMINAL


def average_price(order: Order) -> Decimal | None:
    """Return the quantity-weighted price of the fills, None before the first."""
    if not order.filled_quantity:
        return None
    return quotient(order.filled_value, order.filled_quantity)


def submitted(known: Order | None, event: OrderSubmitted) -> Order:
    """Return the order that `event` announces; fills that came before it are kept.

    Raises:
        ContractError: the order is known already.
    """
    if known is not None and not known.external:
        raise ContractError(
            "invalid_payload", f"order {event.order_id} is known already", "payload.order_id"
        )
    order = Order(
        order_id=event.order_id,
        symbol=event.symbol,
        side=event.side,
        type=event.type,
        quantity=event.quantity,
        price=event.price,
        stop_price=event.stop_price,
        reduce_only=event.reduce_only,
        time_in_force=event.time_in_force,
    )
    if known is None:
        return order
    if (known.symbol, known.side) != (event.symbol, event.side):
        raise ContractError(
            "invalid_payload",
            f"order {event.order_id} filled before on {known.symbol}, {known.side}",
            "payload.symbol",
        )
    order = msgspec.structs.replace(
        order, filled_quantity=known.filled_quantity, filled_value=known.filled_value
    )
    return msgspec.structs.replace(order, status=_status_of_fills(order))


def moved(known: Order | None, order_id: str, status: OrderStatus) -> Order:
    """Return the order after the venue accepted, rejected, cancelled or expired it.

    Raises:
        ContractError: reason `unknown_order`, or the order has ended already.
    """
    order = _known(known, order_id)
    if not order.open:
        raise ContractError(
            "invalid_payload", f"order {order_id} is {order.status} already", "payload.order_id"
        )
    if status == "accepted" and order.filled_quantity:
        return order  # the fill came before the acceptance: it says more
    return msgspec.structs.replace(order, status=status)


def replaced(known: Order | None, event: OrderReplaced) -> Order:
    """Return the order with a new quantity or price; ended where its fills cover the quantity.

    Raises:
        ContractError: reason `unknown_order`, or the order has ended already.
    """
    order = moved(known, event.order_id, "accepted")
    order = msgspec.structs.replace(
        order,
        quantity=order.quantity if event.quantity is None else event.quantity,
        price=order.price if event.price is None else event.price,
    )
    if order.filled_quantity:
        return msgspec.structs.replace(order, status=_status_of_fills(order))
    return order


def filled(known: Order | None, event: TradeExecuted, order_id: str) -> tuple[Order, list[str]]:
    """Return the order after a fill, and the flags it raises."""
    flags: list[str] = []
    if known is None:
        known = Order(
            order_id=order_id,
            symbol=event.symbol,
            side=event.side,
            type="market",
            quantity=ZERO,
            external=True,
        )
    order = msgspec.structs.replace(
        known,
        filled_quantity=add(known.filled_quantity, event.quantity),
        filled_value=add(known.filled_value, multiply(event.quantity, event.price)),
    )
    if order.external:
        order = msgspec.structs.replace(order, quantity=order.filled_quantity)
    if known.status in ("cancelled", "expired", "rejected"):
        flags.append("fill_after_cancel")
    if order.filled_quantity > order.quantity:
        flags.append("overfill")
    status = _status_of_fills(order)
    if status == "filled" or known.open:
        order = msgspec.structs.replace(order, status=status)
    return order, flags


def told_again(order: Order | None, event: AccountEvent, order_id: str) -> Order | None:
    """Return the order after an event of its past, where corrections changed what it filled.

    What contradicts the corrected past (the cancel of an order that ended earlier) does nothing.
    """
    if isinstance(event, SplitApplied):
        follows = order is not None and order.open and order.symbol == event.symbol
        return rescaled(order, event.ratio) if order is not None and follows else order
    if getattr(event, "order_id", None) != order_id:
        return order
    try:
        if isinstance(event, TradeExecuted):
            return filled(order, event, order_id)[0]
        if isinstance(event, OrderSubmitted):
            return submitted(order if order is not None and order.external else None, event)
        if isinstance(event, OrderReplaced):
            return replaced(order, event)
        return moved(order, order_id, _STATUS_AFTER[type(event)])
    except ContractError:
        return order


def gone(known: Order) -> Order:
    """Return an order that nobody announced and whose only fill was busted: it never was."""
    return msgspec.structs.replace(
        known, quantity=ZERO, filled_quantity=ZERO, filled_value=ZERO, status="cancelled"
    )


def rescaled(order: Order, ratio: Decimal) -> Order:
    """Return an open order after a split: more units at a lower price, the same value."""

    def lower(price: Decimal | None) -> Decimal | None:
        return None if price is None else quotient(price, ratio)

    return msgspec.structs.replace(
        order,
        quantity=multiply(order.quantity, ratio),
        filled_quantity=multiply(order.filled_quantity, ratio),
        price=lower(order.price),
        stop_price=lower(order.stop_price),
    )


def leaves(order: Order) -> Decimal:
    """Return what may still fill; never below zero."""
    return max(ZERO, subtract(order.quantity, order.filled_quantity))


def _known(order: Order | None, order_id: str) -> Order:
    if order is None:
        raise ContractError("unknown_order", f"order {order_id} is not known", "payload.order_id")
    return order


def _status_of_fills(order: Order) -> OrderStatus:
    if order.filled_quantity >= order.quantity:
        return "filled"
    return "partially_filled"
