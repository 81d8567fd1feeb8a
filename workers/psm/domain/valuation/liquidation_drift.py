"""What else moves with a position's own mark: holdings and contracts that it rates.

A short of BTCUSD that is secured by bitcoin, in an account in dollars: where the spot price is not
known, its own mark says what that bitcoin is worth. The other figures stand still.
"""

from __future__ import annotations

from decimal import Decimal

from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.positions import Position
from psm.domain.ledger.prices import AccountPrices
from psm.domain.market.rates import RateStep, rate_of
from psm.domain.money import (
    ONE,
    ZERO,
    absolute,
    add_wide,
    multiply_wide,
    negate,
    quotient,
    subtract_wide,
)
from psm.domain.valuation.isolated import is_isolated
from psm.domain.valuation.position_value import PositionValue
from psm.domain.valuation.valuation import Valuation


def drift_of(
    ledger: Ledger,
    position: Position,
    valuation: Valuation,
    prices: AccountPrices,
    slack: Decimal,
) -> Decimal | None:
    """Return what collateral beyond the margins of others gains per unit of a position's price.

    In the settle currency, beside what the position itself gains; for an inverse contract per unit
    of the price's reciprocal. 0 where its mark rates nothing; None where it does not move in a
    straight line with it, or is a step of a path.

    Args:
        ledger: of the account.
        position: open, in cross margin.
        valuation: of the account, as of now.
        prices: of the account.
        slack: collateral beyond the margins of other symbols, in the settle currency.

    Raises:
        ArithmeticError: it does not compute.
    """
    rated = _rated_by(position.instrument.symbol, prices)
    if not rated:
        return ZERO
    asset, steps = rated[0]
    own = asset == position.instrument.settle
    # Both in prices, or both in their reciprocals: a straight line; so is what stands still, seen
    # from a currency that moves the other way.
    straight = own != (steps[0].inverted == position.instrument.inverse)
    if not straight or len(rated) > 1 or len(steps) > 1 or steps[0].kind == "fill":
        return None
    moving = _moving(ledger, asset, position, valuation, prices)
    if moving is None:
        return None
    price = valuation.positions[position.key].price
    in_price = quotient(ONE, price) if position.instrument.inverse else price
    if own:  # seen in the settle currency, what is worth the same in the account's moves
        gained = _gained(ledger, position, valuation)
        return quotient(subtract_wide(subtract_wide(slack, moving), gained), in_price)
    rate = prices.rate(position.instrument.settle)
    assert rate is not None, "it was asked for"
    return quotient(multiply_wide(moving, rate_of(steps)), multiply_wide(rate, in_price))


def _rated_by(symbol: str, prices: AccountPrices) -> list[tuple[str, tuple[RateStep, ...]]]:
    """Return the assets whose rate a symbol's price is a step of, with their steps."""
    rated = [(asset, prices.rate_steps(asset)) for asset in prices.counted_assets()]
    return [(asset, steps) for asset, steps in rated if any(s.symbol == symbol for s in steps)]


def _gained(ledger: Ledger, position: Position, valuation: Valuation) -> Decimal:
    """Return what all legs of a position's symbol gained, in its settle currency."""
    gained = ZERO
    for key in ledger.keys_of(position.instrument.symbol):
        value = valuation.positions.get(key)
        if value is not None:
            gained = add_wide(gained, value.unrealized)
    return gained


def _moving(
    ledger: Ledger, asset: str, position: Position, valuation: Valuation, prices: AccountPrices
) -> Decimal | None:
    """Return an asset's collateral less margins, in units of it, without a position's own."""
    quantity = ledger.holding(asset).quantity
    if quantity >= 0:
        found = multiply_wide(quantity, prices.secures(asset))
    else:
        margin = multiply_wide(absolute(quantity), prices.borrow_rate(asset))
        found = subtract_wide(quantity, margin)
    for key, value in valuation.positions.items():
        other = ledger.positions[key]
        if other.instrument.settle != asset:
            continue
        if is_isolated(ledger, other):
            return None  # its wallet is a part of the holding
        if other.instrument.symbol != position.instrument.symbol:
            counted = _counted(other, value, prices)
            found = add_wide(found, subtract_wide(counted, value.margin_maintenance))
    return found


def _counted(position: Position, value: PositionValue, prices: AccountPrices) -> Decimal:
    """Return what a position adds to collateral, in its settle currency."""
    if not position.instrument.full_notional:
        return value.unrealized
    if position.size > 0:
        return multiply_wide(value.worth, prices.secures(position.instrument.symbol))
    return negate(value.worth)
