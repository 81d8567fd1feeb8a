"""Prices as one account sees them: marks in its own units, rates into its own currency."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.positions import Position
from psm.domain.market.instrument import Instrument, undefined_instrument
from psm.domain.market.mark import Mark, Source
from psm.domain.market.rates import (
    RateStep,
    Restated,
    is_usable,
    market_steps,
    rate_of,
    step_of,
)
from psm.domain.market.tables import Market
from psm.domain.money import ONE, ZERO, scaled, subtract


class AccountPrices:
    """Marks, rates and definitions that value one account's ledger.

    Attributes:
        market: marks and instruments of the log, shared by all accounts of the books.
    """

    __slots__ = ("_ledger", "_seen", "market")

    def __init__(self, ledger: Ledger, market: Market) -> None:
        self._ledger = ledger
        self.market = market
        self._seen: tuple[int, tuple[str, ...]] = (0, ())

    def may_be_defined(self) -> bool:
        """Return whether something open that was undefined may be defined by now.

        Its first definition decides what a symbol is, so only a further one, or another position,
        may answer otherwise than the last time.
        """
        undefined, (known, seen) = self._ledger.undefined, self._seen
        return bool(undefined) and (seen is not undefined or known != len(self.market.instruments))

    def note_undefined(self) -> None:
        """Note that nothing of what is open and undefined is defined yet."""
        self._seen = (len(self.market.instruments), self._ledger.undefined)

    def mark(self, symbol: str) -> Decimal | None:
        """Return a symbol's mark in the account's units: one older than a split is divided."""
        mark = self.market.marks.get(symbol)
        if mark is None:
            moved = self._ledger.renames.marks.get(symbol)
            return None if moved is None else moved.price
        splits = self._ledger.splits
        if splits:
            split = splits.get(symbol)
            if split is not None and split[0] == mark.sequence_number:
                return scaled(mark.price, split[2], split[1])
        return mark.price

    def current_mark(self, symbol: str) -> Mark | None:
        """Return a symbol's mark as it came, or the one of its old name until it has its own."""
        return self.market.marks.get(symbol) or self._ledger.renames.marks.get(symbol)

    def price_of(self, position: Position) -> tuple[Decimal, Source]:
        """Return the price of a position: its mark, or its own last fill until one exists."""
        mark = self.mark(position.instrument.symbol)
        if mark is None or (mark <= 0 and position.instrument.inverse):
            return position.last_fill, "fill"  # taken before the definition said that it is inverse
        return mark, "mark"

    def underlying_of(self, option: Instrument) -> tuple[str, str]:
        """Return the present symbol of what an option is on, and the currency of its price."""
        terms = option.option
        assert terms is not None, "it is an option"
        symbol = self._ledger.renames.aliases.get(terms.underlying, terms.underlying)
        known = self.definition(symbol)
        return symbol, option.quote if known is None else known.quote

    def instrument(self, symbol: str) -> Instrument:
        """Return what a symbol is: as its open position has it, or as it is defined now."""
        position = self._ledger.open_position(symbol)
        if position is not None:
            return position.instrument
        known = self.definition(symbol)
        return known or undefined_instrument(symbol, self._ledger.currency or "")

    def definition(self, symbol: str) -> Instrument | None:
        """Return what a symbol is defined as, or what it was under its old name; None: neither."""
        known = self.market.instruments.get(symbol)
        return known or self._ledger.renames.definitions.get(symbol)

    # --- collateral ---------------------------------------------------------------------------

    def secures(self, asset: str) -> Decimal:
        """Return the share of what an asset is worth that secures margins."""
        ledger = self._ledger
        if asset == ledger.currency:
            return ONE
        known = self.market.collateral.get(asset)
        if known is None:
            return ONE if asset in ledger.secured else ZERO
        return subtract(ONE, known.haircut)

    def borrow_rate(self, asset: str) -> Decimal:
        """Return the maintenance margin per value of what is owed of an asset."""
        known = self.market.collateral.get(asset)
        return ZERO if known is None else known.borrow_maintenance_rate

    # --- rates --------------------------------------------------------------------------------

    def rate(self, asset: str) -> Decimal | None:
        """Return the value of one unit of `asset` in the account's; None where it is unknown."""
        if asset == self._ledger.currency:
            return ONE
        steps = self.rate_steps(asset)
        return rate_of(steps) if steps else None

    def rate_steps(self, asset: str, home: str | None = None) -> tuple[RateStep, ...]:
        """Return what the rate of another asset than the account's is made of; none: no rate.

        The market's marks first; where they say nothing, the account's own last fills.

        Args:
            asset: what is converted.
            home: the account currency, where the account has none yet.
        """
        home = home or self._ledger.currency
        if home is None:
            return ()
        steps = market_steps(self.market, asset, home, self._restated())
        if steps or not self._ledger.own_fills:
            return steps
        return self._own_steps(asset, home)

    def counted_assets(self) -> list[str]:
        """Return what needs a rate: what it has, and what its open positions settle in."""
        ledger = self._ledger
        held = [asset for asset, amount in ledger.cash.items() if amount]
        return [a for a in dict.fromkeys((*held, *ledger.settles)) if a != ledger.currency]

    def fill_partners(self, assets: Iterable[str]) -> list[str]:
        """Return what assets were last exchanged for: an own fill may need a rate of it."""
        home = self._ledger.currency
        wanted = {asset: None for asset in assets if asset != home}
        found: dict[str, None] = {}
        for fill in self._ledger.own_fills.values():
            if fill.base in wanted:
                found[fill.quote] = None
            if fill.quote in wanted:
                found[fill.base] = None
        return [asset for asset in found if asset not in wanted]

    def _restated(self) -> Restated:
        """Return what marks of before a split say; of a contract nothing until its next one."""
        found: dict[str, Decimal | None] = {}
        for symbol, (number, _, _) in self._ledger.splits.items():
            mark, made = self.market.marks.get(symbol), self.market.instruments.get(symbol)
            if mark is not None and made is not None and mark.sequence_number == number:
                found[symbol] = self.mark(symbol) if made.full_notional else None
        return found

    def _own_steps(self, asset: str, home: str) -> tuple[RateStep, ...]:
        """Return a rate by the account's last fill that exchanged an asset for one with a rate.

        For the account currency itself, else for what the market has a rate of, else for what an
        own fill against the account currency gives one of.
        """
        direct = self._own_step(asset, home, direct=True)
        if direct is not None:
            return (direct,)
        indirect: tuple[RateStep, ...] = ()
        for step, other in self._own_exchanges(asset):
            rest = market_steps(self.market, other, home, self._restated())
            if rest and rest[0].over:
                return (step, *rest)
            if not indirect:
                last = self._own_step(other, home, direct=False)
                indirect = () if last is None else (step, last)
        return indirect

    def _own_step(self, asset: str, home: str, *, direct: bool) -> RateStep | None:
        """Return the last fill in a pair of an asset and the account currency as a step."""
        exchanges = self._own_exchanges(asset, direct=direct)
        return next((step for step, other in exchanges if other == home), None)

    def _own_exchanges(self, asset: str, *, direct: bool = False) -> Iterable[tuple[RateStep, str]]:
        """Yield the account's fills of an asset, latest first, and what it was exchanged for."""
        for symbol, fill in reversed(self._ledger.own_fills.items()):
            forward = fill.base == asset
            if not forward and fill.quote != asset:
                continue
            if is_usable(fill.price, forward=forward, direct=direct):
                step = step_of(symbol, "fill", fill.price, forward=forward)
                yield step, fill.quote if forward else fill.base
