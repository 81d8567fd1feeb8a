"""Events of the market's tables: marks, and what a symbol and an asset are. Of no one account."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import Meta

from psm.contracts.fields import (
    Currency,
    InstrumentKind,
    Key,
    NotNegative,
    Payload,
    Positive,
    Price,
    Signed,
    Symbol,
    Text,
)
from psm.contracts.settlements import OptionTerms


class MarkPriceUpdated(Payload, frozen=True, kw_only=True):
    """A mark price, on `marks.<symbol>`."""

    symbol: Symbol
    price: Price
    index_price: Price | None = None
    delta: Signed | None = None
    source: Text | None = None


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
    signed_price: bool = False
    price_increment: Positive | None = None
    quantity_increment: Positive | None = None
    margin_tiers: tuple[MarginTier, ...] = ()
    option: OptionTerms | None = None
    asset_class: Key | None = None
    venue: Key | None = None


Haircut = Annotated[
    Decimal,
    Meta(
        description="from 0 to 1",
        extra={"sign": "not_negative"},
        extra_json_schema={
            "pattern": r"^0{0,17}(0(\.[0-9]{1,18})?|1(\.0{1,18})?)$",
            "minimum": 0,
            "maximum": 1,
        },
    ),
]


class CollateralDefined(Payload, frozen=True, kw_only=True):
    """How much of an asset secures margin, on `collateral.<asset>`; the last definition counts.

    `haircut` is the share of its value that does not count. Where less than nothing of it is held,
    `borrow_maintenance_rate` of its value is maintenance margin.
    """

    asset: Currency
    haircut: Haircut
    borrow_maintenance_rate: NotNegative | None = None


TABLE_SUBJECTS: dict[str, str] = {
    "MarkPriceUpdated": "marks",
    "InstrumentDefined": "instruments",
    "CollateralDefined": "collateral",
}
"""Event type -> first token of the subject that it stands on; the second is symbol or asset."""
