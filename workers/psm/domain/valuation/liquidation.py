"""The liquidation price of a position: informational, the venue decides."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.contracts.table_events import MarginTier
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.positions import Position
from psm.domain.ledger.prices import AccountPrices
from psm.domain.money import (
    ONE,
    ZERO,
    absolute,
    multiply,
    negate,
    quotient,
    subtract_wide,
)
from psm.domain.valuation.isolated import IsolatedMargin
from psm.domain.valuation.leg_liquidation import Leg, legs_maintenance, solve_legs
from psm.domain.valuation.liquidation_drift import drift_of
from psm.domain.valuation.liquidation_search import Search
from psm.domain.valuation.position_value import PositionValue
from psm.domain.valuation.valuation import Valuation

_MINUS_ONE = negate(ONE)


def liquidation_price(
    ledger: Ledger,
    position: Position,
    valuation: Valuation,
    prices: AccountPrices,
    rates: tuple[str, ...],
) -> Decimal | None:
    """Return the mark of this position at which collateral equals maintenance margin, or None.

    All other marks are taken as frozen; no closing fee. It is the nearest price on the losing side
    at which maintenance margin is not covered, borders of tiers included; of an account that is
    liquidatable already, the price at which it would recover. None where there is no positive
    price, or the symbol's mark is a step of a rate; what it rates directly moves with it. All legs
    of a symbol have one.
    """
    value = valuation.positions.get(position.key)
    if value is None or value.worth <= 0:
        return None
    if valuation.equity is None or valuation.margin_maintenance is None:
        return None
    if position.instrument.full_notional and position.size > 0:
        return None  # it secures nothing, so its price changes no margin
    settle = position.instrument.settle
    rate = ONE if settle == ledger.currency else prices.rate(settle)
    if not rate:
        return None
    try:
        legs = _legs(ledger, position, value, valuation, prices)
        own = legs_maintenance(legs)
        if rate is not ONE:
            own = multiply(own, rate)
        others = subtract_wide(valuation.margin_maintenance, own)
        slack = quotient(subtract_wide(valuation.collateral, others), rate)
        if position.symbol not in rates:
            return _solved(legs, slack, ZERO)
        return _solved(legs, slack, drift_of(ledger, position, valuation, prices, slack))
    except ArithmeticError:
        return None


def _solved(legs: list[Leg], slack: Decimal, drift: Decimal | None) -> Decimal | None:
    """Return the price at which the legs of a symbol are not covered; mostly there is one."""
    if drift is None:
        return None
    if drift or len(legs) > 1:
        return solve_legs(legs, slack, drift)
    position, value = legs[0]
    return _solve(position, value, slack)


def isolated_liquidation_price(position: Position, margin: IsolatedMargin) -> Decimal | None:
    """Return the mark at which an isolated position's equity equals its maintenance margin.

    Raises:
        ArithmeticError: it does not compute.
    """
    if margin.value.worth <= 0:
        return None
    slack = margin.equity
    if position.margin is not None:
        slack = subtract_wide(slack, margin.value.margin_maintenance)
    return _solve(*_by_price(position, margin.value), slack)


def _legs(
    ledger: Ledger,
    position: Position,
    value: PositionValue,
    valuation: Valuation,
    prices: AccountPrices,
) -> list[Leg]:
    """Return the open positions of a symbol with their values; mostly this one alone."""
    symbol = position.instrument.symbol
    if symbol not in ledger.legs:
        return [_by_price(_with_tiers(position, prices), value)]
    found = [
        (ledger.positions.get(key), valuation.positions.get(key)) for key in ledger.keys_of(symbol)
    ]
    return [_by_price(leg, of) for leg, of in found if leg is not None and of is not None]


def _by_price(position: Position, value: PositionValue) -> Leg:
    """Return a position with the margin that moves with its price: of a reported one nothing."""
    if position.margin is None:
        return position, value
    instrument = msgspec.structs.replace(position.instrument, margin_tiers=())
    return (
        msgspec.structs.replace(position, instrument=instrument),
        msgspec.structs.replace(value, margin_maintenance=ZERO),
    )


def _with_tiers(position: Position, prices: AccountPrices) -> Position:
    """Return a position with the tiers that its margin is by: of a short share, borrowing's."""
    instrument = position.instrument
    if instrument.margin_tiers or not instrument.full_notional:
        return position
    rate = prices.borrow_rate(instrument.symbol)
    tiers = (MarginTier(notional_floor=ZERO, maintenance_rate=rate),) if rate else ()
    lent = msgspec.structs.replace(instrument, margin_tiers=tiers)
    return msgspec.structs.replace(position, instrument=lent)


def _solve(position: Position, value: PositionValue, slack: Decimal) -> Decimal | None:
    """Solve equity(x) - other maintenance = maintenance(x) in the settle currency.

    Value at x is size x multiplier x x; for an inverse contract size x multiplier x (1/x), which
    falls as x rises, so its side is mirrored and the solution is a reciprocal.
    """
    instrument = position.instrument
    units = multiply(absolute(position.size), instrument.multiplier)
    gains = (position.size > 0) != instrument.inverse
    search = Search(
        slope=ONE if gains else _MINUS_ONE,
        falls=not gains,
        worth=value.worth,
        slack=slack,
        tiers=instrument.tiers,
    )
    safe = subtract_wide(slack, value.margin_maintenance) > 0
    found = search.adverse() if safe else search.recovery()
    if found is None or found <= 0:
        return None
    return quotient(units, found) if instrument.inverse else quotient(found, units)
