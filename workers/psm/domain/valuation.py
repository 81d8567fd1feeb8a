"""Valuation: what a ledger is worth at the marks of a log sequence. Cross margin.

Source: exchange documentation as summarised in `docs/accounting.md`. Derivatives enter equity by
their unrealized PnL, fully paid instruments (spot, equity) by their market value. Amounts in a
currency other than the account's are excluded and flagged until a rate is known, never taken 1:1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

import msgspec

from psm.contracts.codec import canonical_bytes
from psm.contracts.events import MarginTier
from psm.contracts.updates import Level
from psm.domain.money import (
    ONE,
    ZERO,
    absolute,
    add,
    exact_text,
    multiply,
    negate,
    quotient,
    scaled,
    subtract,
)
from psm.domain.orders import Order, leaves
from psm.domain.positions import (
    Instrument,
    Position,
    notional,
    notional_of,
    undefined_instrument,
    unrealized_pnl,
)

if TYPE_CHECKING:  # an account keeps its valuation
    from psm.domain.account import Account

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


Rates = Callable[[str], Decimal | None]
"""Currency -> value of one unit in the account currency; None where no rate is known."""


def valuate(account: Account, marks: Mapping[str, Mark], rates: Rates) -> Valuation:
    """Return the valuation of an account's ledger at `marks`; null figures where it fails.

    Args:
        account: the ledger; a position without a mark is valued at its own last fill.
        marks: current marks by symbol.
        rates: what converts amounts in other currencies; without a rate they are left out.
    """
    try:
        return _Valuer(account, marks, rates).run()
    except ArithmeticError:
        return Valuation(positions={}, flags=("valuation_failed",))


class _Valuer:
    """Adds up one account; every sum is exact, so their order does not matter."""

    def __init__(self, account: Account, marks: Mapping[str, Mark], rates: Rates) -> None:
        self._account = account
        self._marks = marks
        self._rates = rates
        self._flags: dict[str, None] = {}
        self._values: dict[str, PositionValue] = {}
        self._equity = self._unrealized = self._gross = self._net = ZERO
        self._initial = self._maintenance = ZERO

    def run(self) -> Valuation:
        account = self._account
        cash = self._cash()
        for position in account.open_positions():
            self._position(position)
        equity, unrealized = add(self._equity, cash), self._unrealized
        reserved = add(self._initial, self._order_margin())
        ratio = leverage = None
        if equity > 0:
            ratio, leverage = quotient(self._maintenance, equity), quotient(self._gross, equity)
        if self._values and (ratio is None or ratio >= 1):
            self._flags["liquidatable"] = None
        limit = account.leverage_limit
        if limit is not None and leverage is not None and leverage > limit:
            self._flags["leverage_limit_exceeded"] = None
        return Valuation(
            positions=self._values,
            equity=equity,
            unrealized_pnl=unrealized,
            exposure_gross=self._gross,
            exposure_net=self._net,
            margin_initial=self._initial,
            margin_maintenance=self._maintenance,
            margin_available=max(ZERO, subtract(equity, reserved)),
            withdrawable=max(ZERO, subtract(add(cash, min(ZERO, unrealized)), reserved)),
            margin_ratio=ratio,
            leverage=leverage,
            flags=tuple(sorted(self._flags)),
        )

    def _cash(self) -> Decimal:
        """Return all cash in the account currency; what has no rate is left out and flagged."""
        cash = ZERO
        for currency, amount in self._account.cash.items():
            if amount < 0:
                self._flags["overdraft"] = None
            if amount:
                cash = add(cash, self._converted(amount, currency))
        return cash

    def _position(self, position: Position) -> None:
        account = self._account
        price = price_of(account, position, self._marks.get(position.symbol))
        leverage = account.leverage_of(position.symbol)
        value = position_value(position, price, leverage)
        self._values[position.symbol] = value
        instrument = position.instrument
        if not instrument.defined:
            self._flags["instrument_undefined"] = None
        worth = self._converted(value.notional, instrument.settle)
        signed = worth if position.size > 0 else negate(worth)
        unrealized = self._converted(value.unrealized, instrument.settle)
        self._gross, self._net = add(self._gross, worth), add(self._net, signed)
        self._unrealized = add(self._unrealized, unrealized)
        self._equity = add(self._equity, signed if instrument.full_notional else unrealized)
        self._initial = add(self._initial, self._converted(value.margin_initial, instrument.settle))
        maintenance = self._converted(value.margin_maintenance, instrument.settle)
        self._maintenance = add(self._maintenance, maintenance)

    def _order_margin(self) -> Decimal:
        """Return what open orders reserve: per symbol the worse side, beyond the position's."""
        sides: dict[str, list[Decimal]] = {}
        settles: dict[str, str] = {}
        for order in self._account.open_orders():
            instrument = order_instrument(self._account, order)
            price = order.price or order.stop_price or self._price_for(order.symbol)
            if order.reduce_only or price is None:
                continue
            value = notional_of(instrument, leaves(order), price)
            both = sides.setdefault(order.symbol, [ZERO, ZERO])
            settles[order.symbol] = instrument.settle
            index = 0 if order.side == "buy" else 1
            both[index] = add(both[index], value)
        margin = ZERO
        for symbol, (buys, sells) in sides.items():
            held = self._values.get(symbol)
            size = held.notional if held else ZERO
            position = self._account.positions.get(symbol)
            signed = size if position is None or position.size > 0 else negate(size)
            worst = max(absolute(add(signed, buys)), absolute(subtract(signed, sells)), size)
            extra = quotient(subtract(worst, size), self._account.leverage_of(symbol))
            margin = add(margin, self._converted(extra, settles[symbol]))
        return margin

    def _price_for(self, symbol: str) -> Decimal | None:
        mark = self._marks.get(symbol)
        if mark is not None:
            return mark.price
        position = self._account.positions.get(symbol)
        return None if position is None else position.last_fill

    def _converted(self, amount: Decimal, currency: str) -> Decimal:
        if currency == self._account.currency:
            return amount
        rate = self._rates(currency)
        if rate is None:
            self._flags["rate_missing"] = None
            return ZERO
        return multiply(amount, rate)


class Price(msgspec.Struct, frozen=True, gc=False):
    """What a position is valued at, and where that comes from."""

    value: Decimal
    source: Literal["mark", "fill"]


def price_of(account: Account, position: Position, mark: Mark | None) -> Price:
    """Return the price of a position: its mark, or its own last fill until one exists.

    A mark that is older than a split is of units that no longer exist: it is divided by the ratio.
    """
    if mark is None:
        return Price(position.last_fill, "fill")
    split = account.splits.get(position.symbol)
    if split is not None and split[0] == mark.sequence_number:
        return Price(quotient(mark.price, split[1]), "mark")
    return Price(mark.price, "mark")


def order_instrument(account: Account, order: Order) -> Instrument:
    """Return the instrument of an order as far as the account knows it."""
    position = account.positions.get(order.symbol)
    if position is not None:
        return position.instrument
    return undefined_instrument(order.symbol, account.currency or "")


def position_value(position: Position, price: Price, leverage: Decimal) -> PositionValue:
    """Return the value of an open position at a price, in its settle currency."""
    value = notional(position, price.value)
    return PositionValue(
        price=price.value,
        source=price.source,
        notional=value,
        unrealized=unrealized_pnl(position, price.value),
        margin_initial=value if leverage == 1 else quotient(value, leverage),
        margin_maintenance=maintenance_margin(value, position.instrument.margin_tiers),
    )


def liquidation_price(
    account: Account, position: Position, valuation: Valuation, rates: Rates
) -> Decimal | None:
    """Return the mark of this position at which equity equals maintenance margin, or None.

    All other marks are taken as frozen; no closing fee. Of the solutions per margin tier the one
    that lies in its own tier counts: the margin is continuous, so there is at most one.
    None where there is no positive price, or the symbol also serves as a rate of the account.
    """
    value = valuation.positions.get(position.symbol)
    if value is None or valuation.equity is None or valuation.margin_maintenance is None:
        return None
    settle = position.instrument.settle
    rate = ONE if settle == account.currency else rates(settle)
    if rate is None or position.symbol in rate_symbols(account):
        return None
    try:
        own = multiply(value.margin_maintenance, rate)
        others = subtract(valuation.margin_maintenance, own)
        slack = quotient(subtract(valuation.equity, others), rate)
        return _solve(position, value, slack)
    except ArithmeticError:
        return None


def _solve(position: Position, value: PositionValue, slack: Decimal) -> Decimal | None:
    """Solve equity(x) - other maintenance = maintenance(x) in the settle currency.

    Value at x is size x multiplier x x; for an inverse contract size x multiplier x (1/x), which
    falls as x rises, so its side is mirrored and the solution is a reciprocal.
    """
    instrument = position.instrument
    units = multiply(absolute(position.size), instrument.multiplier)
    side = ONE if (position.size > 0) != instrument.inverse else negate(ONE)
    fixed = subtract(slack, multiply(side, value.notional))
    for floor, ceiling, rate, amount in tiers_of(instrument.margin_tiers):
        denominator = multiply(units, subtract(rate, side))
        if not denominator:
            continue
        level = quotient(add(fixed, amount), denominator)
        at = multiply(units, level)
        if level > 0 and at >= floor and (ceiling is None or at < ceiling):
            return quotient(ONE, level) if instrument.inverse else level
    return None


def rate_symbols(account: Account) -> list[str]:
    """Return the symbols whose marks convert this account's currencies, ascending."""
    settles = {p.instrument.settle: None for p in account.positions.values() if p.size}
    held = {currency: None for currency, amount in account.cash.items() if amount}
    home = account.currency or ""
    return [f"{c}{home}" for c in sorted({**settles, **held}) if c != home]


def tiers_of(
    tiers: tuple[MarginTier, ...],
) -> list[tuple[Decimal, Decimal | None, Decimal, Decimal]]:
    """Return (floor, next floor, rate, amount) per tier, ascending, from notional 0 on.

    A tier without `maintenance_amount` gets the one that makes the margin continuous:
    floor_n x (rate_n - rate_n-1) + amount_n-1.
    """
    ordered = sorted(tiers, key=lambda tier: tier.notional_floor)
    found: list[tuple[Decimal, Decimal | None, Decimal, Decimal]] = []
    rate = amount = floor = ZERO
    for tier in ordered:
        if tier.notional_floor > floor:
            found.append((floor, tier.notional_floor, rate, amount))
        if tier.maintenance_amount is not None:
            amount = tier.maintenance_amount
        else:
            rise = subtract(tier.maintenance_rate, rate)
            amount = add(multiply(tier.notional_floor, rise), amount)
        rate, floor = tier.maintenance_rate, tier.notional_floor
    found.append((floor, None, rate, amount))
    return found


def maintenance_margin(value: Decimal, tiers: tuple[MarginTier, ...]) -> Decimal:
    """Return notional x rate - amount of the tier that `value` falls in; 0 without tiers."""
    rate = amount = ZERO
    for floor, _, tier_rate, tier_amount in tiers_of(tiers) if tiers else ():
        if floor > value:
            break
        rate, amount = tier_rate, tier_amount
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

    A level arms again below 0.95 of itself. Equity that is not positive counts as level 1.0 alone.
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
        if used > leverage_limit:
            disarmed.append(LEVERAGE_LIMIT)
            if LEVERAGE_LIMIT not in warned:
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
