"""Exposure at the worst subset of fills: buys and sells of open orders never net.

A *line* is what one account holds and has ordered of one thing: a position, a leg of hedge mode,
an asset. low = (size - open sells) x unit, high = (size + open buys) x unit, where the unit is what
one of it is worth. Orders that only reduce are left out. Figures of an account, and of a group,
are sums over lines, kept up to date line by line; nothing of one line offsets another but where a
figure says so. All values are exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import cached_property, lru_cache

import msgspec

from psm.domain.money import ZERO, absolute, add, multiply, negate, subtract
from psm.risk.state import Side

UNCLASSIFIED = "unclassified"
"""The cluster of symbols that are in none."""

TagKind = str
"""`cluster`, `currency` or `sector`."""

Key = tuple[str, str]
"""Name of a sum and what it is of: ("gross", ""), ("symbol", "BTC"), ("cluster.high+", "c1")."""

_GROSS: Key = ("gross", "")
_LOW: Key = ("low", "")
_HIGH: Key = ("high", "")
_MARGIN: Key = ("margin", "")
OPEN: Mapping[Side, Key] = {"buy": ("open", "buy"), "sell": ("open", "sell")}


class Reach(msgspec.Struct, frozen=True, gc=False):
    """Lowest and highest notional that one line's open orders can lead to, and the greater."""

    low: Decimal = ZERO
    high: Decimal = ZERO
    worst: Decimal = ZERO

    @classmethod
    def between(cls, low: Decimal, high: Decimal) -> Reach:
        """Return the range between two notionals."""
        return cls(low, high, max(absolute(low), absolute(high)))


class ExposureLine(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What an account holds and has ordered of one thing.

    Attributes:
        symbol: of it.
        size: signed.
        buys, sells: open quantities that may open something.
        all_buys, all_sells: those of orders that only reduce among them.
        unit: what one is worth; None if that is not known.
        margin_rate: initial margin of a notional.
        tags: what its symbol is counted under, by kind.
    """

    symbol: str
    size: Decimal = ZERO
    buys: Decimal = ZERO
    sells: Decimal = ZERO
    all_buys: Decimal = ZERO
    all_sells: Decimal = ZERO
    unit: Decimal | None = None
    margin_rate: Decimal = ZERO
    tags: tuple[tuple[TagKind, str], ...] = ()

    def reach(self, buys: Decimal = ZERO, sells: Decimal = ZERO) -> Reach:
        """Return the range with so much more to buy and to sell; nothing without a unit."""
        if self.unit is None:
            return Reach()
        low = subtract(self.size, add(self.sells, sells))
        high = add(self.size, add(self.buys, buys))
        return Reach.between(multiply(low, self.unit), multiply(high, self.unit))

    def room(self, side: Side) -> Decimal:
        """Return how much of the position orders of a side may still close."""
        if not self.size or (self.size > 0) == (side == "buy"):
            return ZERO
        taken = self.all_buys if side == "buy" else self.all_sells
        room = subtract(absolute(self.size), taken)
        return room if room > 0 else ZERO

    def scaled(self, rate: Decimal | None) -> ExposureLine:
        """Return the line in another currency."""
        if self.unit is None:
            return self
        unit = None if rate is None else multiply(self.unit, rate)
        return msgspec.structs.replace(self, unit=unit)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held and nothing is ordered."""
        return not (self.size or self.all_buys or self.all_sells)

    def unvalued(self) -> tuple[Key, ...]:
        """Return of what the worth is not known: of a position with its orders, of a side's."""
        if self.unit is not None:
            return ()
        kinds = {
            "line": self.size or self.buys or self.sells,
            "buy": self.all_buys,
            "sell": self.all_sells,
        }
        return tuple((kind, self.symbol) for kind, some in kinds.items() if some)

    @cached_property
    def contribution(self) -> Mapping[Key, Decimal]:
        """What the line adds to each sum."""
        if self.unit is None:
            return {}
        reach = self.reach()
        found = {
            _GROSS: reach.worst,
            _LOW: reach.low,
            _HIGH: reach.high,
            _MARGIN: multiply(self.margin_rate, reach.worst),
            OPEN["buy"]: multiply(self.all_buys, self.unit),
            OPEN["sell"]: multiply(self.all_sells, self.unit),
            ("symbol", self.symbol): reach.worst,
        }
        for kind, tag in self.tags:
            found[_side_key(kind, "high", reach.high), tag] = absolute(reach.high)
            found[_side_key(kind, "low", reach.low), tag] = absolute(reach.low)
        return found


class LineChange:
    """What changes of sums when a line is counted as it is, instead of as it was.

    Attributes:
        amounts: to be added, none of them zero.
        unvalued: lines without a worth: -1 that was counted, 1 that is.
    """

    __slots__ = ("amounts", "unvalued")

    def __init__(self, before: ExposureLine | None, after: ExposureLine | None) -> None:
        """Compare two forms of a line; None: it is not there."""
        old = {} if before is None else before.contribution
        new = {} if after is None else after.contribution
        self.amounts = [
            (key, subtract(amount, old.get(key, ZERO)))
            for key, amount in new.items()
            if amount != old.get(key, ZERO)
        ]
        gone = [(key, negate(own)) for key, own in old.items() if own and key not in new]
        self.amounts = [*self.amounts, *gone] if gone else self.amounts
        self.unvalued = [
            (line, sign)
            for line, sign in ((before, -1), (after, 1))
            if line is not None and line.unit is None
        ]


class Sums:
    """Sums over lines; adding and taking away is exact, so any order gives the same."""

    __slots__ = ("_unvalued", "_values")

    def __init__(self) -> None:
        self._values: dict[Key, Decimal] = {}
        self._unvalued: dict[Key, int] = {}

    def of(self, key: Key) -> Decimal:
        """Return a sum; 0 where no line adds to it."""
        return self._values.get(key, ZERO)

    def unvalued(self, kind: str) -> list[str]:
        """Return symbols of whose positions (`line`), or orders of a side, no worth is known."""
        return [symbol for own, symbol in self._unvalued if own == kind]

    def replace(self, before: ExposureLine | None, after: ExposureLine | None) -> None:
        """Count a line as it is after something changed it, instead of as it was."""
        self.change(LineChange(before, after))

    def change(self, change: LineChange) -> None:
        """Count what changed of a line."""
        values = self._values
        for key, amount in change.amounts:
            changed = add(values.get(key, ZERO), amount)
            if changed:
                values[key] = changed
            else:
                del values[key]
        for line, sign in change.unvalued:
            self._count_unvalued(line, sign)

    def _count_unvalued(self, line: ExposureLine, sign: int) -> None:
        for key in line.unvalued():
            count = self._unvalued.get(key, 0)
            count += sign
            if count:
                self._unvalued[key] = count
            else:
                del self._unvalued[key]


class Exposure:
    """The sums with an order in them, at any quantity.

    Args:
        sums: of the account or group.
        line: the order's, without what the order replaces.
        counted: the same line as it is in the sums; None where it is as `line` is.
        replaced: open quantity that the order replaces: it counts as the worse of both.
    """

    def __init__(
        self,
        sums: Sums,
        line: ExposureLine,
        counted: ExposureLine | None = None,
        replaced: Decimal = ZERO,
    ) -> None:
        self._sums, self.line, self._replaced = sums, line, replaced
        counted = line if counted is None else counted
        self._own = counted.contribution
        self._at: tuple[Decimal | None, Side, Reach] = None, "buy", Reach()
        self._gross: tuple[Reach | None, Decimal] = None, ZERO
        self._tags = dict(line.tags)

    @cached_property
    def unvalued(self) -> list[str]:
        """Symbols that are held or ordered and whose worth is not known, ascending."""
        return sorted(self._sums.unvalued("line"))

    def are_orders_valued(self, side: Side) -> bool:
        """Return whether the worth of every open order of a side is known, and of the order."""
        return self.line.unit is not None and not self._sums.unvalued(side)

    def tag(self, kind: TagKind) -> str | None:
        """Return what the order is counted under; None for nothing."""
        return self._tags.get(kind)

    def with_order(self, side: Side, quantity: Decimal) -> Reach:
        """Return the range of the order's line with the order at a quantity."""
        asked, of, found = self._at
        if asked is quantity and of == side:  # every figure asks for the same one
            return found
        more = max(self._replaced, quantity)
        found = self.line.reach(buys=more) if side == "buy" else self.line.reach(sells=more)
        self._at = quantity, side, found
        return found

    def gross(self, own: Reach) -> Decimal:
        """Return the sum of the worst magnitudes."""
        asked, found = self._gross
        if asked is not own:  # several figures ask for the same one
            found = add(self._others(_GROSS), own.worst)
            self._gross = own, found
        return found

    def symbol(self, own: Reach) -> Decimal:
        """Return the sum of the worst magnitudes of the symbol."""
        return add(self._others(("symbol", self.line.symbol)), own.worst)

    def net(self, own: Reach) -> Decimal:
        """Return the greater of what everything bought, and everything sold, would leave."""
        high = absolute(add(self._others(_HIGH), own.high))
        low = absolute(add(self._others(_LOW), own.low))
        return max(low, high)

    def tagged(self, kind: TagKind, own: Reach, hedge_credit: Decimal) -> Decimal:
        """Return a tag's exposure: larger side less credit for the smaller, at the worst.

        Everything bought is worst for the long side, everything sold for the short one, as both
        terms of max(L - h S, S - h L) only rise with their own fills.
        """
        tag = self.tag(kind) or UNCLASSIFIED
        longs = self._side(kind, tag, "high", own.high)
        shorts = self._side(kind, tag, "low", own.low)
        bought = subtract(longs[0], multiply(hedge_credit, longs[1]))
        sold = subtract(shorts[1], multiply(hedge_credit, shorts[0]))
        return max(sold, bought)

    def margin(self, own: Reach) -> Decimal:
        """Return the sum of initial margins at the worst."""
        return add(self._others(_MARGIN), multiply(self.line.margin_rate, own.worst))

    def open_notional(self, side: Side, quantity: Decimal) -> Decimal:
        """Return the notional of open orders of a side, the order among them."""
        line = self.line
        assert line.unit is not None, "asked only where it is known"
        own = add(line.all_buys if side == "buy" else line.all_sells, max(self._replaced, quantity))
        return add(self._others(OPEN[side]), multiply(line.unit, own))

    def _side(self, kind: str, tag: str, end: str, own: Decimal) -> tuple[Decimal, Decimal]:
        """Return the sums of a tag above and below zero at one end, the order's line in them."""
        above, below = _side_keys(kind, end)
        longs, shorts = self._others((above, tag)), self._others((below, tag))
        if own >= 0:
            return add(longs, own), shorts
        return longs, subtract(shorts, own)

    def _others(self, key: Key) -> Decimal:
        own = self._own.get(key)
        return self._sums.of(key) if own is None else subtract(self._sums.of(key), own)


def _side_key(kind: TagKind, end: str, notional: Decimal) -> str:
    above, below = _side_keys(kind, end)
    return above if notional >= 0 else below


@lru_cache(maxsize=64)
def _side_keys(kind: TagKind, end: str) -> tuple[str, str]:
    """Return the names of the sums above and below zero at one end."""
    return f"{kind}.{end}+", f"{kind}.{end}-"


def cluster_of(symbol: str, clusters: Mapping[str, str]) -> str:
    """Return the cluster of a symbol; those in none count as one."""
    return clusters.get(symbol, UNCLASSIFIED)
