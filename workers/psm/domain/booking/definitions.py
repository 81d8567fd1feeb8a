"""Definitions that come late: what was booked under a symbol before it was a pair or a share.

A fill in an undefined symbol opens a linear contract, because nobody knows better. Where the
symbol turns out to be a pair or a share, the account's next event makes it what it is: the size
becomes a holding at its cost, and that cost leaves the cash.
"""

from __future__ import annotations

import msgspec

from psm.domain.booking.context import EventContext
from psm.domain.ledger.effect import Effect, TotalName
from psm.domain.ledger.holdings import Cost, traded
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.positions import Position, PositionStep, signed_cost
from psm.domain.market.instrument import Instrument
from psm.domain.money import ZERO, negate, quotient, subtract


def turned_into_holdings(ledger: Ledger, context: EventContext) -> Effect | None:
    """Return what turns contracts that were none into what they are; None where all is well."""
    effect: Effect | None = None
    for key in ledger.undefined:
        position = ledger.positions[key]
        known = context.prices.market.instruments.get(position.symbol)
        if known is None or not known.full_notional:
            continue
        seen = ledger if effect is None else ledger.after(effect)
        one = _turned(seen, position, known, context.home)
        effect = one if effect is None else joined(effect, one)
    return effect


def joined(first: Effect, second: Effect) -> Effect:
    """Return both effects as one; the second was computed after the first."""
    return msgspec.structs.replace(
        second,
        cash=(*first.cash, *second.cash),
        costs=(*first.costs, *second.costs),
        totals=(*first.totals, *second.totals),
        steps=(*first.steps, *second.steps),
        wallets=(*first.wallets, *second.wallets),
        flags=(*first.flags, *second.flags),
    )


def _turned(ledger: Ledger, position: Position, known: Instrument, home: str) -> Effect:
    cost, wallet = signed_cost(position), ledger.wallets.of(position.key)
    back = ((position.key, negate(wallet)),) if wallet else ()
    if not known.is_pair:
        home_cost = Cost(cost) if known.settle != home else position.home_cost
        paid = quotient(position.cost, known.multiplier)
        share = msgspec.structs.replace(position, instrument=known, cost=paid, home_cost=home_cost)
        step = PositionStep(position=share, change="adjusted")
        paid_for = ((home, negate(cost)),)
        return Effect(cash=paid_for, steps=(step,), wallets=back, flags=("defined_late",))
    flat = msgspec.structs.replace(position, size=ZERO, cost=ZERO)
    cash = ((home, negate(cost)), (known.base, position.size))
    costs: tuple[tuple[str, Cost], ...] = ()
    before = ledger.holding(known.base)
    name: TotalName = "unknown_cost" if before.cost.unknown else "realized_pnl"
    realized = subtract(position.size, cost)
    if known.base != home:
        done = traded(before, position.size, cost)
        costs, realized = ((known.base, done.holding.cost),), done.realized
    return Effect(
        cash=cash,
        costs=costs,
        totals=((name, realized),) if realized else (),
        steps=(PositionStep(position=flat, change="closed"),),
        wallets=back,
        flags=("defined_late",),
    )
