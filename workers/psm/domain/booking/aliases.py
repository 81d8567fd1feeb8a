"""Symbol changes: the same thing under another name, and events that still say the old one."""

from __future__ import annotations

import msgspec

from psm.contracts.corporate_actions import SymbolChanged
from psm.contracts.errors import ContractError
from psm.contracts.fields import Payload, PositionSide
from psm.contracts.position_keys import position_key
from psm.contracts.settlements import PositionSettled
from psm.domain.booking.context import EventContext, opened_at
from psm.domain.booking.identities import new_reference
from psm.domain.booking.movements import Leg, Movements
from psm.domain.booking.shares import came_with_cost
from psm.domain.ledger.effect import Effect
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.orders import Order
from psm.domain.ledger.positions import Position, PositionStep
from psm.domain.ledger.renames import Excursions, Renamed, Renames
from psm.domain.ledger.units import receive
from psm.domain.ledger.wallets import WalletChange
from psm.domain.market.instrument import Instrument
from psm.domain.market.mark import Mark
from psm.domain.money import ZERO, absolute, add, negate, subtract

_SIDES: tuple[PositionSide, ...] = ("net", "long", "short")


def resolved(ledger: Ledger, event: Payload) -> Payload:
    """Return the event with the symbols of now in place of those that are aliases."""
    aliases = ledger.renames.aliases
    if not aliases:
        return event
    if isinstance(event, SymbolChanged) and event.symbol == event.new_symbol:
        return event  # it says what the old name is from here on
    symbol = aliases.get(getattr(event, "symbol", None) or "")
    if symbol is not None:
        event = msgspec.structs.replace(event, symbol=symbol)
    if isinstance(event, PositionSettled) and event.deliver is not None:
        symbol = aliases.get(event.deliver.symbol)
        if symbol is not None:
            deliver = msgspec.structs.replace(event.deliver, symbol=symbol)
            event = msgspec.structs.replace(event, deliver=deliver)
    return event


def symbol_changed(ledger: Ledger, event: SymbolChanged, context: EventContext) -> Effect:
    """Let everything that is of the old symbol be of the new one."""
    old, new = event.symbol, event.new_symbol
    key, flags = new_reference(ledger, "SymbolChanged", old, event.reference)
    if old == new:
        return Effect(renamed=without_alias(ledger, old), flags=flags, reference_key=key)
    moves = Movements(ledger, context, event)
    definition = new_definition(ledger, old, new, context)
    if _is_asset(ledger, old):
        _relabel(moves, old, new)
    steps: list[PositionStep] = []
    excursions: list[Excursions] = []
    wallets: list[WalletChange] = []
    for side in _SIDES:
        before = ledger.positions.get(position_key(old, side))
        into = ledger.positions.get(position_key(new, side))
        if before is not None:
            moved = moved_into(before, into, definition, context)
            moved = booked_together(moves, before, into, moved)
            steps.extend((nothing_of(before), *moved))
            of, cycle = _going_on(before, into)
            excursions.append((before.key, of.key, position_key(new, side), cycle))
            wallets.extend(_moved_wallet(ledger, before.key, moved[-1].position))
        elif alone := ledger.wallets.of(position_key(old, side)):  # it was there first
            wallets.append((position_key(old, side), negate(alone)))
            wallets.append((position_key(new, side), alone))
    names = _names(ledger, definition, old, context)
    return moves.effect(
        steps=tuple(steps),
        orders=_moved_orders(ledger, old, new),
        wallets=tuple(wallets),
        renamed=Renamed(names=names, old=old, new=new, excursions=tuple(excursions)),
        keeps_margin=all(step.change == "adjusted" for step in steps),
        flags=flags,
        reference_key=key,
    )


def _is_asset(ledger: Ledger, symbol: str) -> bool:
    return bool(ledger.cash.get(symbol)) and ledger.open_position(symbol) is None


def _relabel(moves: Movements, old: str, new: str) -> None:
    """Let a holding be one of the new name, at its cost; what it covers there realizes."""
    if moves.home in (old, new):
        raise ContractError(
            "invalid_payload", "the account currency has no other name", "payload.symbol"
        )
    held = moves.holding(old)
    moves.note_became(Leg(old, held.quantity), Leg(new, held.quantity))
    moves.rescale(old, ZERO, ZERO)
    moves.come_at_cost(new, held.quantity, held.cost)


def booked_together(
    moves: Movements, before: Position, into: Position | None, steps: list[PositionStep]
) -> list[PositionStep]:
    """Book what two positions of one thing realized on each other; return them with their cost."""
    if into is None or not (into.size and before.size):
        return steps
    realized = subtract(
        steps[-1].position.realized_pnl, add(before.realized_pnl, into.realized_pnl)
    )
    return came_with_cost(moves, into, steps, before.size, before.home_cost, realized)


def new_definition(ledger: Ledger, old: str, new: str, context: EventContext) -> Instrument:
    """Return what a new symbol is: as it is defined, else as the old one was.

    Raises:
        ContractError: reason `instrument_conflict`: the two cannot be the same thing.
    """
    before = context.prices.definition(old)
    held, into = ledger.open_position(old), ledger.open_position(new)
    if held is not None:
        before = held.instrument
    after = context.prices.definition(new) if into is None else into.instrument
    if after is None:
        return (before or context.prices.instrument(old)).renamed(new)
    if before is None:
        return after
    for name in ("kind", "multiplier", "settle"):
        if getattr(before, name) != getattr(after, name):
            raise ContractError(
                "instrument_conflict",
                f"symbol and new_symbol cannot be the same thing: their {name} differs",
                "payload.new_symbol",
            )
    return after


def without_alias(ledger: Ledger, symbol: str) -> Renamed | None:
    """Return the names in which `symbol` stands for itself; None where it does already."""
    if not _is_alias(ledger, symbol):
        return None
    return Renamed(names=ledger.renames.without(symbol))


def _is_alias(ledger: Ledger, symbol: str) -> bool:
    return symbol in ledger.renames.aliases


def _names(ledger: Ledger, definition: Instrument, old: str, context: EventContext) -> Renames:
    new = definition.symbol
    kept = None if context.prices.definition(new) is not None else definition
    return ledger.renames.changed(old, new, kept, _moved_mark(old, new, context))


def _moved_mark(old: str, new: str, context: EventContext) -> Mark | None:
    """Return the mark that values the new symbol until it has its own."""
    prices = context.prices
    mark, price = prices.current_mark(old), prices.mark(old)
    if prices.current_mark(new) is not None or mark is None or price is None:
        return None
    return msgspec.structs.replace(mark, price=price)


def moved_into(
    position: Position, into: Position | None, instrument: Instrument, context: EventContext
) -> list[PositionStep]:
    """Return the position of the new symbol."""
    if into is None:
        after = msgspec.structs.replace(position, instrument=instrument)
        return [PositionStep(position=after, change="adjusted")]
    if not into.size or not position.size:
        later = position if position.size or not _is_later(into, position) else into
        both = into if into.size else later
        after = _with_sums(msgspec.structs.replace(both, instrument=instrument), position, into)
        return [PositionStep(position=after, change="adjusted")]
    summed = _with_sums(into, position, into)
    if (into.size > 0) == (position.size > 0):
        return [PositionStep(position=_joined(summed, position), change="increased")]
    return list(opened_at(receive(summed, position.size, position.cost, into.last_fill), context))


def _with_sums(position: Position, *both: Position) -> Position:
    """Return a position with the lifetime sums of two symbols that are one."""
    one, other = both
    return msgspec.structs.replace(
        position,
        realized_pnl=add(one.realized_pnl, other.realized_pnl),
        fees=add(one.fees, other.fees),
        funding=add(one.funding, other.funding),
        cycle=one.cycle + other.cycle,
    )


def _joined(into: Position, position: Position) -> Position:
    """Return the open position of two on the same side, as one cycle."""
    size = add(into.size, position.size)
    opened = [at for at in (into.cycle_opened_at, position.cycle_opened_at) if at is not None]
    return msgspec.structs.replace(
        into,
        size=size,
        cost=add(into.cost, position.cost),
        cycle_realized_pnl=add(into.cycle_realized_pnl, position.cycle_realized_pnl),
        cycle_fees=add(into.cycle_fees, position.cycle_fees),
        cycle_funding=add(into.cycle_funding, position.cycle_funding),
        cycle_opened_at=min(opened) if opened else None,
        peak_size=max(into.peak_size, position.peak_size, absolute(size)),
    )


def _is_later(one: Position, other: Position) -> bool:
    return (one.cycle_opened_at or 0) > (other.cycle_opened_at or 0)


def _going_on(before: Position, into: Position | None) -> tuple[Position, int]:
    """Return the position whose cycle goes on, and the number that the cycle has by now."""
    if into is None:
        return before, before.cycle
    later = not before.size and _is_later(into, before)
    return into if into.size or later else before, before.cycle + into.cycle


def _moved_wallet(ledger: Ledger, key: str, after: Position) -> list[WalletChange]:
    """Return what goes from a position's wallet into that of its new symbol; flat, all back."""
    held = ledger.wallets.of(key)
    if not after.size:
        return [(key, negate(held)), (after.key, negate(ledger.wallets.of(after.key)))]
    return [(key, negate(held)), (after.key, held)] if held else []


def nothing_of(before: Position) -> PositionStep:
    """Return that nothing is left of a position under its old symbol."""
    empty = Position(
        instrument=before.instrument,
        last_fill=before.last_fill,
        position_side=before.position_side,
    )
    return PositionStep(position=empty, change="adjusted", forgotten=True)


def _moved_orders(ledger: Ledger, old: str, new: str) -> tuple[Order, ...]:
    """Return the orders of the old symbol, ended ones too, as those of the new one."""
    return tuple(
        msgspec.structs.replace(order, symbol=new)
        for _, order in sorted(ledger.orders.by_id.items())
        if order.symbol == old
    )
