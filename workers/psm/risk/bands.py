"""Figures that grow with the quantity of an order, each with the limit that it must stay within."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial

import msgspec

from psm.domain.money import ZERO, absolute, add, multiply, quotient, subtract
from psm.risk.limits import CATALOGUE
from psm.risk.measured import Measured, OrderPlace
from psm.risk.state import ProposedOrder

_HALF = Decimal("0.5")
Figure = Callable[[Decimal], Decimal]

WATCHED = (
    *("available_margin", "leverage", "exposure_symbol", "exposure_gross", "exposure_net"),
    *("exposure_currency", "exposure_sector", "exposure_cluster", "open_orders_notional"),
)
"""Figures of the account or group, in money: near their limit somebody should know."""


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """A figure by quantity; it never falls as the quantity grows.

    Attributes:
        name: of the check.
        scope: whose limit it is.
        limit: None for no limit.
        after: the figure at a quantity; None if it cannot be known, and `unknown` says why.
        shown: what is reported of quantity and limit, where it is not the figure itself.
        tag: what the figure is of, where that is more than one symbol.
        wanted: quantity that is asked for, and `value` the figure at it: most is asked of that.
    """

    name: str
    scope: str
    limit: Decimal | None
    after: Figure | None
    unknown: str | None = None
    shown: tuple[Figure, Decimal] | None = None
    tag: str | None = None
    wanted: Decimal = ZERO
    value: Decimal | None = None

    def at(self, quantity: Decimal) -> Decimal | None:
        """Return the figure at a quantity; None if it cannot be known."""
        if quantity is self.wanted or self.after is None:
            return self.value
        return self.after(quantity)

    def within(self, quantity: Decimal) -> bool:
        """Return whether the figure is within its limit; what cannot be known is not."""
        if self.limit is None:
            return True
        if quantity is self.wanted:
            return self.value is not None and self.value <= self.limit
        return self.after is not None and self.after(quantity) <= self.limit

    def allows(self, quantity: Decimal) -> bool:
        """Return whether it is within the limit, or no worse than without the order."""
        if self.within(quantity):
            return True
        return self.after is not None and self.after(quantity) <= self.after(ZERO)


class Bands:
    """All bands of an order that one scope's limits make.

    Args:
        order: as requested.
        place: what it is ordered of.
        measured: limits, and what they are measured on.
    """

    def __init__(self, order: ProposedOrder, place: OrderPlace, measured: Measured) -> None:
        self._order, self._place, self._measured = order, place, measured
        self._limits, self._exposure = measured.limits, measured.exposure
        self._every = measured.scope is None
        self._unit = self._worth()

    def all(self) -> list[Band]:
        """Return every band, in the order of the catalogue; of some scopes those with a limit."""
        bands = (*self._of_the_order(), *self._of_exposure())
        return [band for band in bands if band is not None]

    def _of_the_order(self) -> Iterator[Band | None]:
        limits, order = self._limits, self._order
        symbol = f"symbol:{order.symbol}"
        quantity = limits.quantity_of(order.symbol)
        yield self._band("max_order_quantity", quantity, lambda x: x, scope=symbol)
        yield self._band("max_order_notional", limits.max_order_notional, _each(self._unit))
        yield self._share("risk_per_trade", limits.risk_per_trade, self._at_stake())
        yield self._share("available_margin", limits.available_margin, self._margin())
        spent, unit = self._measured.notional_spent, self._unit
        if spent is not None and limits.notional_period is not None:
            after = None if unit is None else _beyond(spent, unit)
            yield self._band("notional_period", limits.notional_period, after)

    def _worth(self) -> Decimal | None:
        """Return what one of the order is worth at its price or at the mark, whichever is more."""
        money = self._measured.money
        prices = [price for price in (self._order.price, self._place.mark) if price is not None]
        worth = [each for each in map(money, prices) if each is not None] if money else []
        return max(worth) if worth else None

    def _margin(self) -> Figure | None:
        """Initial margin of every line at its worst, of those whose rate is known, and the fee."""
        exposure, side, fee = self._exposure, self._order.side, self._limits.fee_rate
        if exposure.line.margin_rate and exposure.line.unit is None:
            return None
        if self._measured.stale or (self._measured.scope is not None and exposure.unvalued):
            return None
        if fee and self._unit is None:
            return None
        each = multiply(fee, self._unit or ZERO)
        return lambda x: add(exposure.margin(exposure.with_order(side, x)), multiply(each, x))

    def _of_exposure(self) -> Iterator[Band | None]:
        limits, exposure, side = self._limits, self._exposure, self._order.side
        gross = self._known(lambda x: exposure.gross(exposure.with_order(side, x)))
        own = self._known(lambda x: exposure.symbol(exposure.with_order(side, x)))
        symbol = f"symbol:{self._order.symbol}"
        yield self._share("leverage", limits.leverage, gross)
        yield self._share("exposure_symbol", limits.exposure_symbol, own, scope=symbol)
        yield self._share("exposure_gross", limits.exposure_gross, gross)
        net = self._known(lambda x: exposure.net(exposure.with_order(side, x)))
        yield self._share("exposure_net", limits.exposure_net, net)
        for kind in self._place.tag_kinds:
            yield self._tagged(kind, getattr(limits, f"exposure_{kind}"))
        open_notional = None
        if exposure.are_orders_valued(side) and not self._measured.stale:
            open_notional = partial(exposure.open_notional, side)
        yield self._band("open_orders_notional", limits.open_orders_notional, open_notional)
        yield self._concentration(own, gross)

    def _tagged(self, kind: str, share: Decimal | None) -> Band | None:
        """Exposure of everything with the order's tag; no limit where it has none."""
        exposure, side, credit = self._exposure, self._order.side, self._limits.hedge_credit
        tag = exposure.tag(kind)
        figure = self._known(lambda x: exposure.tagged(kind, exposure.with_order(side, x), credit))
        share = None if tag is None else share
        named = tag or "unclassified"
        return self._share(f"exposure_{kind}", share, figure, scope=f"{kind}:{named}", tag=named)

    def _known(self, figure: Figure) -> Figure | None:
        exposure = self._exposure
        unknown = self._measured.stale or exposure.line.unit is None or exposure.unvalued
        return None if unknown else figure

    def _concentration(self, own: Figure | None, gross: Figure | None) -> Band | None:
        """Share of the gross exposure; below half of the equity any share is fine."""
        share, equity = self._limits.concentration, self._measured.equity
        scope = f"symbol:{self._order.symbol}"
        if share is None and not self._every:
            return None
        if own is None or gross is None or equity is None:
            return self._band("concentration", share, None, scope=scope)
        half = multiply(_HALF, equity)

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
            return self._band("concentration", None, ratio, scope=scope)
        return self._band("concentration", ZERO, excess, scope=scope, shown=(ratio, share))

    def _at_stake(self) -> Figure | None:
        """Loss at the stop, fees of both ways included; nothing without a stop."""
        order, place = self._order, self._place
        entry = order.price if order.price is not None else place.mark
        stop = order.stop_loss if order.stop_loss is not None else order.stop_price
        if stop is None:
            return lambda _: ZERO
        money = self._measured.money
        bought = None if entry is None or money is None else money(entry)
        sold = None if money is None else money(stop)
        if bought is None or sold is None:
            return None
        fees = multiply(add(bought, sold), self._limits.fee_rate)
        return _each(add(absolute(subtract(bought, sold)), fees))

    def _share(
        self,
        name: str,
        fraction: Decimal | None,
        after: Figure | None,
        *,
        scope: str = "account",
        tag: str | None = None,
    ) -> Band | None:
        """Return a band whose limit is a multiple of equity; without equity nothing is within."""
        if fraction is None and not self._every:
            return None
        equity, limit = self._measured.equity, None
        if fraction is not None:
            limit = ZERO if equity is None else multiply(fraction, equity)
        if equity is None:
            after = None
        return self._band(name, limit, after, scope=scope, tag=tag)

    def _band(
        self,
        name: str,
        limit: Decimal | None,
        after: Figure | None,
        *,
        scope: str = "account",
        tag: str | None = None,
        shown: tuple[Figure, Decimal] | None = None,
    ) -> Band | None:
        if limit is None and not self._every:
            return None
        unknown = None
        if after is None:
            missing = self._exposure.unvalued or [self._order.symbol]
            unknown = "no mark of " + ", ".join(missing)
            if self._measured.equity is None or self._measured.stale:
                unknown = "an account is not known"
        wanted = self._order.quantity
        return Band(
            name=name,
            scope=self._measured.scope or scope,
            limit=limit,
            after=after,
            unknown=unknown,
            shown=shown,
            tag=tag,
            wanted=wanted,
            value=None if after is None else after(wanted),
        )


def binds_closing(name: str) -> bool:
    """Return whether a figure is the order's own, and binds what only closes, too."""
    return CATALOGUE[name][0] == "order_size"


def _each(unit: Decimal | None) -> Figure | None:
    return None if unit is None else lambda quantity: multiply(quantity, unit)


def _beyond(spent: Decimal, unit: Decimal) -> Figure:
    return lambda quantity: add(spent, multiply(quantity, unit))
