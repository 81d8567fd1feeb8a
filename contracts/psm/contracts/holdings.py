"""Events that move or change what is held without a fill: in kind, by the issuer, by the state."""

from __future__ import annotations

from typing import Literal

import msgspec

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
from psm.contracts.personal import Counterparty

PositionDirection = Literal["long", "short"]


class PositionTransferredIn(Payload, frozen=True, kw_only=True):
    """Shares or contracts came from elsewhere, with their cost.

    Of what is fully paid `cost` is the whole cost in the instrument's currency, of a coin in the
    account's; without it that is its value, by a stated rate or the mark. A contract enters at
    `entry_price`, which it needs.
    """

    symbol: Symbol
    quantity: Positive
    transfer_id: Identifier
    side: PositionDirection = "long"
    cost: NotNegative | None = None
    entry_price: Price | None = None
    position_side: PositionSide | None = None
    counterparty: Counterparty | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None


class PositionTransferredOut(Payload, frozen=True, kw_only=True):
    """Shares or contracts went elsewhere; they leave at their cost.

    Without `side` it is what is held. What goes beyond zero costs `cost`, else its value, and is at
    `entry_price`.
    """

    symbol: Symbol
    quantity: Positive
    transfer_id: Identifier
    side: PositionDirection | None = None
    cost: NotNegative | None = None
    entry_price: Price | None = None
    position_side: PositionSide | None = None
    counterparty: Counterparty | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None


class StockDividend(Payload, frozen=True, kw_only=True):
    """New units came on top of those held: `numerator` for each `denominator`, at no cost."""

    symbol: Symbol
    numerator: Positive
    denominator: Positive
    quantity_after: NotNegative | None = None
    cash_in_lieu: Signed | None = None
    currency: Currency | None = None
    mark_adjusted: bool = False
    position_side: PositionSide | None = None
    reference: Reference | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None


class ReturnOfCapital(Payload, frozen=True, kw_only=True):
    """The issuer paid capital back: the cost falls; received above zero, a short pays."""

    symbol: Symbol
    amount: Signed
    currency: Currency | None = None
    position_side: PositionSide | None = None
    reference: Reference | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None


class TaxCharged(Payload, frozen=True, kw_only=True):
    """A tax outside a trade: paid when positive, refunded when negative."""

    amount: Signed
    kind: Key
    currency: Currency | None = None
    symbol: Symbol | None = None
    position_side: PositionSide | None = None
    reference: Reference | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None


class LossCovered(Payload, frozen=True, kw_only=True):
    """The venue or its insurance fund covered a loss; no performance of the account's own."""

    symbol: Symbol
    amount: Positive
    currency: Currency | None = None
    position_side: PositionSide | None = None
    reference: Reference | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None


class BorrowChanged(Payload, frozen=True, kw_only=True):
    """What the account owes in an asset changed: borrowed above zero, repaid below.

    No money moves by it; what was borrowed came, and what is repaid goes, by events of their own.
    """

    asset: Currency
    amount: Signed
    reference: Reference | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None


class AssetsExchanged(Payload, frozen=True, kw_only=True):
    """One asset was exchanged for another outside of a market: converted, swept, over the counter.

    Both are booked at the value of the trade, and the fee after it.
    """

    from_asset: Currency = msgspec.field(name="from")
    from_amount: Positive
    to_asset: Currency = msgspec.field(name="to")
    to_amount: Positive
    fee: Signed | None = None
    fee_currency: Currency | None = None
    reference: Reference | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None
