"""Effects of the order lifecycle: no cash, no position, only the order and its margin."""

from __future__ import annotations

from psm.contracts.order_events import (
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderRejected,
    OrderReplaced,
    OrderSubmitted,
)
from psm.contracts.updates import OrderStatus
from psm.domain.booking.context import EventContext
from psm.domain.ledger import orders
from psm.domain.ledger.effect import Effect
from psm.domain.ledger.ledger import Ledger


def order_submitted(ledger: Ledger, event: OrderSubmitted, context: EventContext) -> Effect:
    """An order is on its way."""
    _check_prices(event.symbol, event, context)
    return Effect(orders=(orders.submitted(ledger.orders.by_id.get(event.order_id), event),))


def order_accepted(ledger: Ledger, event: OrderAccepted, _: EventContext) -> Effect:
    """The venue has it."""
    return _moved(ledger, event.order_id, "accepted")


def order_rejected(ledger: Ledger, event: OrderRejected, _: EventContext) -> Effect:
    """The venue did not take it."""
    return _moved(ledger, event.order_id, "rejected")


def order_cancelled(ledger: Ledger, event: OrderCancelled, _: EventContext) -> Effect:
    """The rest will not fill; what filled stays."""
    return _moved(ledger, event.order_id, "cancelled")


def order_expired(ledger: Ledger, event: OrderExpired, _: EventContext) -> Effect:
    """The rest ran out of time."""
    return _moved(ledger, event.order_id, "expired")


def order_replaced(ledger: Ledger, event: OrderReplaced, context: EventContext) -> Effect:
    """Quantity or price changed."""
    order = orders.replaced(ledger.orders.by_id.get(event.order_id), event)
    _check_prices(order.symbol, event, context)
    return Effect(orders=(order,))


def _check_prices(
    symbol: str, event: OrderSubmitted | OrderReplaced, context: EventContext
) -> None:
    """Refuse prices that the order's instrument cannot have."""
    instrument = context.prices.instrument(symbol)
    for name in ("price", "stop_price"):
        price = getattr(event, name, None)
        if price is not None:
            instrument.check_price(price, f"payload.{name}")


def _moved(ledger: Ledger, order_id: str, status: OrderStatus) -> Effect:
    return Effect(orders=(orders.moved(ledger.orders.by_id.get(order_id), status),))
