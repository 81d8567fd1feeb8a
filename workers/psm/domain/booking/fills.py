"""The effect of a fill: assets or position, fees, and the order it belongs to."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import msgspec

from psm.contracts.events import TradeExecuted
from psm.domain.booking.context import EventContext, current_instrument, opened_at, position_for
from psm.domain.booking.identities import new_fill_key
from psm.domain.booking.isolated import with_wallet
from psm.domain.booking.legs import fill_leg
from psm.domain.booking.movements import Leg, Movements
from psm.domain.booking.shares import trade_shares
from psm.domain.ledger import orders
from psm.domain.ledger.effect import Effect
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.own_fills import own_fill
from psm.domain.ledger.positions import Position, PositionStep, fill, notional_cash
from psm.domain.market.instrument import Instrument
from psm.domain.money import (
    ZERO,
    absolute,
    add,
    multiply,
    negate,
    quotient,
    scaled,
    subtract,
)


def trade_executed(ledger: Ledger, event: TradeExecuted, context: EventContext) -> Effect:
    """Book a fill as the venue reported it."""
    key = new_fill_key(ledger, event)
    moves = Movements(ledger, context, event)
    leg, leg_flags = fill_leg(ledger, event.symbol, event.position_side, context)
    position = position_for(ledger, event.symbol, context, event.price, leg)
    instrument = position.instrument
    instrument.check_price(event.price, "payload.price")
    steps: tuple[PositionStep, ...] = ()
    if instrument.is_pair:
        opened = trade_pair(moves, instrument, event)
    else:
        steps = opened_at(_trade_position(moves, position, event, context), context)
        opened = steps[-1].change in ("opened", "increased")
    flags: list[str] = []
    changed: tuple[orders.Order, ...] = ()
    if event.order_id is not None:
        order, flags = orders.filled(
            ledger.orders.by_id.get(event.order_id),
            event,
            event.order_id,
            inverse=instrument.inverse,
        )
        changed = (order,)
        if order.reduce_only and opened:
            flags.append("reduce_only_opened")
    priced = own_fill(instrument, event.price)
    effect = moves.effect(
        steps=steps,
        orders=changed,
        flags=(*leg_flags, *flags),
        fill_key=key,
        own_fill=None if priced is None else (event.symbol, priced),
    )
    return with_wallet(ledger, effect, position, event.price, event.isolated_margin)


# --- pairs: two assets ----------------------------------------------------------------------------


def trade_pair(moves: Movements, instrument: Instrument, event: TradeExecuted) -> bool:
    """Exchange base and quote, then pay the fees; return whether more of the base is held."""
    buys = event.side == "buy"
    base = Leg(instrument.base, event.quantity if buys else negate(event.quantity))
    cash = notional_cash(instrument, event.side, event.quantity, event.price)
    quote = Leg(instrument.quote, cash)
    value = moves.trade_value(base, quote)
    before = moves.holding(base.asset).quantity
    moves.exchange(base, quote, value)
    opened = absolute(moves.holding(base.asset).quantity) > absolute(before)
    trade = _Traded(base, quote, value)
    if event.commission is not None:
        paid_in = event.commission_currency or quote.asset
        moves.pay(paid_in, event.commission, "fees", at=trade.value_of(paid_in, event.commission))
    if event.liquidation_fee is not None:
        fee = event.liquidation_fee
        moves.pay(quote.asset, fee, "liquidation_fees", at=trade.value_of(quote.asset, fee))
    return opened


class _Traded(NamedTuple):
    """A trade of two assets, and what its base is booked at."""

    base: Leg
    quote: Leg
    value: Decimal | None

    def value_of(self, asset: str, amount: Decimal) -> Decimal | None:
        """Return what an amount of one of the two is worth at the trade's own price."""
        if self.value is None:
            return None
        if asset == self.base.asset:
            return scaled(self.value, amount, self.base.amount)
        if asset == self.quote.asset and self.quote.amount:
            return scaled(negate(self.value), amount, self.quote.amount)
        return None


# --- contracts and shares -------------------------------------------------------------------------


def _trade_position(
    moves: Movements, position: Position, event: TradeExecuted, context: EventContext
) -> list[PositionStep]:
    if not _flips(position, event):
        return book_fill(moves, position, event)
    current = current_instrument(event.symbol, context)
    current.check_price(event.price, "payload.price")
    return _book_flip(moves, position, event, current)


def book_fill(moves: Movements, position: Position, event: TradeExecuted) -> list[PositionStep]:
    """Book what a fill does to a position and to assets; no order, no business key."""
    instrument = position.instrument
    settle = instrument.settle
    commission = event.commission or ZERO
    fee = liquidation_fee = event.liquidation_fee or ZERO
    paid_in = event.commission_currency or settle
    if paid_in == settle:
        fee = add(fee, commission)
    steps = fill(position, event.side, event.quantity, event.price, fee)
    if instrument.full_notional:
        cash = notional_cash(instrument, event.side, event.quantity, event.price)
        steps = trade_shares(moves, position, steps, cash)
    else:
        realized = subtract(steps[-1].position.realized_pnl, position.realized_pnl)
        moves.earn(settle, realized, "realized_pnl")
    if commission:
        moves.pay(paid_in, commission, "fees")
    if liquidation_fee:
        moves.pay(settle, liquidation_fee, "liquidation_fees")
    return steps


def _flips(position: Position, event: TradeExecuted) -> bool:
    """Return whether a fill closes an open position and opens one on the other side."""
    opposite = (position.size > 0) != (event.side == "buy")
    return bool(position.size) and opposite and event.quantity > absolute(position.size)


def _book_flip(
    moves: Movements, position: Position, event: TradeExecuted, current: Instrument
) -> list[PositionStep]:
    """Book a flip: what closes as it was opened, what opens by the definition there is now."""
    if position.instrument.defined != current.defined:
        return _book_in_two(moves, position, event, current)
    steps = book_fill(moves, position, event)  # only the margin tiers can be others
    return [*steps[:-1], _of_instrument(steps[-1], current)]


def _book_in_two(
    moves: Movements, position: Position, event: TradeExecuted, current: Instrument
) -> list[PositionStep]:
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
    closed = book_fill(moves, position, closing)
    flat = _of_instrument(closed[-1], current).position
    return [*closed, *book_fill(moves, flat, opening)]


def _of_instrument(step: PositionStep, instrument: Instrument) -> PositionStep:
    position = msgspec.structs.replace(step.position, instrument=instrument)
    return msgspec.structs.replace(step, position=position)
