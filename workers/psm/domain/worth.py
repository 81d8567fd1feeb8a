"""What one open position is worth at a price, and what it adds to its account's figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

import msgspec

from psm.domain.money import ONE, ZERO, multiply, negate, quotient, subtract_wide
from psm.domain.positions import Instrument, Position, undefined_instrument, value_at
from psm.domain.tiers import maintenance_margin

if TYPE_CHECKING:  # an account keeps its worths
    from psm.domain.account import Account

Source = Literal["mark", "fill"]
Rates = Callable[[str], Decimal | None]
"""Currency -> value of one unit in the account currency; None where no rate is known."""


class Mark(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The current mark of a symbol and the number that must rise."""

    price: Decimal
    sequence_number: int


class PositionValue(msgspec.Struct, frozen=True, gc=False):
    """One open position at a price, in its settle currency."""

    price: Decimal
    source: Source
    notional: Decimal
    unrealized: Decimal
    margin_initial: Decimal
    margin_maintenance: Decimal


class Worth(msgspec.Struct, frozen=True, gc=False):
    """What one position adds to the account's figures, in the account currency.

    Attributes:
        equity: unrealized PnL; of what is fully paid, the whole value.
        paid: whether it is fully paid (spot, equity): then its value secures itself, so only what
            that does not cover may not leave: all of it and the margin for a short.
    """

    value: PositionValue
    gross: Decimal
    net: Decimal
    unrealized: Decimal
    equity: Decimal
    initial: Decimal
    maintenance: Decimal
    paid: bool
    rated: bool
    defined: bool

    @property
    def locked(self) -> Decimal:
        """Cash that may not leave because of it."""
        return max(ZERO, subtract_wide(self.initial, self.net)) if self.paid else self.initial


def worth_of(account: Account, position: Position, mark: Mark | None, rates: Rates) -> Worth:
    """Return what an open position adds to the account; nothing where its rate is unknown."""
    instrument = position.instrument
    price, source = price_of(account, position, mark)
    value = position_value(position, price, source, account.leverage_of(instrument.symbol))
    rate = ONE if instrument.settle == account.currency else rates(instrument.settle)
    if rate is ONE:
        gross, unrealized = value.notional, value.unrealized
        initial, maintenance = value.margin_initial, value.margin_maintenance
    elif rate is None:
        gross = unrealized = initial = maintenance = ZERO
    else:
        gross, unrealized = multiply(value.notional, rate), multiply(value.unrealized, rate)
        initial = multiply(value.margin_initial, rate)
        maintenance = multiply(value.margin_maintenance, rate)
    net = gross if position.size > 0 else negate(gross)
    paid = instrument.full_notional
    return Worth(
        value,
        gross,
        net,
        unrealized,
        net if paid else unrealized,
        initial,
        maintenance,
        paid,
        rate is not None,
        instrument.defined,
    )


def price_of(account: Account, position: Position, mark: Mark | None) -> tuple[Decimal, Source]:
    """Return the price of a position: its mark, or its own last fill until one exists."""
    if mark is None:
        return position.last_fill, "fill"
    return mark_for(account, position.instrument.symbol, mark), "mark"


def mark_for(account: Account, symbol: str, mark: Mark) -> Decimal:
    """Return a mark in the account's units: one that is older than a split is divided."""
    if account.splits:
        split = account.splits.get(symbol)
        if split is not None and split[0] == mark.sequence_number:
            return quotient(mark.price, split[1])
    return mark.price


def instrument_for(
    account: Account, symbol: str, instruments: Mapping[str, Instrument]
) -> Instrument:
    """Return what a symbol is for the account: as its open position has it, or as defined."""
    position = account.positions.get(symbol)
    if position is not None and position.size:
        return position.instrument
    return instruments.get(symbol) or undefined_instrument(symbol, account.currency or "")


def position_value(
    position: Position, price: Decimal, source: Source, leverage: Decimal
) -> PositionValue:
    """Return the value of an open position at a price, in its settle currency."""
    value, unrealized = value_at(position, price)
    instrument = position.instrument
    return PositionValue(
        price,
        source,
        value,
        unrealized,
        value if leverage is ONE or leverage == 1 else quotient(value, leverage),
        maintenance_margin(value, instrument.tiers) if instrument.margin_tiers else ZERO,
    )
