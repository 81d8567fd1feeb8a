"""What the open orders of a symbol reserve: the worse side, beyond the position's own margin."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from psm.domain.money import ONE, ZERO, absolute, add, multiply, negate, quotient, subtract
from psm.domain.orders import Order, leaves
from psm.domain.positions import Instrument, notional_of
from psm.domain.worth import Mark, PositionValue, Rates, instrument_for, mark_for

if TYPE_CHECKING:  # an account keeps its worths
    from psm.domain.account import Account


class Reserve(msgspec.Struct, frozen=True, gc=False):
    """What the open orders of a symbol reserve, in the account currency; 0 without a rate."""

    amount: Decimal
    rated: bool


def reserve_of(
    account: Account,
    symbol: str,
    held: PositionValue | None,
    marks: Mapping[str, Mark],
    rates: Rates,
    instruments: Mapping[str, Instrument],
) -> Reserve | None:
    """Return what a symbol's open orders reserve; None where nothing is ordered.

    Args:
        account: whose orders.
        symbol: of the orders.
        held: value of the open position in the symbol, if there is one.
        marks: current marks by symbol; an order without a price is valued at its symbol's.
        rates: what converts amounts in other currencies.
        instruments: definitions by symbol.

    Raises:
        ArithmeticError: it does not compute exactly.
    """
    orders = account.open_orders_of(symbol)
    if not orders:
        return None
    instrument = instrument_for(account, symbol, instruments)
    sides = _sides(account, instrument, orders, marks)
    if sides is None:
        return None
    buys, sells = sides
    position = account.positions.get(symbol)
    size = held.notional if held else ZERO
    signed = negate(size) if position is not None and position.size < 0 else size
    worst = max(absolute(add(signed, buys)), absolute(subtract(signed, sells)), size)
    extra = quotient(subtract(worst, size), account.leverage_of(symbol))
    settle = instrument.settle
    rate = ONE if settle == account.currency else rates(settle)
    if rate is None:
        return Reserve(ZERO, rated=False)
    return Reserve(extra if rate is ONE else multiply(extra, rate), rated=True)


def _sides(
    account: Account, instrument: Instrument, orders: list[Order], marks: Mapping[str, Mark]
) -> tuple[Decimal, Decimal] | None:
    """Return the notional of open buys and sells; None where no order reserves anything."""
    buys = sells = ZERO
    found = False
    for order in orders:
        price = order.price or order.stop_price or _price_for(account, order.symbol, marks)
        if order.reduce_only or price is None:
            continue
        found = True
        value = notional_of(instrument, leaves(order), price)
        if order.side == "buy":
            buys = add(buys, value)
        else:
            sells = add(sells, value)
    return (buys, sells) if found else None


def _price_for(account: Account, symbol: str, marks: Mapping[str, Mark]) -> Decimal | None:
    mark = marks.get(symbol)
    if mark is not None:
        return mark_for(account, symbol, mark)
    position = account.positions.get(symbol)
    return None if position is None else position.last_fill
