"""Margin of positions as updates show it: wallets, prices of liquidation, warnings of their own."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

from psm.contracts.fields import MarginMode
from psm.contracts.updates import MARGIN_FIGURES
from psm.domain.account import Account
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.positions import Position
from psm.domain.money import ZERO, multiply, published_or_null, published_text
from psm.domain.valuation.isolated import (
    PositionWarning,
    bankruptcy_price,
    is_isolated,
    isolated_margin,
)
from psm.domain.valuation.liquidation import isolated_liquidation_price, liquidation_price
from psm.domain.valuation.position_value import PositionValue
from psm.domain.valuation.state import Crossing


def margin_mode(ledger: Ledger, position: Position) -> MarginMode | None:
    """Return how a position is margined; shares are not."""
    if position.instrument.full_notional:
        return None
    return "isolated" if is_isolated(ledger, position) else "cross"


class PositionMargin(NamedTuple):
    """Wallet of a position, and the prices at which it is liquidated and bankrupt, as texts."""

    wallet: str | None
    liquidation: str | None
    bankruptcy: str | None


def position_margin(
    account: Account, position: Position, value: PositionValue | None
) -> PositionMargin:
    """Return a position's wallet, and the prices at which its margins are not covered."""
    ledger = account.ledger
    if is_isolated(ledger, position):
        return _isolated(ledger, position, value)
    liquidation = None
    if value is not None:
        liquidation = liquidation_price(
            ledger, position, account.value(), account.prices, account.valuation.rates
        )
    return PositionMargin(None, published_or_null(liquidation), None)


def _isolated(ledger: Ledger, position: Position, value: PositionValue | None) -> PositionMargin:
    liquidation = bankruptcy = None
    if value is not None:
        margin = isolated_margin(ledger, position, value)
        try:
            liquidation = isolated_liquidation_price(position, margin)
            bankruptcy = bankruptcy_price(position, margin)
        except ArithmeticError:
            pass
    wallet = published_text(max(ZERO, ledger.wallets.of(position.key)))
    return PositionMargin(wallet, published_or_null(liquidation), published_or_null(bankruptcy))


def warning_figures(
    account: Account, crossing: Crossing, margin: dict[str, str | None]
) -> dict[str, Any]:
    """Return the fields of `MarginWarning` that are not common to every update.

    Args:
        account: whose.
        crossing: what was crossed.
        margin: the account's `margin_figures`.
    """
    if not isinstance(crossing, PositionWarning):
        return {**margin, "level": crossing}
    ledger = account.ledger
    position = ledger.positions[crossing.key]
    value = account.value().positions[crossing.key]
    own = isolated_margin(ledger, position, value)
    rate = account.prices.rate(position.instrument.settle)

    def text(amount: Decimal) -> str | None:
        return None if rate is None else published_text(multiply(amount, rate))

    figures = (
        text(own.equity),
        text(value.margin_initial),
        text(value.margin_maintenance),
        text(own.available),
        published_or_null(own.ratio),
        published_or_null(own.leverage),
        None,
    )
    return {
        **dict(zip(MARGIN_FIGURES, figures, strict=True)),
        "level": crossing.level,
        "symbol": position.instrument.symbol,
        "position_side": position.position_side,
    }
