"""Running sums over the assets of one account, other than money of its own currency.

Sums are kept per last step of the rates' paths: all that is worth something in dollars, of an
account in euros, is one sum of dollars and one product with the mark of the euro. Which path an
asset has is asked again only where another price may have become usable.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from psm.domain.ledger.holdings import AssetHolding
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.prices import AccountPrices
from psm.domain.market.rates import DERIVATIVES, RateStep, rate_of
from psm.domain.money import (
    ONE,
    ZERO,
    absolute,
    add_wide,
    multiply_wide,
    negate,
    quotient,
    subtract_wide,
)

_FILL = "\0"


class AssetShare(msgspec.Struct, frozen=True, gc=False):
    """What one asset adds to the sums of its account.

    Attributes:
        holding: its quantity and cost.
        first: symbols of the steps of its rate before the last.
        last: path that the last step is; empty where it has no rate.
        amount: quantity in units of the last step.
        derived: whether the price of a derivative says the rate.
        owned: whether a fill of the account itself says it.
        secures: part of it that is collateral.
        leverage: that a holding below zero is margined with.
        borrow_rate: maintenance margin per value of a holding below zero.
    """

    holding: AssetHolding
    first: tuple[str, ...] = ()
    last: str = ""
    amount: Decimal = ZERO
    derived: bool = False
    owned: bool = False
    secures: Decimal = ZERO
    leverage: Decimal = ONE
    borrow_rate: Decimal = ZERO


class PathSums:
    """Sums of what has the same last step, in units of it."""

    __slots__ = ("above", "assets", "below", "maintenance", "margin", "secured", "step")

    def __init__(self) -> None:
        self.step: RateStep | None = None
        self.assets: dict[str, None] = {}
        self.above = self.below = self.secured = self.margin = self.maintenance = ZERO

    def put(self, asset: str, share: AssetShare, *, away: bool = False) -> None:
        """Add what an asset is, or take it away."""
        put = subtract_wide if away else add_wide
        if away:
            del self.assets[asset]
        else:
            self.assets[asset] = None
        if share.amount < 0:
            self.below = put(self.below, share.amount)
            owed = absolute(share.amount)
            self.margin = put(self.margin, quotient(owed, share.leverage))
            if share.borrow_rate:
                self.maintenance = put(self.maintenance, multiply_wide(owed, share.borrow_rate))
        else:
            self.above = put(self.above, share.amount)
            if share.secures:
                self.secured = put(self.secured, multiply_wide(share.amount, share.secures))

    def worth(self, amount: Decimal) -> Decimal:
        """Return what units of the last step are in the account currency: rounded once, or not."""
        step = self.step
        assert step is not None, "it was asked for"
        worth = multiply_wide(amount, step.over)
        return worth if step.under is ONE else quotient(worth, step.under)


class AssetSums(msgspec.Struct, frozen=True, gc=False):
    """Sums in the account currency; of assets without a rate only `unrated_cost`.

    `owing`: whether some asset is below zero.
    """

    value: Decimal = ZERO
    cost: Decimal = ZERO
    unrated_cost: Decimal = ZERO
    gross: Decimal = ZERO
    initial: Decimal = ZERO
    maintenance: Decimal = ZERO
    collateral: Decimal = ZERO
    owing: bool = False


NO_ASSETS = AssetSums()


class AssetTotals:
    """Running sums over the assets of one account.

    Attributes:
        shares: by asset, of what is held.
        figures: the sums, as of the last refresh.
    """

    __slots__ = (
        "_cost",
        "_crossed",
        "_derived",
        "_dirty",
        "_firsts",
        "_owned",
        "_paths",
        "_repriced",
        "_signs",
        "_unrated",
        "_unrated_cost",
        "figures",
        "shares",
    )

    def __init__(self) -> None:
        self.shares: dict[str, AssetShare] = {}
        self.figures = NO_ASSETS
        self._paths: dict[str, PathSums] = {}
        self._firsts: dict[str, dict[str, None]] = {}  # steps before the last -> assets
        self._dirty: dict[str, None] | None = None  # None: all of them
        self._repriced: dict[str, None] = {}  # last steps whose price is another one
        self._signs: dict[str, bool] = {}  # whether prices were above zero
        self._unrated: dict[str, None] = {}
        self._derived: dict[str, None] = {}  # rated by a derivative
        self._owned: dict[str, None] = {}  # rated by a fill of the account itself
        self._cost = self._unrated_cost = ZERO
        self._crossed = ZERO

    def changed(self, assets: Iterable[str]) -> None:
        """Note that quantities or costs of assets are others."""
        if self._dirty is not None:
            self._dirty.update(dict.fromkeys(assets))

    def filled(self) -> None:
        """Note that the account's own last fills are others: a rate of last resort."""
        if self._unrated or self._owned:
            self._dirty = None

    def all_changed(self) -> None:
        """Note that any rate or margin may be another one."""
        self._dirty = None
        self._signs = {}

    def repriced(self, symbol: str, ledger: Ledger, prices: AccountPrices) -> None:
        """Note that the price of a symbol, which may be a step of a rate, is another one."""
        if ledger.splits:  # marks of old units may be of no use
            self.all_changed()
            return
        mark = prices.market.marks.get(symbol)
        positive = mark is not None and mark.is_positive
        if self._signs.get(symbol) is not True or not positive:
            self._dirty = None  # paths may be others
        self._signs[symbol] = positive
        if self._dirty is not None:
            self._dirty.update(self._firsts.get(symbol, {}))
            if symbol in self._paths:
                self._repriced[symbol] = None

    def rated_by(self, symbol: str) -> list[str]:
        """Return the assets whose rate a symbol's price is a step of, ascending."""
        path = self._paths.get(symbol)
        last = {} if path is None else path.assets
        return sorted({**last, **self._firsts.get(symbol, {})})

    def paths(self) -> list[list[str]]:
        """Return the rated assets by the last step of their rates, ascending."""
        return sorted(sorted(path.assets) for path in self._paths.values())

    def path_of(self, asset: str) -> PathSums:
        """Return the sums that a rated asset is in."""
        return self._paths[self.shares[asset].last]

    def take_crossed(self) -> Decimal:
        """Return what crossed between rated and unrated since the last time; in above zero."""
        crossed, self._crossed = self._crossed, ZERO
        return crossed

    def refresh(self, ledger: Ledger, prices: AccountPrices) -> AssetSums:
        """Bring the sums up to date; return them."""
        home, dirty, repriced = ledger.currency, self._dirty, self._repriced
        if dirty is None:
            dirty = dict.fromkeys((*self.shares, *ledger.cash))
        elif not dirty and not repriced:
            return self.figures
        self._dirty, self._repriced = {}, {}
        found = [(asset, *_share_of(ledger, prices, asset)) for asset in dirty if asset != home]
        for asset, share, steps in found:
            self._note_crossing(asset, share, steps)
        for asset, share, steps in found:
            self._replace(asset, share, steps)
        for symbol in repriced:
            path = self._paths.get(symbol)
            if path is not None:
                path.step = prices.rate_steps(next(iter(path.assets)))[-1]
        self.figures = self._summed()
        return self.figures

    def value_of(self, asset: str) -> Decimal | None:
        """Return what an asset is worth in the account currency; None without a rate."""
        share = self.shares.get(asset)
        if share is None or not share.last:
            return None
        return self._paths[share.last].worth(share.amount)

    def flags(self) -> list[str]:
        """Return what is to be said of the rates."""
        flags = ["rate_missing"] if self._unrated else []
        return [*flags, "rate_from_derivative"] if self._derived else flags

    def _note_crossing(
        self, asset: str, share: AssetShare | None, steps: tuple[RateStep, ...]
    ) -> None:
        """Add what a message found unrated and left rated, or the reverse."""
        before = self.shares.get(asset)
        if before is None or bool(before.last) == bool(steps):
            return
        if before.last:
            crossed = negate(self._paths[before.last].worth(before.amount))
        else:
            crossed = multiply_wide(before.holding.quantity, rate_of(steps))
        self._crossed = add_wide(self._crossed, crossed)

    def _replace(self, asset: str, share: AssetShare | None, steps: tuple[RateStep, ...]) -> None:
        before = self.shares.pop(asset, None)
        if before is not None:
            self._count(asset, before, away=True)
        if share is None:
            return
        self.shares[asset] = share
        self._count(asset, share, away=False)
        if steps:
            self._paths[share.last].step = steps[-1]

    def _count(self, asset: str, share: AssetShare, *, away: bool) -> None:
        put = subtract_wide if away else add_wide
        cost = share.holding.cost.amount
        if not share.last:
            _keep(self._unrated, asset, kept=not away)
            self._unrated_cost = put(self._unrated_cost, cost)
            return
        _keep(self._derived, asset, kept=share.derived and not away)
        _keep(self._owned, asset, kept=share.owned and not away)
        self._cost = put(self._cost, cost)
        path = self._paths.setdefault(share.last, PathSums())
        path.put(asset, share, away=away)
        if not path.assets:
            del self._paths[share.last]
        for symbol in share.first:
            firsts = self._firsts.setdefault(symbol, {})
            _keep(firsts, asset, kept=not away)
            if not firsts:
                del self._firsts[symbol]

    def _summed(self) -> AssetSums:
        value = gross = initial = maintenance = collateral = ZERO
        owing = False
        for path in self._paths.values():
            owing = owing or path.below < 0
            value = add_wide(value, path.worth(add_wide(path.above, path.below)))
            gross = add_wide(gross, path.worth(subtract_wide(path.above, path.below)))
            if path.margin:
                initial = add_wide(initial, path.worth(path.margin))
            if path.maintenance:
                maintenance = add_wide(maintenance, path.worth(path.maintenance))
            if path.secured or path.below:
                counted = add_wide(path.secured, path.below)
                collateral = add_wide(collateral, path.worth(counted))
        return AssetSums(
            value=value,
            cost=self._cost,
            unrated_cost=self._unrated_cost,
            gross=gross,
            initial=initial,
            maintenance=maintenance,
            collateral=collateral,
            owing=owing,
        )


def borrowed_margin(ledger: Ledger, prices: AccountPrices, assets: AssetTotals | None) -> Decimal:
    """Return the maintenance margin of what is owed, the account currency included."""
    home = ledger.currency or ""
    owed = absolute(min(ZERO, ledger.cash.get(home, ZERO)))
    own = multiply_wide(owed, prices.borrow_rate(home))
    return own if assets is None else add_wide(own, assets.figures.maintenance)


def _share_of(
    ledger: Ledger, prices: AccountPrices, asset: str
) -> tuple[AssetShare | None, tuple[RateStep, ...]]:
    """Return what an asset adds, and the steps of its rate; nothing where none of it is held."""
    holding = ledger.holding(asset)
    quantity = holding.quantity
    steps = prices.rate_steps(asset)
    if not quantity:
        return None, steps
    if not steps:
        return AssetShare(holding), steps
    *first, last = steps
    amount = multiply_wide(quantity, rate_of(first)) if first else quantity
    return AssetShare(
        holding,
        tuple(step.symbol for step in first),
        _path_of(last),
        amount,
        any(step.kind in DERIVATIVES for step in steps),
        any(step.kind == "fill" for step in steps),
        prices.secures(asset),
        ledger.leverage_of(asset) if quantity < 0 else ONE,
        prices.borrow_rate(asset) if quantity < 0 else ZERO,
    ), steps


def _path_of(last: RateStep) -> str:
    """Return the name of the path that a last step is: one symbol may be a mark and an own fill."""
    return f"{_FILL}{last.symbol}" if last.kind == "fill" else last.symbol


def _keep(names: dict[str, None], name: str, *, kept: bool) -> None:
    if kept:
        names[name] = None
    else:
        names.pop(name, None)
