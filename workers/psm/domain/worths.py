"""What each position and order of an account is worth, and the running sums over them.

All sums are exact, so adding what changed and taking away what was gives the same as adding up
everything anew, in any order: a mark costs the same for an account with 10 and 1 000 positions.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from psm.contracts.codec import json_name
from psm.domain.money import ZERO, add_wide, exact_text, subtract_wide
from psm.domain.positions import Instrument
from psm.domain.reserves import Reserve, reserve_of
from psm.domain.worth import Mark, PositionValue, Rates, Worth, worth_of

if TYPE_CHECKING:  # an account keeps its worths
    from psm.domain.account import Account


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
                    held = self.values.get(symbol)
                    reserve = reserve_of(account, symbol, held, marks, rates, instruments)
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
