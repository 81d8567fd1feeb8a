"""Open positions as their last update left them, and what they are worth in the account currency.

A position that settles in another currency tells both amounts in each update, but its closes only
in its own: they are taken at the rate of the update before. What that misses is an item of the
account, so sums stay exact.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.analytics.buckets import NOTHING, Worth
from psm.analytics.feed import PositionCloseFacts, PositionFacts
from psm.domain.money import (
    ONE,
    ZERO,
    absolute,
    add,
    multiply,
    multiply_wide,
    negate,
    published,
    quotient,
    subtract,
)

UNPAID = ("0", "0")
"""Fees and funding of a position that is not known."""


class Held(msgspec.Struct, frozen=True, array_like=True):
    """An open position.

    Attributes:
        size: below zero for a short.
        inverse: quoted in the reciprocal of what it settles in.
        cost, cost_quote: of a share, in the account currency and its own; contracts have none.
        rate: account currency per unit of what it settles in; None where it is not known.
        mark: price at which it was valued last.
        realized, fees, funding, peak_size: of its cycle so far, as told: few ask.
    """

    symbol: str
    position_side: str
    currency: str
    size: Decimal
    multiplier: Decimal
    inverse: bool
    entry: Decimal | None
    cost: Decimal | None
    cost_quote: Decimal | None
    rate: Decimal | None
    mark: Decimal | None
    realized: str
    fees: str
    funding: str
    peak_size: str

    def at(self, mark: Decimal) -> Held:
        """Return the same at another mark."""
        return msgspec.structs.replace(self, mark=mark)


class HeldChange(msgspec.Struct, frozen=True, array_like=True):
    """What an event did to a position: its update, and the position before and after it.

    Attributes:
        key: of the position.
        paid: its lifetime fees and funding before.
    """

    key: str
    update: PositionFacts
    before: Held | None
    after: Held | None
    paid: tuple[str, str] = UNPAID


def held_after(update: PositionFacts, before: Held | None) -> Held | None:
    """Return a position as an update tells it; None where it is flat."""
    size = Decimal(update.size)
    if not size:
        return None
    return Held(
        update.symbol,
        update.position_side,
        update.currency or "",
        negate(size) if update.side == "short" else size,
        ONE if update.multiplier == "1" else Decimal(update.multiplier),
        update.kind is not None and update.kind.startswith("inverse"),
        number(update.entry_price),
        *_cost_of(update),
        ONE if update.realized_pnl_account is not None else _rate(update, before),
        number(update.mark_price),
        *_cycle_of(update),
    )


def _cost_of(update: PositionFacts) -> tuple[Decimal | None, Decimal | None]:
    """Return the cost of a share in the account currency and in its own."""
    if update.cost_quote is None:
        return None, None
    return number(update.cost) or ZERO, Decimal(update.cost_quote)


def _cycle_of(update: PositionFacts) -> tuple[str, str, str, str]:
    return (
        update.cycle_realized_pnl or "0",
        update.cycle_fees or "0",
        update.cycle_funding or "0",
        update.peak_size or "0",
    )


def last_held(update: PositionFacts, before: Held | None, after: Held | None) -> Held | None:
    """Return a position after an update; one that it closed as it was, at the mark of then."""
    if after is not None or before is None:
        return after
    mark = number(update.mark_price)
    return before if mark is None else before.at(mark)


def worth_told(update: PositionFacts, held: Held | None) -> Worth:
    """Return what an update says that a position is worth; what does not compute counts nothing."""
    if held is None or update.unrealized_pnl_account is None:
        return NOTHING
    notional = number(update.notional) or ZERO
    gross = notional if held.rate == ONE else converted(notional, held.rate)
    return Worth(Decimal(update.unrealized_pnl_account), gross)


def worth_closed(close: PositionCloseFacts, held: Held | None) -> Worth:
    """Return what a position was worth at the end of a minute."""
    if held is None or close.unrealized_pnl is None or held.rate is None:
        return NOTHING
    unrealized, mark = Decimal(close.unrealized_pnl), number(close.mark_price)
    gross = ZERO if mark is None else value_of(held, absolute(held.size), mark)
    if held.rate == ONE:
        return Worth(unrealized, published(absolute(gross)))
    if held.cost is not None and held.cost_quote is not None:
        worth = converted(add(unrealized, held.cost_quote), held.rate)
        return Worth(subtract(worth, held.cost), converted(absolute(gross), held.rate))
    return Worth(converted(unrealized, held.rate), converted(absolute(gross), held.rate))


def value_of(held: Held, size: Decimal, price: Decimal) -> Decimal:
    """Return the value of a size at a price, in the currency it settles in."""
    if held.inverse:
        return multiply_wide(quotient(size, price), held.multiplier) if price else ZERO
    return multiply_wide(multiply(size, price), held.multiplier)


def unrealized_at(held: Held, price: Decimal) -> Decimal:
    """Return the gain of a position at a price, in the account currency, as published."""
    if held.entry is None:
        return ZERO
    gain = subtract(value_of(held, held.size, price), value_of(held, held.size, held.entry))
    gain = negate(gain) if held.inverse else gain
    return converted(gain, held.rate)


def number(text: str | None) -> Decimal | None:
    """Return a figure; None where there is none."""
    return None if text is None else Decimal(text)


def converted(amount: Decimal, rate: Decimal | None) -> Decimal:
    """Return an amount at a rate, as it would be published; 0 without a rate."""
    return ZERO if rate is None else published(multiply_wide(amount, rate))


def _rate(update: PositionFacts, before: Held | None) -> Decimal | None:
    """Return the rate of an update's two amounts, or the one before where they say none."""
    own, ours = number(update.unrealized_pnl), number(update.unrealized_pnl_account)
    if own is not None and ours is not None:
        if update.cost_quote is not None:
            own, ours = add(own, Decimal(update.cost_quote)), add(ours, number(update.cost) or ZERO)
        if own and ours:
            return quotient(ours, own)
    return None if before is None else before.rate
