"""Effect of assets, shares and contracts that come or go without a fill: flows at market value.

For net asset value and drawdown the flow is what the move does to equity at the mark; for the
ledger's identity, total `transfers`, it is the cost that comes or goes. What leaves within a
holding leaves at its cost. What covers the other side is a trade at the market value of the flow,
of a contract at `entry_price`, and realizes.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, NamedTuple

import msgspec

from psm.contracts.errors import ContractError
from psm.contracts.fields import PositionSide
from psm.contracts.holdings import PositionTransferredIn, PositionTransferredOut
from psm.contracts.reversals import TransferReversed
from psm.domain.booking.context import EventContext, asset_meant, opened_at, position_for
from psm.domain.booking.identities import new_reference, new_transfer
from psm.domain.booking.isolated import with_wallet
from psm.domain.booking.legs import Flags, fill_leg, is_hedged
from psm.domain.booking.movements import Movements, share_key
from psm.domain.booking.shares import costed, hold_shares
from psm.domain.ledger.effect import Effect
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.positions import (
    Position,
    PositionStep,
    fill,
    reduce_at_cost,
    signed_cost,
    unrealized_pnl,
)
from psm.domain.money import ZERO, absolute, add, multiply, negate, quotient, subtract

Moved = PositionTransferredIn | PositionTransferredOut


def position_transferred_in(
    ledger: Ledger, event: PositionTransferredIn, context: EventContext
) -> Effect:
    """An asset, shares or contracts came from elsewhere."""
    held = _meant(ledger, event.symbol, event.position_side, context, event.entry_price)
    key = new_transfer(ledger, event.transfer_id)
    return _move(ledger, event, held, context, buys=event.side == "long", key=key)


def position_transferred_out(
    ledger: Ledger, event: PositionTransferredOut, context: EventContext
) -> Effect:
    """An asset, shares or contracts went elsewhere."""
    held = _meant(ledger, event.symbol, event.position_side, context, event.entry_price)
    key = new_transfer(ledger, event.transfer_id)
    side = event.side or held.side
    return _move(ledger, event, held, context, buys=side == "short", key=key)


def position_transfer_reversed(
    ledger: Ledger, event: TransferReversed, context: EventContext
) -> Effect:
    """What was transferred in kind came back: the opposite of how it moved."""
    if event.symbol is None or event.quantity is None or event.amount is not None:
        raise ContractError(
            "invalid_payload", "either amount, or symbol and quantity must be given", "payload"
        )
    key, flags = new_reference(
        ledger, "TransferReversed", event.symbol, event.reversal_reference, event.position_side
    )
    # In net mode it is no leg, but says on which side what moved was.
    hedged = is_hedged(ledger, event.symbol, context)
    stated = event.position_side if hedged else None
    held = _meant(ledger, event.symbol, stated, context, event.entry_price)
    side = event.position_side or held.side
    kind = PositionTransferredOut if event.direction == "in" else PositionTransferredIn
    opposite = kind(
        symbol=event.symbol,
        quantity=event.quantity,
        transfer_id=event.transfer_id,
        side=side,
        cost=event.cost,
        entry_price=event.entry_price,
    )
    buys = (side == "long") == (event.direction == "out")
    effect = _move(ledger, opposite, held, context, buys=buys, key=key)
    return msgspec.structs.replace(effect, flags=(*flags, *effect.flags))


class _Held(NamedTuple):
    """What an event moves: an asset, or a position; and on which side it is held."""

    asset: str | None
    position: Position
    flags: Flags
    side: Literal["long", "short"]


def _meant(
    ledger: Ledger,
    symbol: str,
    stated: PositionSide | None,
    context: EventContext,
    price: Decimal | None,
) -> _Held:
    leg, flags = fill_leg(ledger, symbol, stated, context)
    position = position_for(ledger, symbol, context, price or ZERO, leg)
    asset, size = asset_meant(ledger, symbol, context), position.size
    if asset is not None:
        size = ledger.holding(asset).quantity
    return _Held(asset, position, flags, "short" if size < 0 else "long")


def _move(
    ledger: Ledger,
    event: Moved,
    held: _Held,
    context: EventContext,
    *,
    buys: bool,
    key: bytes | None,
) -> Effect:
    """Book a move that makes what is held longer (`buys`) or shorter."""
    moves, position = Movements(ledger, context, event), held.position
    coming = isinstance(event, PositionTransferredIn)
    if held.asset is not None:
        amount = event.quantity if buys else negate(event.quantity)
        moves.count("transfers", moves.arrive(held.asset, amount, event.cost, coming=coming))
        return moves.effect(flags=held.flags, reference_key=key)
    own = _own_price(position, event)
    mark, _ = context.prices.price_of(position)
    known = position.size or context.prices.mark(event.symbol) is not None
    # What is neither held nor marked is worth what it cost.
    price = mark if known or own is None else own
    covering = price if position.instrument.full_notional else own
    steps = _steps(position, event, "buy" if buys else "sell", own, covering)
    steps = _book(moves, position, steps, event, price, coming=coming)
    effect = moves.effect(steps=opened_at(steps, context), flags=held.flags, reference_key=key)
    return with_wallet(ledger, effect, position, event.entry_price)


def _book(
    moves: Movements,
    before: Position,
    steps: list[PositionStep],
    event: Moved,
    price: Decimal,
    *,
    coming: bool,
) -> list[PositionStep]:
    """Book the flow of a move, at market and at cost, and what it realizes."""
    settle, after = before.instrument.settle, steps[-1].position
    realized = subtract(after.realized_pnl, before.realized_pnl)
    gained = add(realized, subtract(unrealized_pnl(after, price), unrealized_pnl(before, price)))
    if not before.instrument.full_notional:
        moves.earn(settle, realized, "realized_pnl")
        moves.flows.append((settle, gained))
        return steps
    change = subtract(signed_cost(after), signed_cost(before))
    at_cost = subtract(change, realized)
    moves.flows.append((settle, add(at_cost, gained)))
    if settle == moves.home:
        moves.count("transfers", at_cost)
        moves.count("realized_pnl", realized)
        return steps
    amount = subtract(after.size, before.size)
    worth = moves.value(settle, multiply(multiply(amount, price), before.instrument.multiplier))
    cost = event.cost if event.cost is None or amount > 0 else negate(event.cost)
    stated = None if cost is None else moves.value(settle, cost)
    hold_shares(moves, before)
    key = share_key(before.symbol)
    moves.count("transfers", moves.arrive_at(key, amount, worth, stated, coming=coming))
    return costed(moves, steps)


def _own_price(position: Position, event: Moved) -> Decimal | None:
    """Return the price per unit that the event states; None where it states none."""
    instrument = position.instrument
    if not instrument.full_notional:
        if event.cost is not None:
            raise ContractError("invalid_payload", "a contract has no cost", "payload.cost")
        if event.entry_price is not None:
            instrument.check_price(event.entry_price, "payload.entry_price")
        elif isinstance(event, PositionTransferredIn):
            raise ContractError(
                "invalid_payload", "a contract needs entry_price", "payload.entry_price"
            )
        return event.entry_price
    if event.cost is None:
        return None
    return quotient(event.cost, multiply(event.quantity, instrument.multiplier))


def _steps(
    position: Position,
    event: Moved,
    side: Literal["buy", "sell"],
    own: Decimal | None,
    covering: Decimal | None,
) -> list[PositionStep]:
    """Return the position after the part that closes, and after what opens beyond it."""
    closing = _closing(position, event.quantity, side)
    steps = _closed(position, event, side, closing, covering) if closing else []
    opening = subtract(event.quantity, closing)
    if not opening:
        return steps
    if own is None:
        name = "cost" if position.instrument.full_notional else "entry_price"
        raise ContractError("invalid_payload", f"what is added needs {name}", f"payload.{name}")
    before = steps[-1].position if steps else position
    return [*steps, _opened(before, event, side, opening, own)]


def _closing(position: Position, quantity: Decimal, side: str) -> Decimal:
    """Return how much of a move is taken from what is held on the other side."""
    if not position.size or (position.size > 0) == (side == "buy"):
        return ZERO
    return min(absolute(position.size), quantity)


def _closed(
    position: Position,
    event: Moved,
    side: Literal["buy", "sell"],
    closing: Decimal,
    covering: Decimal | None,
) -> list[PositionStep]:
    """Return the position after what leaves it at its cost, or covers it at the flow's value."""
    if isinstance(event, PositionTransferredOut) or covering is None:
        return [reduce_at_cost(position, closing)]
    return fill(position, side, closing, covering, ZERO)


def _opened(
    before: Position,
    event: Moved,
    side: Literal["buy", "sell"],
    opening: Decimal,
    price: Decimal,
) -> PositionStep:
    """Return the position after new units; a stated cost that is theirs alone stays exact."""
    (step,) = fill(before, side, opening, price, ZERO)
    whole = event.cost is not None and opening == event.quantity
    if not whole or before.instrument.multiplier != 1:
        return step
    assert event.cost is not None
    exact = msgspec.structs.replace(step.position, cost=add(before.cost, event.cost))
    return msgspec.structs.replace(step, position=exact)
