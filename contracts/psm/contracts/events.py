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
    actor: Annotated[str, Meta(min_length=1, max_length=128)]
    reason: Annotated[str, Meta(min_length=1, max_length=1024)]


AccountEvent = (
    AccountOpened | CashDeposited | CashWithdrawn | TradeExecuted | FundingApplied | FeeCharged
)
"""What may stand on `trades.<stream_id>`."""

Event = AccountEvent | MarkPriceUpdated | InstrumentDefined | RulesEnabled
