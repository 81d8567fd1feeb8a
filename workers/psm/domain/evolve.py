"""What each event does to an account: one function per event type, all computing, none changing.

Venue facts are never refused by opinion: a withdrawal that overdraws or a fill that breaks a limit
is booked and flagged. Refused is only what contradicts the books or does not compute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from psm.contracts import events
from psm.contracts.events import AccountEvent
from psm.domain import cash_events, order_events, position_events, trade_events
from psm.domain.account import Account
from psm.domain.effect import Effect
from psm.domain.setting import Setting, opening_currency

_HANDLERS: dict[type, Callable[[Account, Any, Setting], Effect]] = {
    events.AccountOpened: cash_events.account_opened,
    events.LeverageChanged: cash_events.leverage_changed,
    events.CashDeposited: cash_events.cash_deposited,
    events.CashWithdrawn: cash_events.cash_withdrawn,
    events.TransferredIn: cash_events.transferred_in,
    events.TransferredOut: cash_events.transferred_out,
    events.CashAdjusted: cash_events.cash_adjusted,
    events.InterestAccrued: cash_events.interest_accrued,
    events.DividendPaid: cash_events.dividend_paid,
    events.FeeCharged: cash_events.fee_charged,
    events.FundingApplied: cash_events.funding_applied,
    events.TradeExecuted: trade_events.trade_executed,
    events.PositionAdjusted: position_events.position_adjusted,
    events.PositionSettled: position_events.position_settled,
    events.SplitApplied: position_events.split_applied,
    events.OrderSubmitted: order_events.order_submitted,
    events.OrderAccepted: order_events.order_accepted,
    events.OrderRejected: order_events.order_rejected,
    events.OrderCancelled: order_events.order_cancelled,
    events.OrderExpired: order_events.order_expired,
    events.OrderReplaced: order_events.order_replaced,
}
"""Every event but the corrections, which need history: see `corrections`."""


def evolve(account: Account, event: AccountEvent, setting: Setting) -> Effect:
    """Return what `event` changes in `account`.

    Args:
        account: before the event; not changed.
        event: the next in order; no `TradeBusted` or `TradeAmended`.
        setting: what the books know beside the account.

    Raises:
        ContractError: the event contradicts the books; the reason is a code of the contract.
        ArithmeticError: the event does not compute exactly.
    """
    home = account.currency or opening_currency(event, setting.instruments)
    if setting.home != home:
        setting = msgspec.structs.replace(setting, home=home)
    effect = _HANDLERS[type(event)](account, event, setting)
    if account.currency is None and effect.currency is None:
        effect = msgspec.structs.replace(effect, currency=home)
    return effect
