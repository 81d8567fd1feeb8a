"""Isolated margin: figures of a position that stands for its losses with a wallet of its own.

Its wallet and what is unrealized carry it alone; the account's shared figures leave both out.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

import msgspec

from psm.contracts.position_keys import symbol_of
from psm.contracts.updates import Level
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.positions import Position
from psm.domain.ledger.prices import AccountPrices
from psm.domain.money import (
    ZERO,
    absolute,
    add_wide,
    multiply,
    multiply_wide,
    quotient,
    subtract_wide,
)
from psm.domain.valuation.levels import margin_levels
from psm.domain.valuation.position_value import PositionValue

WarnedPositions = dict[str, tuple[Level, ...]]
"""Levels crossed and not yet armed again, by the key of an isolated position."""


class PositionWarning(NamedTuple):
    """An isolated position crossed a warning level upwards."""

    key: str
    level: Level


class WalletsValue(NamedTuple):
    """Value of the wallets as collateral, and of those that are in the account currency."""

    whole: Decimal
    home: Decimal


NO_WALLETS = WalletsValue(ZERO, ZERO)


class IsolatedMargin(msgspec.Struct, frozen=True, gc=False):
    """Margin of one isolated position, in the currency that it settles in.

    Attributes:
        wallet: set aside for it.
        equity: wallet and what is unrealized.
    """

    wallet: Decimal
    equity: Decimal
    value: PositionValue

    @property
    def ratio(self) -> Decimal | None:
        """Maintenance margin over equity; None where equity is not positive."""
        return self._of_equity(self.value.margin_maintenance)

    @property
    def leverage(self) -> Decimal | None:
        """Notional over equity; None where equity is not positive."""
        return self._of_equity(self.value.notional)

    @property
    def available(self) -> Decimal:
        """Equity beyond initial margin; never below zero."""
        return max(ZERO, subtract_wide(self.equity, self.value.margin_initial))

    def _of_equity(self, figure: Decimal) -> Decimal | None:
        if self.equity <= 0:
            return None
        return quotient(figure, self.equity) if figure else ZERO


def is_isolated(ledger: Ledger, position: Position) -> bool:
    """Return whether a position has a wallet of its own."""
    if not ledger.wallets.symbols:
        return False
    instrument = position.instrument
    return instrument.symbol in ledger.wallets.symbols and not instrument.full_notional


def isolated_margin(ledger: Ledger, position: Position, value: PositionValue) -> IsolatedMargin:
    """Return the margin of an open isolated position."""
    wallet = ledger.wallets.of(position.key)
    return IsolatedMargin(wallet, add_wide(wallet, value.unrealized), value)


def wallets_value(ledger: Ledger, prices: AccountPrices) -> WalletsValue:
    """Return what wallets are of the collateral; those of an asset without a rate are left out.

    What is left of a holding without them secures by its haircut, below zero it is owed in full.

    Raises:
        ArithmeticError: it does not compute exactly.
    """
    if not ledger.wallets.amounts:
        return NO_WALLETS
    amounts: dict[str, Decimal] = {}
    for key, amount in ledger.wallets.amounts.items():
        settle = settle_of(ledger, key, prices)
        amounts[settle] = add_wide(amounts.get(settle, ZERO), amount)
    home = amounts.pop(ledger.currency or "", ZERO)
    whole = home
    for asset, amount in amounts.items():
        rate = prices.rate(asset)
        if rate is None:
            continue
        held, secures = ledger.cash.get(asset, ZERO), prices.secures(asset)
        left = _secured(subtract_wide(held, amount), secures)
        counted = subtract_wide(_secured(held, secures), left)
        whole = add_wide(whole, multiply_wide(counted, rate))
    return WalletsValue(whole, home)


def _secured(quantity: Decimal, secures: Decimal) -> Decimal:
    """Return how much of a holding secures margins: what is owed counts in full."""
    return multiply_wide(quantity, secures) if quantity > 0 else quantity


def settle_of(ledger: Ledger, key: str, prices: AccountPrices) -> str:
    """Return the currency of a position's wallet, which may be there before the position."""
    position = ledger.positions.get(key)
    if position is not None:
        return position.instrument.settle
    return prices.instrument(symbol_of(key)).settle


def position_crossings(
    ledger: Ledger, values: Mapping[str, PositionValue], warned: WarnedPositions
) -> tuple[tuple[PositionWarning, ...], WarnedPositions]:
    """Return (levels that isolated positions crossed upwards, those that stay disarmed)."""
    crossed: list[PositionWarning] = []
    disarmed: WarnedPositions = {}
    for key in sorted(values):
        position = ledger.positions[key]
        if not is_isolated(ledger, position):
            continue
        margin = isolated_margin(ledger, position, values[key])
        levels, kept = margin_levels(
            margin.ratio or ZERO, warned.get(key, ()), ruined=margin.equity <= 0
        )
        crossed.extend(PositionWarning(key, level) for level in levels)
        if kept:
            disarmed[key] = kept
    return tuple(crossed), disarmed


def is_liquidatable(ledger: Ledger, values: Mapping[str, PositionValue]) -> bool:
    """Return whether an isolated position does not cover its maintenance margin."""
    for key, value in values.items():
        position = ledger.positions[key]
        if is_isolated(ledger, position):
            ratio = isolated_margin(ledger, position, value).ratio
            if ratio is None or ratio >= 1:
                return True
    return False


def bankruptcy_price(position: Position, margin: IsolatedMargin) -> Decimal | None:
    """Return the price at which wallet and unrealized PnL are nothing together; None below zero."""
    instrument = position.instrument
    units = multiply(absolute(position.size), instrument.multiplier)
    gains = (position.size > 0) != instrument.inverse
    worth = margin.value.worth
    left = subtract_wide(worth, margin.equity) if gains else add_wide(worth, margin.equity)
    if left <= 0:
        return None
    return quotient(units, left) if instrument.inverse else quotient(left, units)
