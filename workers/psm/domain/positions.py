"""Positions: sizes, average cost, realized and unrealized PnL. Netting, one position per symbol.

The canonical state is the exact sums `size` and `cost`; the entry price is derived from them. Only
`closed_cost` is rounded (to 34 significant digits), and what was realized and what is left are
both computed from the rounded value, so realized + unrealized = cash flow + position value holds
exactly. Fees never enter the entry price. Inverse contracts average harmonically.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import Literal

import msgspec

from psm.contracts.events import InstrumentKind, MarginTier
from psm.contracts.updates import Change
from psm.domain.money import ONE, ZERO, absolute, add, multiply, negate, quotient, subtract
from psm.domain.tiers import Tier, known_tiers


class Instrument(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a symbol is. `defined` is False where nobody said so: linear, multiplier 1."""

    symbol: str
    kind: InstrumentKind
    base: str
    quote: str
    settle: str
    multiplier: Decimal = ONE
    margin_tiers: tuple[MarginTier, ...] = ()
    defined: bool = True

    @property
    def inverse(self) -> bool:
        """Quoted in the base coin's reciprocal: cost and value are quantity / price."""
        return self.kind in ("inverse_perp", "inverse_future")

    @property
    def full_notional(self) -> bool:
        """Cash moves by the whole notional (spot, equity); derivatives move only PnL."""
        return self.kind in ("spot", "equity")

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """The margin tiers from notional 0 on, made continuous."""
        return known_tiers(self.symbol, self.margin_tiers)


@lru_cache(maxsize=4096)
def undefined_instrument(symbol: str, settle: str) -> Instrument:
    """Return what stands in for an instrument nobody defined yet."""
    return Instrument(
        symbol=symbol, kind="linear_perp", base=symbol, quote=settle, settle=settle, defined=False
    )


class Position(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One symbol of one account: the open position, if any, and lifetime values.

    Attributes:
        instrument: the definition it opened with; kept until it is flat.
        size: signed quantity, short below zero.
        cost: sum of open quantity x price, without multiplier; inverse: quantity / price.
        last_fill: price of the account's own last fill; values the position until a mark exists.
        realized_pnl: lifetime, gross of fees and funding, in the settle currency.
        fees: lifetime, in the settle currency.
        funding: lifetime, received above zero.
        cycle: how often the position was opened from flat.
        cycle_realized_pnl: gross, of the current (or last) cycle; likewise fees and funding.
    """

    instrument: Instrument
    size: Decimal = ZERO
    cost: Decimal = ZERO
    last_fill: Decimal
    realized_pnl: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    cycle: int = 0
    cycle_realized_pnl: Decimal = ZERO
    cycle_fees: Decimal = ZERO
    cycle_funding: Decimal = ZERO

    @property
    def symbol(self) -> str:
        """The instrument's symbol."""
        return self.instrument.symbol

    @property
    def side(self) -> Literal["long", "short", "flat"]:
        """Direction of the open position."""
        if not self.size:
            return "flat"
        return "long" if self.size > 0 else "short"


class Step(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A position after one part of a fill; a flip has two.

    `change` is what is published. `forgotten`: nothing of it is left, a bust took its only fill.
    """

    position: Position
    change: Change
    forgotten: bool = False


def fill(
    position: Position,
    side: Literal["buy", "sell"],
    quantity: Decimal,
    price: Decimal,
    fee: Decimal,
) -> list[Step]:
    """Return the position after a fill: one step, or for a flip `closed` and then `opened`.

    Args:
        position: before the fill.
        side: of the fill.
        quantity: of the fill, above zero.
        price: of the fill, above zero.
        fee: cost in the settle currency; split pro rata by quantity over the steps of a flip.
    """
    signed = quantity if side == "buy" else negate(quantity)
    held = absolute(position.size)
    if not held or (position.size > 0) == (signed > 0):
        return [_increase(position, signed, price, fee)]
    if quantity <= held:
        return [_reduce(position, signed, price, fee)]
    closing_fee = quotient(multiply(fee, held), quantity)
    closed = _reduce(position, negate(position.size), price, closing_fee)
    opened = _increase(
        closed.position, add(signed, position.size), price, subtract(fee, closing_fee)
    )
    return [closed, opened]


def _increase(position: Position, signed: Decimal, price: Decimal, fee: Decimal) -> Step:
    cost = _cost_of(position.instrument, absolute(signed), price)
    opening = not position.size
    after = msgspec.structs.replace(
        position,
        size=add(position.size, signed),
        cost=add(position.cost, cost),
        last_fill=price,
        fees=add(position.fees, fee),
        cycle=position.cycle + opening,
        cycle_realized_pnl=ZERO if opening else position.cycle_realized_pnl,
        cycle_fees=fee if opening else add(position.cycle_fees, fee),
        cycle_funding=ZERO if opening else position.cycle_funding,
    )
    return Step(position=after, change="opened" if opening else "increased")


def _reduce(position: Position, signed: Decimal, price: Decimal, fee: Decimal) -> Step:
    held, closing = absolute(position.size), absolute(signed)
    whole = closing == held
    closed_cost = position.cost if whole else quotient(multiply(position.cost, closing), held)
    proceeds = _cost_of(position.instrument, closing, price)
    realized = _pnl(position, proceeds, closed_cost)
    after = msgspec.structs.replace(
        position,
        size=ZERO if whole else add(position.size, signed),
        cost=ZERO if whole else subtract(position.cost, closed_cost),
        last_fill=price,
        realized_pnl=add(position.realized_pnl, realized),
        fees=add(position.fees, fee),
        cycle_realized_pnl=add(position.cycle_realized_pnl, realized),
        cycle_fees=add(position.cycle_fees, fee),
    )
    return Step(position=after, change="closed" if whole else "reduced")


def close(position: Position, price: Decimal, fee: Decimal) -> Step:
    """Return the position after it was closed at `price`; a flat one only pays the fee."""
    if not position.size:
        after = msgspec.structs.replace(position, fees=add(position.fees, fee))
        return Step(position=after, change="adjusted")
    return _reduce(position, negate(position.size), price, fee)


def reset_cost(position: Position, price: Decimal, fee: Decimal) -> Step:
    """Return the position after its gain at `price` was realized and its entry set to `price`."""
    if not position.size:
        return close(position, price, fee)
    value = _cost_of(position.instrument, absolute(position.size), price)
    realized = _pnl(position, value, position.cost)
    after = msgspec.structs.replace(
        position,
        cost=value,
        realized_pnl=add(position.realized_pnl, realized),
        fees=add(position.fees, fee),
        cycle_realized_pnl=add(position.cycle_realized_pnl, realized),
        cycle_fees=add(position.cycle_fees, fee),
    )
    return Step(position=after, change="adjusted")


def _cost_of(instrument: Instrument, quantity: Decimal, price: Decimal) -> Decimal:
    return quotient(quantity, price) if instrument.inverse else multiply(quantity, price)


def _pnl(position: Position, value: Decimal, cost: Decimal) -> Decimal:
    """Return what a part with this `cost` gains at this `value`, in the settle currency."""
    long = position.size > 0
    gain = subtract(value, cost) if long != position.instrument.inverse else subtract(cost, value)
    return multiply(gain, position.instrument.multiplier)


def value_at(position: Position, price: Decimal) -> tuple[Decimal, Decimal]:
    """Return (notional, unrealized PnL) of an open position at `price`, in the settle currency."""
    instrument, size, cost = position.instrument, position.size, position.cost
    short, inverse = size.is_signed(), instrument.inverse
    value = quotient(absolute(size), price) if inverse else multiply(absolute(size), price)
    gain = subtract(cost, value) if short != inverse else subtract(value, cost)
    if instrument.multiplier == 1:
        return value, gain
    return multiply(value, instrument.multiplier), multiply(gain, instrument.multiplier)


def unrealized_pnl(position: Position, price: Decimal) -> Decimal:
    """Return the open position's gain at `price`, in the settle currency; 0 when flat."""
    if not position.size:
        return ZERO
    value = _cost_of(position.instrument, absolute(position.size), price)
    return _pnl(position, value, position.cost)


def notional(position: Position, price: Decimal) -> Decimal:
    """Return the magnitude of the position's value at `price`, in the settle currency."""
    return notional_of(position.instrument, absolute(position.size), price)


def notional_of(instrument: Instrument, quantity: Decimal, price: Decimal) -> Decimal:
    """Return the value of a quantity at `price`, in the instrument's settle currency."""
    return multiply(_cost_of(instrument, quantity, price), instrument.multiplier)


def notional_cash(instrument: Instrument, side: str, quantity: Decimal, price: Decimal) -> Decimal:
    """Return the cash that a fill of a fully paid instrument moves; received above zero."""
    value = multiply(multiply(quantity, price), instrument.multiplier)
    return negate(value) if side == "buy" else value


def entry_price(position: Position) -> Decimal | None:
    """Return the average entry price (cost / size, inverse size / cost), or None when flat."""
    if not position.size:
        return None
    size = absolute(position.size)
    if position.instrument.inverse:
        return quotient(size, position.cost)
    return quotient(position.cost, size)


def break_even_price(position: Position) -> Decimal | None:
    """Return the price at which this cycle's fees and funding are earned back; linear only.

    Entry + side x (fees - funding) / (size x multiplier), None when flat.
    """
    entry = entry_price(position)
    if entry is None or position.instrument.inverse:
        return None
    try:
        burden = subtract(position.cycle_fees, position.cycle_funding)
        return add(entry, quotient(burden, multiply(position.size, position.instrument.multiplier)))
    except ArithmeticError:
        return None
