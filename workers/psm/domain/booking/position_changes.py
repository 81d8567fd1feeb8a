"""Effects of what happens to holdings outside of trading: adjustments, settlement, capital."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.contracts.errors import ContractError
from psm.contracts.events import PositionAdjusted
from psm.contracts.holdings import ReturnOfCapital
from psm.contracts.order_events import Side
from psm.domain.booking.context import (
    EventContext,
    asset_meant,
    current_instrument,
    instrument_of,
    position_for,
    quoted_in,
)
from psm.domain.booking.identities import new_reference
from psm.domain.booking.isolated import with_wallet
from psm.domain.booking.legs import fill_leg, known_leg
from psm.domain.booking.movements import Movements, share_key
from psm.domain.booking.shares import costed, hold_shares
from psm.domain.ledger.effect import Effect
from psm.domain.ledger.holdings import AssetHolding, Cost
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.positions import (
    Position,
    PositionStep,
    fill,
    signed_cost,
)
from psm.domain.money import ZERO, absolute, add, multiply, negate, quotient, subtract


def position_adjusted(ledger: Ledger, event: PositionAdjusted, context: EventContext) -> Effect:
    """Add or take away by hand: what is added costs `price`, what goes leaves at its cost."""
    if not event.quantity:
        raise ContractError("invalid_payload", "quantity must not be zero", "payload.quantity")
    leg, leg_flags = fill_leg(ledger, event.symbol, event.position_side, context)
    key, flags = new_reference(
        ledger, "PositionAdjusted", event.symbol, event.reference, event.position_side
    )
    moves = Movements(ledger, context, event)
    asset = asset_meant(ledger, event.symbol, context)
    if asset is not None:
        current_instrument(event.symbol, context).check_price(event.price, "payload.price")
        quote = quoted_in(event.symbol, context)
        moves.adjust(asset, event.quantity, _cost_of(moves, quote, event.quantity, event.price))
        return moves.effect(flags=(*leg_flags, *flags), reference_key=key)
    before = position_for(ledger, event.symbol, context, event.price, leg)
    before.instrument.check_price(event.price, "payload.price")
    step = _adjusted(before, event, context)
    if before.instrument.full_notional:
        step = _adjust_shares(moves, before, step, event.price)
    effect = moves.effect(steps=(step,), flags=(*leg_flags, *flags), reference_key=key)
    return with_wallet(ledger, effect, before, event.price)


def _cost_of(moves: Movements, quote: str, quantity: Decimal, price: Decimal) -> Decimal | None:
    """Return the signed cost of a quantity; what came for nothing needs no rate."""
    return moves.value(quote, multiply(quantity, price)) if price else ZERO


def _adjusted(before: Position, event: PositionAdjusted, context: EventContext) -> PositionStep:
    """Return the position after a correction: what a fill would realize is taken back."""
    side: Side = "buy" if event.quantity > 0 else "sell"
    after = fill(before, side, absolute(event.quantity), event.price, ZERO)[-1].position
    fresh = after.cycle != before.cycle
    after = msgspec.structs.replace(
        after,
        realized_pnl=before.realized_pnl,
        cycle_realized_pnl=ZERO if fresh else before.cycle_realized_pnl,
        last_fill=before.last_fill if before.size else event.price,
        cycle_opened_at=context.time if fresh else before.cycle_opened_at,
    )
    return PositionStep(position=after, change="adjusted")


def _adjust_shares(
    moves: Movements, before: Position, step: PositionStep, price: Decimal
) -> PositionStep:
    """Count the change of what shares cost in the account currency."""
    quote, after = before.instrument.settle, step.position
    if quote == moves.home:
        moves.count("adjustments", subtract(signed_cost(after), signed_cost(before)))
        return step
    hold_shares(moves, before)
    amount = subtract(after.size, before.size)
    units = multiply(amount, before.instrument.multiplier)
    moves.adjust(share_key(before.symbol), amount, _cost_of(moves, quote, units, price))
    return costed(moves, (step,))[0]


def return_of_capital(ledger: Ledger, event: ReturnOfCapital, context: EventContext) -> Effect:
    """Capital was paid back: the cost falls; what it cannot cover is realized."""
    key, flags = new_reference(
        ledger, "ReturnOfCapital", event.symbol, event.reference, event.position_side
    )
    moves = Movements(ledger, context, event)
    position = known_leg(ledger, event.symbol, "net")
    settle = instrument_of(ledger, event.symbol, context).settle
    currency = event.currency or settle
    asset = asset_meant(ledger, event.symbol, context)
    if asset is not None and asset != context.home and moves.holding(asset).quantity:
        _return_to_asset(moves, asset, currency, event.amount)
        return moves.effect(flags=flags, reference_key=key)
    if position is None or not position.size or currency != settle:
        moves.earn(currency, event.amount, "dividends")
        return moves.effect(flags=flags, reference_key=key)
    if not position.instrument.full_notional:
        raise ContractError("invalid_payload", "a contract has no capital", "payload.symbol")
    step = return_to_shares(moves, position, event.amount)
    return moves.effect(steps=(step,), flags=flags, reference_key=key)


def _return_to_asset(moves: Movements, asset: str, currency: str, amount: Decimal) -> None:
    """Lower the cost of an asset by what was paid back of it."""
    taken = moves.take(currency, amount)  # maybe in the asset itself
    held = moves.holding(asset)
    beyond, left = fallen(held, taken)
    moves.rescale(asset, held.quantity, left)
    moves.realize(beyond, unknown=held.cost.unknown)


def return_to_shares(moves: Movements, position: Position, amount: Decimal) -> PositionStep:
    """Lower the cost of shares by what was paid back of them."""
    back = quotient(amount, position.instrument.multiplier)
    left = subtract(position.cost, back if position.size > 0 else negate(back))
    after = msgspec.structs.replace(position, cost=max(ZERO, left))
    own = subtract(amount, subtract(signed_cost(position), signed_cost(after)))
    taken = moves.take(position.instrument.settle, amount)
    realized = own
    if position.instrument.settle != moves.home:
        held = AssetHolding(position.size, position.home_cost)
        realized, cost = fallen(held, taken)
        after = msgspec.structs.replace(after, home_cost=Cost(cost, held.cost.unknown))
    moves.realize(realized, unknown=position.home_cost.unknown)
    after = msgspec.structs.replace(
        after,
        realized_pnl=add(after.realized_pnl, own),
        cycle_realized_pnl=add(after.cycle_realized_pnl, own),
    )
    return PositionStep(position=after, change="adjusted")


def fallen(held: AssetHolding, value: Decimal) -> tuple[Decimal, Decimal]:
    """Return what a value paid back realizes beyond the cost of a holding, and the cost left."""
    left = subtract(held.cost.amount, value)
    if (left < 0) == (held.quantity > 0):  # below nothing on its own side
        return negate(left), ZERO
    return ZERO, left
