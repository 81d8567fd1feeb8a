"""What each position and order of an account is worth, and the running sums over them.

All sums are exact, so adding what changed and taking away what was gives the same as adding up
everything anew, in any order: a mark costs the same for an account with 10 and 1 000 positions.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

import msgspec

from psm.contracts.codec import json_name
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
    subtract,
    subtract_wide,
)
from psm.domain.orders import Order, leaves
from psm.domain.positions import Instrument, Position, notional_of, undefined_instrument, value_at
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


class Worths:
    """The running sums over an account's open positions and orders.

    Equity and maintenance margin follow every mark; the other sums are brought up to date when
    they are asked for, so marks in between cost nothing.

    Attributes:
        values: of the open positions, by symbol.
        cash: all of it in the account currency, as of the last revaluation; None: not known.
        equity: sum of what positions add to equity.
        maintenance: sum of maintenance margins.
        ordered: sum of what open orders reserve beyond the positions' own margin.
        stale: symbols whose worth must be computed before the sums are used.
        failed: symbols whose worth does not compute.
    """

    __slots__ = (
        "_gross",
        "_initial",
        "_marks_json",
        "_net",
        "_paid_equity",
        "_paid_extra",
        "_paid_unrealized",
        "_reserves",
        "_summed",
        "_symbols",
        "_undefined",
        "_unrated",
        "_unwritten",
        "_worths",
        "cash",
        "equity",
        "failed",
        "maintenance",
        "ordered",
        "stale",
        "values",
    )

    def __init__(self, symbols: Iterable[str]) -> None:
        self.values: dict[str, PositionValue] = {}
        self.cash: Decimal | None = None
        self.equity = self.maintenance = self.ordered = ZERO
        self.stale: dict[str, None] = dict.fromkeys(symbols)
        self.failed: dict[str, None] = {}
        self._worths: dict[str, Worth] = {}
        self._reserves: dict[str, Reserve] = {}
        self._summed: dict[str, Worth | None] = {}  # what changed since `figures`, as it was then
        self._gross = self._net = self._initial = ZERO
        self._paid_equity = self._paid_unrealized = self._paid_extra = ZERO
        self._undefined = self._unrated = 0
        self._symbols: list[str] = []
        self._marks_json: dict[str, str] = {}
        self._unwritten: dict[str, None] = {}  # symbols whose entry in it is old

    def expire(self) -> None:
        """Forget every worth: a rate changed."""
        for known in (self._worths, self._reserves, self.failed):
            self.stale.update(dict.fromkeys(known))

    def refresh(
        self,
        account: Account,
        marks: Mapping[str, Mark],
        rates: Rates,
        instruments: Mapping[str, Instrument],
    ) -> None:
        """Compute what is stale."""
        stale, self.stale = self.stale, {}
        for symbol in stale:
            if self.failed:
                self.failed.pop(symbol, None)
            position, worth = account.positions.get(symbol), None
            if position is not None and position.size:
                try:
                    worth = worth_of(account, position, marks.get(symbol), rates)
                except ArithmeticError:
                    self.failed[symbol] = None
            self._put(symbol, worth)
            if account.has_open_orders or self._reserves:
                reserve = None
                try:
                    reserve = self._reserve(account, symbol, marks, rates, instruments)
                except ArithmeticError:
                    self.failed[symbol] = None
                self._put_reserve(symbol, reserve)

    def figures(self) -> Figures:
        """Return the sums; bring those up to date that no mark needs."""
        if self._summed:
            for symbol, before in self._summed.items():
                self._sum_up(before, self._worths.get(symbol))
            self._summed = {}
        gain = subtract_wide(self.equity, self._paid_equity)
        return Figures(
            gross=self._gross,
            net=self._net,
            unrealized=add_wide(gain, self._paid_unrealized),
            initial=self._initial,
            gain=gain,
            locked=add_wide(self._initial, self._paid_extra),
        )

    def flags(self) -> list[str]:
        """Return the flags that follow from positions and orders."""
        flags = ["instrument_undefined"] if self._undefined else []
        return [*flags, "rate_missing"] if self._unrated else flags

    def marks_json(self) -> str:
        """Return the marks used as canonical JSON: symbol -> [price, source]."""
        texts = self._marks_json
        if self._unwritten:
            for symbol in self._unwritten:
                value = self.values.get(symbol)
                if value is None:
                    texts.pop(symbol, None)
                else:
                    price = exact_text(value.price)
                    texts[symbol] = f'{json_name(symbol)}:["{price}","{value.source}"]'
            self._unwritten = {}
        return ",".join([texts[symbol] for symbol in self._symbols])

    def _put(self, symbol: str, worth: Worth | None) -> None:
        """Replace the worth of a symbol."""
        before = self._worths.get(symbol)
        if before is worth:  # both None
            return
        if symbol not in self._summed:
            self._summed[symbol] = before
        self._unwritten[symbol] = None
        if before is not None:
            self.equity = subtract_wide(self.equity, before.equity)
            if before.maintenance:
                self.maintenance = subtract_wide(self.maintenance, before.maintenance)
            self._undefined -= not before.defined
            self._unrated -= not before.rated
        elif worth is not None:
            insort(self._symbols, symbol)
        if worth is None:
            del self._worths[symbol], self.values[symbol]
            del self._symbols[bisect_left(self._symbols, symbol)]
            return
        self._worths[symbol] = worth
        self.values[symbol] = worth.value
        self.equity = add_wide(self.equity, worth.equity)
        if worth.maintenance:
            self.maintenance = add_wide(self.maintenance, worth.maintenance)
        self._undefined += not worth.defined
        self._unrated += not worth.rated

    def _sum_up(self, before: Worth | None, worth: Worth | None) -> None:
        if before is worth:
            return
        if before is not None:
            self._gross = subtract_wide(self._gross, before.gross)
            self._net = subtract_wide(self._net, before.net)
            self._initial = subtract_wide(self._initial, before.initial)
            if before.paid:
                extra = subtract_wide(before.locked, before.initial)
                self._paid_equity = subtract_wide(self._paid_equity, before.equity)
                self._paid_unrealized = subtract_wide(self._paid_unrealized, before.unrealized)
                self._paid_extra = subtract_wide(self._paid_extra, extra)
        if worth is not None:
            self._gross = add_wide(self._gross, worth.gross)
            self._net = add_wide(self._net, worth.net)
            self._initial = add_wide(self._initial, worth.initial)
            if worth.paid:
                extra = subtract_wide(worth.locked, worth.initial)
                self._paid_equity = add_wide(self._paid_equity, worth.equity)
                self._paid_unrealized = add_wide(self._paid_unrealized, worth.unrealized)
                self._paid_extra = add_wide(self._paid_extra, extra)

    def _put_reserve(self, symbol: str, reserve: Reserve | None) -> None:
        before = self._reserves.pop(symbol, None)
        if before is not None:
            self.ordered = subtract_wide(self.ordered, before.amount)
            self._unrated -= not before.rated
        if reserve is not None:
            self._reserves[symbol] = reserve
            self.ordered = add_wide(self.ordered, reserve.amount)
            self._unrated += not reserve.rated

    def _reserve(
        self,
        account: Account,
        symbol: str,
        marks: Mapping[str, Mark],
        rates: Rates,
        instruments: Mapping[str, Instrument],
    ) -> Reserve | None:
        """Return what a symbol's open orders reserve: the worse side, beyond the position's own."""
        orders = account.open_orders_of(symbol)
        if not orders:
            return None
        instrument = instrument_for(account, symbol, instruments)
        sides = _sides(account, instrument, orders, marks)
        if sides is None:
            return None
        buys, sells = sides
        held, position = self.values.get(symbol), account.positions.get(symbol)
        size = held.notional if held else ZERO
        signed = negate(size) if position is not None and position.size < 0 else size
        worst = max(absolute(add(signed, buys)), absolute(subtract(signed, sells)), size)
        extra = quotient(subtract(worst, size), account.leverage_of(symbol))
        settle = instrument.settle
        rate = ONE if settle == account.currency else rates(settle)
        if rate is None:
            return Reserve(ZERO, rated=False)
        return Reserve(extra if rate is ONE else multiply(extra, rate), rated=True)


class Reserve(msgspec.Struct, frozen=True, gc=False):
    """What the open orders of a symbol reserve, in the account currency; 0 without a rate."""

    amount: Decimal
    rated: bool


class Figures(msgspec.Struct, frozen=True, gc=False):
    """Sums over positions in the account currency.

    Attributes:
        gain: unrealized PnL that is not in cash; none of it for what is fully paid.
        locked: cash that may not leave because of the positions.
    """

    gross: Decimal
    net: Decimal
    unrealized: Decimal
    initial: Decimal
    gain: Decimal
    locked: Decimal


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


def _sides(
    account: Account, instrument: Instrument, orders: list[Order], marks: Mapping[str, Mark]
) -> tuple[Decimal, Decimal] | None:
    """Return the notional of open buys and sells; None where no order reserves anything."""
    buys = sells = ZERO
    found = False
    for order in orders:
        price = order.price or order.stop_price or _price_for(account, order.symbol, marks)
        if order.reduce_only or price is None:
            continue
        found = True
        value = notional_of(instrument, leaves(order), price)
        if order.side == "buy":
            buys = add(buys, value)
        else:
            sells = add(sells, value)
    return (buys, sells) if found else None


def _price_for(account: Account, symbol: str, marks: Mapping[str, Mark]) -> Decimal | None:
    mark = marks.get(symbol)
    if mark is not None:
        return mark_for(account, symbol, mark)
    position = account.positions.get(symbol)
    return None if position is None else position.last_fill
