"""Holdings: what an account owns of each asset, and what that cost in the account currency.

Quantity and cost are signed, and follow the rule of positions: away from zero the cost grows,
toward zero a part of it leaves and what it brings beyond that is realized, a crossing closes and
then opens. An asset's cost may be unknown: then it is the sum of what is known of it.

The account currency has no cost of its own: it is its quantity, and never realizes.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.domain.money import ZERO, add, negate, quotient, scaled, subtract


class Cost(msgspec.Struct, frozen=True, gc=False):
    """Signed cost of a holding in the account currency.

    Attributes:
        amount: what is known of it.
        unknown: whether something of it is not known.
    """

    amount: Decimal = ZERO
    unknown: bool = False


NO_COST = Cost()
"""Cost of what came for nothing, and of nothing."""


class AssetHolding(msgspec.Struct, frozen=True, gc=False):
    """Signed quantity of one asset, and its cost."""

    quantity: Decimal = ZERO
    cost: Cost = NO_COST

    @property
    def entry_price(self) -> Decimal | None:
        """Average cost of a unit; None where there is none, or it is not known."""
        if not self.quantity or self.cost.unknown:
            return None
        return quotient(self.cost.amount, self.quantity)


class Traded(msgspec.Struct, frozen=True, gc=False):
    """AssetHolding after a movement.

    Attributes:
        released: signed cost of what was taken from the holding before.
        realized: what that brought beyond its cost; 0 where it left at its cost.
        opened: signed quantity that was added away from zero.
    """

    holding: AssetHolding
    released: Decimal = ZERO
    realized: Decimal = ZERO
    opened: Decimal = ZERO


def traded(holding: AssetHolding, amount: Decimal, value: Decimal) -> Traded:
    """Return the holding after `amount` was acquired, or disposed of, at a signed value."""
    closing, opening = parts(holding.quantity, amount)
    if not closing:
        return Traded(_grown(holding, amount, Cost(value)), opened=amount)
    leaving = scaled(value, closing, amount) if opening else value
    left, released = _reduced(holding, closing)
    realized = negate(add(leaving, released))
    if opening:
        left = AssetHolding(opening, Cost(subtract(value, leaving)))
    return Traded(left, released, realized, opening)


def moved_at_cost(holding: AssetHolding, amount: Decimal, cost: Decimal | None) -> Traded:
    """Return the holding after what was taken left at its cost, and nothing was realized.

    Args:
        holding: before.
        amount: signed.
        cost: signed, of what is added away from zero; None: it is not known.
    """
    closing, opening = parts(holding.quantity, amount)
    left, released = _reduced(holding, closing) if closing else (holding, ZERO)
    if opening:
        left = _grown(left, opening, Cost(ZERO, True) if cost is None else Cost(cost))
    return Traded(left, released, opened=opening)


def left_with(holding: AssetHolding, closing: Decimal, cost: Decimal | None) -> Traded:
    """Return the holding after units left with a cost of their own: at most what there is.

    Where nothing is left all of the cost leaves; without a cost it is their share.
    """
    if cost is None:
        return moved_at_cost(holding, closing, None)
    left, known = add(holding.quantity, closing), holding.cost
    if not left:
        return Traded(AssetHolding(), known.amount)
    short = holding.quantity < 0
    gone = max(ZERO, min(cost.copy_abs(), negate(known.amount) if short else known.amount))
    released = negate(gone) if short else gone
    rest = Cost(subtract(known.amount, released), known.unknown)
    return Traded(AssetHolding(left, rest), released)


def parts(quantity: Decimal, amount: Decimal) -> tuple[Decimal, Decimal]:
    """Return how much of a movement takes from what is held, and how much is added beyond it."""
    if not quantity or (quantity > 0) == (amount > 0):
        return ZERO, amount
    rest = add(quantity, amount)
    if not rest or (rest > 0) == (quantity > 0):
        return amount, ZERO
    return negate(quantity), rest


def _grown(holding: AssetHolding, amount: Decimal, cost: Cost) -> AssetHolding:
    known = holding.cost
    return AssetHolding(
        add(holding.quantity, amount),
        Cost(add(known.amount, cost.amount), known.unknown or cost.unknown),
    )


def _reduced(holding: AssetHolding, closing: Decimal) -> tuple[AssetHolding, Decimal]:
    """Return what is left of a holding, and the cost of what was taken: its only rounding."""
    cost = holding.cost
    left = add(holding.quantity, closing)
    if not left:
        return AssetHolding(), cost.amount
    released = scaled(cost.amount, negate(closing), holding.quantity)
    return AssetHolding(left, Cost(subtract(cost.amount, released), cost.unknown)), released
