"""Valuation: what a ledger is worth at the marks of a log sequence. Cross margin.

Source: exchange documentation as summarised in `docs/accounting.md`. Derivatives enter equity by
their unrealized PnL, fully paid instruments (spot, equity) by their market value. Amounts in a
currency other than the account's are excluded and flagged until a rate is known, never taken 1:1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import msgspec

from psm.contracts.codec import encode
from psm.contracts.events import MarginTier
from psm.contracts.updates import Level
from psm.domain.money import (
    ONE,
    ZERO,
    absolute,
    add,
    add_wide,
    exact_text,
    multiply,
    negate,
    quotient,
    scaled,
    subtract,
    subtract_wide,
)
from psm.domain.orders import leaves
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


class Worth(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one position adds to the account's figures, in the account currency.

    Attributes:
        gain: unrealized PnL that is not in cash; none for what is fully paid.
        locked: cash that may not leave because of it. What is fully paid secures itself, so only
            what its own value does not cover: all of it and the margin for a short.
    """

    value: PositionValue
    gross: Decimal
    net: Decimal
    unrealized: Decimal
    equity: Decimal
    gain: Decimal
    locked: Decimal
    initial: Decimal
    maintenance: Decimal
    rated: bool
    defined: bool
    mark_json: bytes


class Worths:
    """The running sums over an account's open positions.

    All sums are exact, so adding what changed and taking away what was gives the same as adding up
    everything anew, in any order: a mark costs the same for an account with 10 and 1 000 positions.

    Attributes:
        values: of the open positions, by symbol.
        stale: symbols whose worth must be computed before the sums are used.
        failed: symbols whose worth does not compute.
    """

    __slots__ = (
        "_undefined",
        "_unrated",
        "_worths",
        "equity",
        "failed",
        "gain",
        "gross",
        "initial",
        "locked",
        "maintenance",
        "net",
        "stale",
        "unrealized",
        "values",
    )

    def __init__(self, symbols: Iterable[str]) -> None:
        self._worths: dict[str, Worth] = {}
        self.values: dict[str, PositionValue] = {}
        self.stale: dict[str, None] = dict.fromkeys(symbols)
        self.failed: dict[str, None] = {}
        self.gross = self.net = self.unrealized = self.equity = ZERO
        self.initial = self.maintenance = self.gain = self.locked = ZERO
        self._undefined = self._unrated = 0

    def refresh(self, account: Account, marks: Mapping[str, Mark], rates: Rates) -> None:
        """Compute what is stale."""
        for symbol in self.stale:
            self._take_away(symbol)
            position = account.positions.get(symbol)
            if position is None or not position.size:
                continue
            try:
                worth = worth_of(account, position, marks.get(symbol), rates)
            except ArithmeticError:
                self.failed[symbol] = None
            else:
                self._put(symbol, worth)
        self.stale = {}

    def flags(self) -> list[str]:
        """Return the flags that follow from the positions."""
        flags = ["instrument_undefined"] if self._undefined else []
        return [*flags, "rate_missing"] if self._unrated else flags

    def marks_json(self) -> bytes:
        """Return the marks used as canonical JSON: symbol -> [price, source]."""
        worths = self._worths
        return b"{" + b",".join([worths[symbol].mark_json for symbol in sorted(worths)]) + b"}"

    def _put(self, symbol: str, worth: Worth) -> None:
        self._worths[symbol] = worth
        self.values[symbol] = worth.value
        self.gross = add_wide(self.gross, worth.gross)
        self.net = add_wide(self.net, worth.net)
        self.unrealized = add_wide(self.unrealized, worth.unrealized)
        self.equity = add_wide(self.equity, worth.equity)
        self.gain = add_wide(self.gain, worth.gain)
        self.locked = add_wide(self.locked, worth.locked)
        self.initial = add_wide(self.initial, worth.initial)
        self.maintenance = add_wide(self.maintenance, worth.maintenance)
        self._undefined += not worth.defined
        self._unrated += not worth.rated

    def _take_away(self, symbol: str) -> None:
        self.failed.pop(symbol, None)
        worth = self._worths.pop(symbol, None)
        if worth is None:
            return
        del self.values[symbol]
        self.gross = subtract_wide(self.gross, worth.gross)
        self.net = subtract_wide(self.net, worth.net)
        self.unrealized = subtract_wide(self.unrealized, worth.unrealized)
        self.equity = subtract_wide(self.equity, worth.equity)
        self.gain = subtract_wide(self.gain, worth.gain)
        self.locked = subtract_wide(self.locked, worth.locked)
        self.initial = subtract_wide(self.initial, worth.initial)
        self.maintenance = subtract_wide(self.maintenance, worth.maintenance)
        self._undefined -= not worth.defined
        self._unrated -= not worth.rated


def worth_of(account: Account, position: Position, mark: Mark | None, rates: Rates) -> Worth:
    """Return what an open position adds to the account; nothing where its rate is unknown."""
    instrument = position.instrument
    value = position_value(
        position, price_of(account, position, mark), account.leverage_of(position.symbol)
    )
    mark_json = encode({position.symbol: [exact_text(value.price), value.source]})[1:-1]
    rate = ONE if instrument.settle == account.currency else rates(instrument.settle)
    if rate is None:
        gross = unrealized = initial = maintenance = ZERO
    elif rate is ONE:
        gross, unrealized = value.notional, value.unrealized
        initial, maintenance = value.margin_initial, value.margin_maintenance
    else:
        gross, unrealized = multiply(value.notional, rate), multiply(value.unrealized, rate)
        initial = multiply(value.margin_initial, rate)
        maintenance = multiply(value.margin_maintenance, rate)
    net = gross if position.size > 0 else negate(gross)
    paid = instrument.full_notional
    return Worth(
        value=value,
        gross=gross,
        net=net,
        unrealized=unrealized,
        equity=net if paid else unrealized,
        gain=ZERO if paid else unrealized,
        locked=max(ZERO, subtract_wide(initial, net)) if paid else initial,
        initial=initial,
        maintenance=maintenance,
        rated=rate is not None,
        defined=instrument.defined,
        mark_json=mark_json,
    )


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
    worths = account.worths
    worths.refresh(account, marks, rates)
    if worths.failed:
        return FAILED
    try:
        return _valuate(account, worths, marks, rates, instruments)
    except ArithmeticError:
        return FAILED


FAILED = Valuation(positions={}, flags=("valuation_failed",))


def _valuate(
    account: Account,
    worths: Worths,
    marks: Mapping[str, Mark],
    rates: Rates,
    instruments: Mapping[str, Instrument],
) -> Valuation:
    flags = worths.flags()
    cash = _cash(account, rates, flags)
    equity = add_wide(cash, worths.equity)
    ordered = ZERO
    if account.has_open_orders:
        ordered, rated = order_margin(account, worths, marks, rates, instruments)
        if not rated:
            flags.append("rate_missing")
    reserved = add_wide(worths.initial, ordered)
    ratio = leverage = None
    if equity > 0:
        ratio, leverage = quotient(worths.maintenance, equity), quotient(worths.gross, equity)
    if worths.values and (ratio is None or ratio >= 1):
        flags.append("liquidatable")
    limit = account.leverage_limit
    if limit is not None and leverage is not None and leverage > limit:
        flags.append("leverage_limit_exceeded")
    free = add_wide(cash, min(ZERO, worths.gain))
    return Valuation(
        positions=worths.values,
        equity=equity,
        unrealized_pnl=worths.unrealized,
        exposure_gross=worths.gross,
        exposure_net=worths.net,
        margin_initial=worths.initial,
        margin_maintenance=worths.maintenance,
        margin_available=max(ZERO, subtract_wide(equity, reserved)),
        withdrawable=max(ZERO, subtract_wide(free, add_wide(worths.locked, ordered))),
        margin_ratio=ratio,
        leverage=leverage,
        flags=tuple(sorted(dict.fromkeys(flags))),
    )


def _cash(account: Account, rates: Rates, flags: list[str]) -> Decimal:
    """Return all cash in the account currency; what has no rate is left out and flagged."""
    cash = ZERO
    for currency, amount in account.cash.items():
        if amount < 0:
            flags.append("overdraft")
        if not amount:
            continue
        rate = ONE if currency == account.currency else rates(currency)
        if rate is None:
            flags.append("rate_missing")
        else:
            cash = add_wide(cash, amount if rate is ONE else multiply(amount, rate))
    return cash


def order_margin(
    account: Account,
    worths: Worths,
    marks: Mapping[str, Mark],
    rates: Rates,
    instruments: Mapping[str, Instrument],
) -> tuple[Decimal, bool]:
    """Return what open orders reserve, and whether every rate is known.

    Per symbol the worse side counts, beyond the position's own margin.
    """
    sides: dict[str, list[Decimal]] = {}
    for order in account.open_orders():
        price = order.price or order.stop_price or _price_for(account, order.symbol, marks)
        if order.reduce_only or price is None:
            continue
        instrument = instrument_for(account, order.symbol, instruments)
        value = notional_of(instrument, leaves(order), price)
        both = sides.setdefault(order.symbol, [ZERO, ZERO])
        index = 0 if order.side == "buy" else 1
        both[index] = add(both[index], value)
    margin, rated = ZERO, True
    for symbol, (buys, sells) in sides.items():
        position, held = account.positions.get(symbol), worths.values.get(symbol)
        size = held.notional if held else ZERO
        signed = negate(size) if position is not None and position.size < 0 else size
        worst = max(absolute(add(signed, buys)), absolute(subtract(signed, sells)), size)
        extra = quotient(subtract(worst, size), account.leverage_of(symbol))
        settle = instrument_for(account, symbol, instruments).settle
        rate = ONE if settle == account.currency else rates(settle)
        if rate is None:
            rated = False
        else:
            margin = add_wide(margin, multiply(extra, rate))
    return margin, rated


def _price_for(account: Account, symbol: str, marks: Mapping[str, Mark]) -> Decimal | None:
    mark = marks.get(symbol)
    if mark is not None:
        return mark_for(account, symbol, mark)
    position = account.positions.get(symbol)
    return None if position is None else position.last_fill


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
    return Price(mark_for(account, position.symbol, mark), "mark")


def mark_for(account: Account, symbol: str, mark: Mark) -> Decimal:
    """Return a mark in the account's units: one that is older than a split is divided."""
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
    # An undefined instrument may have become a spot one since the position opened.
    convertible = position.instrument.kind == "spot" or not position.instrument.defined
    if rate is None or (convertible and is_rate(account, position.symbol)):
        return None
    try:
        own = multiply(value.margin_maintenance, rate)
        others = subtract_wide(valuation.margin_maintenance, own)
        slack = quotient(subtract_wide(valuation.equity, others), rate)
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


def is_rate(account: Account, symbol: str) -> bool:
    """Return whether a symbol's mark converts one of the account's currencies."""
    home = account.currency or ""
    held = (currency for currency, amount in account.cash.items() if amount)
    return any(symbol == f"{c}{home}" for c in (*held, *account.settles) if c != home)


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


def state_hash(account: Account, ledger_hash: bytes, valuation: Valuation) -> bytes:
    """Return SHA-256 of the ledger hash and the canonical bytes of the valuation.

    The bytes are the canonical JSON of drawdown, equity, margin_initial, margin_maintenance, marks
    (symbol -> [price, source]) and peak_equity, each as exact text or null.
    """
    peak = account.peak_equity
    marks = b"{}" if valuation is FAILED else account.worths.marks_json()
    part = b"".join(
        (
            b'{"drawdown":',
            _json(drawdown(peak, valuation.equity)),
            b',"equity":',
            _json(valuation.equity),
            b',"margin_initial":',
            _json(valuation.margin_initial),
            b',"margin_maintenance":',
            _json(valuation.margin_maintenance),
            b',"marks":',
            marks,
            b',"peak_equity":',
            _json(peak),
            b"}",
        )
    )
    return hashlib.sha256(ledger_hash + part).digest()


def _json(value: Decimal | None) -> bytes:
    return b"null" if value is None else f'"{exact_text(value)}"'.encode()
