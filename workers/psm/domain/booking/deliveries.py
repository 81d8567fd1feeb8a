"""Effect of a settlement: cash for what the position is worth, or what it is delivered in.

Where an option is exercised into its underlying nothing is realized: its cost becomes part of what
the underlying, shares or coins, cost, or of what it was sold for. Into a contract nothing is paid
but a gain, so the option's cost is realized.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from psm.contracts.errors import ContractError
from psm.contracts.order_events import Side
from psm.contracts.settlements import DeliveredUnits, PositionSettled
from psm.domain.booking.context import EventContext, instrument_of, opened_at, position_for
from psm.domain.booking.identities import new_fill, new_reference
from psm.domain.booking.isolated import with_wallet
from psm.domain.booking.legs import cost_leg, open_legs
from psm.domain.booking.movements import Leg, Movements, share_key
from psm.domain.booking.shares import came_with_cost, costed, hold_shares, trade_shares
from psm.domain.ledger.effect import Effect
from psm.domain.ledger.holdings import NO_COST, Cost
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.positions import (
    Position,
    PositionStep,
    close,
    fill,
    notional_cash,
    reduce_at_cost,
    reset_cost,
    signed_cost,
)
from psm.domain.ledger.units import realizing, receive
from psm.domain.market.instrument import Instrument
from psm.domain.money import ONE, ZERO, absolute, add, multiply, negate, quotient, scaled, subtract


def position_settled(ledger: Ledger, event: PositionSettled, context: EventContext) -> Effect:
    """Close at the settlement price, or realize the gain and go on from it (session)."""
    key, flags = new_reference(
        ledger, "PositionSettled", event.symbol, event.reference, event.position_side
    )
    if event.deliver is not None and event.deliver.symbol == event.symbol:
        raise ContractError(
            "invalid_payload", "what is delivered is not what settles", "payload.deliver.symbol"
        )
    if event.fill_id is not None and event.deliver is None:
        raise ContractError(
            "invalid_payload", "fill_id is that of a delivery: it needs deliver", "payload.fill_id"
        )
    leg, leg_flags = cost_leg(ledger, event.symbol, event.position_side, context)
    moves = Movements(ledger, context, event)
    if leg is None:
        found = _settle_legs(moves, ledger, event, context)
        stated = event.fee or event.isolated_margin is not None
        leg_flags = leg_flags if stated else ()
    else:
        position = position_for(ledger, event.symbol, context, event.settlement_price, leg)
        found = _settle(moves, ledger, event, position, context)
    if event.fee:
        settle = instrument_of(ledger, event.symbol, context).settle
        moves.pay(event.settlement_currency or settle, event.fee, "fees")
    return moves.effect(
        steps=found.steps,
        wallets=found.wallets,
        flags=(*found.flags, *leg_flags, *flags),
        reference_key=key,
        fill_key=found.fill_key,
    )


def _settle_legs(
    moves: Movements, ledger: Ledger, event: PositionSettled, context: EventContext
) -> Effect:
    """Settle all open legs: a contract settles on both sides; its fee is the account's.

    Returns their steps and wallets; the rest is in the movements.
    """
    each = msgspec.structs.replace(event, fee=None, isolated_margin=None)
    found, legs = Effect(), open_legs(ledger, event.symbol)
    if event.deliver is not None and len(legs) > 1:
        raise ContractError(
            "invalid_payload",
            f"{event.symbol} has several open legs: say whose delivery it is",
            "payload.position_side",
        )
    for leg in legs:
        own = _settle(moves, ledger, each, leg, context)
        found = Effect(steps=(*found.steps, *own.steps), wallets=(*found.wallets, *own.wallets))
    return found


def _settle(
    moves: Movements,
    ledger: Ledger,
    event: PositionSettled,
    position: Position,
    context: EventContext,
) -> Effect:
    """Settle one position, or a pair; return its steps and wallets, the rest is in `moves`."""
    instrument = position.instrument
    instrument.check_price(event.settlement_price, "payload.settlement_price")
    if event.kind == "session" and instrument.full_notional:
        raise ContractError("invalid_payload", "what is fully paid has no session", "payload.kind")
    if instrument.is_pair:
        _settle_pair(moves, instrument, event.settlement_price)
        return Effect()
    if event.deliver is not None and instrument.kind == "equity":
        raise ContractError(
            "invalid_payload", "a share delivers nothing, options and futures do", "payload.deliver"
        )
    if event.deliver is not None:
        return _delivered(moves, ledger, event, event.deliver, position, context)
    steps = opened_at(_paid(moves, event, position), context)
    flat = position.key not in ledger.positions and not steps[-1].position.size
    effect = Effect(steps=() if flat else steps)
    price = event.settlement_price
    return with_wallet(ledger, effect, position, price, event.isolated_margin)


def _settle_pair(moves: Movements, instrument: Instrument, price: Decimal) -> None:
    """Exchange all that is held of a pair's base for its quote."""
    held = moves.holding(instrument.base).quantity
    if held:
        _exchange(moves, instrument, negate(held), price)


def _exchange(moves: Movements, pair: Instrument, signed: Decimal, price: Decimal) -> None:
    """Trade a pair's base, received above zero, for its quote."""
    side = "buy" if signed > 0 else "sell"
    base = Leg(pair.base, signed)
    quote = Leg(pair.quote, notional_cash(pair, side, absolute(signed), price))
    moves.exchange(base, quote, moves.trade_value(base, quote))


def _paid(moves: Movements, event: PositionSettled, position: Position) -> list[PositionStep]:
    """Book the cash of a settlement; return the position after it."""
    settle = position.instrument.settle
    currency, fee = event.settlement_currency or settle, event.fee or ZERO
    steps = _settled(position, event, fee if currency == settle else ZERO)
    realized = _gained(position, steps)
    if not position.instrument.full_notional:
        if currency == settle:
            moves.earn(settle, realized, "realized_pnl")
        else:
            moves.earn(currency, _in_coin(realized, event), "realized_pnl")
        return steps
    money = _notional(position, event)
    if currency == settle:
        return trade_shares(moves, position, steps, money)
    return _paid_in_coin(moves, event, position, steps, Leg(currency, _in_coin(money, event)))


def _paid_in_coin(
    moves: Movements,
    event: PositionSettled,
    position: Position,
    steps: list[PositionStep],
    coin: Leg,
) -> list[PositionStep]:
    """Book an option that was paid in coin: the coin costs what the option paid."""
    settle, money = position.instrument.settle, _notional(position, event)
    value = moves.value(settle, money)
    if value is None or coin.asset == moves.home:
        value = moves.value(coin.asset, coin.amount)
    if settle == moves.home:
        moves.count("realized_pnl", _gained(position, steps))
    else:
        hold_shares(moves, position)
        change = subtract(steps[-1].position.size, position.size)
        moves.come_at_cost(share_key(position.symbol), change, Cost(negate(value or ZERO)))
        steps = costed(moves, steps)
    moves.come_at_cost(coin.asset, coin.amount, Cost(value or ZERO, value is None))
    return steps


def _settled(position: Position, event: PositionSettled, fee: Decimal) -> list[PositionStep]:
    """Return the position after the settlement."""
    price = event.settlement_price
    if event.kind == "session":
        return [reset_cost(position, price, fee)]
    quantity = _quantity(position, event)
    if not quantity:
        return [close(position, price, fee)]
    return fill(position, _side(position, event), quantity, price, fee)


def _quantity(position: Position, event: PositionSettled) -> Decimal:
    """Return how much of the position was settled: what the venue says, or all of it."""
    held = absolute(position.size)
    if event.quantity is None or (event.kind == "expiry" and not held):
        return held
    return event.quantity


def _side(position: Position, event: PositionSettled) -> Side:
    """Return the direction in which a settlement moves the position: what was held goes.

    A quantity that was exercised was held, one that was assigned was owed, whatever is known yet.
    """
    if event.quantity is None or event.kind == "expiry":
        return "sell" if position.size > 0 else "buy"
    return "sell" if event.kind == "exercise" else "buy"


def _notional(position: Position, event: PositionSettled) -> Decimal:
    quantity = _quantity(position, event)
    if not quantity:
        return ZERO
    side = _side(position, event)
    return notional_cash(position.instrument, side, quantity, event.settlement_price)


def _gained(position: Position, steps: Sequence[PositionStep]) -> Decimal:
    return subtract(steps[-1].position.realized_pnl, position.realized_pnl)


def _in_coin(money: Decimal, event: PositionSettled) -> Decimal:
    """Return the coin that was paid for an amount in the currency of quotes."""
    price = event.underlying_price
    if price is None or price <= 0:
        raise ContractError(
            "invalid_payload",
            "what settles in another settlement_currency needs underlying_price above zero",
            "payload.underlying_price",
        )
    return quotient(money, price)


# --- delivery ---------------------------------------------------------------------------------


def _delivered(
    moves: Movements,
    ledger: Ledger,
    event: PositionSettled,
    deliver: DeliveredUnits,
    position: Position,
    context: EventContext,
) -> Effect:
    """Book what a physical settlement moved, and the cost that went with it."""
    under = _underlying(ledger, deliver, context)
    side: Side = "buy" if _receives(position, event, deliver) else "sell"
    key = None
    if event.fill_id is not None:
        key = new_fill(ledger, deliver.symbol, event.fill_id, side, None)
    units: list[PositionStep] = []
    signed = absolute(deliver.quantity) if side == "buy" else negate(absolute(deliver.quantity))
    if under.instrument.is_pair and _carries_cost(position, under):
        steps, moved = _let_go(position, event)
        _take_coins(moves, under.instrument, deliver, signed, moved)
    elif under.instrument.is_pair:
        steps = _paid(moves, event, position)
        _exchange(moves, under.instrument, signed, deliver.price)
    elif _carries_cost(position, under):
        steps, moved = _let_go(position, event)
        units = _taken(moves, under, deliver, moved, side)
        rest = multiply(_without_multiplier(moved.own, under), under.instrument.multiplier)
        steps = _with_rest(moves, steps, subtract(moved.own, rest))
    else:
        steps = _paid(moves, event, position)
        units = fill(under, side, absolute(deliver.quantity), deliver.price, ZERO)
        units = _traded(moves, under, deliver, units, side)
    option = Effect(steps=opened_at(steps, context))
    price = event.settlement_price
    option = with_wallet(ledger, option, position, price, event.isolated_margin)
    came = Effect()
    if units:
        came = Effect(steps=opened_at(units, context))
        came = with_wallet(ledger, came, under, deliver.price)
    return Effect(
        steps=(*option.steps, *came.steps),
        wallets=(*option.wallets, *came.wallets),
        flags=(*option.flags, *came.flags),
        fill_key=key,
    )


def _underlying(ledger: Ledger, deliver: DeliveredUnits, context: EventContext) -> Position:
    """Return the position that units come to or go from; of two open legs the net one."""
    leg, _ = cost_leg(ledger, deliver.symbol, None, context)
    under = position_for(ledger, deliver.symbol, context, deliver.price, leg or "net")
    under.instrument.check_price(deliver.price, "payload.deliver.price")
    return under


def _traded(
    moves: Movements,
    under: Position,
    deliver: DeliveredUnits,
    units: list[PositionStep],
    side: Side,
) -> list[PositionStep]:
    """Book units that came or went as a trade at their price."""
    if under.instrument.full_notional:
        cash = notional_cash(under.instrument, side, absolute(deliver.quantity), deliver.price)
        return trade_shares(moves, under, units, cash)
    moves.earn(under.instrument.settle, _gained(under, units), "realized_pnl")
    return units


def _carries_cost(position: Position, under: Position) -> bool:
    """Return whether the cost of what was exercised goes with what is delivered."""
    own, other = position.instrument, under.instrument
    return own.full_notional and other.full_notional and own.settle == other.settle


def _receives(position: Position, event: PositionSettled, deliver: DeliveredUnits) -> bool:
    """Return whether the account received units: by the right of an option, else by their sign."""
    terms = position.instrument.option
    if terms is None:
        return deliver.quantity > 0
    return (_side(position, event) == "sell") == (terms.right == "call")


class _Carried(NamedTuple):
    """Cost that leaves an option for what is delivered, signed: in its quote, and at home."""

    own: Decimal
    home: Cost


def _let_go(position: Position, event: PositionSettled) -> tuple[list[PositionStep], _Carried]:
    """Return the option after it left at its cost, and that cost; of a short below zero."""
    quantity, side, fee = _quantity(position, event), _side(position, event), event.fee or ZERO
    closes = bool(position.size) and (position.size > 0) == (side == "sell")
    held = absolute(position.size)
    part = min(quantity, held) if closes else ZERO
    steps = [reduce_at_cost(position, part)] if part else []
    after, moved = position, _Carried(ZERO, NO_COST)
    if part:
        after, home = steps[0].position, position.home_cost
        left = signed_cost(after) if after.size else ZERO
        gone = scaled(home.amount, part, held) if after.size else home.amount
        rest = Cost(subtract(home.amount, gone), home.unknown) if after.size else NO_COST
        after = msgspec.structs.replace(after, home_cost=rest)
        steps = [msgspec.structs.replace(steps[0], position=after)]
        own = subtract(signed_cost(position), left)
        moved = _Carried(own, Cost(gone, home.unknown))
    if quantity > part:  # it is exercised before it is known to be held
        steps.extend(fill(after, side, subtract(quantity, part), ZERO, ZERO))
    if not steps:
        steps = [PositionStep(position=after, change="adjusted")]
    *before, last = steps
    final = msgspec.structs.replace(
        last.position,
        fees=add(last.position.fees, fee),
        cycle_fees=add(last.position.cycle_fees, fee),
    )
    return [*before, msgspec.structs.replace(last, position=final)], moved


def _without_multiplier(moved: Decimal, under: Position) -> Decimal:
    """Return the cost of an option as cost of its underlying is kept."""
    multiplier = under.instrument.multiplier
    return moved if multiplier == ONE else quotient(moved, multiplier)


def _with_rest(moves: Movements, steps: list[PositionStep], rest: Decimal) -> list[PositionStep]:
    """Return the steps of an option that realizes what rounding left of its cost."""
    *before, last = steps
    if last.position.instrument.settle == moves.home:
        moves.count("realized_pnl", negate(rest))
    final = realizing(last.position, negate(rest))
    return [*before, msgspec.structs.replace(last, position=final)]


def _take_coins(
    moves: Movements, pair: Instrument, deliver: DeliveredUnits, signed: Decimal, moved: _Carried
) -> None:
    """Book coins that came, or went, at their price and the option's cost."""
    side: Side = "buy" if signed > 0 else "sell"
    money = notional_cash(pair, side, absolute(signed), deliver.price)
    unrated = pair.quote != moves.home and moves.value(pair.quote, money) is None
    carried = Cost(moved.own) if pair.quote == moves.home else moved.home
    cost = Cost(subtract(carried.amount, moves.take(pair.quote, money)), carried.unknown or unrated)
    moves.come_at_cost(pair.base, signed, cost)


def _taken(
    moves: Movements, under: Position, deliver: DeliveredUnits, moved: _Carried, side: Side
) -> list[PositionStep]:
    """Return the underlying after units came, or went, at their price and the option's cost."""
    quantity, settle = absolute(deliver.quantity), under.instrument.settle
    worth, part = multiply(quantity, deliver.price), _without_multiplier(moved.own, under)
    cost = add(worth, part) if side == "buy" else subtract(worth, part)
    signed = quantity if side == "buy" else negate(quantity)
    steps = receive(under, signed, cost, deliver.price)
    money = notional_cash(under.instrument, side, quantity, deliver.price)
    taken = moves.take(settle, money)
    home = Cost(subtract(moved.home.amount, taken), moved.home.unknown)
    return came_with_cost(moves, under, steps, signed, home, _gained(under, steps))
