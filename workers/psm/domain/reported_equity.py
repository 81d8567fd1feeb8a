"""What the books are worth at a report's own rates and marks, to be compared with its equity.

So nothing depends on the moment of a mark: both sides value at the same prices.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from psm.contracts.fields import PositionSide
from psm.contracts.reports import AccountReported
from psm.domain.ledger.positions import Position, value_at
from psm.domain.money import ONE, ZERO, add_wide, multiply_wide

Rates = Mapping[str, Decimal | None]


def equity_at(
    report: AccountReported,
    currency: str | None,
    assets: Mapping[str, Decimal],
    positions: Mapping[tuple[str, PositionSide], Position | None],
) -> Decimal | None:
    """Return the equity of what the books have; None where the report does not price all of it.

    Args:
        report: with the rates and mark prices behind its equity.
        currency: of the account.
        assets: quantities by asset.
        positions: open ones by symbol and side; None: not known well enough.
    """
    rates, marks = report.rates or {}, {}
    for said in report.positions:
        marks[(said.symbol, said.position_side)] = said.mark_price
    total = ZERO
    for asset, quantity in assets.items():
        rate = _rate(asset, currency, rates)
        if rate is None:
            return None
        total = add_wide(total, multiply_wide(quantity, rate))
    for key, position in positions.items():
        value = None if position is None else _value(position, marks.get(key), currency, rates)
        if value is None:
            return None
        total = add_wide(total, value)
    return total


def _value(
    position: Position, mark: Decimal | None, currency: str | None, rates: Rates
) -> Decimal | None:
    """Return what a position adds to equity: what a contract gained, of shares what they are worth.

    A rate of shares is of one of them, its multiplier included.
    """
    instrument, paid = position.instrument, position.instrument.full_notional
    own = rates.get(instrument.symbol)
    if paid and own is not None:
        return multiply_wide(position.size, own)
    rate = _rate(instrument.settle, currency, rates)
    if mark is None or rate is None or (mark <= 0 and instrument.inverse):
        return None
    worth, gained = value_at(position, mark)
    if paid:
        gained = worth if position.size > 0 else worth.copy_negate()
    return multiply_wide(gained, rate)


def _rate(asset: str, currency: str | None, rates: Rates) -> Decimal | None:
    return ONE if asset == currency else rates.get(asset)
