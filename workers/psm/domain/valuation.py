"""Valuation: what a ledger is worth at the marks of a log sequence. Cross margin.

Source: exchange documentation as summarised in `docs/accounting.md`. Derivatives enter equity by
their unrealized PnL, fully paid instruments (spot, equity) by their market value. Amounts in a
currency other than the account's are excluded and flagged until a rate is known, never taken 1:1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from psm.contracts.updates import Level
from psm.domain.money import (
    ONE,
    ZERO,
    add_wide,
    exact_text,
    multiply,
    quotient,
    scaled,
    subtract_wide,
)
from psm.domain.positions import Instrument
from psm.domain.worth import Mark, PositionValue, Rates

if TYPE_CHECKING:  # an account keeps its valuation
    from psm.domain.account import Account

WARNING_LEVELS: tuple[tuple[Level, Decimal], ...] = (
    ("0.5", Decimal("0.5")),
    ("0.8", Decimal("0.8")),
    ("1.0", Decimal(1)),
)
LEVERAGE_LIMIT: Level = "leverage_limit"
_REARM = Decimal("0.95")


class Valuation(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The derived money figures of an account; all None where they do not compute.

    Attributes:
        positions: value of each open position by symbol.
        ordered: what open orders reserve beyond the positions' own margin.
        free: cash and what is lost, but not gained, on open positions.
        locked: of that, what may not leave because of the positions.
        leverage_limit: of the account.
        told: flags that follow from cash, positions and orders.
    """

    positions: Mapping[str, PositionValue]
    equity: Decimal | None = None
    unrealized_pnl: Decimal | None = None
    exposure_gross: Decimal | None = None
    exposure_net: Decimal | None = None
    margin_initial: Decimal | None = None
    margin_maintenance: Decimal | None = None
    ordered: Decimal = ZERO
    free: Decimal = ZERO
    locked: Decimal = ZERO
    leverage_limit: Decimal | None = None
    told: tuple[str, ...] = ()

    @property
    def margin_available(self) -> Decimal | None:
        """Equity beyond initial margin, for new orders; never below zero."""
        if self.equity is None or self.margin_initial is None:
            return None
        reserved = add_wide(self.margin_initial, self.ordered)
        return max(ZERO, subtract_wide(self.equity, reserved))

    @property
    def withdrawable(self) -> Decimal | None:
        """What may leave; unrealized profit may not."""
        if self.equity is None:
            return None
        return max(ZERO, subtract_wide(self.free, add_wide(self.locked, self.ordered)))

    @property
    def margin_ratio(self) -> Decimal | None:
        """Maintenance margin over equity; None where equity is not positive."""
        return self._of_equity(self.margin_maintenance)

    @property
    def leverage(self) -> Decimal | None:
        """Gross exposure over equity; likewise."""
        return self._of_equity(self.exposure_gross)

    @property
    def flags(self) -> tuple[str, ...]:
        """Sorted state flags that follow from the valuation."""
        flags = list(self.told)
        if self.positions and self._liquidatable():
            flags.append("liquidatable")
        limit = self.leverage_limit
        if limit is not None:
            leverage = self.leverage
            if leverage is not None and leverage > limit:
                flags.append("leverage_limit_exceeded")
        return tuple(sorted(dict.fromkeys(flags))) if flags else ()

    def _of_equity(self, figure: Decimal | None) -> Decimal | None:
        equity = self.equity
        if figure is None or equity is None or equity <= 0:
            return None
        return quotient(figure, equity) if figure else ZERO

    def _liquidatable(self) -> bool:
        equity, maintenance = self.equity, self.margin_maintenance
        if equity is None or maintenance is None or is_far_from_warning(equity, maintenance):
            return False
        ratio = self.margin_ratio
        return ratio is None or ratio >= 1


def valuate(
    account: Account,
    marks: Mapping[str, Mark],
    rates: Rates,
    instruments: Mapping[str, Instrument] = MappingProxyType({}),
) -> Valuation:
    """Return the valuation of an account's ledger at `marks`; null figures where it fails.

    Args:
        account: the ledger; a position without a mark is valued at its own last fill.
        marks: current marks by symbol.
        rates: what converts amounts in other currencies; without a rate they are left out.
        instruments: definitions by symbol; open orders without a position need them.
    """
    cash = refreshed(account, marks, rates, instruments)
    if cash is None:
        return FAILED
    told = dict.fromkeys((*account.worths.flags(), *_cash_flags(account, rates)))
    return _summed(account, cash, tuple(sorted(told)))


FAILED = Valuation(positions={}, told=("valuation_failed",))


def _summed(account: Account, cash: Decimal, told: tuple[str, ...]) -> Valuation:
    worths = account.worths
    figures = worths.figures()
    return Valuation(
        positions=worths.values,
        equity=add_wide(cash, worths.equity),
        unrealized_pnl=figures.unrealized,
        exposure_gross=figures.gross,
        exposure_net=figures.net,
        margin_initial=figures.initial,
        margin_maintenance=worths.maintenance,
        ordered=worths.ordered,
        free=add_wide(cash, min(ZERO, figures.gain)),
        locked=figures.locked,
        leverage_limit=account.leverage_limit,
        told=told,
    )


def keep_margin(account: Account) -> None:
    """Keep what the margin figures of the last publication are made from: the worths move on."""
    if not account.margin_in_worths:
        return
    cash = account.worths.cash
    assert cash is not None, "only what computes is left in the worths"
    account.margin_unwritten = account.valuation or _summed(account, cash, ())
    account.margin_in_worths = False


def refreshed(
    account: Account,
    marks: Mapping[str, Mark],
    rates: Rates,
    instruments: Mapping[str, Instrument],
) -> Decimal | None:
    """Bring the account's worths up to date; return its cash, None where something fails."""
    worths = account.worths
    if worths.stale:
        worths.refresh(account, marks, rates, instruments)
    if worths.failed:
        return None
    if worths.cash is None:
        try:
            worths.cash = _cash(account, rates)
        except ArithmeticError:
            return None
    return worths.cash


def _cash(account: Account, rates: Rates) -> Decimal:
    """Return all cash in the account currency; what has no rate is left out."""
    cash, home = ZERO, account.currency
    for currency, amount in account.cash.items():
        if currency == home:
            cash = add_wide(cash, amount) if cash else amount
        elif amount:
            rate = rates(currency)
            if rate is not None:
                cash = add_wide(cash, amount if rate is ONE else multiply(amount, rate))
    return cash


def _cash_flags(account: Account, rates: Rates) -> list[str]:
    """Return the flags of overdrawn cash and of cash without a rate."""
    flags = []
    for currency, amount in account.cash.items():
        if amount < 0:
            flags.append("overdraft")
        if amount and currency != account.currency and rates(currency) is None:
            flags.append("rate_missing")
    return flags


def is_rate(account: Account, symbol: str) -> bool:
    """Return whether a symbol's mark converts one of the account's currencies."""
    home = account.currency or ""
    held = (currency for currency, amount in account.cash.items() if amount)
    return any(symbol == f"{c}{home}" for c in (*held, *account.settles) if c != home)


def peak_after_flow(peak: Decimal | None, equity: Decimal | None, flow: Decimal) -> Decimal | None:
    """Return the peak after an external flow, so that flows neither create nor hide drawdown.

    With equity V before and flow F: peak x (V + F) / V where both V and V + F are positive, else
    V + F where that is positive, else None.
    """
    if not flow or equity is None:
        return peak
    after = add_wide(equity, flow)  # what marks are worth must not refuse a venue fact
    if equity > 0 and after > 0:
        return None if peak is None else scaled(peak, after, equity)
    return after if after > 0 else None


def peak_after_equity(peak: Decimal | None, equity: Decimal | None) -> Decimal | None:
    """Return the peak after equity became `equity`; it starts at the first positive equity."""
    if equity is None or equity <= 0:
        return peak
    return equity if peak is None else max(peak, equity)


def drawdown(peak: Decimal | None, equity: Decimal | None) -> Decimal | None:
    """Return 1 - equity / peak, with 34 significant digits; None without a peak."""
    if peak is None or equity is None:
        return None
    try:
        return quotient(subtract_wide(peak, equity), peak)
    except ArithmeticError:
        return None


def crossings(
    valuation: Valuation, warned: tuple[Level, ...], leverage_limit: Decimal | None
) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
    """Return (levels crossed upwards now, levels that stay disarmed), both ascending.

    A level arms again below 0.95 of itself. Equity that is not positive is beyond every level, and
    is told as level 1.0 alone.
    """
    if valuation.equity is None:
        return (), warned
    ratio = valuation.margin_ratio or ZERO
    crossed: list[Level] = []
    disarmed: list[Level] = []
    ruined = valuation.equity <= 0 and bool(valuation.positions)
    for name, level in WARNING_LEVELS:
        if ruined or ratio >= level:
            disarmed.append(name)
            if name not in warned and (not ruined or name == "1.0"):
                crossed.append(name)
        elif name in warned and ratio >= multiply(level, _REARM):
            disarmed.append(name)
    if leverage_limit is not None:
        used = valuation.leverage or ZERO
        if ruined or used > leverage_limit:
            disarmed.append(LEVERAGE_LIMIT)
            if LEVERAGE_LIMIT not in warned and not ruined:
                crossed.append(LEVERAGE_LIMIT)
        elif LEVERAGE_LIMIT in warned and used >= multiply(leverage_limit, _REARM):
            disarmed.append(LEVERAGE_LIMIT)
    return tuple(crossed), tuple(disarmed)


def is_far_from_warning(equity: Decimal, maintenance: Decimal) -> bool:
    """Return whether maintenance margin is surely below every level: less than a third of equity.

    Spares the division; a third leaves room for its rounding.
    """
    if not maintenance:
        return equity > 0
    return add_wide(add_wide(maintenance, maintenance), maintenance) < equity


def state_hash(account: Account, ledger_hash: bytes, valuation: Valuation) -> bytes:
    """Return SHA-256 of the ledger hash and the canonical bytes of the valuation.

    The bytes are the canonical JSON of drawdown, equity, margin_initial, margin_maintenance, marks
    (symbol -> [price, source]) and peak_equity, each as exact text or null.
    """
    peak = account.peak_equity
    marks = "" if valuation is FAILED else account.worths.marks_json()
    part = (
        f'{{"drawdown":{_json(drawdown(peak, valuation.equity))}'
        f',"equity":{_json(valuation.equity)}'
        f',"margin_initial":{_json(valuation.margin_initial)}'
        f',"margin_maintenance":{_json(valuation.margin_maintenance)}'
        f',"marks":{{{marks}}}'
        f',"peak_equity":{_json(peak)}}}'
    )
    return hashlib.sha256(ledger_hash + part.encode()).digest()


def _json(value: Decimal | None) -> str:
    return "null" if value is None else f'"{exact_text(value)}"'
