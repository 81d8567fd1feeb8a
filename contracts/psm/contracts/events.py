"""The events of the log: one frozen struct per event type, current version, and their union.

Money, prices and quantities are decimal strings; bare JSON numbers are read through their literal
text. At most 18 digits stand before and 18 after the point. Unknown extra fields are ignored.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

_NUMBER = r"[0-9]{1,18}(\.[0-9]{1,18})?$"

Signed = Annotated[
    Decimal, Meta(extra={"sign": "any"}, extra_json_schema={"pattern": f"^-?{_NUMBER}"})
]
Positive = Annotated[
    Decimal,
    Meta(
        description="more than zero",
        extra={"sign": "positive"},
        extra_json_schema={"pattern": f"^(?=.*[1-9]){_NUMBER}", "exclusiveMinimum": 0},
    ),
]
NotNegative = Annotated[
    Decimal,
    Meta(
        description="zero or more",
        extra={"sign": "not_negative"},
        extra_json_schema={"pattern": f"^{_NUMBER}", "minimum": 0},
    ),
]
Symbol = Annotated[str, Meta(min_length=1, max_length=64, examples=["BTC-PERP"])]
Currency = Annotated[str, Meta(min_length=1, max_length=32, examples=["USDT"])]
Key = Annotated[str, Meta(min_length=1, max_length=128)]
Text = Annotated[str, Meta(max_length=1024)]
Required = Annotated[str, Meta(min_length=1, max_length=1024)]
Actor = Annotated[str, Meta(min_length=1, max_length=128)]


class Payload(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of every payload."""


class AccountOpened(Payload, frozen=True, kw_only=True):
    """An account exists from here on, in this currency."""

    currency: Currency
    leverage_limit: Positive | None = None
    margin_mode: Literal["cross"] = "cross"


class CashDeposited(Payload, frozen=True, kw_only=True):
    """Cash came in from outside."""

    amount: Positive
    currency: Currency | None = None
    reference: Key | None = None


class CashWithdrawn(Payload, frozen=True, kw_only=True):
    """Cash left. A venue fact: booked even if it overdraws, then flagged."""

    amount: Positive
    currency: Currency | None = None
    reference: Key | None = None


class TradeExecuted(Payload, frozen=True, kw_only=True):
    """A fill. `commission` is a cost when positive, a rebate when negative."""

    symbol: Symbol
    side: Literal["buy", "sell"]
    quantity: Positive
    price: Positive
    commission: Signed | None = None
    commission_currency: Currency | None = None
    order_id: Key | None = None
    fill_id: Key | None = None
    liquidity: Literal["maker", "taker"] | None = None
    execution: Literal["trade", "liquidation", "adl"] = "trade"
    liquidation_fee: Signed | None = None


class FundingApplied(Payload, frozen=True, kw_only=True):
    """A funding payment, received when positive."""

    symbol: Symbol
    funding_payment: Signed
    funding_rate: Signed | None = None
    currency: Currency | None = None
    reference: Key | None = None


class FeeCharged(Payload, frozen=True, kw_only=True):
    """A fee outside a trade, a cost when positive."""

    amount: Signed
    currency: Currency | None = None
    symbol: Symbol | None = None
    reason: Text | None = None


class LeverageChanged(Payload, frozen=True, kw_only=True):
    """The leverage that initial margin is computed with, for one symbol or for the account."""

    leverage: Positive
    symbol: Symbol | None = None


class TransferredIn(Payload, frozen=True, kw_only=True):
    """Cash came from another account of the house; paired by `transfer_id`."""

    amount: Positive
    transfer_id: Key
    currency: Currency | None = None
    counterparty: Key | None = None


class TransferredOut(Payload, frozen=True, kw_only=True):
    """Cash went to another account of the house; paired by `transfer_id`."""

    amount: Positive
    transfer_id: Key
    currency: Currency | None = None
    counterparty: Key | None = None


class CashAdjusted(Payload, frozen=True, kw_only=True):
    """A correction by a person, signed and reasoned."""

    amount: Signed
    reason: Required
    actor: Required
    currency: Currency | None = None


class InterestAccrued(Payload, frozen=True, kw_only=True):
    """Interest, received when positive."""

    amount: Signed
    currency: Currency | None = None


class DividendPaid(Payload, frozen=True, kw_only=True):
    """A cash dividend, received when positive; shorts pay."""

    symbol: Symbol
    amount: Signed
    currency: Currency | None = None


class PositionAdjusted(Payload, frozen=True, kw_only=True):
    """A correction of a position by a person; no cash moves. `price`: cost of what is added."""

    symbol: Symbol
    quantity: Signed
    price: Positive
    reason: Required
    actor: Required


class PositionSettled(Payload, frozen=True, kw_only=True):
    """The venue settled the position: closed at expiry, or its gain moved to cash (session)."""

    symbol: Symbol
    settlement_price: Positive
    kind: Literal["expiry", "session"]
    fee: Signed | None = None


class SplitApplied(Payload, frozen=True, kw_only=True):
    """A split, `ratio` new units per old one; with `cash_in_lieu` the fraction is paid out."""

    symbol: Symbol
    ratio: Positive
    cash_in_lieu: Signed | None = None


class TradeBusted(Payload, frozen=True, kw_only=True):
    """A fill never happened. Named by `fill_id` or by the `event_id` of its trade."""

    reason: Required
    fill_id: Key | None = None
    event_id: Key | None = None


class TradeAmended(Payload, frozen=True, kw_only=True):
    """A fill happened differently. What is left out stays as it was."""

    reason: Required
    fill_id: Key | None = None
    event_id: Key | None = None
    quantity: Positive | None = None
    price: Positive | None = None
    commission: Signed | None = None


Side = Literal["buy", "sell"]
OrderType = Literal["market", "limit", "stop", "stop_limit"]


class OrderSubmitted(Payload, frozen=True, kw_only=True):
    """An order left for the venue."""

    order_id: Key
    symbol: Symbol
    side: Side
    type: OrderType
    quantity: Positive
    price: Positive | None = None
    stop_price: Positive | None = None
    reduce_only: bool = False
    time_in_force: Key | None = None


class OrderAccepted(Payload, frozen=True, kw_only=True):
    """The venue has the order."""

    order_id: Key
    reason: Text | None = None


class OrderRejected(Payload, frozen=True, kw_only=True):
    """The venue did not take the order."""

    order_id: Key
    reason: Text | None = None


class OrderCancelled(Payload, frozen=True, kw_only=True):
    """What is left of the order will not fill."""

    order_id: Key
    reason: Text | None = None


class OrderExpired(Payload, frozen=True, kw_only=True):
    """What is left of the order ran out of time."""

    order_id: Key
    reason: Text | None = None


class OrderReplaced(Payload, frozen=True, kw_only=True):
    """Quantity or price of the order changed."""

    order_id: Key
    quantity: Positive | None = None
    price: Positive | None = None


class MarkPriceUpdated(Payload, frozen=True, kw_only=True):
    """A mark price, on `marks.<symbol>`."""

    symbol: Symbol
    price: Positive
    index_price: Positive | None = None
    source: Text | None = None


InstrumentKind = Literal[
    "linear_perp", "inverse_perp", "linear_future", "inverse_future", "spot", "equity"
]


class MarginTier(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Maintenance margin from `notional_floor` on. Source: exchange tier tables."""

    notional_floor: NotNegative
    maintenance_rate: NotNegative
    maintenance_amount: NotNegative | None = None
    max_leverage: Positive | None = None


class InstrumentDefined(Payload, frozen=True, kw_only=True):
    """What a symbol is, on `instruments.<symbol>`."""

    symbol: Symbol
    kind: InstrumentKind
    base: Currency
    quote: Currency
    settle: Currency
    multiplier: Positive = Decimal(1)
    price_increment: Positive | None = None
    quantity_increment: Positive | None = None
    margin_tiers: tuple[MarginTier, ...] = ()


class RulesEnabled(Payload, frozen=True, kw_only=True):
    """From here on messages are judged by these rules, on `control.rules`."""

    rules_version: Annotated[int, Meta(ge=1)]
    actor: Actor
    reason: Required


class EventDismissed(Payload, frozen=True, kw_only=True):
    """An operator makes the message that blocks the stream a refused one.

    `log_sequence` names that message; if another one blocks by then, nothing happens.
    """

    log_sequence: Annotated[int, Meta(ge=1)]
    actor: Actor
    reason: Required


class SequenceVoided(Payload, frozen=True, kw_only=True):
    """An operator declares numbers that will never come, `from` to `to`, both included."""

    first: Annotated[int, Meta(ge=1)] = msgspec.field(name="from")
    last: Annotated[int, Meta(ge=1)] = msgspec.field(name="to")
    actor: Actor
    reason: Required


class StreamRetried(Payload, frozen=True, kw_only=True):
    """An operator lets the message that blocks the stream be judged again."""

    actor: Actor
    reason: Required


AccountEvent = (
    AccountOpened
    | LeverageChanged
    | CashDeposited
    | CashWithdrawn
    | TransferredIn
    | TransferredOut
    | CashAdjusted
    | InterestAccrued
    | TradeExecuted
    | TradeBusted
    | TradeAmended
    | PositionAdjusted
    | PositionSettled
    | SplitApplied
    | DividendPaid
    | FeeCharged
    | FundingApplied
    | OrderSubmitted
    | OrderAccepted
    | OrderRejected
    | OrderCancelled
    | OrderExpired
    | OrderReplaced
)
"""What may stand on `trades.<stream_id>` and has a number there."""

OperatorEvent = EventDismissed | SequenceVoided | StreamRetried
"""What repairs a stream: on `trades.<stream_id>`, without a number, known by its `event_id`."""

Event = AccountEvent | OperatorEvent | MarkPriceUpdated | InstrumentDefined | RulesEnabled
