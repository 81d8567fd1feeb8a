"""Running valuation totals of one account: sums over its open positions and orders.

All sums are exact, so adding what changed and taking away what was gives the same as adding up
everything again, in any order: a mark costs the same for an account with 10 and 1 000 positions.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from decimal import Decimal

import msgspec

from psm.contracts.codec import json_name
from psm.contracts.position_keys import symbol_of
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.prices import AccountPrices
from psm.domain.ledger.renames import Excursions
from psm.domain.money import (
    ZERO,
    add_wide,
    exact_text,
    multiply_wide,
    negate,
    subtract_wide,
)
from psm.domain.valuation.account_sums import Figures, is_far_from_warning
from psm.domain.valuation.assets import AssetTotals, borrowed_margin
from psm.domain.valuation.excursion import Excursion, moved
from psm.domain.valuation.isolated import NO_WALLETS, wallets_value
from psm.domain.valuation.order_margin import OrderMargin, order_margin_of
from psm.domain.valuation.position_value import (
    PositionContribution,
    PositionValue,
    contribution_of,
)


class ValuationTotals:
    """Running valuation totals of one account.

    Equity and maintenance margin follow every mark; the other sums are brought up to date when
    they are asked for, so marks in between cost nothing.

    Attributes:
        values: of the open positions, by key.
        cash: all assets in the account currency, as of the last revaluation; None: not known.
        assets: sums over other assets than the account currency; None where there are none.
        equity: sum of what positions add to equity.
        uncounted: part of it that is no collateral.
        maintenance: sum of maintenance margins of positions.
        borrowed: maintenance margin of what is owed in assets.
        wallets: of isolated positions, as of the last revaluation.
        isolated_positions, isolated_unrealized: how many isolated ones; what they gained.
        order_margin: sum of what open orders reserve beyond the positions' own margin.
        dirty: symbols whose contribution must be computed before the sums are used.
        failed: symbols whose contribution does not compute.
        excursions: by position key, of the cycle that it is in or was in last.
    """

    __slots__ = (
        "_contributions",
        "_gross",
        "_initial",
        "_keys",
        "_marks_json",
        "_net",
        "_order_margins",
        "_owing",
        "_paid_equity",
        "_paid_unrealized",
        "_position_crossed",
        "_summed",
        "_undefined",
        "_unrated",
        "_unrated_cost",
        "_unwritten",
        "assets",
        "borrowed",
        "cash",
        "dirty",
        "equity",
        "excursions",
        "failed",
        "isolated_positions",
        "isolated_unrealized",
        "maintenance",
        "order_margin",
        "uncounted",
        "values",
        "wallets",
    )

    def __init__(
        self, symbols: Iterable[str], excursions: dict[str, Excursion] | None = None
    ) -> None:
        self.excursions = {} if excursions is None else excursions
        self.values: dict[str, PositionValue] = {}
        self.cash: Decimal | None = None
        self.assets: AssetTotals | None = None
        self.equity = self.maintenance = self.order_margin = self.uncounted = ZERO
        self.borrowed = self.isolated_unrealized = ZERO
        self.wallets, self.isolated_positions = NO_WALLETS, 0
        self.dirty: dict[str, None] = dict.fromkeys(symbols)
        self.failed: dict[str, None] = {}
        self._contributions: dict[str, PositionContribution] = {}
        self._order_margins: dict[str, OrderMargin] = {}
        # what changed since `figures` was asked, as it was then
        self._summed: dict[str, PositionContribution | None] = {}
        self._gross = self._net = self._initial = ZERO
        self._paid_equity = self._paid_unrealized = self._unrated_cost = ZERO
        self._position_crossed = ZERO
        self._undefined = self._unrated = self._owing = 0
        self._keys: list[str] = []
        self._marks_json: dict[str, str] = {}
        self._unwritten: dict[str, None] = {}  # keys whose entry in it is old

    def revalue(
        self,
        ledger: Ledger,
        prices: AccountPrices,
        symbols: Iterable[str],
        rates: Iterable[str],
    ) -> Decimal | None:
        """Compute again what symbols contribute, and everything where one serves as a rate.

        Returns all cash in the account currency, None where something does not compute.
        """
        self.cash = None
        for symbol in symbols:
            self.dirty[symbol] = None
            if symbol in rates:
                self._invalidate_converted(ledger)
                if self.assets is not None:
                    self.assets.repriced(symbol, ledger, prices)
        return self.refresh(ledger, prices)

    def refresh(self, ledger: Ledger, prices: AccountPrices) -> Decimal | None:
        """Compute what is dirty; return all assets' value, None where it does not compute."""
        if self.dirty:
            self._compute(ledger, prices)
        if self.failed:
            return None
        if self.cash is None:
            cash, home = ledger.cash, ledger.currency
            try:
                wallets = ledger.wallets.amounts
                self.wallets = wallets_value(ledger, prices) if wallets else NO_WALLETS
            except ArithmeticError:
                return None
            self.cash = cash.get(home, ZERO) if home is not None else ZERO
            if self.assets is None and len(cash) > (home in cash):
                self.assets = AssetTotals()
            if self.assets is not None:
                self.cash = add_wide(self.cash, self.assets.refresh(ledger, prices).value)
            if prices.market.collateral:
                self.borrowed = borrowed_margin(ledger, prices, self.assets)
        return self.cash

    def margin_maintenance(self) -> Decimal:
        """Return the maintenance margin of positions and of what is owed."""
        return add_wide(self.maintenance, self.borrowed) if self.borrowed else self.maintenance

    def collateral(self) -> Decimal:
        """Return what secures the margins that all positions share.

        It is what is not discounted of all that makes up equity, without what isolated positions
        have for themselves.
        """
        cash = self.cash
        assert cash is not None, "it is refreshed"
        counted = add_wide(cash, self.equity)
        if self.isolated:
            counted = subtract_wide(counted, self.isolated)
        if self.assets is not None:
            sums = self.assets.figures
            counted = add_wide(subtract_wide(counted, sums.value), sums.collateral)
        return subtract_wide(counted, self.uncounted) if self.uncounted else counted

    def is_far_from_warning(self, equity: Decimal) -> bool:
        """Return whether maintenance margin is surely below every level; `equity` as of now."""
        special = self.assets is not None or self.uncounted or self.isolated_unrealized
        if special or self.borrowed or self.wallets is not NO_WALLETS:
            return is_far_from_warning(self.collateral(), self.margin_maintenance())
        return is_far_from_warning(equity, self.maintenance)  # all of it is collateral

    def owing(self) -> bool:
        """Return whether a contract without a wallet of its own is open, or anything is short."""
        if self._owing:
            return True
        return self.assets is not None and self.assets.figures.owing

    def take_crossed(self) -> Decimal:
        """Return what crossed between rated and unrated since the last time, in above zero."""
        crossed, self._position_crossed = self._position_crossed, ZERO
        return crossed if self.assets is None else add_wide(crossed, self.assets.take_crossed())

    def _invalidate_converted(self, ledger: Ledger) -> None:
        """Forget every contribution that a rate converted, and of options: one changed."""
        home, positions = ledger.currency, ledger.positions
        for key in self._contributions:
            held = positions.get(key)
            if held is None or held.instrument.settle != home or held.instrument.option is not None:
                self.dirty[symbol_of(key)] = None
        for known in (self._order_margins, self.failed):
            self.dirty.update(dict.fromkeys(known))

    def _compute(self, ledger: Ledger, prices: AccountPrices) -> None:
        dirty, self.dirty = self.dirty, {}
        for symbol in dirty:
            if self.failed:
                self.failed.pop(symbol, None)
            if ledger.legs or "#" in symbol:
                for key in ledger.keys_of(symbol):
                    self._compute_position(ledger, key, prices)
            else:
                self._compute_position(ledger, symbol, prices)
            if ledger.orders.open_by_id or self._order_margins:
                margin = None
                try:
                    margin = order_margin_of(ledger, symbol, self.values, prices)
                except ArithmeticError:
                    self.failed[symbol] = None
                self._replace_order_margin(symbol, margin)

    def _compute_position(self, ledger: Ledger, key: str, prices: AccountPrices) -> None:
        position, contribution = ledger.positions.get(key), None
        computes = True
        if position is not None and position.size:
            try:
                contribution = contribution_of(ledger, position, prices)
            except ArithmeticError:
                self.failed[position.instrument.symbol] = None
                computes = False
        self._replace(key, contribution)
        if position is not None and position.cycle and computes:
            total = position.cycle_realized_pnl
            if contribution is not None:
                total = add_wide(total, contribution.value.unrealized)
            known, cycle = self.excursions.get(key), position.cycle
            if known is None or known.cycle != cycle or not known.worst <= total <= known.best:
                self.excursions[key] = moved(known, cycle, total)

    @property
    def isolated(self) -> Decimal:
        """What isolated positions stand on: their wallets and what is unrealized."""
        gained, wallets = self.isolated_unrealized, self.wallets.whole
        return add_wide(wallets, gained) if gained else wallets

    def rename(self, moved: Iterable[Excursions]) -> None:
        """Let excursions go on under another symbol."""
        for old, of, to, cycle in moved:
            known = self.excursions.get(of)
            self.excursions.pop(old, None)
            if known is not None:
                self.excursions[to] = msgspec.structs.replace(known, cycle=cycle)

    def figures(self) -> Figures:
        """Return the sums; bring those up to date that no mark needs."""
        if self._summed:
            for key, before in self._summed.items():
                self._sum_up(before, self._contributions.get(key))
            self._summed = {}
        gain = subtract_wide(self.equity, self._paid_equity)
        figures = Figures(
            gross=self._gross,
            net=self._net,
            unrealized=add_wide(gain, self._paid_unrealized),
            initial=self._initial,
            gain=gain,
            unrated_cost=self._unrated_cost,
        )
        return figures if self.assets is None else figures.with_assets(self.assets.figures)

    def flags(self) -> list[str]:
        """Return the flags that follow from positions and orders."""
        flags = ["instrument_undefined"] if self._undefined else []
        if self._unrated:
            flags.append("rate_missing")
        return flags if self.assets is None else [*flags, *self.assets.flags()]

    def marks_json(self) -> str:
        """Return the marks used as canonical JSON: position key -> [price, source].

        Of an option that is exposed by its delta the underlying's price and the delta follow.
        """
        texts = self._marks_json
        if self._unwritten:
            for key in self._unwritten:
                value = self.values.get(key)
                if value is None:
                    texts.pop(key, None)
                else:
                    price, of_option = exact_text(value.price), ""
                    if value.underlying is not None:
                        of_option = "".join(f',"{exact_text(one)}"' for one in value.underlying)
                    texts[key] = f'{json_name(key)}:["{price}","{value.source}"{of_option}]'
            self._unwritten = {}
        return ",".join([texts[key] for key in self._keys])

    def _replace(self, key: str, contribution: PositionContribution | None) -> None:
        """Replace the contribution of a position."""
        before = self._contributions.get(key)
        if before is contribution:  # both None
            return
        if key not in self._summed:
            self._summed[key] = before
        self._unwritten[key] = None
        if before is not None:
            if contribution is not None and (before.rate is None) != (contribution.rate is None):
                self._note_crossing(before, contribution)
            self._take(before)
        elif contribution is not None:
            insort(self._keys, key)
        if contribution is None:
            del self._contributions[key], self.values[key]
            del self._keys[bisect_left(self._keys, key)]
            return
        self._contributions[key] = contribution
        self.values[key] = contribution.value
        self._give(contribution)

    def _give(self, one: PositionContribution) -> None:
        """Add what a position contributes at every mark."""
        self.equity = add_wide(self.equity, one.equity)
        if one.maintenance:
            self.maintenance = add_wide(self.maintenance, one.maintenance)
        if one.paid and one.own >= 0:
            self.uncounted = add_wide(self.uncounted, one.uncounted)
        elif not one.isolated:
            self._owing += 1
        if one.isolated:
            self.isolated_positions += 1
            self.isolated_unrealized = add_wide(self.isolated_unrealized, one.unrealized)
        self._undefined += not one.defined
        self._unrated += one.rate is None

    def _take(self, one: PositionContribution) -> None:
        """Take away what a position contributed at every mark."""
        self.equity = subtract_wide(self.equity, one.equity)
        if one.maintenance:
            self.maintenance = subtract_wide(self.maintenance, one.maintenance)
        if one.paid and one.own >= 0:
            self.uncounted = subtract_wide(self.uncounted, one.uncounted)
        elif not one.isolated:
            self._owing -= 1
        if one.isolated:
            self.isolated_positions -= 1
            self.isolated_unrealized = subtract_wide(self.isolated_unrealized, one.unrealized)
        self._undefined -= not one.defined
        self._unrated -= one.rate is None

    def _note_crossing(self, before: PositionContribution, after: PositionContribution) -> None:
        """Add what a message found unrated and left rated, or the reverse."""
        crossed = negate(before.equity)
        if after.rate is not None:  # of a contract what it gained, of shares what they are worth
            crossed = multiply_wide(before.own, after.rate)
        self._position_crossed = add_wide(self._position_crossed, crossed)

    def _sum_up(
        self, before: PositionContribution | None, after: PositionContribution | None
    ) -> None:
        if before is after:
            return
        if before is not None:
            self._gross = subtract_wide(self._gross, before.gross)
            self._net = subtract_wide(self._net, before.net)
            self._initial = subtract_wide(self._initial, before.initial)
            if before.paid:
                self._paid_equity = subtract_wide(self._paid_equity, before.equity)
                self._paid_unrealized = subtract_wide(self._paid_unrealized, before.unrealized)
                self._unrated_cost = subtract_wide(self._unrated_cost, before.unrated_cost)
        if after is not None:
            self._gross = add_wide(self._gross, after.gross)
            self._net = add_wide(self._net, after.net)
            self._initial = add_wide(self._initial, after.initial)
            if after.paid:
                self._paid_equity = add_wide(self._paid_equity, after.equity)
                self._paid_unrealized = add_wide(self._paid_unrealized, after.unrealized)
                self._unrated_cost = add_wide(self._unrated_cost, after.unrated_cost)

    def _replace_order_margin(self, symbol: str, margin: OrderMargin | None) -> None:
        before = self._order_margins.pop(symbol, None)
        if before is not None:
            self.order_margin = subtract_wide(self.order_margin, before.amount)
            self._unrated -= not before.rated
        if margin is not None:
            self._order_margins[symbol] = margin
            self.order_margin = add_wide(self.order_margin, margin.amount)
            self._unrated += not margin.rated
