"""The events of the log: one frozen struct per event type, current version, and their union.

Money, prices and quantities are decimal strings; bare JSON numbers are read through their literal
text. At most 18 digits stand before and 18 after the point. Lengths of text are in bytes of UTF-8.
Unknown extra fields are ignored, whatever they hold.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from psm.contracts.control_events import LogRestored, LogTrimmed, RegionPromoted
from psm.contracts.corporate_actions import DividendPaid, Merged, SpinOff, SymbolChanged
from psm.contracts.fields import (
    Currency,
    Identifier,
    Instant,
    Key,
    NotNegative,
    Number,
    Payload,
    PositionSide,
    Positive,
    Price,
    Rates,
    Reference,
    Signed,
    Symbol,
)
from psm.contracts.holdings import (
    AssetsExchanged,
    BorrowChanged,
    LossCovered,
    PositionTransferredIn,
    PositionTransferredOut,
    ReturnOfCapital,
    StockDividend,
    TaxCharged,
)
from psm.contracts.margin_events import (
    MarginModeChanged,
    MarginReported,
    MarginTransferred,
    PositionModeChanged,
)
from psm.contracts.order_events import (
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderRejected,
    OrderReplaced,
    OrderSubmitted,
)
from psm.contracts.personal import Actor, Counterparty, Explanation, FreeText
from psm.contracts.reports import AccountReported
from psm.contracts.reversals import (
    CashReversed,
    EventReversed,
    TradeAmended,
    TradeBusted,
    TransferReversed,
)
from psm.contracts.settlements import PositionSettled
from psm.contracts.table_events import CollateralDefined, InstrumentDefined, MarkPriceUpdated


class AccountOpened(Payload, frozen=True, kw_only=True):
    """An account exists from here on, in this currency."""

    currency: Currency
    leverage_limit: Positive | None = None
    margin_mode: Literal["cross"] = "cross"


class CashDeposited(Payload, frozen=True, kw_only=True):
    """Money or an asset came in from outside.

    `cost`: what an asset cost in the account currency; without it, its value. Not with money of the
    account currency.
    """

    amount: Positive
    currency: Currency | None = None
    cost: NotNegative | None = None
    reference: Reference | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None


class CashWithdrawn(Payload, frozen=True, kw_only=True):
    """Cash left. A venue fact: booked even if it overdraws, then flagged."""

    amount: Positive
    currency: Currency | None = None
    reference: Reference | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None


class TradeExecuted(Payload, frozen=True, kw_only=True):
    """A fill. `commission` is a cost when positive, a rebate when negative."""

    symbol: Symbol
    side: Literal["buy", "sell"]
    quantity: Positive
    price: Price
    commission: Signed | None = None
    commission_currency: Currency | None = None
    order_id: Identifier | None = None
    fill_id: Identifier | None = None
    liquidity: Literal["maker", "taker"] | None = None
    execution: Literal["trade", "liquidation", "adl"] = "trade"
    liquidation_fee: Signed | None = None
    strategy_id: Key | None = None
    position_side: PositionSide | None = None
    isolated_margin: Signed | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None


class FundingApplied(Payload, frozen=True, kw_only=True):
    """A funding payment, received when positive."""

    symbol: Symbol
    funding_payment: Signed
    funding_rate: Signed | None = None
    currency: Currency | None = None
    position_side: PositionSide | None = None
    isolated_margin: Signed | None = None
    reference: Reference | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None


class FeeCharged(Payload, frozen=True, kw_only=True):
    """A fee outside a trade, a cost when positive."""

    amount: Signed
    currency: Currency | None = None
    symbol: Symbol | None = None
    position_side: PositionSide | None = None
    isolated_margin: Signed | None = None
    reason: FreeText | None = None
    reference: Reference | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None


class PeakReset(Payload, frozen=True, kw_only=True):
    """An operator restates the peak of net asset value per unit, such as after a wrong mark."""

    peak_nav: Positive
    max_drawdown: NotNegative
    actor: Actor
    reason: Explanation


class LeverageChanged(Payload, frozen=True, kw_only=True):
    """The leverage that initial margin is computed with, for one symbol or for the account."""

    leverage: Positive
    symbol: Symbol | None = None
    position_side: PositionSide | None = None
    isolated_margin: Signed | None = None


class TransferredIn(Payload, frozen=True, kw_only=True):
    """Money or an asset came from another account of the house; paired by `transfer_id`.

    `cost` as in `CashDeposited`.
    """

    amount: Positive
    transfer_id: Identifier
    currency: Currency | None = None
    cost: NotNegative | None = None
    counterparty: Counterparty | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None


class TransferredOut(Payload, frozen=True, kw_only=True):
    """Cash went to another account of the house; paired by `transfer_id`."""

    amount: Positive
    transfer_id: Identifier
    currency: Currency | None = None
    counterparty: Counterparty | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None


class CashAdjusted(Payload, frozen=True, kw_only=True):
    """A correction by a person, signed and reasoned."""

    amount: Signed
    reason: Explanation
    actor: Actor
    currency: Currency | None = None
    reference: Reference | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None


class InterestAccrued(Payload, frozen=True, kw_only=True):
    """Interest, received when positive."""

    amount: Signed
    currency: Currency | None = None
    reference: Reference | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None


class PositionAdjusted(Payload, frozen=True, kw_only=True):
    """A correction of what is held by a person; no cash moves. `price`: cost of what is added.

    Zero for what came for nothing, such as an airdrop. Of a pair its base is meant, and `price` is
    in its quote; of a bare asset it is in the account currency.
    """

    symbol: Symbol
    quantity: Signed
    price: Price
    reason: Explanation
    actor: Actor
    position_side: PositionSide | None = None
    reference: Reference | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None


class SplitApplied(Payload, frozen=True, kw_only=True):
    """A split: `numerator` new units for `denominator` old ones, or exactly `ratio` for one.

    `quantity_after` is the size that the venue shows; `cash_in_lieu` pays for the fraction that is
    missing from it, signed from the account's view. `mark_adjusted`: the current mark is of new
    units already.
    """

    symbol: Symbol
    numerator: Positive | None = None
    denominator: Positive | None = None
    ratio: Positive | None = None
    quantity_after: NotNegative | None = None
    cash_in_lieu: Signed | None = None
    currency: Currency | None = None
    mark_adjusted: bool = False
    position_side: PositionSide | None = None
    reference: Reference | None = None
    rates: Rates | None = None
    effective_at: Instant | None = None


class RulesEnabled(Payload, frozen=True, kw_only=True):
    """From here on messages are judged by these rules, on `control.rules`."""

    rules_version: Number
    actor: Actor
    reason: Explanation


class EventDismissed(Payload, frozen=True, kw_only=True):
    """An operator makes the message that blocks the stream a refused one.

    `log_sequence` names that message; if another one blocks by then, nothing happens.
    """

    log_sequence: Number
    actor: Actor
    reason: Explanation


class SequenceVoided(Payload, frozen=True, kw_only=True):
    """An operator declares numbers that will never come, `from` to `to`, both included."""

    first: Number = msgspec.field(name="from")
    last: Number = msgspec.field(name="to")
    actor: Actor
    reason: Explanation


class StreamRetried(Payload, frozen=True, kw_only=True):
    """An operator lets the message that blocks the stream be judged again."""

    actor: Actor
    reason: Explanation


AccountEvent = (
    AccountOpened
    | LeverageChanged
    | PositionModeChanged
    | MarginModeChanged
    | MarginTransferred
    | MarginReported
    | PeakReset
    | CashDeposited
    | CashWithdrawn
    | TransferredIn
    | TransferredOut
    | TransferReversed
    | PositionTransferredIn
    | PositionTransferredOut
    | CashReversed
    | CashAdjusted
    | InterestAccrued
    | TradeExecuted
    | TradeBusted
    | TradeAmended
    | EventReversed
    | PositionAdjusted
    | PositionSettled
    | SplitApplied
    | StockDividend
    | SymbolChanged
    | SpinOff
    | Merged
    | ReturnOfCapital
    | TaxCharged
    | LossCovered
    | BorrowChanged
    | AssetsExchanged
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
"""What repairs a stream, on `repair.<partition>.<stream_id>`: no number, known by `event_id`."""

TableEvents = MarkPriceUpdated | InstrumentDefined | CollateralDefined
"""What may stand on `marks.*`, `instruments.*` and `collateral.*`."""

ControlEvent = RulesEnabled | LogTrimmed | LogRestored | RegionPromoted
"""What may stand on `control.*`."""

Event = AccountEvent | AccountReported | OperatorEvent | TableEvents | ControlEvent
