"""Figures that grow with the quantity of an order, each with the limit that it must stay within."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal

import msgspec

from psm.domain.money import ZERO, absolute, add, multiply, quotient, subtract
from psm.risk.exposure import Exposure
from psm.risk.limits import Limits
from psm.risk.state import Contract, ProposedOrder, RiskState

_HALF = Decimal("0.5")
_PLAIN = Contract()
Figure = Callable[[Decimal], Decimal]


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """A figure by quantity; it never falls as the quantity grows.

    Attributes:
        name: of the check.
        scope: whose limit it is.
        limit: None for no limit.
        after: the figure at a quantity; None if it cannot be known, and `unknown` says why.
        shown: what is reported of quantity and limit, where it is not the figure itself.
    """

    name: str
    scope: str
    limit: Decimal | None
    after: Figure | None
    unknown: str | None = None
    shown: tuple[Figure, Decimal] | None = None

    def within(self, quantity: Decimal) -> bool:
        """Return whether the figure is within its limit; what cannot be known is not."""
        if self.limit is None:
            return True
        return self.after is not None and self.after(quantity) <= self.limit

    def allows(self, quantity: Decimal) -> bool:
        """Return whether it is within the limit, or no worse than without the order."""
        if self.within(quantity):
            return True
        return self.after is not None and self.after(quantity) <= self.after(ZERO)


class Bands:
    """All bands of an order.

    Args:
        state: of the account or group.
        limits: that hold.
        order: as requested.
        clusters: cluster by symbol.
    """

    def __init__(
        self, state: RiskState, limits: Limits, order: ProposedOrder, clusters: Mapping[str, str]
    ) -> None:
        self._state, self._limits, self._order = state, limits, order
        self._clusters = clusters
        self._contract = state.contracts.get(order.symbol, _PLAIN)
        self._mark = state.marks.get(order.symbol)
        self._exposure = Exposure(state, order.symbol, clusters)

    def all(self) -> list[Band]:
        """Return every band, in the order of the catalogue."""
        return [*self._of_the_order(), *self._of_exposure()]

    def _of_the_order(self) -> Iterator[Band]:
        limits, order, multiplier = self._limits, self._order, self._contract.multiplier
        yield Band(
            name="max_order_quantity",
            scope=f"symbol:{order.symbol}",
            limit=limits.quantity_of(order.symbol),
            after=lambda quantity: quantity,
        )
        price = _greater(order.price, self._mark)
        each = None if price is None else multiply(price, multiplier)
        yield self._band("max_order_notional", limits.max_order_notional, _each(each))
        yield self._band("risk_per_trade", self._share(limits.risk_per_trade), self._at_stake())
        yield self._band("available_margin", self._share(limits.available_margin), self._margin())

    def _of_exposure(self) -> Iterator[Band]:
        limits, exposure, side = self._limits, self._exposure, self._order.side

        def known(figure: Figure) -> Figure | None:
            return figure if not exposure.unvalued and self._mark is not None else None

        gross = known(lambda x: exposure.gross(exposure.with_order(side, x)))
        own = known(lambda x: exposure.with_order(side, x).worst) if self._mark else None
        yield self._band("leverage", self._share(limits.leverage), gross)
        yield self._band(
            "exposure_symbol", self._share(limits.exposure_symbol), own,
            scope=f"symbol:{self._order.symbol}",
        )  # fmt: skip
        yield self._band("exposure_gross", self._share(limits.exposure_gross), gross)
        yield self._band(
            "exposure_net",
            self._share(limits.exposure_net),
            known(lambda x: exposure.net(exposure.with_order(side, x))),
        )
        credit = limits.hedge_credit
        yield self._band(
            "exposure_cluster",
            self._share(limits.exposure_cluster) if self._clusters else None,
            known(lambda x: exposure.cluster(exposure.with_order(side, x), credit)),
            scope=f"cluster:{exposure.cluster_name}",
        )
        yield self._band("open_orders_notional", limits.open_orders_notional, self._open_notional())
        yield self._concentration(own, gross)

    def _concentration(self, own: Figure | None, gross: Figure | None) -> Band:
        """Share of the gross exposure; below half of the equity any share is fine."""
        share, half = self._limits.concentration, multiply(_HALF, self._state.equity)
        scope = f"symbol:{self._order.symbol}"
        if own is None or gross is None:
            return self._band("concentration", share, None, scope=scope)

        def excess(quantity: Decimal) -> Decimal:
            everything = gross(quantity)
            if share is None or everything <= half:
                return ZERO
            above = subtract(own(quantity), multiply(share, everything))
            return above if above > 0 else ZERO

        def ratio(quantity: Decimal) -> Decimal:
            everything = gross(quantity)
            return quotient(own(quantity), everything) if everything else ZERO

        if share is None:
            return Band(name="concentration", scope=scope, limit=None, after=ratio)
        return Band(
            name="concentration", scope=scope, limit=ZERO, after=excess, shown=(ratio, share)
        )

    def _at_stake(self) -> Figure | None:
        """Loss at the stop, fees of both ways included; nothing without a stop."""
        order = self._order
        entry = order.price if order.price is not None else self._mark
        stop = order.stop_loss if order.stop_loss is not None else order.stop_price
        if stop is None:
            return lambda _: ZERO
        if entry is None:
            return None
        fees = multiply(add(entry, stop), self._limits.fee_rate)
        lost = add(absolute(subtract(entry, stop)), fees)
        return _each(multiply(self._contract.multiplier, lost))

    def _margin(self) -> Figure | None:
        """Initial margin of every symbol at its worst, of those whose rate is known."""
        exposure, order = self._exposure, self._order
        rates = {s: c.initial_margin_rate for s, c in self._state.contracts.items()}
        others = ZERO
        for symbol, reach in exposure.others():
            others = add(others, multiply(reach.worst, rates.get(symbol) or ZERO))
        rate = rates.get(order.symbol) or ZERO
        if rate and self._mark is None:
            return None
        return lambda x: add(others, multiply(rate, exposure.with_order(order.side, x).worst))

    def _open_notional(self) -> Figure | None:
        """Notional of open orders on the order's side, at the marks."""
        result = ZERO
        for open_order in self._state.open_orders:
            if open_order.side == self._order.side:
                each = self._exposure.unit_of(open_order.symbol)
                if each is None:
                    return None
                result = add(result, multiply(each, open_order.open_quantity))
        unit = self._exposure.unit
        return None if unit is None else lambda x: add(result, multiply(unit, x))

    def _band(
        self, name: str, limit: Decimal | None, after: Figure | None, *, scope: str = "account"
    ) -> Band:
        unknown = None
        if after is None:
            missing = self._exposure.unvalued or [self._order.symbol]
            unknown = "no mark of " + ", ".join(missing)
        return Band(name=name, scope=scope, limit=limit, after=after, unknown=unknown)

    def _share(self, fraction: Decimal | None) -> Decimal | None:
        """Return a limit that is a multiple of equity as money."""
        return None if fraction is None else multiply(fraction, self._state.equity)


def _each(unit: Decimal | None) -> Figure | None:
    return None if unit is None else lambda quantity: multiply(quantity, unit)


def _greater(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    if one is None or other is None:
        return one if other is None else other
    return max(other, one)
