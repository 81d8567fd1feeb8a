"""The effect of a fill: position, cash, fees, and the order it belongs to."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.contracts.events import TradeExecuted
from psm.domain import orders
from psm.domain.account import Account
from psm.domain.effect import Effect, TotalName
from psm.domain.money import ZERO, absolute, add, multiply, negate, quotient, subtract
from psm.domain.positions import Instrument, Position, Step, fill, notional_cash
from psm.domain.setting import Setting, current_instrument, new_key, position_for


def trade_executed(account: Account, event: TradeExecuted, setting: Setting) -> Effect:
    """Book a fill as the venue reported it."""
    key = None
    if event.fill_id is not None:
        key = new_key(account, "fill", "fill_id", event.fill_id, event.symbol)
    position = position_for(account, event.symbol, setting, event.price)
    if _flips(position, event):
        booked = _book_flip(position, event, current_instrument(event.symbol, setting))
    else:
        booked = book_fill(position, event)
    flags: list[str] = []
    changed: tuple[orders.Order, ...] = ()
    if event.order_id is not None:
        order, flags = orders.filled(account.orders.get(event.order_id), event, event.order_id)
        changed = (order,)
        if order.reduce_only and _opened(booked.steps):
            flags.append("reduce_only_opened")
    if key is None and not changed:
        return booked
    return msgspec.structs.replace(booked, orders=changed, flags=tuple(flags), key=key)


def book_fill(position: Position, event: TradeExecuted) -> Effect:
    """Return what a fill does to a position and to cash; no order, no business key."""
    instrument = position.instrument
    commission = event.commission or ZERO
    fee = event.liquidation_fee or ZERO
    quantity = event.quantity
    cash: list[tuple[str, Decimal]] = []
    totals: list[tuple[str, TotalName, Decimal]] = []
    paid_in = event.commission_currency or instrument.settle
    if paid_in == instrument.settle:
        fee = add(fee, commission)
    else:
        totals.append((paid_in, "fees", commission))
        if instrument.kind == "spot" and paid_in == instrument.base and _shrinks(event):
            quantity = subtract(quantity, commission)  # less of the base coin arrives
        else:  # a third currency pays: not this symbol's PnL, but that currency's ledger
            cash.append((paid_in, negate(commission)))
    steps = fill(position, event.side, quantity, event.price, fee)
    realized = subtract(steps[-1].position.realized_pnl, position.realized_pnl)
    moved = realized
    if instrument.full_notional:
        moved = notional_cash(instrument, event.side, event.quantity, event.price)
    cash.append((instrument.settle, subtract(moved, fee)))
    totals.append((instrument.settle, "realized_pnl", realized))
    totals.append((instrument.settle, "fees", fee))
    return Effect(cash=tuple(cash), totals=tuple(totals), steps=tuple(steps))


def _flips(position: Position, event: TradeExecuted) -> bool:
    """Whether a fill closes an open position and opens one on the other side."""
    opposite = (position.size > 0) != (event.side == "buy")
    return bool(position.size) and opposite and event.quantity > absolute(position.size)


def _book_flip(position: Position, event: TradeExecuted, current: Instrument) -> Effect:
    """Book a flip: what closes as it was opened, what opens by the definition there is now."""
    if position.instrument.defined == current.defined:
        # Only the margin tiers can be others.
        booked = book_fill(position, event)
        opened = booked.steps[-1]
        again = msgspec.structs.replace(opened.position, instrument=current)
        last = msgspec.structs.replace(opened, position=again)
        return msgspec.structs.replace(booked, steps=(*booked.steps[:-1], last))
    return _book_in_two(position, event, current)


def _book_in_two(position: Position, event: TradeExecuted, current: Instrument) -> Effect:
    """Book a flip as two fills; fees are split pro rata by quantity."""
    held = absolute(position.size)

    def share(whole: Decimal | None) -> tuple[Decimal | None, Decimal | None]:
        if whole is None:
            return None, None
        part = quotient(multiply(whole, held), event.quantity)
        return part, subtract(whole, part)

    commissions, fees = share(event.commission), share(event.liquidation_fee)
    quantities = (held, subtract(event.quantity, held))
    closing, opening = (
        msgspec.structs.replace(event, quantity=quantity, commission=cost, liquidation_fee=fee)
        for quantity, cost, fee in zip(quantities, commissions, fees, strict=True)
    )
    closed = book_fill(position, closing)
    flat = msgspec.structs.replace(closed.steps[-1].position, instrument=current)
    opened = book_fill(flat, opening)
    return Effect(
        cash=(*closed.cash, *opened.cash),
        totals=(*closed.totals, *opened.totals),
        steps=(*closed.steps, *opened.steps),
    )


def _shrinks(event: TradeExecuted) -> bool:
    """Whether a fee in the base coin comes out of what was bought."""
    commission = event.commission or ZERO
    return event.side == "buy" and absolute(commission) < event.quantity


def _opened(steps: tuple[Step, ...]) -> bool:
    return any(step.change in ("opened", "increased") for step in steps)
