"""Effect of assets, shares and contracts that come or go without a fill: flows at market value.

For net asset value and drawdown the flow is what the move does to equity at the mark; for the
ledger's identity, total `transfers`, it is the cost that comes or goes. What leaves within a
holding leaves at its cost. What covers the other side is a trade at the market value of the flow,
of a contract at `entry_price`, and realizes. What is taken back has the cost, or the entry price,
that the original was booked at.
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
from psm.domain.booking.identities import new_reference, new_transfer, original_flow
from psm.domain.booking.isolated import with_wallet
from psm.domain.booking.legs import Flags, fill_leg, is_hedged
from psm.domain.booking.movements import Movements, share_key
from psm.domain.booking.shares import costed, hold_shares
from psm.domain.ledger.booked_flows import BookedFlow
from psm.domain.ledger.effect import Effect
from psm.domain.ledger.holdings import Cost
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.positions import (
    Position,
    PositionStep,
    entry_price,
    fill,
    reduce_at_cost,
    signed_cost,
    unrealized_pnl,
)
from psm.domain.money import ZERO, absolute, add, multiply, negate, quotient, scaled, subtract

Moved = PositionTransferredIn | PositionTransferredOut


def position_transferred_in(
    ledger: Ledger, event: PositionTransferredIn, context: EventContext
) -> Effect:
    """An asset, shares or contracts came from elsewhere."""
    held = _meant(ledger, event.symbol, event.position_side, context, event.entry_price)
    key = new_transfer(ledger, event.transfer_id)
    moved = _move(ledger, event, held, context, buys=event.side == "long", key=key)
    return _remembered(moved)


def position_transferred_out(
    ledger: Ledger, event: PositionTransferredOut, context: EventContext
) -> Effect:
    """An asset, shares or contracts went elsewhere."""
    held = _meant(ledger, event.symbol, event.position_side, context, event.entry_price)
    key = new_transfer(ledger, event.transfer_id)
    side = event.side or held.side
    return _remembered(_move(ledger, event, held, context, buys=side == "short", key=key))


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
    original = original_flow(ledger, event)
    part = None if original is None else original.part(event.quantity)
    opposite = kind(
        symbol=event.symbol,
        quantity=event.quantity,
        transfer_id=event.transfer_id,
        side=side,
        cost=event.cost,
        entry_price=event.entry_price,
    )
    buys = (side == "long") == (event.direction == "out")
    back = _Back(part)
    effect = _move(ledger, opposite, held, context, buys=buys, key=key, back=back).effect
    return msgspec.structs.replace(effect, flags=(*flags, *effect.flags))


class _Back(NamedTuple):
    """What a reversal takes back, as it was booked; None where nobody remembers."""

    booked: BookedFlow | None


class _Moved(NamedTuple):
    """Effect of a move, and what is to be remembered of it."""

    effect: Effect
    flow: BookedFlow | None


def _remembered(moved: _Moved) -> Effect:
    """Return the effect of an original, which a reversal may name."""
    key = moved.effect.reference_key
    if key is None or moved.flow is None:
        return moved.effect
    return msgspec.structs.replace(moved.effect, booked_flow=(key, moved.flow))


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
    back: _Back | None = None,
) -> _Moved:
    """Book a move that makes what is held longer (`buys`) or shorter."""
    moves, position = Movements(ledger, context, event), held.position
    if held.asset is not None:
        amount = event.quantity if buys else negate(event.quantity)
        flow = _move_asset(moves, event, held.asset, amount, back)
        return _Moved(moves.effect(flags=held.flags, reference_key=key), flow)
    event, home = _with_cost(moves, event, position, back)
    own = _own_price(position, event, context)
    mark, _ = context.prices.price_of(position)
    known = position.size or context.prices.mark(event.symbol) is not None
    # What is neither held nor marked is worth what it cost.
    price = mark if known or own is None else own
    covering = price if position.instrument.full_notional else own
    leaving = None if back is None else event.cost
    steps = _steps(position, event, "buy" if buys else "sell", own, covering, leaving)
    steps, flow = _book(moves, position, steps, event, price, home, back=back is not None)
    effect = moves.effect(
        steps=opened_at(steps, context),
        flags=held.flags,
        reference_key=key,
        by_mark=position.instrument.full_notional,
    )
    return _Moved(with_wallet(ledger, effect, position, event.entry_price), flow)


def _move_asset(
    moves: Movements, event: Moved, asset: str, amount: Decimal, back: _Back | None
) -> BookedFlow | None:
    """Book a move of an asset; return what to remember, nothing of the account currency."""
    cost = None if event.cost is None else Cost(event.cost)
    if cost is None and back is not None and back.booked is not None:
        cost = back.booked.cost
    coming = isinstance(event, PositionTransferredIn)
    booked = moves.arrive(asset, amount, cost, coming=coming, back=back is not None)
    moves.count("transfers", booked.amount)
    return None if asset == moves.home else BookedFlow.of(amount, booked)


def _with_cost(
    moves: Movements, event: Moved, position: Position, back: _Back | None
) -> tuple[Moved, Cost | None]:
    """Return the event with what was booked where it states nothing, and its cost at home."""
    booked = None if back is None else back.booked
    if not position.instrument.full_notional:
        if booked is not None and event.entry_price is None:
            event = msgspec.structs.replace(event, entry_price=booked.entry_price)
        return event, None
    if event.cost is not None:
        worth = moves.value(position.instrument.settle, event.cost)
        return event, Cost(ZERO if worth is None else worth, worth is None)
    if booked is None:
        return event, None
    return msgspec.structs.replace(event, cost=booked.own), booked.cost


def _book(
    moves: Movements,
    before: Position,
    steps: list[PositionStep],
    event: Moved,
    price: Decimal,
    home: Cost | None,
    *,
    back: bool,
) -> tuple[list[PositionStep], BookedFlow]:
    """Book the flow of a move, at market and at cost, and what it realizes."""
    quantity = event.quantity
    settle, after = before.instrument.settle, steps[-1].position
    realized = subtract(after.realized_pnl, before.realized_pnl)
    gained = add(realized, subtract(unrealized_pnl(after, price), unrealized_pnl(before, price)))
    if not before.instrument.full_notional:
        moves.earn(settle, realized, "realized_pnl")
        moves.flows.append((settle, gained))
        entered = event.entry_price if event.entry_price is not None else entry_price(before)
        return steps, BookedFlow(amount=quantity, entry_price=entered)
    change = subtract(signed_cost(after), signed_cost(before))
    at_cost = subtract(change, realized)
    moves.flows.append((settle, add(at_cost, gained)))
    if settle == moves.home:
        moves.count("transfers", at_cost)
        moves.count("realized_pnl", realized)
        return steps, BookedFlow.of(quantity, Cost(at_cost), at_cost)
    amount = subtract(after.size, before.size)
    worth, stated = _worth(moves, before, amount, price), None
    if home is not None and not home.unknown:
        stated = home.amount if amount > 0 else negate(home.amount)
    hold_shares(moves, before)
    key, coming = share_key(before.symbol), isinstance(event, PositionTransferredIn)
    booked = moves.arrive_at(key, amount, worth, stated, coming=coming, back=back)
    moves.count("transfers", booked.amount)
    return costed(moves, steps), BookedFlow.of(quantity, booked, at_cost)


def _worth(moves: Movements, position: Position, amount: Decimal, price: Decimal) -> Decimal | None:
    """Return what shares are worth in the account currency, by their stated rate, else the price.

    A stated rate is of one share or option, its multiplier included.
    """
    instrument = position.instrument
    if moves.states_rate(instrument.symbol):
        return moves.value(instrument.symbol, amount)
    return moves.value(instrument.settle, multiply(multiply(amount, price), instrument.multiplier))


def _own_price(position: Position, event: Moved, context: EventContext) -> Decimal | None:
    """Return the price per unit at which units enter; None where nothing says it.

    Of what is fully paid it is the stated cost's, else that of a stated rate, else the mark.
    """
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
    if event.cost is not None:
        return quotient(event.cost, multiply(event.quantity, instrument.multiplier))
    if instrument.settle == context.home and event.rates and event.symbol in event.rates:
        rate = event.rates[event.symbol]
        return None if rate is None else quotient(rate, instrument.multiplier)
    return context.prices.mark(event.symbol)


def _steps(
    position: Position,
    event: Moved,
    side: Literal["buy", "sell"],
    own: Decimal | None,
    covering: Decimal | None,
    leaving: Decimal | None,
) -> list[PositionStep]:
    """Return the position after the part that closes, and after what opens beyond it."""
    closing = _closing(position, event.quantity, side)
    steps = _closed(position, event, side, closing, covering, leaving) if closing else []
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
    leaving: Decimal | None,
) -> list[PositionStep]:
    """Return the position after what leaves it at its cost, or covers it at the flow's value."""
    if isinstance(event, PositionTransferredOut) or covering is None:
        if leaving is not None:
            whole = multiply(event.quantity, position.instrument.multiplier)
            leaving = scaled(leaving, closing, whole)
        return [reduce_at_cost(position, closing, leaving)]
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
