"""Effects of spin-offs, mergers and capital paid back: cost moves with the units, or leaves.

Cost less realized PnL is conserved but for the cash that comes: whatever leaves the cost of a
position is the cost of another one by then, was paid back, or is realized. A short is the mirror
image: it owes the new units, and pays the cash.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.contracts.corporate_actions import Merged, SpinOff
from psm.contracts.errors import ContractError
from psm.domain.booking.aliases import new_definition, without_alias
from psm.domain.booking.coin_actions import coins_merged, coins_spun_off
from psm.domain.booking.context import EventContext, asset_meant, instrument_of, opened_at
from psm.domain.booking.fractions import NewUnits, in_new_units
from psm.domain.booking.identities import new_reference
from psm.domain.booking.legs import known_leg
from psm.domain.booking.movements import Movements
from psm.domain.booking.position_changes import return_to_shares
from psm.domain.booking.shares import came_with_cost
from psm.domain.ledger.effect import Effect
from psm.domain.ledger.holdings import Cost
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.positions import Position, PositionStep, signed_cost
from psm.domain.ledger.renames import Renamed
from psm.domain.ledger.units import emptied, realizing, receive
from psm.domain.money import (
    ONE,
    ZERO,
    absolute,
    add,
    exactly_scaled,
    multiply,
    negate,
    quotient,
    scaled,
    subtract,
)


def spin_off(ledger: Ledger, event: SpinOff, context: EventContext) -> Effect:
    """Units of another symbol came, with a part of the cost."""
    key, flags = new_reference(
        ledger, "SpinOff", event.symbol, event.reference, event.position_side
    )
    _check_terms(event)
    if event.cost is not None and event.cost_share is not None:
        raise ContractError("invalid_payload", "cost or cost_share, not both", "payload.cost")
    moves = Movements(ledger, context, event)
    asset = asset_meant(ledger, event.symbol, context)
    if asset is not None and moves.holding(asset).quantity:
        units = coins_spun_off(moves, ledger, event, asset, context)
        return _of_coins(moves, ledger, event, (*flags, *units), key)
    position = known_leg(ledger, event.symbol, "net")
    if position is None or not position.size:
        return _to_a_flat_account(moves, ledger, event, context, flags, key)
    _check_paid(position)
    moved = _moved_cost(position, event)
    home = position.home_cost
    going = Cost(_share_of(home.amount, moved, position.cost), home.unknown)
    parent = msgspec.structs.replace(
        position,
        cost=subtract(position.cost, moved),
        home_cost=Cost(subtract(home.amount, going.amount), home.unknown),
        last_fill=_of_what_stays(position, moved),
    )
    came = _Coming.of(position, event, moved, going, context)
    steps = _received(moves, ledger, event, position, came, context)
    own = _released(moves, event, position, came)
    if own:
        *first, last = steps
        final = realizing(last.position, own)
        steps = [*first, msgspec.structs.replace(last, position=final)]
    return moves.effect(
        steps=(PositionStep(position=parent, change="adjusted"), *steps),
        renamed=_defined(ledger, event.new_symbol, position, context),
        flags=(*flags, *came.flags),
        reference_key=key,
    )


def merged(ledger: Ledger, event: Merged, context: EventContext) -> Effect:
    """Every unit went, for cash, for units of another symbol, or both."""
    key, flags = new_reference(ledger, "Merged", event.symbol, event.reference, event.position_side)
    _check_terms(event)
    moves = Movements(ledger, context, event)
    asset = asset_meant(ledger, event.symbol, context)
    if asset is not None and moves.holding(asset).quantity:
        units = coins_merged(moves, ledger, event, asset, context)
        return _of_coins(moves, ledger, event, (*flags, *units), key)
    position = known_leg(ledger, event.symbol, "net")
    if position is None or not position.size:
        return _to_a_flat_account(moves, ledger, event, context, flags, key)
    _check_paid(position)
    paid = _paid(moves, position, event)
    came = _Coming.of(position, event, paid.cost, paid.home_cost, context)
    steps: list[PositionStep] = []
    if came.size:
        steps = _received(moves, ledger, event, position, came, context)
    own = _released(moves, event, position, came)
    closed = PositionStep(position=realizing(emptied(paid), own), change="closed")
    return moves.effect(
        steps=(closed, *steps),
        renamed=_defined(ledger, event.new_symbol, position, context),
        flags=(*flags, *came.flags),
        reference_key=key,
    )


def _of_coins(
    moves: Movements,
    ledger: Ledger,
    event: SpinOff | Merged,
    flags: tuple[str, ...],
    key: bytes | None,
) -> Effect:
    """Return what was booked of coins; the new name stands for itself from here on."""
    ended = None if event.new_symbol is None else without_alias(ledger, event.new_symbol)
    return moves.effect(renamed=ended, flags=flags, reference_key=key)


class _Coming(msgspec.Struct, frozen=True):
    """Units that come, what they cost, and what left the cost without a unit to carry it.

    Attributes:
        size: of the units.
        cost: of them, in the quote; a magnitude.
        home_cost: of them, signed, where the quote is not the account currency.
        released: of the cost that was to go with them, signed, with multiplier, in the quote.
        home_released: the same in the account currency.
    """

    size: Decimal
    cost: Decimal
    home_cost: Cost
    released: Decimal
    home_released: Decimal
    flags: tuple[str, ...]

    @classmethod
    def of(
        cls,
        position: Position,
        event: SpinOff | Merged,
        cost: Decimal,
        home_cost: Cost,
        context: EventContext,
    ) -> _Coming:
        """Return what comes for a position, with this cost; nothing where no unit does."""
        if event.numerator is None or event.denominator is None:
            units, home = NewUnits(ZERO, ZERO, cost, ()), ZERO
        else:
            exact = exactly_scaled(absolute(position.size), event.numerator, event.denominator)
            units = in_new_units(exact, cost, event, context)
            home = in_new_units(exact, home_cost.amount, event, context).cost
        money = multiply(units.released, position.instrument.multiplier)
        return cls(
            units.size,
            units.cost,
            Cost(home, home_cost.unknown),
            money if position.size > 0 else negate(money),
            subtract(home_cost.amount, home),
            units.flags,
        )


def _released(
    moves: Movements, event: SpinOff | Merged, position: Position, came: _Coming
) -> Decimal:
    """Realize the cost of what did not come against the cash for it; return it in the quote."""
    settle = position.instrument.settle
    if settle == moves.home:
        moves.count("realized_pnl", negate(came.released))
    else:
        moves.realize(negate(came.home_released), unknown=position.home_cost.unknown)
    currency, own = event.currency or settle, negate(came.released)
    if event.cash_in_lieu is None:
        return own
    moves.earn(currency, event.cash_in_lieu, "realized_pnl")
    return add(own, event.cash_in_lieu) if currency == settle else own


def _paid(moves: Movements, position: Position, event: Merged) -> Position:
    """Return the position after cash for it lowered its cost; the rest is realized."""
    settle = position.instrument.settle
    currency = event.currency or settle
    if not event.cash:
        return position
    if currency == settle:
        return return_to_shares(moves, position, event.cash).position
    if settle != moves.home:
        moves.earn(currency, event.cash, "realized_pnl")
        return position
    after = _paid_back(position, moves.take(currency, event.cash))
    moves.count("realized_pnl", subtract(after.realized_pnl, position.realized_pnl))
    return after


def _check_terms(event: SpinOff | Merged) -> None:
    if event.cash_in_lieu is not None and event.quantity_after is None:
        raise ContractError(
            "invalid_payload",
            "cash_in_lieu needs quantity_after: the units that it pays for are missing from it",
            "payload.quantity_after",
        )
    if event.symbol == event.new_symbol:
        raise ContractError(
            "invalid_payload",
            "new_symbol must be another one; SplitApplied and StockDividend are for the same",
            "payload.new_symbol",
        )
    if isinstance(event, SpinOff):
        if event.cost_share is not None and event.cost_share > ONE:
            raise ContractError(
                "invalid_payload", "cost_share must be at most 1", "payload.cost_share"
            )
        return
    terms = (event.new_symbol, event.numerator, event.denominator)
    if any(term is None for term in terms) and terms != (None, None, None):
        raise ContractError(
            "invalid_payload",
            "new_symbol, numerator and denominator must be given together",
            "payload.new_symbol",
        )


def _check_paid(position: Position) -> None:
    if not position.instrument.full_notional:
        raise ContractError("invalid_payload", "a contract has no capital", "payload.symbol")


def _paid_back(position: Position, amount: Decimal) -> Position:
    """Return the position after money for it lowered its cost; the rest is realized."""
    back = quotient(amount, position.instrument.multiplier)
    left = subtract(position.cost, back if position.size > 0 else negate(back))
    after = msgspec.structs.replace(position, cost=max(ZERO, left))
    fallen = subtract(signed_cost(position), signed_cost(after))
    return realizing(after, subtract(amount, fallen))


def _moved_cost(position: Position, event: SpinOff) -> Decimal:
    """Return the cost that goes with the new units: at most all of it."""
    if event.cost is not None:
        stated = quotient(event.cost, position.instrument.multiplier)
        return min(stated, position.cost)
    if event.cost_share is not None:
        return scaled(position.cost, event.cost_share, ONE)
    raise ContractError("invalid_payload", "cost or cost_share must be given", "payload.cost")


def _of_what_stays(position: Position, moved: Decimal) -> Decimal:
    """Return the own last price of what stays: less by the part of the cost that went."""
    if position.cost <= 0:
        return position.last_fill
    return scaled(position.last_fill, subtract(position.cost, moved), position.cost)


def _share_of(amount: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    return scaled(amount, part, whole) if whole else ZERO


def _received(
    moves: Movements,
    ledger: Ledger,
    event: SpinOff | Merged,
    position: Position,
    came: _Coming,
    context: EventContext,
) -> list[PositionStep]:
    """Return the steps of the symbol that came; covering its other side realizes."""
    assert event.new_symbol is not None
    definition = new_definition(ledger, event.symbol, event.new_symbol, context)
    price = _first_price(event, position, came.size, came.cost)
    into = known_leg(ledger, event.new_symbol, "net")
    if into is None:
        into = Position(instrument=definition, last_fill=price)
    elif not into.size:
        into = msgspec.structs.replace(into, instrument=definition)
    if not came.size:
        return [PositionStep(position=into, change="adjusted")]
    signed = came.size if position.size > 0 else negate(came.size)
    steps = list(opened_at(receive(into, signed, came.cost, price), context))
    realized = subtract(steps[-1].position.realized_pnl, into.realized_pnl)
    return came_with_cost(moves, into, steps, signed, came.home_cost, realized)


def _first_price(
    event: SpinOff | Merged, position: Position, size: Decimal, cost: Decimal
) -> Decimal:
    """Return what a unit is worth until it has a mark: its cost, or what it was exchanged for."""
    if not size:
        return position.last_fill
    if isinstance(event, SpinOff):
        return quotient(cost, size)
    paid = quotient(event.cash or ZERO, position.instrument.multiplier)
    worth = multiply(absolute(position.size), position.last_fill)
    left = subtract(worth, paid if position.size > 0 else negate(paid))
    return quotient(max(ZERO, left), size)


def _defined(
    ledger: Ledger, symbol: str | None, position: Position, context: EventContext
) -> Renamed | None:
    """Return the names in which the new symbol is no alias, and defined as the old one was."""
    if symbol is None:
        return None
    ended = without_alias(ledger, symbol)
    if context.prices.definition(symbol) is not None:
        return ended
    names = ledger.renames if ended is None else ended.names
    return Renamed(names=names.with_definition(position.instrument.renamed(symbol)))


def _to_a_flat_account(
    moves: Movements,
    ledger: Ledger,
    event: SpinOff | Merged,
    context: EventContext,
    flags: tuple[str, ...],
    key: bytes | None,
) -> Effect:
    """Book the cash of an account that holds nothing by then: it is a dividend."""
    currency = event.currency or instrument_of(ledger, event.symbol, context).settle
    paid = event.cash or ZERO if isinstance(event, Merged) else ZERO
    moves.earn(currency, add(event.cash_in_lieu or ZERO, paid), "dividends")
    return moves.effect(
        renamed=None if event.new_symbol is None else without_alias(ledger, event.new_symbol),
        flags=flags,
        reference_key=key,
    )
