"""What each event does to an account: one function per event type, all computing, none changing.

Venue facts are never refused by opinion: a withdrawal that overdraws or a fill that breaks a limit
is booked and flagged. Refused is only what contradicts the books or does not compute.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import assert_never

import msgspec

from psm.contracts.errors import ContractError
from psm.contracts.events import (
    AccountEvent,
    AccountOpened,
    CashDeposited,
    CashWithdrawn,
    FeeCharged,
    FundingApplied,
    TradeExecuted,
)
from psm.domain.account import Account, Effect, TotalName
from psm.domain.money import ZERO, add, negate, subtract
from psm.domain.positions import (
    Instrument,
    Position,
    Step,
    fill,
    notional_cash,
    undefined_instrument,
)
from psm.domain.windows import digest16

DEFAULT_CURRENCY = "USDT"


def evolve(account: Account, event: AccountEvent, instruments: Mapping[str, Instrument]) -> Effect:
    """Return what `event` changes in `account`.

    Args:
        account: before the event; not changed.
        event: the next in order.
        instruments: defined before the event, by symbol.

    Raises:
        ContractError: the event contradicts the books; the reason is a code of the contract.
        ArithmeticError: the event does not compute exactly.
    """
    if isinstance(event, AccountOpened):
        return _account_opened(account, event)
    currency = account.currency or _opening_currency(event, instruments)
    match event:
        case CashDeposited():
            effect = _cash_moved(currency, event.currency, event.amount, "deposits", event.amount)
        case CashWithdrawn():
            out = negate(event.amount)
            effect = _cash_moved(currency, event.currency, out, "withdrawals", event.amount)
        case TradeExecuted():
            effect = _trade_executed(account, event, currency, instruments)
        case FundingApplied():
            effect = _funding_applied(account, event, currency, instruments)
        case FeeCharged():
            effect = _fee_charged(account, event, currency)
        case _:
            assert_never(event)
    if account.currency is None:
        effect = msgspec.structs.replace(effect, currency=currency)
    return effect


def _opening_currency(event: AccountEvent, instruments: Mapping[str, Instrument]) -> str:
    """Return the currency of an account that `event` opens: named, of its instrument, or USDT."""
    named = getattr(event, "currency", None)
    if named is not None:
        return str(named)
    instrument = instruments.get(getattr(event, "symbol", None) or "")
    return DEFAULT_CURRENCY if instrument is None else instrument.settle


def _account_opened(account: Account, event: AccountOpened) -> Effect:
    if account.currency is not None:
        raise ContractError(
            "invalid_payload", f"the account is open already, in {account.currency}", "event_type"
        )
    return Effect(currency=event.currency, leverage_limit=event.leverage_limit)


def _cash_moved(
    home: str, named: str | None, signed: Decimal, name: TotalName, amount: Decimal
) -> Effect:
    currency = named or home
    return Effect(
        cash=((currency, signed),),
        totals=((currency, name, amount),),
        flow=signed if currency == home else ZERO,
    )


def _trade_executed(
    account: Account, event: TradeExecuted, home: str, instruments: Mapping[str, Instrument]
) -> Effect:
    key = None
    if event.fill_id is not None:
        key = _new_key(account, "fill", event.symbol, event.fill_id)
    position = _position_for_fill(account, event, home, instruments)
    instrument = position.instrument
    commission = event.commission or ZERO
    fee = event.liquidation_fee or ZERO
    cash: list[tuple[str, Decimal]] = []
    totals: list[tuple[str, TotalName, Decimal]] = []
    if (event.commission_currency or instrument.settle) == instrument.settle:
        fee = add(fee, commission)
    else:  # a third currency pays: not this symbol's PnL, but that currency's ledger
        assert event.commission_currency is not None
        cash.append((event.commission_currency, negate(commission)))
        totals.append((event.commission_currency, "fees", commission))
    steps = fill(position, event.side, event.quantity, event.price, fee)
    realized = subtract(steps[-1].position.realized_pnl, position.realized_pnl)
    if instrument.full_notional:
        moved = notional_cash(instrument, event.side, event.quantity, event.price)
    else:
        moved = realized
    cash.append((instrument.settle, subtract(moved, fee)))
    totals.append((instrument.settle, "realized_pnl", realized))
    totals.append((instrument.settle, "fees", fee))
    return Effect(cash=tuple(cash), totals=tuple(totals), steps=tuple(steps), key=key)


def _position_for_fill(
    account: Account, event: TradeExecuted, home: str, instruments: Mapping[str, Instrument]
) -> Position:
    """Return the position a fill acts on; from flat it takes the current definition."""
    held = account.positions.get(event.symbol)
    if held is not None and held.size:
        return held
    instrument = instruments.get(event.symbol) or undefined_instrument(event.symbol, home)
    if held is None:
        return Position(instrument=instrument, last_fill=event.price)
    return msgspec.structs.replace(held, instrument=instrument)


def _funding_applied(
    account: Account, event: FundingApplied, home: str, instruments: Mapping[str, Instrument]
) -> Effect:
    key = None
    if event.reference is not None:
        key = _new_key(account, "funding", event.symbol, event.reference)
    position = account.positions.get(event.symbol)
    instrument = position.instrument if position else instruments.get(event.symbol)
    settle = instrument.settle if instrument else home
    currency = event.currency or settle
    payment = event.funding_payment
    steps: tuple[Step, ...] = ()
    if position is not None and currency == settle:
        after = msgspec.structs.replace(
            position,
            funding=add(position.funding, payment),
            cycle_funding=add(position.cycle_funding, payment if position.size else ZERO),
        )
        steps = (Step(position=after, change="adjusted"),)
    return Effect(
        cash=((currency, payment),),
        totals=((currency, "funding", payment),),
        steps=steps,
        key=key,
    )


def _fee_charged(account: Account, event: FeeCharged, home: str) -> Effect:
    currency = event.currency or home
    position = account.positions.get(event.symbol or "")
    steps: tuple[Step, ...] = ()
    if position is not None and currency == position.instrument.settle:
        after = msgspec.structs.replace(
            position,
            fees=add(position.fees, event.amount),
            cycle_fees=add(position.cycle_fees, event.amount if position.size else ZERO),
        )
        steps = (Step(position=after, change="adjusted"),)
    return Effect(
        cash=((currency, negate(event.amount)),),
        totals=((currency, "fees", event.amount),),
        steps=steps,
    )


def _new_key(account: Account, kind: str, symbol: str, value: str) -> bytes:
    """Return the packed business key, refusing one that the stream remembers."""
    key = digest16(kind, symbol, value)
    if key in account.keys:
        field = "fill_id" if kind == "fill" else "reference"
        raise ContractError(
            f"duplicate_{kind}",
            f"{field} {value} of {symbol} was booked before under another event_id",
            f"payload.{field}",
        )
    return key
