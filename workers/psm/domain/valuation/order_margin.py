"""Margin that the open orders of a symbol reserve: the worse side, beyond the position's own."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from psm.contracts.position_keys import position_key
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.orders import Order, leaves
from psm.domain.ledger.positions import notional_of
from psm.domain.ledger.prices import AccountPrices
from psm.domain.market.instrument import Instrument
from psm.domain.money import ONE, ZERO, absolute, add, multiply, negate, quotient, subtract
from psm.domain.valuation.position_value import PositionValue


class OrderMargin(msgspec.Struct, frozen=True, gc=False):
    """Margin reserved by a symbol's open orders, in the account currency; 0 without a rate."""

    amount: Decimal
    rated: bool


def order_margin_of(
    ledger: Ledger, symbol: str, values: Mapping[str, PositionValue], prices: AccountPrices
) -> OrderMargin | None:
    """Return what a symbol's open orders reserve; None where nothing is ordered.

    Args:
        ledger: whose orders.
        symbol: of the orders.
        values: of the open positions, by key.
        prices: an order without a price is valued at its symbol's mark.

    Raises:
        ArithmeticError: it does not compute exactly.
    """
    orders = ledger.orders.open_of(symbol)
    if not orders:
        return None
    instrument = prices.instrument(symbol)
    extra = None
    for key, own in _by_position(ledger, instrument, orders).items():
        sides = _sides(ledger, key, instrument, own, prices)
        if sides is not None:
            held = _held(ledger, key, instrument, values, prices)
            reserved = quotient(_extra(held, *sides), ledger.leverage_of(key))
            extra = reserved if extra is None else add(extra, reserved)
    if extra is None:
        return None
    rate = ONE if instrument.settle == ledger.currency else prices.rate(instrument.settle)
    if rate is None:
        return OrderMargin(ZERO, rated=False)
    return OrderMargin(extra if rate is ONE else multiply(extra, rate), rated=True)


def _held(
    ledger: Ledger,
    key: str,
    instrument: Instrument,
    values: Mapping[str, PositionValue],
    prices: AccountPrices,
) -> Decimal:
    """Return the signed notional of what is held already; of a pair, of its base."""
    if instrument.is_pair:
        quantity = ledger.holding(instrument.base).quantity
        price = _market_price(ledger, key, instrument.symbol, prices) if quantity else None
        return ZERO if price is None else notional_of(instrument, quantity, price)
    position, value = ledger.positions.get(key), values.get(key)
    size = value.notional if value else ZERO
    return negate(size) if position is not None and position.size < 0 else size


def _by_position(
    ledger: Ledger, instrument: Instrument, orders: list[Order]
) -> dict[str, list[Order]]:
    """Return a symbol's orders by the position that they would change: the net one, or legs."""
    symbol = instrument.symbol
    if ledger.modes.of(symbol) == "net" or instrument.full_notional:
        return {position_key(symbol): orders}
    found: dict[str, list[Order]] = {}
    for order in orders:
        found.setdefault(position_key(symbol, order.position_side or "net"), []).append(order)
    return found


def _extra(signed: Decimal, buys: Decimal, sells: Decimal) -> Decimal:
    """Return by how much the worse side would be more than what is held."""
    size = absolute(signed)
    worst = max(absolute(add(signed, buys)), absolute(subtract(signed, sells)), size)
    return subtract(worst, size)


def _sides(
    ledger: Ledger,
    key: str,
    instrument: Instrument,
    orders: list[Order],
    prices: AccountPrices,
) -> tuple[Decimal, Decimal] | None:
    """Return the notional of open buys and sells; None where no order reserves anything."""
    buys = sells = ZERO
    found = False
    for order in orders:
        price = _price_of(ledger, key, order, prices)
        if order.reduce_only or price is None or (instrument.inverse and price <= 0):
            continue
        found = True
        value = absolute(notional_of(instrument, leaves(order), price))
        if order.side == "buy":
            buys = add(buys, value)
        else:
            sells = add(sells, value)
    return (buys, sells) if found else None


def _price_of(ledger: Ledger, key: str, order: Order, prices: AccountPrices) -> Decimal | None:
    """Return an order's price, else its stop price, else that of the market."""
    own = order.stop_price if order.price is None else order.price
    return _market_price(ledger, key, order.symbol, prices) if own is None else own


def _market_price(ledger: Ledger, key: str, symbol: str, prices: AccountPrices) -> Decimal | None:
    mark = prices.mark(symbol)
    if mark is not None:
        return mark
    fill = ledger.own_fills.get(symbol)
    if fill is not None:  # its price is that of one unit of the base
        return quotient(fill.price, prices.instrument(symbol).multiplier)
    position = ledger.positions.get(key)
    return None if position is None else position.last_fill
