"""Valuation of a ledger at the marks of a log sequence. Cross margin.

Source: exchange documentation as summarised in `docs/accounting.md`. Derivatives enter equity by
their unrealized PnL, assets and shares by their market value. What has no rate into the account
currency is excluded and flagged until one is known, never taken 1:1. Margins are secured by
collateral: money of the account currency, what is gained and lost on contracts, assets in which the
account traded contracts, and all that is below zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from psm.domain.ledger.ledger import Ledger
from psm.domain.money import ZERO, add_wide, quotient, subtract_wide
from psm.domain.valuation.account_sums import is_far_from_warning
from psm.domain.valuation.position_value import PositionValue
from psm.domain.valuation.totals import ValuationTotals


class Valuation(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The derived money figures of an account; all None where they do not compute.

    Attributes:
        positions: value of each open position by key.
        margin_borrowed: part of the maintenance margin that is of what is owed in assets.
        order_margin: what open orders reserve beyond the positions' own margin.
        collateral: what secures margins: equity without what is discounted, and without what
            isolated positions stand on.
        gain: unrealized PnL of contracts without a wallet of their own.
        money: quantity of the account currency outside of wallets.
        unrated_cost: known cost of what has no rate and is in no other figure.
        owing: whether something is owed whatever it is worth: a contract, or anything short.
        isolated_positions: how many of the positions have a wallet of their own.
        leverage_limit: of the account.
        ledger_flags: flags that follow from cash, positions and orders.
    """

    positions: Mapping[str, PositionValue]
    equity: Decimal | None = None
    unrealized_pnl: Decimal | None = None
    exposure_gross: Decimal | None = None
    exposure_net: Decimal | None = None
    margin_initial: Decimal | None = None
    margin_maintenance: Decimal | None = None
    margin_borrowed: Decimal = ZERO
    order_margin: Decimal = ZERO
    collateral: Decimal = ZERO
    gain: Decimal = ZERO
    money: Decimal = ZERO
    unrated_cost: Decimal = ZERO
    owing: bool = False
    isolated_positions: int = 0
    leverage_limit: Decimal | None = None
    ledger_flags: tuple[str, ...] = ()

    @property
    def has_cross_positions(self) -> bool:
        """True if there is an open position without a wallet of its own."""
        return len(self.positions) > self.isolated_positions

    @property
    def margin_available(self) -> Decimal | None:
        """Collateral beyond initial margin, for new orders; never below zero."""
        if self.equity is None or self.margin_initial is None:
            return None
        reserved = add_wide(self.margin_initial, self.order_margin)
        return max(ZERO, subtract_wide(self.collateral, reserved))

    @property
    def withdrawable(self) -> Decimal | None:
        """Money of the account currency that may leave; unrealized profit may not."""
        if self.equity is None or self.margin_initial is None:
            return None
        committed = add_wide(self.margin_initial, self.order_margin)
        paid = subtract_wide(self.collateral, max(ZERO, self.gain))
        return max(ZERO, min(subtract_wide(paid, committed), self.money))

    @property
    def margin_ratio(self) -> Decimal | None:
        """Maintenance margin over collateral; None where that is not positive."""
        return None if self.equity is None else _ratio(self.margin_maintenance, self.collateral)

    @property
    def leverage(self) -> Decimal | None:
        """Gross exposure over equity; None where equity is not positive."""
        return _ratio(self.exposure_gross, self.equity)

    @property
    def ruined(self) -> bool:
        """Whether nothing secures what is owed any more, and something could be sold for it."""
        if self.equity is None:
            return False
        if self.owing:
            return self.collateral <= 0
        held = self.has_cross_positions or bool(self.exposure_gross and not self.positions)
        return self.collateral < 0 and held

    @property
    def flags(self) -> tuple[str, ...]:
        """Sorted state flags that follow from the valuation."""
        flags = list(self.ledger_flags)
        if self._liquidatable():
            flags.append("liquidatable")
        limit = self.leverage_limit
        if limit is not None:
            leverage = self.leverage
            if leverage is not None and leverage > limit:
                flags.append("leverage_limit_exceeded")
        return tuple(sorted(dict.fromkeys(flags))) if flags else ()

    def _liquidatable(self) -> bool:
        maintenance = self.margin_maintenance
        if self.equity is None or maintenance is None:
            return False
        if is_far_from_warning(self.collateral, maintenance):
            return False
        ratio = self.margin_ratio
        return self.ruined if ratio is None else ratio >= 1


def _ratio(figure: Decimal | None, equity: Decimal | None) -> Decimal | None:
    if figure is None or equity is None or equity <= 0:
        return None
    return quotient(figure, equity) if figure else ZERO


FAILED = Valuation(positions={}, ledger_flags=("valuation_failed",))
"""Stands for a valuation that does not compute."""


def summed(
    totals: ValuationTotals,
    ledger: Ledger,
    leverage_limit: Decimal | None,
    ledger_flags: tuple[str, ...] = (),
) -> Valuation:
    """Return the valuation that running totals amount to."""
    figures, cash = totals.figures(), totals.cash
    assert cash is not None, "they are refreshed"
    return Valuation(
        positions=totals.values,
        equity=add_wide(cash, totals.equity),
        unrealized_pnl=figures.unrealized,
        exposure_gross=figures.gross,
        exposure_net=figures.net,
        margin_initial=figures.initial,
        margin_maintenance=totals.margin_maintenance(),
        margin_borrowed=totals.borrowed,
        order_margin=totals.order_margin,
        collateral=totals.collateral(),
        gain=subtract_wide(figures.gain, totals.isolated_unrealized),
        money=subtract_wide(ledger.cash.get(ledger.currency or "", ZERO), totals.wallets.home),
        unrated_cost=figures.unrated_cost,
        owing=totals.owing(),
        isolated_positions=totals.isolated_positions,
        leverage_limit=leverage_limit,
        ledger_flags=ledger_flags,
    )


def cash_flags(ledger: Ledger) -> list[str]:
    """Return the flag of overdrawn money of the account currency."""
    home = ledger.currency
    return ["overdraft"] if home is not None and ledger.cash.get(home, ZERO) < 0 else []
