"""Valuation: what a ledger is worth at the marks of a log sequence. Cross margin.

Source: exchange documentation as summarised in `docs/accounting.md`. Derivatives enter equity by
their unrealized PnL, fully paid instruments (spot, equity) by their market value. Amounts in a
currency other than the account's are excluded and flagged until a rate is known, never taken 1:1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Literal

import msgspec

from psm.contracts.codec import canonical_bytes
from psm.contracts.events import MarginTier
from psm.contracts.updates import Level
from psm.domain.money import (
    ZERO,
    add,
    exact_text,
    multiply,
    negate,
    quotient,
    scaled,
    subtract,
)
from psm.domain.positions import Position, notional, unrealized_pnl

WARNING_LEVELS: tuple[tuple[Level, Decimal], ...] = (
    ("0.5", Decimal("0.5")),
    ("0.8", Decimal("0.8")),
    ("1.0", Decimal(1)),
)
LEVERAGE_LIMIT: Level = "leverage_limit"
_REARM = Decimal("0.95")


class Mark(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The current mark of a symbol and the number that must rise."""

    price: Decimal
    sequence_number: int


class PositionValue(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One open position at a price, in its settle currency."""

    price: Decimal
    source: Literal["mark", "fill"]
    notional: Decimal
    unrealized: Decimal
    margin_initial: Decimal
    margin_maintenance: Decimal


class Valuation(msgspec.Struct, frozen=True, kw_only=True):
    """The derived money figures of an account; all None where they do not compute.

    Attributes:
        positions: value of each open position by symbol.
        margin_ratio: maintenance margin over equity; None where equity is not positive.
        leverage: gross exposure over equity; likewise.
        flags: sorted state flags that follow from the valuation.
    """

    positions: dict[str, PositionValue]
    equity: Decimal | None = None
    unrealized_pnl: Decimal | None = None
    exposure_gross: Decimal | None = None
    exposure_net: Decimal | None = None
    margin_initial: Decimal | None = None
    margin_maintenance: Decimal | None = None
    margin_available: Decimal | None = None
    withdrawable: Decimal | None = None
    margin_ratio: Decimal | None = None
    leverage: Decimal | None = None
    flags: tuple[str, ...] = ()


def valuate(
    currency: str,
    cash: Mapping[str, Decimal],
    positions: Iterable[Position],
    marks: Mapping[str, Mark],
    leverage_limit: Decimal | None,
) -> Valuation:
    """Return the valuation of a ledger at `marks`; null figures where it does not compute.

    Args:
        currency: of the account.
        cash: amount per currency.
        positions: the open ones, ascending by symbol.
        marks: by symbol; a position without a mark is valued at its own last fill.
        leverage_limit: only flags.
    """
    try:
        return _valuate(currency, cash, positions, marks, leverage_limit)
    except ArithmeticError:
        return Valuation(positions={}, flags=("valuation_failed",))


def _valuate(
    currency: str,
    cash: Mapping[str, Decimal],
    positions: Iterable[Position],
    marks: Mapping[str, Mark],
    leverage_limit: Decimal | None,
) -> Valuation:
    flags: dict[str, None] = {}
    values: dict[str, PositionValue] = {}
    home = cash.get(currency, ZERO)
    equity, unrealized, gross, net = home, ZERO, ZERO, ZERO
    initial, maintenance = ZERO, ZERO
    for position in positions:
        value = values[position.symbol] = position_value(position, marks.get(position.symbol))
        if not position.instrument.defined:
            flags["instrument_undefined"] = None
        if position.instrument.settle != currency:
            flags["rate_missing"] = None
            continue
        signed = value.notional if position.size > 0 else negate(value.notional)
        gross, net = add(gross, value.notional), add(net, signed)
        unrealized = add(unrealized, value.unrealized)
        equity = add(equity, signed if position.instrument.full_notional else value.unrealized)
        initial = add(initial, value.margin_initial)
        maintenance = add(maintenance, value.margin_maintenance)
    for other in sorted(cash):
        if cash[other] < 0:
            flags["overdraft"] = None
        if other != currency and cash[other]:
            flags["rate_missing"] = None
    ratio = leverage = None
    if equity > 0:
        ratio, leverage = quotient(maintenance, equity), quotient(gross, equity)
    if values and (ratio is None or ratio >= 1):
        flags["liquidatable"] = None
    if leverage_limit is not None and leverage is not None and leverage > leverage_limit:
        flags["leverage_limit_exceeded"] = None
    return Valuation(
        positions=values,
        equity=equity,
        unrealized_pnl=unrealized,
        exposure_gross=gross,
        exposure_net=net,
        margin_initial=initial,
        margin_maintenance=maintenance,
        margin_available=max(ZERO, subtract(equity, initial)),
        withdrawable=max(ZERO, subtract(add(home, min(ZERO, unrealized)), initial)),
        margin_ratio=ratio,
        leverage=leverage,
        flags=tuple(sorted(flags)),
    )


def position_value(position: Position, mark: Mark | None) -> PositionValue:
    """Return the value of an open position at its mark, or at its own last fill."""
    price = position.last_fill if mark is None else mark.price
    value = notional(position, price)
    return PositionValue(
        price=price,
        source="fill" if mark is None else "mark",
        notional=value,
        unrealized=unrealized_pnl(position, price),
        margin_initial=value,  # leverage is 1 until an event sets it
        margin_maintenance=maintenance_margin(value, position.instrument.margin_tiers),
    )


def maintenance_margin(value: Decimal, tiers: tuple[MarginTier, ...]) -> Decimal:
    """Return notional x rate - amount of the tier that `value` falls in; 0 without tiers.

    A tier without `maintenance_amount` gets the one that makes the margin continuous:
    floor_n x (rate_n - rate_n-1) + amount_n-1.
    """
    rate = amount = ZERO
    for tier in sorted(tiers, key=lambda t: t.notional_floor):
        if tier.notional_floor > value:
            break
        if tier.maintenance_amount is not None:
            amount = tier.maintenance_amount
        else:
            rise = subtract(tier.maintenance_rate, rate)
            amount = add(multiply(tier.notional_floor, rise), amount)
        rate = tier.maintenance_rate
    return subtract(multiply(value, rate), amount)


def peak_after_flow(peak: Decimal | None, equity: Decimal | None, flow: Decimal) -> Decimal | None:
    """Return the peak after an external flow, so that flows neither create nor hide drawdown.

    With equity V before and flow F: peak x (V + F) / V where both V and V + F are positive, else
    V + F where that is positive, else None.
    """
    if not flow or equity is None:
        return peak
    after = add(equity, flow)
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
        return quotient(subtract(peak, equity), peak)
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
    crossed: list[Level] = []
    disarmed: list[Level] = []
    ruined = valuation.equity <= 0 and bool(valuation.positions)
    for name, level in WARNING_LEVELS:
        ratio = valuation.margin_ratio or ZERO
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


def state_hash(ledger_hash: bytes, valuation: Valuation, peak: Decimal | None) -> bytes:
    """Return SHA-256 of the ledger hash and the canonical bytes of the valuation."""

    def text(value: Decimal | None) -> str | None:
        return None if value is None else exact_text(value)

    part = {
        "drawdown": text(drawdown(peak, valuation.equity)),
        "equity": text(valuation.equity),
        "margin_initial": text(valuation.margin_initial),
        "margin_maintenance": text(valuation.margin_maintenance),
        "marks": {s: [exact_text(v.price), v.source] for s, v in valuation.positions.items()},
        "peak_equity": text(peak),
    }
    return hashlib.sha256(ledger_hash + canonical_bytes(part)).digest()
