"""Effects of events on an account: one function per event type, all computing, none changing.

Venue facts are never refused by opinion: a withdrawal that overdraws or a fill that breaks a limit
is booked and flagged. Refused is only what contradicts the books or does not compute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from psm.contracts import corporate_actions as actions
from psm.contracts import events, holdings, margin_events, order_events, reversals, settlements
from psm.contracts.fields import Payload
from psm.domain.booking import (
    aliases,
    cash_events,
    corporate_actions,
    deliveries,
    fills,
    isolated,
    order_changes,
    position_changes,
    splits,
    transfers_in_kind,
)
from psm.domain.booking.context import EventContext, opening_currency
from psm.domain.booking.definitions import joined, turned_into_holdings
from psm.domain.ledger.effect import Effect
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.prices import AccountPrices

_HANDLERS: dict[type, Callable[[Ledger, Any, EventContext], Effect]] = {
    events.AccountOpened: cash_events.account_opened,
    events.LeverageChanged: cash_events.leverage_changed,
    margin_events.PositionModeChanged: isolated.position_mode_changed,
    margin_events.MarginModeChanged: isolated.margin_mode_changed,
    margin_events.MarginTransferred: isolated.margin_transferred,
    margin_events.MarginReported: isolated.margin_reported,
    events.PeakReset: cash_events.peak_reset,
    events.CashDeposited: cash_events.cash_deposited,
    events.CashWithdrawn: cash_events.cash_withdrawn,
    events.TransferredIn: cash_events.transferred_in,
    events.TransferredOut: cash_events.transferred_out,
    reversals.TransferReversed: cash_events.transfer_reversed,
    reversals.CashReversed: cash_events.cash_reversed,
    events.CashAdjusted: cash_events.cash_adjusted,
    events.InterestAccrued: cash_events.interest_accrued,
    actions.DividendPaid: cash_events.dividend_paid,
    events.FeeCharged: cash_events.fee_charged,
    events.FundingApplied: cash_events.funding_applied,
    events.TradeExecuted: fills.trade_executed,
    events.PositionAdjusted: position_changes.position_adjusted,
    settlements.PositionSettled: deliveries.position_settled,
    events.SplitApplied: splits.split_applied,
    holdings.PositionTransferredIn: transfers_in_kind.position_transferred_in,
    holdings.PositionTransferredOut: transfers_in_kind.position_transferred_out,
    holdings.StockDividend: splits.stock_dividend,
    holdings.ReturnOfCapital: position_changes.return_of_capital,
    actions.SymbolChanged: aliases.symbol_changed,
    actions.SpinOff: corporate_actions.spin_off,
    actions.Merged: corporate_actions.merged,
    holdings.TaxCharged: cash_events.tax_charged,
    holdings.LossCovered: cash_events.loss_covered,
    holdings.BorrowChanged: cash_events.borrow_changed,
    holdings.AssetsExchanged: cash_events.assets_exchanged,
    order_events.OrderSubmitted: order_changes.order_submitted,
    order_events.OrderAccepted: order_changes.order_accepted,
    order_events.OrderRejected: order_changes.order_rejected,
    order_events.OrderCancelled: order_changes.order_cancelled,
    order_events.OrderExpired: order_changes.order_expired,
    order_events.OrderReplaced: order_changes.order_replaced,
}
"""Every event but the corrections, which need history: see `corrections`."""


def evolve(
    ledger: Ledger,
    event: Payload,
    prices: AccountPrices,
    time: int,
    *,
    corrected: bool = False,
) -> Effect:
    """Return what `event` changes in `ledger`.

    Args:
        ledger: before the event; not changed.
        event: the next in order; no correction.
        prices: marks, rates and definitions as of the event.
        time: log time at which it is folded, ns.
        corrected: whether it is folded again, in a corrected past.

    Raises:
        ContractError: the event contradicts the books; the reason is a code of the contract.
        ArithmeticError: the event does not compute exactly.
    """
    home = ledger.currency or opening_currency(event, prices.market)
    context = EventContext(prices=prices, home=home, time=time, corrected=corrected)
    event = aliases.resolved(ledger, event)
    handler = _HANDLERS[type(event)]
    if prices.may_be_defined():
        turned = turned_into_holdings(ledger, event, context)
        if turned is not None:
            return joined(turned, handler(ledger.after(turned), event, context))
        prices.note_undefined()
    effect = handler(ledger, event, context)
    if ledger.currency is None and effect.currency is None:
        effect = msgspec.structs.replace(effect, currency=home)
    return effect
