"""Events by which a venue takes back or corrects what it reported before."""

from __future__ import annotations

from typing import Literal

from psm.contracts.fields import (
    Currency,
    Identifier,
    Instant,
    Key,
    NotNegative,
    Payload,
    PositionSide,
    Positive,
    Price,
    Rates,
    Reference,
    Signed,
    Symbol,
)
from psm.contracts.personal import Actor, Explanation


class TransferReversed(Payload, frozen=True, kw_only=True):
    """A transfer, or part of it, came back; `direction` is that of the original.

    Money by `amount`; shares and contracts by `symbol` and `quantity`. Without `cost` (of contracts
    `entry_price`) it is that of the original, as it was booked.
    """

    transfer_id: Identifier
    direction: Literal["in", "out"]
    amount: Positive | None = None
    currency: Currency | None = None
    symbol: Symbol | None = None
    quantity: Positive | None = None
    position_side: Literal["long", "short"] | None = None
    cost: NotNegative | None = None
    entry_price: Price | None = None
    reversal_reference: Reference | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None


class CashReversed(Payload, frozen=True, kw_only=True):
    """A deposit (`in`) or withdrawal (`out`), or part of it, was taken back by the venue.

    Without `cost` it is that of the original, as it was booked.
    """

    reference: Reference
    amount: Positive
    direction: Literal["in", "out"]
    currency: Currency | None = None
    cost: NotNegative | None = None
    reversal_reference: Reference | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None


class TradeBusted(Payload, frozen=True, kw_only=True):
    """A fill never happened. Named by the `event_id` of its trade, or by `fill_id`.

    Where several fills have that id, `symbol`, `side` or `order_id` say which one.
    """

    reason: Explanation
    fill_id: Identifier | None = None
    event_id: Key | None = None
    symbol: Symbol | None = None
    side: Literal["buy", "sell"] | None = None
    order_id: Identifier | None = None


class TradeAmended(Payload, frozen=True, kw_only=True):
    """A fill happened differently. What is left out stays as it was.

    Named as by `TradeBusted`, but for `side`, which is what the side should have been.
    """

    reason: Explanation
    fill_id: Identifier | None = None
    event_id: Key | None = None
    symbol: Symbol | None = None
    order_id: Identifier | None = None
    quantity: Positive | None = None
    price: Price | None = None
    side: Literal["buy", "sell"] | None = None
    commission: Signed | None = None
    commission_currency: Currency | None = None
    liquidation_fee: Signed | None = None
    rates: Rates | None = None
    position_side: PositionSide | None = None
    isolated_margin: Signed | None = None


class EventReversed(Payload, frozen=True, kw_only=True):
    """A dividend, fee, funding, settlement or the like never happened; named by its `event_id`."""

    event_id: Key
    reason: Explanation
    actor: Actor
