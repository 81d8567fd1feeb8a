"""Shares: positions that are paid in full, with a cost in the account currency beside their own.

Of shares quoted in the account currency both are one. Quoted in another one a trade of them is an
exchange: the quote leaves or comes at the value of the trade, and so do the shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from psm.domain.booking.movements import Leg, Movements, share_key
from psm.domain.ledger.holdings import NO_COST, AssetHolding, Cost
from psm.domain.ledger.positions import Position, PositionStep
from psm.domain.money import subtract


def trade_shares(
    moves: Movements, before: Position, steps: Sequence[PositionStep], cash: Decimal
) -> list[PositionStep]:
    """Book what a fill of shares moves beside them; return its steps with their cost.

    Args:
        moves: of the event.
        before: the position.
        steps: it after the fill.
        cash: that the fill moves in the quote, received above zero.
    """
    quote, after = before.instrument.settle, steps[-1].position
    if quote == moves.home:
        moves.cash(quote, cash)
        moves.count("realized_pnl", subtract(after.realized_pnl, before.realized_pnl))
        return list(steps)
    base = Leg(before.symbol, subtract(after.size, before.size), quote)
    hold_shares(moves, before)
    paid = Leg(quote, cash)
    moves.exchange(base, paid, moves.trade_value(base, paid))
    return costed(moves, steps)


def hold_shares(moves: Movements, position: Position) -> None:
    """Let movements know what shares cost in the account currency."""
    cost = position.home_cost if position.size else NO_COST
    moves.hold(share_key(position.symbol), AssetHolding(position.size, cost))


def costed(moves: Movements, steps: Sequence[PositionStep]) -> list[PositionStep]:
    """Return the steps of shares with the cost that movements left them; a closed one has none."""
    cost = moves.holding(share_key(steps[-1].position.symbol)).cost
    return [
        msgspec.structs.replace(
            step,
            position=msgspec.structs.replace(
                step.position, home_cost=cost if step is steps[-1] else NO_COST
            ),
        )
        for step in steps
    ]


def came_with_cost(
    moves: Movements,
    into: Position,
    steps: Sequence[PositionStep],
    units: Decimal,
    cost: Cost,
    realized: Decimal,
) -> list[PositionStep]:
    """Book units that came with a cost instead of a price; return the steps with their cost.

    Args:
        moves: of the event.
        into: the position before they came.
        steps: it after they came.
        units: signed.
        cost: signed, in the account currency, of shares quoted in another one.
        realized: what covering the other side brought, in the quote.
    """
    if not into.instrument.full_notional:
        moves.earn(into.instrument.settle, realized, "realized_pnl")
        return list(steps)
    if into.instrument.settle == moves.home:
        moves.count("realized_pnl", realized)
        return list(steps)
    hold_shares(moves, into)
    moves.come_at_cost(share_key(into.symbol), units, cost)
    return costed(moves, steps)
