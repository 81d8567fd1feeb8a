"""Events of an order's life, as the venue reports it."""

from __future__ import annotations

from typing import Literal

from psm.contracts.fields import Identifier, Key, Payload, PositionSide, Positive, Price, Symbol
from psm.contracts.personal import FreeText

Side = Literal["buy", "sell"]
OrderType = Literal["market", "limit", "stop", "stop_limit"]


class OrderSubmitted(Payload, frozen=True, kw_only=True):
    """An order left for the venue."""

    order_id: Identifier
    symbol: Symbol
    side: Side
    type: OrderType
    quantity: Positive
    price: Price | None = None
    stop_price: Price | None = None
    reduce_only: bool = False
    time_in_force: Key | None = None
    strategy_id: Key | None = None
    position_side: PositionSide | None = None


class OrderAccepted(Payload, frozen=True, kw_only=True):
    """The venue has the order."""

    order_id: Identifier
    reason: FreeText | None = None


class OrderRejected(Payload, frozen=True, kw_only=True):
    """The venue did not take the order."""

    order_id: Identifier
    reason: FreeText | None = None


class OrderCancelled(Payload, frozen=True, kw_only=True):
    """What is left of the order will not fill."""

    order_id: Identifier
    reason: FreeText | None = None


class OrderExpired(Payload, frozen=True, kw_only=True):
    """What is left of the order ran out of time."""

    order_id: Identifier
    reason: FreeText | None = None


class OrderReplaced(Payload, frozen=True, kw_only=True):
    """Quantity or price of the order changed."""

    order_id: Identifier
    quantity: Positive | None = None
    price: Price | None = None
