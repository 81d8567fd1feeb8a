"""Definitions that come late: what was booked under a symbol before it was a pair or a share.

A fill in an undefined symbol opens a linear contract, because nobody knows better. Where the
symbol turns out to be a pair or a share, the account's next event makes it what it is: the size
becomes a holding at its cost, and that cost leaves the cash.
"""

from __future__ import annotations

import msgspec

from psm.contracts.fields import Payload
from psm.domain.booking.aliases import booked_together, moved_into, nothing_of
from psm.domain.booking.context import EventContext
from psm.domain.booking.movements import Movements
from psm.domain.ledger.effect import Effect, TotalName
from psm.domain.ledger.holdings import Cost, traded
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.positions import Position, PositionStep, signed_cost
from psm.domain.ledger.wallets import WalletChange
from psm.domain.market.instrument import Instrument
from psm.domain.money import ZERO, negate, quotient, subtract


def turned_into_holdings(ledger: Ledger, event: Payload, context: EventContext) -> Effect | None:
    """Return what turns contracts that were none into what they are; None where all is well."""
    effect: Effect | None = None
    for key in ledger.undefined:
        position = ledger.positions[key]
        known = context.prices.market.instruments.get(position.symbol)
        if known is None or not known.full_notional:
            continue
        seen = ledger if effect is None else ledger.after(effect)
        if known.is_pair:
            one = _coins(seen, position, known, context.home)
        else:
            one = _shares(seen, position, known, Movements(seen, context, event), context)
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


def _shares(
    ledger: Ledger,
    position: Position,
    known: Instrument,
    moves: Movements,
    context: EventContext,
) -> Effect:
    """Return what makes a position one of shares. Those always net: what was a leg joins the rest.

    Of two sides the one covers the other at its cost.
    """
    cost = signed_cost(position)
    moves.cash(moves.home, negate(cost))
    share = msgspec.structs.replace(
        position,
        instrument=known,
        position_side="net",
        cost=quotient(position.cost, known.multiplier),
        home_cost=Cost(cost) if known.settle != moves.home else position.home_cost,
    )
    steps = [PositionStep(position=share, change="adjusted")]
    if position.position_side != "net":
        into = ledger.positions.get(share.key)
        steps = moved_into(share, into, known, context)
        steps = [nothing_of(position), *booked_together(moves, share, into, steps)]
    return moves.effect(
        steps=tuple(steps), wallets=_back(ledger, position), flags=("defined_late",)
    )


def _coins(ledger: Ledger, position: Position, known: Instrument, home: str) -> Effect:
    """Return what makes a position a holding of the pair's base."""
    cost = signed_cost(position)
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
        wallets=_back(ledger, position),
        flags=("defined_late",),
    )


def _back(ledger: Ledger, position: Position) -> tuple[WalletChange, ...]:
    """Return what comes back from a wallet: only contracts have one."""
    wallet = ledger.wallets.of(position.key)
    return ((position.key, negate(wallet)),) if wallet else ()
