"""Effects of the order lifecycle: no cash, no position, only the order and its margin."""

from __future__ import annotations

from psm.contracts.events import (
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderRejected,
    OrderReplaced,
    OrderSubmitted,
)
from psm.contracts.updates import OrderStatus
from psm.domain import orders
from psm.domain.account import Account
from psm.domain.effect import Effect
from psm.domain.setting import Setting


def order_submitted(account: Account, event: OrderSubmitted, _: Setting) -> Effect:
    """An order is on its way."""
    return Effect(orders=(orders.submitted(account.orders.get(event.order_id), event),))


def order_accepted(account: Account, event: OrderAccepted, _: Setting) -> Effect:
    """The venue has it."""
    return _moved(account, event.order_id, "accepted")


def order_rejected(account: Account, event: OrderRejected, _: Setting) -> Effect:
    """The venue did not take it."""
    return _moved(account, event.order_id, "rejected")


def order_cancelled(account: Account, event: OrderCancelled, _: Setting) -> Effect:
    """The rest will not fill; what filled stays."""
    return _moved(account, event.order_id, "cancelled")


def order_expired(account: Account, event: OrderExpired, _: Setting) -> Effect:
    """The rest ran out of time."""
    return _moved(account, event.order_id, "expired")


def order_replaced(account: Account, event: OrderReplaced, _: Setting) -> Effect:
    """Quantity or price changed."""
    return Effect(orders=(orders.replaced(account.orders.get(event.order_id), event),))


def _moved(account: Account, order_id: str, status: OrderStatus) -> Effect:
    return Effect(orders=(orders.moved(account.orders.get(order_id), order_id, status),))
