"""Orders: their lifecycle, the races with fills, and the margin they reserve.

A fill is a venue fact. After a cancel, beyond the quantity, or for an order that was not announced,
it is booked and flagged; terminal states never reopen except by a bust.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.contracts.errors import ContractError
from psm.contracts.events import SplitApplied, TradeExecuted
from psm.contracts.fields import PositionSide
from psm.contracts.order_events import OrderReplaced, OrderSubmitted, OrderType, Side
from psm.contracts.updates import OrderStatus
from psm.domain.money import (
    ONE,
    ZERO,
    add,
    exactly_scaled,
    multiply,
    quotient,
    scaled,
    subtract,
    truncated,
)

TERMINAL_KEPT = 256
TERMINAL: tuple[OrderStatus, ...] = ("filled", "cancelled", "rejected", "expired")


class Order(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One order as far as the account's own events tell.

    Attributes:
        filled_value: sum of filled quantity x price; the average price follows from it.
        inverse: of an inverse contract: the sum is of filled quantity / price.
        external: not announced: known by its fills only.
        position_side: leg that it names, in whatever mode the account is.
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
    strategy_id: str | None = None
    position_side: PositionSide | None = None
    status: OrderStatus = "submitted"
    filled_quantity: Decimal = ZERO
    filled_value: Decimal = ZERO
    inverse: bool = False
    external: bool = False

    @property
    def open(self) -> bool:
        """True if it may still fill by its own lifecycle."""
        return self.status not in TERMINAL


def average_price(order: Order) -> Decimal | None:
    """Return the quantity-weighted price of the fills, None before the first.

    Of an inverse contract it is the harmonic one, as the position's entry price is.
    """
    if not order.filled_quantity:
        return None
    if order.inverse:
        return quotient(order.filled_quantity, order.filled_value)
    return quotient(order.filled_value, order.filled_quantity)


def submitted(known: Order | None, event: OrderSubmitted) -> Order:
    """Return the order that `event` announces; fills that came before it are kept.

    Raises:
        ContractError: the order is known already.
    """
    if known is not None and not known.external:
        raise ContractError("invalid_payload", "this order is known already", "payload.order_id")
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
        strategy_id=event.strategy_id,
        position_side=event.position_side,
    )
    if known is None:
        return order
    if (known.symbol, known.side) != (event.symbol, event.side):
        raise ContractError(
            "invalid_payload",
            "this order filled before on another symbol or side",
            "payload.symbol",
        )
    order = msgspec.structs.replace(
        order,
        filled_quantity=known.filled_quantity,
        filled_value=known.filled_value,
        inverse=known.inverse,
    )
    return msgspec.structs.replace(order, status=_status_of_fills(order))


def moved(known: Order | None, status: OrderStatus) -> Order:
    """Return the order after the venue accepted, rejected, cancelled or expired it.

    Raises:
        ContractError: reason `unknown_order`, or the order has ended already.
    """
    order = _known(known)
    if not order.open:
        raise ContractError(
            "invalid_payload", f"this order is {order.status} already", "payload.order_id"
        )
    if status == "accepted" and order.filled_quantity:
        return order  # the fill came before the acceptance: it says more
    return msgspec.structs.replace(order, status=status)


def replaced(known: Order | None, event: OrderReplaced) -> Order:
    """Return the order with a new quantity or price; ended where its fills cover the quantity.

    Raises:
        ContractError: reason `unknown_order`, or the order has ended already.
    """
    order = moved(known, "accepted")
    order = msgspec.structs.replace(
        order,
        quantity=order.quantity if event.quantity is None else event.quantity,
        price=order.price if event.price is None else event.price,
    )
    if order.filled_quantity:
        return msgspec.structs.replace(order, status=_status_of_fills(order))
    return order


def filled(
    known: Order | None, event: TradeExecuted, order_id: str, *, inverse: bool
) -> tuple[Order, list[str]]:
    """Return the order after a fill, and the flags it raises.

    Args:
        known: the order before it, if it was announced or filled before.
        event: the fill.
        order_id: of the order.
        inverse: whether the contract is an inverse one; of an order its first fill decides.
    """
    flags: list[str] = []
    if known is None:
        known = Order(
            order_id=order_id,
            symbol=event.symbol,
            side=event.side,
            type="market",
            quantity=ZERO,
            strategy_id=event.strategy_id,
            position_side=event.position_side,
            external=True,
        )
    inverse = known.inverse if known.filled_quantity else inverse
    of_fill = quotient if inverse else multiply
    order = msgspec.structs.replace(
        known,
        filled_quantity=add(known.filled_quantity, event.quantity),
        filled_value=add(known.filled_value, of_fill(event.quantity, event.price)),
        inverse=inverse,
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


def split_terms(event: SplitApplied) -> tuple[Decimal, Decimal]:
    """Return how many new units come for how many old ones.

    Raises:
        ContractError: reason `invalid_payload`: neither a ratio nor both terms are given.
    """
    terms = (event.numerator, event.denominator)
    if event.ratio is not None and terms == (None, None):
        return event.ratio, ONE
    new, old = terms
    if event.ratio is not None or new is None or old is None:
        raise ContractError(
            "invalid_payload", "either ratio, or numerator and denominator must be given", "payload"
        )
    return new, old


def never_was(known: Order) -> Order:
    """Return an order that was not announced and whose only fill was busted: it never was."""
    return msgspec.structs.replace(
        known, quantity=ZERO, filled_quantity=ZERO, filled_value=ZERO, status="cancelled"
    )


def rescaled(order: Order, new: Decimal, old: Decimal) -> Order:
    """Return an open order after a split: more units at a lower price, the same value."""

    def more(quantity: Decimal) -> Decimal:
        return truncated(exactly_scaled(quantity, new, old))

    def lower(price: Decimal | None) -> Decimal | None:
        return None if price is None else scaled(price, old, new)

    return msgspec.structs.replace(
        order,
        quantity=more(order.quantity),
        filled_quantity=more(order.filled_quantity),
        price=lower(order.price),
        stop_price=lower(order.stop_price),
    )


def leaves(order: Order) -> Decimal:
    """Return what may still fill; never below zero."""
    return max(ZERO, subtract(order.quantity, order.filled_quantity))


def _known(order: Order | None) -> Order:
    if order is None:
        raise ContractError("unknown_order", "this order is not known", "payload.order_id")
    return order


def _status_of_fills(order: Order) -> OrderStatus:
    if order.filled_quantity >= order.quantity:
        return "filled"
    return "partially_filled"
