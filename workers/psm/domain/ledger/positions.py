"""Positions: sizes, average cost, realized and unrealized PnL.

One position per symbol nets all fills; in hedge mode each of two legs nets its own.

The canonical state is the exact sums `size` and `cost`; the entry price is derived from them. Only
`closed_cost` is rounded (to 34 significant digits), and what was realized and what is left are
both computed from the rounded value, so realized + unrealized = cash flow + position value holds
exactly. Fees never enter the entry price. Inverse contracts average harmonically.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from psm.contracts.fields import PositionSide
from psm.contracts.position_keys import position_key
from psm.contracts.updates import Change
from psm.domain.ledger.holdings import NO_COST, Cost
from psm.domain.market.instrument import Instrument
from psm.domain.money import ZERO, absolute, add, multiply, negate, quotient, scaled, subtract


class ReportedMargin(msgspec.Struct, frozen=True, gc=False):
    """Margin of an open position as the venue has it, in the settle currency.

    `stale`: the position has changed since.
    """

    initial: Decimal
    maintenance: Decimal
    stale: bool = False


class Position(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One symbol of one account, or a leg of it: the open position, if any, and lifetime values.

    Attributes:
        instrument: the definition it opened with; kept until it is flat.
        position_side: `net`, or the leg of hedge mode.
        size: signed quantity, short below zero.
        cost: sum of open quantity x price, without multiplier; inverse: quantity / price.
        last_fill: price of the account's own last fill; values the position until a mark exists.
        realized_pnl: lifetime, gross of fees and funding, in the settle currency.
        fees: lifetime, in the settle currency.
        funding: lifetime, received above zero.
        cycle: how often the position was opened from flat.
        cycle_opened_at: log time of the event that opened it last, ns; None before the first.
        peak_size: greatest magnitude of the size in this cycle.
        home_cost: signed, in the account currency, of shares quoted in another one; contracts have
            none, and of other shares it is `cost`.
        margin: of the venue, in place of leverage and tiers; None where it reported none.
        cycle_realized_pnl: gross, of the current (or last) cycle; so are fees and funding.
    """

    instrument: Instrument
    position_side: PositionSide = "net"
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
    cycle_opened_at: int | None = None
    peak_size: Decimal = ZERO
    home_cost: Cost = NO_COST
    margin: ReportedMargin | None = None

    @property
    def symbol(self) -> str:
        """The instrument's symbol."""
        return self.instrument.symbol

    @property
    def key(self) -> str:
        """Symbol and position side as one text: what a ledger knows it by."""
        symbol = self.instrument.symbol
        if self.position_side == "net" and "#" not in symbol:
            return symbol  # spares the call: it is asked several times per event
        return position_key(symbol, self.position_side)

    @property
    def side(self) -> Literal["long", "short", "flat"]:
        """Direction of the open position."""
        if not self.size:
            return "flat"
        return "long" if self.size > 0 else "short"


class PositionStep(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A position after one part of a fill; a flip has two.

    `change` is what is published. `forgotten`: nothing of it is left, a bust took its only fill.
    """

    position: Position
    change: Change
    forgotten: bool = False

    def left(self, *, keeps_margin: bool) -> Position | None:
        """Return what is left of it; a reported margin is of before it, and of nothing flat."""
        position = self.position
        margin = position.margin
        if self.forgotten:
            return None
        if margin is None or (keeps_margin and position.size):
            return position
        margin = ReportedMargin(margin.initial, margin.maintenance, stale=True)
        return msgspec.structs.replace(position, margin=margin if position.size else None)


def fill(
    position: Position,
    side: Literal["buy", "sell"],
    quantity: Decimal,
    price: Decimal,
    fee: Decimal,
) -> list[PositionStep]:
    """Return the position after a fill: one step, or for a flip `closed` and then `opened`.

    Args:
        position: before the fill.
        side: of the fill.
        quantity: of the fill, above zero.
        price: of the fill.
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


def _increase(position: Position, signed: Decimal, price: Decimal, fee: Decimal) -> PositionStep:
    cost = _cost_of(position.instrument, absolute(signed), price)
    opening = not position.size
    size = add(position.size, signed)
    after = msgspec.structs.replace(
        position,
        size=size,
        cost=add(position.cost, cost),
        last_fill=price,
        fees=add(position.fees, fee),
        cycle=position.cycle + opening,
        cycle_realized_pnl=ZERO if opening else position.cycle_realized_pnl,
        cycle_fees=fee if opening else add(position.cycle_fees, fee),
        cycle_funding=ZERO if opening else position.cycle_funding,
        peak_size=absolute(size) if opening else max(position.peak_size, absolute(size)),
        margin=None if opening else position.margin,
    )
    return PositionStep(position=after, change="opened" if opening else "increased")


def _reduce(position: Position, signed: Decimal, price: Decimal, fee: Decimal) -> PositionStep:
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
    return PositionStep(position=after, change="closed" if whole else "reduced")


def reduce_at_cost(
    position: Position, quantity: Decimal, cost: Decimal | None = None
) -> PositionStep:
    """Return the position after units left at their cost: nothing is realized.

    Args:
        position: before.
        quantity: that leaves, at most all of it.
        cost: that leaves with them where it is not their share, at most all of it.
    """
    held = absolute(position.size)
    whole = quantity == held
    kept = ZERO if whole else subtract(held, quantity)
    leaving = scaled(position.cost, quantity, held) if cost is None else min(cost, position.cost)
    after = msgspec.structs.replace(
        position,
        size=kept if position.size > 0 else negate(kept),
        cost=ZERO if whole else subtract(position.cost, leaving),
    )
    return PositionStep(position=after, change="closed" if whole else "reduced")


def signed_cost(position: Position) -> Decimal:
    """Return the cost with the multiplier, below zero for a short."""
    cost = multiply(position.cost, position.instrument.multiplier)
    return cost if position.size > 0 else negate(cost)


def close(position: Position, price: Decimal, fee: Decimal) -> PositionStep:
    """Return the position after it was closed at `price`; a flat one only pays the fee."""
    if not position.size:
        after = msgspec.structs.replace(position, fees=add(position.fees, fee))
        return PositionStep(position=after, change="adjusted")
    return _reduce(position, negate(position.size), price, fee)


def reset_cost(position: Position, price: Decimal, fee: Decimal) -> PositionStep:
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
    return PositionStep(position=after, change="adjusted")


def _cost_of(instrument: Instrument, quantity: Decimal, price: Decimal) -> Decimal:
    return quotient(quantity, price) if instrument.inverse else multiply(quantity, price)


def _pnl(position: Position, value: Decimal, cost: Decimal) -> Decimal:
    """Return what a part with this `cost` gains at this `value`, in the settle currency."""
    long = position.size > 0
    gain = subtract(value, cost) if long != position.instrument.inverse else subtract(cost, value)
    return multiply(gain, position.instrument.multiplier)


def value_at(position: Position, price: Decimal) -> tuple[Decimal, Decimal]:
    """Return (value of the size, unrealized PnL) of an open position, in the settle currency.

    The value is below zero where the price is.
    """
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
    return absolute(notional_of(position.instrument, absolute(position.size), price))


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
