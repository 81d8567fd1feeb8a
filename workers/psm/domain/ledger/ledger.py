"""The ledger of an account: amounts, positions and orders, and the digests of their parts.

It changes in one way only: `commit` takes the `Effect` that `evolve` computed. All arithmetic
happens before the first assignment, so an event that does not compute changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import msgspec

from psm.contracts.position_keys import position_key, symbol_of
from psm.domain.ledger.booked_flows import BookedFlows, note_flow
from psm.domain.ledger.digests import ACCOUNT, PartDigests
from psm.domain.ledger.effect import Effect, TotalName, added
from psm.domain.ledger.holdings import NO_COST, AssetHolding, Cost
from psm.domain.ledger.listed import listed
from psm.domain.ledger.modes import PositionModes
from psm.domain.ledger.order_store import OrderStore
from psm.domain.ledger.own_fills import OwnFills, note_fill, split_fill
from psm.domain.ledger.positions import Position
from psm.domain.ledger.renames import NO_RENAMES, Renamed, Renames
from psm.domain.ledger.wallets import Wallets
from psm.domain.money import ONE, ZERO, add, multiply_wide, subtract
from psm.domain.windows import FillKey, FillWindow, KeyWindow

_NONE: Mapping[str, Any] = MappingProxyType({})
MarkSplit = tuple[int, Decimal, Decimal]
"""Number of a mark that is of units from before a split; new units, for so many old ones."""


class Ledger:
    """Everything that an account's own events add up to.

    Attributes:
        currency: of the account; None until its first applied event.
        leverage_limit: beyond it the account is flagged; None without one.
        leverages: by position key; the empty one stands for the account.
        modes: of positions: netted, or in legs.
        wallets: of isolated positions.
        cash: signed quantity of each asset.
        costs: of assets, in the account currency; what has none is not in it, nor is the account
            currency, whose cost is its quantity.
        totals: lifetime sums by name, in the account currency.
        positions: contracts and shares by key, flat ones with a history included.
        legs: keys of the legs by symbol; only symbols that were traded in hedge mode.
        settles: open positions per settle currency.
        secured: other assets than the account currency in which it traded contracts.
        undefined: open positions in instruments that were not defined when they opened.
        options: open positions in options, which marks of what they are on concern too.
        older_margins: open positions that have changed since the venue reported their margin.
        orders: open ones and the last 256 that ended.
        fill_keys: identities of the last 256 fills that had one.
        by_mark: whether a mark ever said what shares cost: booking again takes the marks then.
        reference_keys: those of the last 256 references and transfers.
        booked_flows: what the last 256 flows in kind that had an identity were booked at.
        own_fills: the last fill in each spot pair, the oldest first.
        renames: aliases that symbol changes left.
        borrowed: what is owed, by asset.
        splits: symbol -> (number of the mark that is of old units, new units for, old ones).
        digests: of the parts that the ledger hash is over.
    """

    __slots__ = (
        "booked_flows", "borrowed", "by_mark", "cash", "costs", "currency", "digests",
        "fill_keys", "legs", "leverage_limit", "leverages", "modes", "older_margins", "options",
        "orders", "own_fills", "positions", "reference_keys", "renames", "secured", "settles",
        "splits", "totals", "undefined", "wallets",
    )  # fmt: skip

    def __init__(self) -> None:
        self.currency: str | None = None
        self.leverage_limit: Decimal | None = None
        self.leverages: dict[str, Decimal] = {}
        self.modes = PositionModes()
        self.wallets = Wallets()
        self.cash: dict[str, Decimal] = {}
        self.costs: dict[str, Cost] = {}
        self.totals: dict[TotalName, Decimal] = {}
        self.positions: dict[str, Position] = {}
        self.legs: dict[str, dict[str, None]] = {}
        self.settles: dict[str, int] = {}
        self.secured: tuple[str, ...] = ()
        self.undefined: tuple[str, ...] = ()
        self.options: tuple[str, ...] = ()
        self.older_margins: tuple[str, ...] = ()
        self.orders = OrderStore()
        self.fill_keys = FillWindow()
        self.reference_keys = KeyWindow()
        self.booked_flows: BookedFlows = {}
        self.by_mark = False
        self.own_fills: OwnFills = {}
        self.splits: dict[str, MarkSplit] = {}
        self.borrowed: Mapping[str, Decimal] = _NONE
        self.renames = NO_RENAMES
        self.digests = PartDigests()

    @classmethod
    def restored(
        cls,
        *,
        currency: str | None,
        leverage_limit: Decimal | None,
        leverages: dict[str, Decimal],
        modes: PositionModes,
        wallets: Wallets,
        cash: dict[str, Decimal],
        costs: dict[str, Cost],
        totals: dict[TotalName, Decimal],
        positions: Iterable[Position],
        orders: OrderStore,
        fill_keys: FillWindow,
        reference_keys: KeyWindow,
        booked_flows: BookedFlows,
        by_mark: bool,
        own_fills: OwnFills,
        splits: dict[str, MarkSplit],
        borrowed: Mapping[str, Decimal] | None = None,
        renames: Renames | None = None,
    ) -> Ledger:
        """Return the ledger that a snapshot holds."""
        ledger = cls()
        ledger.currency = currency
        ledger.leverage_limit = leverage_limit
        ledger.leverages = leverages
        ledger.modes = modes
        ledger.wallets = wallets
        ledger.cash = cash
        ledger.costs = costs
        ledger.totals = totals
        for position in positions:
            ledger._put_position(position, position.key)
        ledger.orders = orders
        for order_id in orders.by_id:
            ledger.digests.changed(f"o{order_id}")
        ledger.fill_keys = fill_keys
        ledger.reference_keys = reference_keys
        ledger.booked_flows = booked_flows
        ledger.by_mark = by_mark
        ledger.own_fills = own_fills
        for symbol in own_fills:
            ledger.digests.changed(f"f{symbol}")
        ledger.splits = splits
        ledger.borrowed = borrowed or _NONE
        ledger.renames = renames or NO_RENAMES
        return ledger

    def total(self, name: TotalName) -> Decimal:
        """Return a lifetime total in the account currency."""
        return self.totals.get(name, ZERO)

    def flows_cost(self) -> Decimal:
        """Return the sum of all external flows at cost, proceeds of unknown cost included."""
        total = self.total
        moved = add(subtract(total("deposits"), total("withdrawals")), total("transfers"))
        return add(moved, total("unknown_cost"))

    def holding(self, asset: str) -> AssetHolding:
        """Return the holding of an asset; of the account currency its cost is its quantity."""
        quantity = self.cash.get(asset, ZERO)
        if asset == self.currency:
            return AssetHolding(quantity, Cost(quantity))
        return AssetHolding(quantity, self.costs.get(asset, NO_COST))

    def open_position_count(self) -> int:
        """Return how many positions are not flat."""
        count = 0
        for in_currency in self.settles.values():
            count += in_currency
        return count

    def keys_of(self, symbol: str) -> tuple[str, ...]:
        """Return the keys that a symbol's positions may have: of the net one, then of its legs."""
        return (position_key(symbol), *self.legs.get(symbol, ()))

    def open_position(self, symbol: str) -> Position | None:
        """Return the first open position of a symbol: the net one, else a leg."""
        if not self.legs and "#" not in symbol:
            position = self.positions.get(symbol)
            return position if position is not None and position.size else None
        for key in self.keys_of(symbol):
            position = self.positions.get(key)
            if position is not None and position.size:
                return position
        return None

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols of all positions and of all open orders."""
        held = [position.instrument.symbol for position in self.positions.values()]
        return tuple(dict.fromkeys((*held, *self.orders.open_by_symbol)))

    def leverage_of(self, key: str) -> Decimal:
        """Return the leverage of a position: its own, its symbol's, else the account's, else 1."""
        own = self.leverages.get(key)
        if own is None and "#" in key:
            own = self.leverages.get(position_key(symbol_of(key)))
        return self.leverages.get("", ONE) if own is None else own

    def is_flat(self, symbol: str) -> bool:
        """Return whether a symbol has no open contract; the empty one: all without own mode."""
        return not any(
            position.size and not position.instrument.full_notional
            for position in self.positions.values()
            if position.instrument.symbol == symbol
            or (not symbol and position.instrument.symbol not in self.modes.own)
        )

    # --- change -------------------------------------------------------------------------------

    def commit(self, effect: Effect) -> bool:
        """Apply a computed effect; return whether what the account holds or has ordered changed.

        Raises:
            ArithmeticError: a sum is not exact in 100 digits; nothing was changed.
        """
        cash = added(self.cash, effect.cash)
        totals = added(self.totals, effect.totals)
        wallets = added(self.wallets.amounts, effect.wallets) if effect.wallets else None
        moved = not cash.keys() <= self.cash.keys()
        self.cash.update(cash)
        self.totals.update(totals)
        if effect.costs:
            self._keep_costs(effect)
        if effect.currency is not None:
            moved = True
            self.currency = effect.currency
            self.leverage_limit = effect.leverage_limit
        for step in effect.steps:
            position = step.left(keeps_margin=effect.keeps_margin)
            moved = self._put_position(position, step.position.key) or moved
        self._keep_settings(effect)
        if wallets is not None:
            self.wallets.put(wallets)
        for order in effect.orders:
            for order_id in self.orders.put(order):
                self.digests.changed(f"o{order_id}")
            moved = True
        if self._remember(effect):
            moved = True
        self.digests.changed(ACCOUNT)
        return moved

    def after(self, effect: Effect) -> Ledger:
        """Return this ledger with an effect of amounts and positions in it, to book on from."""
        other = Ledger.__new__(Ledger)
        for name in Ledger.__slots__:
            value = getattr(self, name)
            setattr(other, name, dict(value) if isinstance(value, dict) else value)
        other.modes, other.wallets = self.modes.copy(), self.wallets.copy()
        other.commit(effect)
        return other

    def _keep_costs(self, effect: Effect) -> None:
        for asset, cost in effect.costs:
            if cost == NO_COST:
                self.costs.pop(asset, None)
            else:
                self.costs[asset] = cost

    def _keep_settings(self, effect: Effect) -> None:
        if effect.leverage is not None:
            of, leverage = effect.leverage
            self.leverages[of] = leverage
        if effect.position_mode is not None:
            self.modes.ask(*effect.position_mode)
        if self.modes.waiting:
            self.modes.settle(self.is_flat)
        if effect.margin_mode is not None:
            self.wallets.set_mode(*effect.margin_mode)

    def _remember(self, effect: Effect) -> bool:
        """Keep identities, names, debts, a spot fill's price; return whether its pair is new."""
        if effect.fill_key is not None:
            self.fill_keys.add(effect.fill_key)
        if effect.reference_key is not None:
            self.reference_keys.add(effect.reference_key)
        self.by_mark = self.by_mark or effect.by_mark
        if effect.booked_flow is not None:
            note_flow(self.booked_flows, *effect.booked_flow)
        if effect.renamed is not None:
            self._rename(effect.renamed)
        if effect.borrowed is not None:
            asset, amount = effect.borrowed
            owed = {**self.borrowed, asset: add(self.borrowed.get(asset, ZERO), amount)}
            self.borrowed = {name: of for name, of in owed.items() if of}
        if effect.own_fill is None:
            return False
        symbol, fill = effect.own_fill
        first = symbol not in self.own_fills
        note_fill(self.own_fills, symbol, fill)
        self.digests.changed(f"f{symbol}")
        return first

    def _rename(self, renamed: Renamed) -> None:
        """Take in other names; what the old symbol had for itself is the new one's."""
        self.renames = renamed.names
        if renamed.old is not None:
            for side in ("net", "long", "short"):
                leverage = self.leverages.pop(position_key(renamed.old, side), None)
                if leverage is not None:
                    self.leverages[position_key(renamed.new, side)] = leverage
            self.modes.rename(renamed.old, renamed.new)
            self.wallets.rename(renamed.old, renamed.new)
            self.splits.pop(renamed.old, None)  # a mark that moved is of new units

    def split_own_fill(self, symbol: str, new: Decimal, old: Decimal) -> None:
        """Restate the last fill of a pair: `new` units stand for `old` ones of it by now."""
        if split_fill(self.own_fills, symbol, new, old):
            self.digests.changed(f"f{symbol}")

    def split_mark(self, symbol: str, number: int, new: Decimal, old: Decimal) -> None:
        """Correct the mark with this number: `new` units stand for `old` ones of it by now."""
        of, new_before, old_before = self.splits.get(symbol, (0, ONE, ONE))
        if of == number:
            new, old = multiply_wide(new, new_before), multiply_wide(old, old_before)
        self.splits[symbol] = (number, new, old)

    def mark_replaced(self, symbol: str, number: int) -> None:
        """Forget the correction of a symbol's mark once another one is in its place."""
        split = self.splits.get(symbol)
        if split is not None and split[0] != number:
            del self.splits[symbol]

    def split_moved_mark(self, symbol: str, price: Decimal) -> None:
        """Correct the mark that values a renamed symbol until it has its own."""
        mark = self.renames.marks.get(symbol)
        if mark is not None:
            mark = msgspec.structs.replace(mark, price=price)
            self.renames = self.renames.with_mark(symbol, mark)

    def complete_fill(self, key: FillKey) -> None:
        """Learn the order of a remembered fill from a repeat of it that names one."""
        self.fill_keys.complete(key)

    def forget_keys(self) -> None:
        """Forget which identities were used: outcomes are not looked at again."""
        self.fill_keys, self.reference_keys = FillWindow(), KeyWindow()

    def take_identities(self, before: Ledger) -> None:
        """Remember what the ledger that this one replaces remembered, corrected or not."""
        self.fill_keys, self.reference_keys = before.fill_keys, before.reference_keys
        self.renames = self.renames.remembering(before.renames)

    def _put_position(self, position: Position | None, key: str) -> bool:
        """Replace a position; return whether another one or another definition is open now."""
        before = self.positions.get(key)
        self.digests.changed(f"p{key}")
        self._note_kind(position, key)
        if position is not None and position.position_side != "net":
            self.legs.setdefault(position.instrument.symbol, {})[key] = None
        if (
            (before is not None and before.size)
            and (position is not None and position.size)
            and before.instrument is position.instrument
        ):
            self.positions[key] = position  # still open, and still the same thing
            return False
        if before is not None and before.size:
            self._count(before, -1)
        if position is None:
            self.positions.pop(key, None)
            return True
        self.positions[key] = position
        if position.size:
            self._count(position, 1)
        return True

    def _note_kind(self, position: Position | None, symbol: str) -> None:
        """Keep what is undefined, and which assets secure contracts."""
        if position is None:  # its only fill is busted: what it secured may be secured no more
            self.undefined = listed(self.undefined, symbol, is_in=False)
            self.older_margins = listed(self.older_margins, symbol, is_in=False)
            return
        instrument = position.instrument
        is_open = bool(position.size) and not instrument.defined
        if is_open is not (symbol in self.undefined):
            self.undefined = listed(self.undefined, symbol, is_in=is_open)
        if position.margin is not None or self.older_margins:
            is_older = position.margin is not None and position.margin.stale
            self.older_margins = listed(self.older_margins, symbol, is_in=is_older)
        settle = instrument.settle
        if settle != self.currency and settle not in self.secured and not instrument.full_notional:
            self.secured = tuple(sorted((*self.secured, settle)))

    def _count(self, position: Position, change: int) -> None:
        """Count a position that opens (1) or closes (-1)."""
        if position.instrument.option is not None:
            self.options = listed(self.options, position.key, is_in=change > 0)
        settle = position.instrument.settle
        count = self.settles.get(settle, 0)
        count += change
        if count:
            self.settles[settle] = count
        else:
            del self.settles[settle]
