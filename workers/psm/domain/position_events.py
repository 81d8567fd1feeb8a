"""Effects of what happens to positions outside of trading: adjustments, settlement, splits."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.contracts.errors import ContractError
from psm.contracts.events import PositionAdjusted, PositionSettled, Side, SplitApplied
from psm.domain import orders
from psm.domain.account import Account
from psm.domain.effect import Effect
from psm.domain.money import (
    ZERO,
    absolute,
    add,
    multiply,
    negate,
    quotient,
    subtract,
    whole_units,
)
from psm.domain.positions import (
    Position,
    Step,
    close,
    fill,
    notional_cash,
    reset_cost,
)
from psm.domain.setting import Setting, instrument_of, position_for


def position_adjusted(account: Account, event: PositionAdjusted, setting: Setting) -> Effect:
    """Add or take away size by hand: what is added costs `price`, what goes leaves at cost."""
    if not event.quantity:
        raise ContractError("invalid_payload", "quantity must not be zero", "payload.quantity")
    before = position_for(account, event.symbol, setting, event.price)
    side: Side = "buy" if event.quantity > 0 else "sell"
    after = fill(before, side, absolute(event.quantity), event.price, ZERO)[-1].position
    # No PnL: what a fill at `price` would have realized is taken back, lifetime and cycle.
    fresh = after.cycle != before.cycle
    after = msgspec.structs.replace(
        after,
        realized_pnl=before.realized_pnl,
        cycle_realized_pnl=ZERO if fresh else before.cycle_realized_pnl,
        last_fill=before.last_fill if before.size else event.price,
    )
    return Effect(steps=(Step(position=after, change="adjusted"),))


def position_settled(account: Account, event: PositionSettled, setting: Setting) -> Effect:
    """Close at the settlement price (expiry), or realize the gain and go on from it (session)."""
    position = position_for(account, event.symbol, setting, event.settlement_price)
    instrument = position.instrument
    fee = event.fee or ZERO
    if event.kind == "expiry":
        step = close(position, event.settlement_price, fee)
    elif instrument.full_notional:
        raise ContractError(
            "invalid_payload", f"{event.symbol} is fully paid: it has no session", "payload.kind"
        )
    else:
        step = reset_cost(position, event.settlement_price, fee)
    realized = subtract(step.position.realized_pnl, position.realized_pnl)
    moved = realized
    if instrument.full_notional and position.size:
        side = "sell" if position.size > 0 else "buy"
        size = absolute(position.size)
        moved = notional_cash(instrument, side, size, event.settlement_price)
    known = event.symbol in account.positions
    return Effect(
        cash=((instrument.settle, subtract(moved, fee)),),
        totals=(
            (instrument.settle, "realized_pnl", realized),
            (instrument.settle, "fees", fee),
        ),
        steps=(step,) if known else (),
    )


def split_applied(account: Account, event: SplitApplied, setting: Setting) -> Effect:
    """More units, the same cost; open orders follow; a fraction is paid out where cash came."""
    position = account.positions.get(event.symbol)
    open_orders = tuple(
        orders.rescaled(order, event.ratio)
        for _, order in sorted(account.orders.items())
        if order.open and order.symbol == event.symbol
    )
    cash = event.cash_in_lieu or ZERO
    if position is None or not position.size:
        settle = instrument_of(account, event.symbol, setting).settle
        return Effect(
            cash=((settle, cash),),
            totals=((settle, "dividends", cash),),
            orders=open_orders,
            split=(event.symbol, event.ratio),
        )
    if position.instrument.inverse:
        raise ContractError(
            "invalid_payload", f"{event.symbol} is inverse: it cannot split", "payload.symbol"
        )
    after = msgspec.structs.replace(
        position,
        size=multiply(position.size, event.ratio),
        last_fill=quotient(position.last_fill, event.ratio),
    )
    settle = position.instrument.settle
    realized = ZERO
    if event.cash_in_lieu is not None:
        after, realized = _pay_out_fraction(after, cash)
    return Effect(
        cash=((settle, cash),),
        totals=(
            (settle, "realized_pnl", realized),
            (settle, "dividends", subtract(cash, realized)),
        ),
        steps=(Step(position=after, change="adjusted" if after.size else "closed"),),
        orders=open_orders,
        split=(event.symbol, event.ratio),
    )


def _pay_out_fraction(position: Position, cash: Decimal) -> tuple[Position, Decimal]:
    """Return the position in whole units, and what the fraction's cash realized over its cost."""
    size = absolute(position.size)
    whole = whole_units(size)
    if whole == size:
        return position, ZERO
    kept_cost = ZERO if not whole else quotient(multiply(position.cost, whole), size)
    released = multiply(subtract(position.cost, kept_cost), position.instrument.multiplier)
    realized = subtract(cash, released) if position.size > 0 else add(cash, released)
    after = msgspec.structs.replace(
        position,
        size=whole if position.size > 0 else negate(whole),
        cost=kept_cost,
        realized_pnl=add(position.realized_pnl, realized),
        cycle_realized_pnl=add(position.cycle_realized_pnl, realized),
    )
    return after, realized
