"""Exposure at the worst subset of fills: buys and sells of open orders never net.

Per symbol: low = (size - open sells) x mark x multiplier, high = (size + open buys) x mark x
multiplier. Orders that only reduce are left out. All values are exact, in the account currency.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from psm.domain.money import ZERO, absolute, add, multiply, subtract
from psm.risk.state import Contract, RiskState, Side

UNCLASSIFIED = "unclassified"
"""The cluster of symbols that are in none."""

_PLAIN = Contract()


class Reach(msgspec.Struct, frozen=True, gc=False):
    """Lowest and highest notional that one symbol's open orders can lead to."""

    low: Decimal = ZERO
    high: Decimal = ZERO

    @property
    def worst(self) -> Decimal:
        """Greatest magnitude."""
        low, high = absolute(self.low), absolute(self.high)
        return max(low, high)


class Sides(msgspec.Struct, frozen=True, gc=False):
    """Sums of notionals above and below zero, both positive."""

    longs: Decimal = ZERO
    shorts: Decimal = ZERO

    def plus(self, notional: Decimal) -> Sides:
        """Return the sums with one more."""
        if notional >= 0:
            return Sides(add(self.longs, notional), self.shorts)
        return Sides(self.longs, subtract(self.shorts, notional))


class Exposure:
    """Ranges of every symbol, and the sums over all but the order's own.

    Args:
        state: positions, open orders, marks.
        symbol: the order's.
        clusters: cluster by symbol; empty for none.

    Attributes:
        unvalued: symbols that are held or ordered and have no mark, ascending.
        own: the order's symbol without the order.
        unit: notional of one of it, at the mark; None without a mark.
        cluster_name: the order's.
    """

    def __init__(self, state: RiskState, symbol: str, clusters: Mapping[str, str]) -> None:
        buys, sells = _pending(state)
        names = sorted({**state.positions, **buys, **sells, symbol: ZERO})
        self.unvalued: list[str] = []
        self._ranges: dict[str, Reach] = {}
        for name in names:
            size, unit = state.positions.get(name, ZERO), unit_notional(state, name)
            low = subtract(size, sells.get(name, ZERO))
            high = add(size, buys.get(name, ZERO))
            if unit is not None:
                self._ranges[name] = Reach(multiply(low, unit), multiply(high, unit))
            elif low or high:
                self.unvalued.append(name)
        self._state, self._symbol = state, symbol
        self.unit = self.unit_of(symbol)
        self.own = self._ranges.get(symbol, Reach())
        self._gross, self._low, self._high = ZERO, ZERO, ZERO
        self._at_high, self._at_low = Sides(), Sides()
        self.cluster_name = cluster_of(symbol, clusters)
        for name, reach in self.others():
            self._gross = add(self._gross, reach.worst)
            self._low, self._high = add(self._low, reach.low), add(self._high, reach.high)
            if clusters and cluster_of(name, clusters) == self.cluster_name:
                self._at_high = self._at_high.plus(reach.high)
                self._at_low = self._at_low.plus(reach.low)

    def others(self) -> list[tuple[str, Reach]]:
        """Return the ranges of every symbol but the order's."""
        return [(name, reach) for name, reach in self._ranges.items() if name != self._symbol]

    def unit_of(self, symbol: str) -> Decimal | None:
        """Return what one of a symbol is worth at its mark; None without one."""
        return unit_notional(self._state, symbol)

    def with_order(self, side: Side, quantity: Decimal) -> Reach:
        """Return the range of the order's symbol with the order at a quantity."""
        more = multiply(quantity, ZERO if self.unit is None else self.unit)
        if side == "buy":
            return Reach(self.own.low, add(self.own.high, more))
        return Reach(subtract(self.own.low, more), self.own.high)

    def gross(self, own: Reach) -> Decimal:
        """Return the sum of the worst magnitudes."""
        return add(self._gross, own.worst)

    def net(self, own: Reach) -> Decimal:
        """Return the greater of what everything bought, and everything sold, would leave."""
        high, low = absolute(add(self._high, own.high)), absolute(add(self._low, own.low))
        return max(low, high)

    def cluster(self, own: Reach, hedge_credit: Decimal) -> Decimal:
        """Return the cluster's exposure: larger side less credit for the smaller, at the worst.

        Everything bought is worst for the long side, everything sold for the short one, as both
        terms of max(L - h S, S - h L) only rise with their own fills.
        """
        bought, sold = self._at_high.plus(own.high), self._at_low.plus(own.low)
        longs = subtract(bought.longs, multiply(hedge_credit, bought.shorts))
        shorts = subtract(sold.shorts, multiply(hedge_credit, sold.longs))
        return max(shorts, longs)


def _pending(state: RiskState) -> tuple[dict[str, Decimal], dict[str, Decimal]]:
    """Return open quantities to buy and to sell, by symbol; those that only reduce left out."""
    buys: dict[str, Decimal] = {}
    sells: dict[str, Decimal] = {}
    for order in state.open_orders:
        if not order.reduce_only:
            side = buys if order.side == "buy" else sells
            side[order.symbol] = add(side.get(order.symbol, ZERO), order.open_quantity)
    return buys, sells


def unit_notional(state: RiskState, symbol: str) -> Decimal | None:
    """Return what one of a symbol is worth at its mark; None without one."""
    mark = state.marks.get(symbol)
    if mark is None:
        return None
    return multiply(mark, state.contracts.get(symbol, _PLAIN).multiplier)


def cluster_of(symbol: str, clusters: Mapping[str, str]) -> str:
    """Return the cluster of a symbol; those in none count as one."""
    return clusters.get(symbol, UNCLASSIFIED)


def reducing_room(state: RiskState, symbol: str, side: Side) -> Decimal:
    """Return how much of a position orders of this side may still close."""
    size = state.positions.get(symbol, ZERO)
    if not size or (size > 0) == (side == "buy"):
        return ZERO
    room = absolute(size)
    for order in state.open_orders:
        if order.symbol == symbol and order.side == side:
            room = subtract(room, order.open_quantity)
    return room if room > 0 else ZERO
