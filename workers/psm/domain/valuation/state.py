"""Valuation state of one account: what its ledger is worth, and what was said of it last."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum

import msgspec

from psm.contracts.updates import Level
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.positions import Position
from psm.domain.ledger.prices import AccountPrices
from psm.domain.ledger.renames import Excursions
from psm.domain.money import add_wide, exact_text, multiply_wide, subtract_wide
from psm.domain.valuation.excursion import Excursion
from psm.domain.valuation.isolated import (
    PositionWarning,
    WarnedPositions,
    is_liquidatable,
    position_crossings,
)
from psm.domain.valuation.performance import NOTHING_YET, Performance
from psm.domain.valuation.position_value import PositionValue
from psm.domain.valuation.totals import ValuationTotals
from psm.domain.valuation.valuation import (
    FAILED,
    Valuation,
    cash_flags,
    summed,
)
from psm.domain.valuation.warnings import crossings


class _Unrendered(Enum):
    CURRENT = "current"


CURRENT = _Unrendered.CURRENT
"""Published were the figures that the totals amount to now; they were not rendered."""

Crossing = Level | PositionWarning
"""A level that was crossed upwards: by the account, or by an isolated position."""

MarginTexts = tuple[str | None, ...]
PublishedMargin = MarginTexts | Valuation | _Unrendered | None
"""Margin figures of the last publication: as texts, as figures, as of now, or none yet."""


class Moved(msgspec.Struct, frozen=True, gc=False):
    """What an event moved, as far as net asset value has to know.

    Attributes:
        equity: before it; None where it did not compute.
        assets: whose quantity or cost is another one.
        flows: external ones, (asset, signed amount).
        legs: (asset, signed value) of trades: a flow where the asset has no rate.
    """

    equity: Decimal | None
    assets: tuple[str, ...] = ()
    flows: tuple[tuple[str, Decimal], ...] = ()
    legs: tuple[tuple[str, Decimal], ...] = ()

    def flow(self, crossed: Decimal, prices: AccountPrices) -> Decimal:
        """Return the flow of the event in the account currency, in above zero.

        It is worth what values a holding after the event. What left the figures by a trade for
        something without a rate is a flow out, and the reverse.
        """
        total = crossed
        for asset, amount in self.flows:
            rate = prices.rate(asset)
            if rate is not None:
                total = add_wide(total, multiply_wide(amount, rate))
        for asset, value in self.legs:
            if prices.rate(asset) is None:
                total = subtract_wide(total, value)
        return total


class ValuationState:
    """Valuation state of one account.

    Attributes:
        totals: running sums over positions and orders.
        cached: the valuation as of now; None until it is needed.
        performance: units, peak and deepest fall of the net asset value.
        warned: levels crossed and not yet armed again.
        warned_positions: those of isolated positions.
        rates: symbols whose marks convert the account's currencies or say how its options are
            exposed, as the books indexed them.
        published: margin figures of the last publication.
    """

    __slots__ = (
        "cached",
        "performance",
        "published",
        "rates",
        "totals",
        "warned",
        "warned_positions",
    )

    def __init__(self) -> None:
        self.totals = ValuationTotals(())
        self.cached: Valuation | None = None
        self.performance = NOTHING_YET
        self.warned: tuple[Level, ...] = ()
        self.warned_positions: WarnedPositions = {}
        self.rates: tuple[str, ...] = ()
        self.published: PublishedMargin = None

    @classmethod
    def restored(
        cls,
        symbols: Iterable[str],
        *,
        performance: Performance,
        excursions: dict[str, Excursion],
        warned: tuple[Level, ...],
        warned_positions: WarnedPositions,
        published: MarginTexts | None,
    ) -> ValuationState:
        """Return the valuation state that a snapshot holds; `symbols` are held or ordered."""
        state = cls()
        state.totals = ValuationTotals(symbols, excursions)
        state.performance = performance
        state.warned = warned
        state.warned_positions = warned_positions
        state.published = published
        return state

    def value(self, ledger: Ledger, prices: AccountPrices) -> Valuation:
        """Return the valuation at the current marks; computed when needed, then kept.

        Null figures where it does not compute.
        """
        if self.cached is None:
            if self.totals.refresh(ledger, prices) is None:
                self.cached = FAILED
            else:
                flags = (
                    *self.totals.flags(),
                    *cash_flags(ledger),
                    *leg_flags(ledger, self.totals.values),
                )
                own = tuple(sorted(dict.fromkeys(flags)))
                self.cached = summed(self.totals, ledger, ledger.leverage_limit, own)
        return self.cached

    def equity(self, ledger: Ledger, prices: AccountPrices) -> Decimal | None:
        """Return the equity at the current marks, None where it does not compute."""
        if self.cached is not None:
            return self.cached.equity
        totals = self.totals
        cash = totals.cash
        if cash is None or totals.dirty or totals.failed:
            cash = totals.refresh(ledger, prices)
        return None if cash is None else add_wide(cash, totals.equity)

    def revalue(
        self,
        ledger: Ledger,
        prices: AccountPrices,
        symbols: Iterable[str],
        moved: Moved | None = None,
    ) -> tuple[Crossing, ...]:
        """Value the ledger again, move the peak, return the levels that were crossed upwards.

        Args:
            ledger: of the account.
            prices: as of now.
            symbols: whose contribution may have changed; one that serves as a rate means all that
                it converts.
            moved: what an event moved; None for a mark.
        """
        totals = self.totals
        cash_before, others_before = totals.cash, totals.equity
        self.cached = None
        if moved is not None and totals.assets is not None:
            totals.assets.changed(moved.assets)
        cash = totals.revalue(ledger, prices, symbols, self.rates)
        flow = totals.take_crossed()
        if moved is not None:
            flow = moved.flow(flow, prices)
        if flow:
            before = _sum(cash_before, others_before) if moved is None else moved.equity
            self.performance = self.performance.after_flow(before, flow)
        if cash is None:
            return ()
        equity = add_wide(cash, totals.equity)
        self.performance = self.performance.after_equity(equity)
        limit = ledger.leverage_limit
        own: tuple[Crossing, ...] = ()
        if totals.isolated_positions or self.warned_positions:
            own, self.warned_positions = position_crossings(
                ledger, totals.values, self.warned_positions
            )
        if not self.warned and limit is None and totals.is_far_from_warning(equity):
            return own
        crossed, self.warned = crossings(self.value(ledger, prices), self.warned, limit)
        return (*crossed, *own)

    def standing(self, ledger: Ledger, prices: AccountPrices) -> tuple[Crossing, ...]:
        """Return all levels at or above which account and isolated positions stand."""
        levels, _ = crossings(self.value(ledger, prices), (), ledger.leverage_limit)
        own, _ = position_crossings(ledger, self.totals.values, {})
        return (*levels, *own)

    def all_warned(self) -> tuple[Crossing, ...]:
        """Return all levels that were crossed and are not yet armed again."""
        own = [
            PositionWarning(key, level)
            for key, levels in self.warned_positions.items()
            for level in levels
        ]
        return (*self.warned, *own)

    @property
    def is_near(self) -> bool:
        """Whether account or an isolated position is near liquidation: half way, and not there."""
        return _is_near(self.warned) or bool(self.warned_positions and self.near_positions())

    def near_positions(self) -> list[str]:
        """Return the keys of isolated positions near liquidation, by their own wallets."""
        return [key for key, levels in self.warned_positions.items() if _is_near(levels)]

    def may_reprice(self, *, by_fill: bool) -> None:
        """Note that a fill, or a split or leverage, may have changed any asset's figures."""
        assets = self.totals.assets
        if assets is not None:
            (assets.filled if by_fill else assets.all_changed)()

    def resecure(self, asset: str) -> None:
        """Note that the terms of an asset as security are others."""
        if self.totals.assets is not None:
            self.totals.assets.changed((asset,))

    @property
    def peak_equity(self) -> Decimal | None:
        """Highest net asset value so far, in units of now."""
        return self.performance.peak

    def move_performance(self, performance: Performance) -> None:
        """Set units and peak after a reset."""
        self.performance = performance

    def rebook(self, symbols: Iterable[str], again: ValuationState | None) -> None:
        """Begin anew with another ledger; with peak and warnings of `again` if there is one."""
        kept = (self if again is None else again).totals.excursions
        self.totals = ValuationTotals(symbols, kept)
        self.cached = None
        if again is not None:
            self.performance, self.warned = again.performance, again.warned
            self.warned_positions = again.warned_positions

    def rename(self, moved: Sequence[Excursions]) -> None:
        """Let excursions and warnings go on under another symbol."""
        self.totals.rename(moved)
        for old, _, to, _ in moved:
            if old in self.warned_positions:
                self.warned_positions = {**self.warned_positions, to: self.warned_positions[old]}
                del self.warned_positions[old]

    def set_rates(self, rates: tuple[str, ...]) -> None:
        """Remember which symbols' marks convert the account's currencies."""
        self.rates = rates

    def freeze_published_margin(self, ledger: Ledger) -> None:
        """Remember the figures of the last publication before totals or ledger change."""
        if self.published is not CURRENT:
            return
        self.published = self.cached or summed(self.totals, ledger, ledger.leverage_limit)

    def mark_published(self, margin: MarginTexts) -> None:
        """Record the margin figures of a publication."""
        self.published = margin

    def mark_published_silently(self, ledger: Ledger, prices: AccountPrices) -> None:
        """Record that what it is worth now was published, without rendering it."""
        totals = self.totals
        if totals.cash is None or totals.dirty:
            totals.refresh(ledger, prices)  # it was not valued since it was restored
        if totals.cash is not None and not totals.failed:
            self.published = CURRENT
        else:
            self.published = msgspec.structs.replace(FAILED, leverage_limit=ledger.leverage_limit)

    def hash(self, ledger_hash: bytes, valuation: Valuation) -> bytes:
        """Return SHA-256 of the ledger hash and the canonical bytes of the valuation.

        The bytes are the canonical JSON of drawdown, equity, flows, margin_initial,
        margin_maintenance, marks (position key -> [price, source], of an option that is exposed by
        its delta the underlying's price and the delta too), max_drawdown, nav, nav_epoch and
        peak_equity, each as exact text or null.
        """
        own, equity = self.performance, valuation.equity
        marks = "" if valuation is FAILED else self.totals.marks_json()
        part = (
            f'{{"drawdown":{_json(own.drawdown(equity))}'
            f',"equity":{_json(equity)}'
            f',"flows":{_json(own.flows)}'
            f',"margin_initial":{_json(valuation.margin_initial)}'
            f',"margin_maintenance":{_json(valuation.margin_maintenance)}'
            f',"marks":{{{marks}}}'
            f',"max_drawdown":{_json(own.max_drawdown())}'
            f',"nav":{_json(own.nav(equity))}'
            f',"nav_epoch":{own.epoch}'
            f',"peak_equity":{_json(own.peak)}}}'
        )
        return hashlib.sha256(ledger_hash + part.encode()).digest()


def leg_flags(ledger: Ledger, values: Mapping[str, PositionValue]) -> list[str]:
    """Return the flags of hedge mode, and of margins that positions have for themselves."""
    flags = ["position_mode_waiting"] if ledger.modes.waiting else []
    if ledger.older_margins:
        flags.append("margin_unknown")
    if ledger.legs and any(map(_is_overclosed, ledger.positions.values())):
        flags.append("overclose")
    if ledger.wallets.symbols and is_liquidatable(ledger, values):
        flags.append("isolated_liquidatable")
    return flags


def _is_overclosed(position: Position) -> bool:
    """Return whether a leg was closed for more than it had."""
    return position.side != "flat" and position.position_side not in ("net", position.side)


def _json(value: Decimal | None) -> str:
    return "null" if value is None else f'"{exact_text(value)}"'


def _is_near(warned: tuple[Level, ...]) -> bool:
    return "0.5" in warned and "1.0" not in warned


def _sum(cash: Decimal | None, others: Decimal) -> Decimal | None:
    return None if cash is None else add_wide(cash, others)
