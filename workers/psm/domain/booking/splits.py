"""Effect of a split: other units for the same cost, for what is held and for its open orders."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.contracts.errors import ContractError
from psm.contracts.events import SplitApplied
from psm.contracts.holdings import StockDividend
from psm.domain.booking.context import EventContext, asset_meant, instrument_of, quoted_in
from psm.domain.booking.fractions import VOID, is_void
from psm.domain.booking.identities import new_reference
from psm.domain.booking.legs import Flags, cost_leg, open_legs
from psm.domain.booking.movements import Movements
from psm.domain.ledger import orders
from psm.domain.ledger.effect import Effect
from psm.domain.ledger.holdings import NO_COST, Cost
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.positions import Position, PositionStep
from psm.domain.money import (
    ZERO,
    absolute,
    add,
    exactly_scaled,
    multiply,
    negate,
    scaled,
    subtract,
    truncated,
)


def split_applied(ledger: Ledger, event: SplitApplied, context: EventContext) -> Effect:
    """Book new units for old ones; open orders follow; a fraction is paid out where cash came."""
    return _split(ledger, event, _Terms.of(event, *orders.split_terms(event)), context)


def stock_dividend(ledger: Ledger, event: StockDividend, context: EventContext) -> Effect:
    """Book units that come on top of those held: a split into both together."""
    new = add(event.numerator, event.denominator)
    return _split(ledger, event, _Terms.of(event, new, event.denominator), context)


class _Terms(msgspec.Struct, frozen=True):
    """Terms of a split: `new` units for `old` ones.

    Without `quantity_after` what 18 decimals cannot hold is cut off and the cost stays whole. With
    it the cost stays whole too, unless cash is named, zero included: then the share of the cost
    that the missing fraction has leaves against that cash.
    """

    new: Decimal
    old: Decimal
    quantity_after: Decimal | None
    paid_out: bool

    @classmethod
    def of(cls, event: SplitApplied | StockDividend, new: Decimal, old: Decimal) -> _Terms:
        """Return the terms of an event."""
        if event.cash_in_lieu is not None and event.quantity_after is None:
            raise ContractError(
                "invalid_payload",
                "cash_in_lieu needs quantity_after: the units that it pays for are missing from it",
                "payload.quantity_after",
            )
        return cls(new, old, event.quantity_after, event.cash_in_lieu is not None)

    def fitting(self, held: Decimal, context: EventContext) -> tuple[_Terms, Flags]:
        """Return the terms that hold: in a corrected past a stated size may not fit any more."""
        if self.quantity_after is None or not held:
            return self, ()
        exact = exactly_scaled(absolute(held), self.new, self.old)
        if not is_void(self.quantity_after, exact, context):
            return self, ()
        return _Terms(self.new, self.old, None, paid_out=False), (VOID,)

    def size(self, held: Decimal) -> tuple[Decimal, Decimal]:
        """Return (exact size, size in new units) of a signed size; both are magnitudes."""
        exact = exactly_scaled(absolute(held), self.new, self.old)
        return exact, truncated(exact) if self.quantity_after is None else self.quantity_after

    def cost_left(self, cost: Decimal, exact: Decimal, size: Decimal) -> Decimal:
        """Return what stays of a cost."""
        if not size:
            return ZERO
        return scaled(cost, size, exact) if self.paid_out and size < exact else cost


def _split(
    ledger: Ledger, event: SplitApplied | StockDividend, terms: _Terms, context: EventContext
) -> Effect:
    key, flags = new_reference(
        ledger, type(event).__name__, event.symbol, event.reference, event.position_side
    )
    moves = Movements(ledger, context, event)
    asset = asset_meant(ledger, event.symbol, context)
    if asset is not None:
        currency = event.currency or quoted_in(event.symbol, context)
        held = bool(moves.holding(asset).quantity)
        terms, void = terms.fitting(moves.holding(asset).quantity, context)
        split = Effect(flags=void)
        if held:
            _split_asset(moves, asset, terms)
    else:
        currency = event.currency or instrument_of(ledger, event.symbol, context).settle
        split, held = _split_legs(moves, ledger, event, terms, context)
    if event.cash_in_lieu:
        moves.earn(currency, event.cash_in_lieu, "realized_pnl" if held else "dividends")
    return moves.effect(
        steps=split.steps,
        wallets=split.wallets,
        orders=tuple(
            orders.rescaled(order, terms.new, terms.old)
            for order in ledger.orders.open_of(event.symbol)
        ),
        split=(event.symbol, terms.new, terms.old),
        mark_adjusted=event.mark_adjusted,
        flags=(*flags, *split.flags),
        reference_key=key,
    )


def _split_legs(
    moves: Movements,
    ledger: Ledger,
    event: SplitApplied | StockDividend,
    terms: _Terms,
    context: EventContext,
) -> tuple[Effect, bool]:
    """Split every open position of a symbol; return that, and whether one is paid for."""
    legs = open_legs(ledger, event.symbol)
    named, flags = _named_leg(ledger, event, legs, context)
    terms, void = terms.fitting(ZERO if named is None else named.size, context)
    split = Effect()
    for position in legs:
        own = terms if position is named else _Terms(terms.new, terms.old, None, paid_out=False)
        currency = event.currency or position.instrument.settle
        paid = position is named and currency == position.instrument.settle
        cash = event.cash_in_lieu if paid else None
        split = _with_leg(ledger, split, position, _after_split(moves, position, cash, own))
    return msgspec.structs.replace(split, flags=(*flags, *void)), named is not None


def _split_asset(moves: Movements, asset: str, terms: _Terms) -> None:
    """Restate an asset in new units; the cost that leaves with a fraction is realized."""
    before = moves.holding(asset)
    exact, size = terms.size(before.quantity)
    if asset == moves.home:
        raise ContractError(
            "invalid_payload", f"{asset} is the account currency: it cannot split", "payload.symbol"
        )
    left = terms.cost_left(before.cost.amount, exact, size)
    moves.rescale(asset, size if before.quantity > 0 else negate(size), left)
    released = subtract(before.cost.amount, left)
    moves.realize(negate(released), unknown=before.cost.unknown)


def _named_leg(
    ledger: Ledger,
    event: SplitApplied | StockDividend,
    held: list[Position],
    context: EventContext,
) -> tuple[Position | None, Flags]:
    """Return the open position that the units and the cash of a split are of, None where flat.

    All legs split by the same terms; what the venue shows after it is the size of one.
    """
    leg, flags = cost_leg(ledger, event.symbol, event.position_side, context)
    if leg is None and held:
        if event.quantity_after is not None:
            raise ContractError(
                "invalid_payload",
                "the symbol has several legs: quantity_after needs position_side",
                "payload.position_side",
            )
        return held[0], ()
    found = [position for position in held if position.position_side == leg]
    return (found[0] if found else None), flags if leg is not None else ()


def _with_leg(ledger: Ledger, split: Effect, position: Position, after: Position) -> Effect:
    """Return the steps and wallets of a split with one more position in them."""
    step = PositionStep(position=after, change="adjusted" if after.size else "closed")
    wallets = split.wallets
    if not after.size and ledger.wallets.of(position.key):
        wallets = (*wallets, (position.key, negate(ledger.wallets.of(position.key))))
    return Effect(steps=(*split.steps, step), wallets=wallets)


def _after_split(
    moves: Movements, position: Position, cash: Decimal | None, terms: _Terms
) -> Position:
    """Return the position in new units; the cost that leaves with a fraction is realized."""
    if position.instrument.inverse:
        raise ContractError("invalid_payload", "an inverse contract cannot split", "payload.symbol")
    exact, size = terms.size(position.size)
    cost = terms.cost_left(position.cost, exact, size)
    released = multiply(subtract(position.cost, cost), position.instrument.multiplier)
    leaving = negate(released) if position.size > 0 else released
    if not position.instrument.full_notional:
        leaving = ZERO  # nothing was paid for a contract: what its fraction brings is the cash
    own = add(leaving, cash or ZERO)
    home_cost = _realize_fraction(moves, position, leaving, terms)
    return msgspec.structs.replace(
        position,
        size=size if position.size > 0 else negate(size),
        cost=cost,
        last_fill=scaled(position.last_fill, terms.old, terms.new),
        peak_size=truncated(exactly_scaled(position.peak_size, terms.new, terms.old)),
        realized_pnl=add(position.realized_pnl, own),
        cycle_realized_pnl=add(position.cycle_realized_pnl, own),
        home_cost=home_cost,
    )


def _realize_fraction(
    moves: Movements, position: Position, leaving: Decimal, terms: _Terms
) -> Cost:
    """Realize the cost of a fraction that leaves; return what shares cost at home afterwards."""
    instrument = position.instrument
    if not instrument.full_notional or instrument.settle == moves.home:
        moves.count("realized_pnl", leaving)
        return NO_COST
    exact, size = terms.size(position.size)
    before = position.home_cost
    left = terms.cost_left(before.amount, exact, size)
    moves.realize(subtract(left, before.amount), unknown=before.unknown)
    return Cost(left, before.unknown) if size else NO_COST
