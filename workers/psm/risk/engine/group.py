"""The accounts of a group and what they add up to, in the group's currency.

Sums are kept line by line and account by account: a mark costs what its holders cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from psm.contracts.position_keys import symbol_of
from psm.domain.money import ZERO, add, multiply, quotient, subtract
from psm.risk.decide import line_of
from psm.risk.engine.figures import DayFigures, first_peak, next_peak
from psm.risk.engine.member import ASSET, GroupMember
from psm.risk.engine.path import DayOpening, Path, Peak, Reservation
from psm.risk.exposure import ExposureLine, Sums, cluster_of
from psm.risk.market import MarketView
from psm.risk.rulebook import Rulebook
from psm.risk.state import OpenOrder, Side


class GroupState:
    """One group of a slot.

    Attributes:
        name: of the group.
        currency: of its figures.
        members: by account.
        sums: over all lines of all members.
        above: figures of its parents that are watched, as they were looked at last.
        log_sequence: highest of its members' last inputs.
        open_count: orders that are open or reserved, of all members.
    """

    def __init__(self, name: str, currency: str, market: MarketView, path: Path) -> None:
        self.name, self.currency = name, currency
        self.members: dict[str, GroupMember] = {}
        self.sums = Sums()
        self.above: dict[str, DayFigures | None] = {}
        self._market, self._path = market, path
        self._rulebook: Rulebook | None = None
        self._account_sums: dict[str, Sums] = {}
        self._lines: dict[str, dict[str, tuple[ExposureLine, ExposureLine]]] = {}
        self._figures: dict[str, DayFigures] = {}
        self._totals: dict[str, Decimal] = {}
        self._missing: dict[str, dict[str, None]] = {}
        self._holders: dict[str, dict[str, dict[str, None]]] = {}
        self._converted: dict[str, None] = {}
        self._touched: dict[str, None] = {}
        self._unknown: dict[str, None] = {}
        self._open: dict[str, int] = {}
        self.log_sequence = self.open_count = 0

    # --- members --------------------------------------------------------------------------------

    def use(self, rulebook: Rulebook) -> None:
        """Count by the tags of this rulebook from now on."""
        self._rulebook = rulebook
        for account_id in self.members:
            self.refresh(account_id)

    def add(self, account_id: str) -> GroupMember:
        """Return a member, unknown at first."""
        member = self.members.get(account_id)
        if member is None:
            member = self.members[account_id] = GroupMember(account_id)
            self._account_sums[account_id], self._lines[account_id] = Sums(), {}
            self._unknown[account_id] = None
            self._count(account_id, None)
            self._touched[account_id] = None
        return member

    def touched(self) -> list[GroupMember]:
        """Return members that may have changed since this was asked last, and forget which."""
        found = [self.members[name] for name in sorted(self._touched) if name in self.members]
        self._touched = {}
        return found

    def remove(self, account_id: str) -> None:
        """Take an account out."""
        for name in [*self._lines[account_id]]:
            self._replace(account_id, name, None)
        self._count(account_id, None)
        for missing in self._missing.values():
            missing.pop(account_id, None)
        self._converted.pop(account_id, None)
        self._unknown.pop(account_id, None)
        self.open_count -= int(self._open.pop(account_id, 0))
        del self.members[account_id], self._account_sums[account_id], self._lines[account_id]
        left = (member.log_sequence for member in self.members.values())
        self.log_sequence = max(left, default=0)

    def refresh(self, account_id: str, names: Iterable[str] | None = None) -> None:
        """Count an account as it is now; of its lines only those that are named changed."""
        member = self.members[account_id]
        self._touched[account_id] = None
        if member.known:
            self._unknown.pop(account_id, None)
            self.log_sequence = max(self.log_sequence, member.log_sequence)
        else:
            self._unknown[account_id] = None
        self._count_orders(member)
        self._revalue(member, self._all_lines(member) if names is None else names)
        if self._is_converted(member):
            self._converted[account_id] = None
        else:
            self._converted.pop(account_id, None)

    def open_count_of(self, account_id: str) -> int:
        """Return how many orders of a member are open or reserved."""
        return self._open.get(account_id, 0)

    def _count_orders(self, member: GroupMember) -> None:
        account_id, shown = member.account_id, member.orders
        reserved = self._path.count_under("reservation", account_id)
        unreserved = [
            one for one in shown if not self._path.has("reservation", f"{account_id}/{one}")
        ]
        count = len(unreserved) + reserved
        self.open_count += count - self._open.get(account_id, 0)
        self._open[account_id] = count

    def _revalue(self, member: GroupMember, names: Iterable[str]) -> None:
        account_id = member.account_id
        member.value(self._market)
        for name in dict.fromkeys(map(self.line_name, names)):
            self._replace(account_id, name, self.line(account_id, name))
        self._count(account_id, self._own_figures(member))

    def _all_lines(self, member: GroupMember) -> list[str]:
        reserved = [one.line for _, one in self.reservations(member.account_id)]
        return [*self._lines[member.account_id], *member.line_names(), *reserved]

    def _is_converted(self, member: GroupMember) -> bool:
        """Return whether marks of other symbols than its own may be rates for it."""
        home = member.currency or self.currency
        if home != self.currency or member.foreign():
            return True
        lines = self._lines[member.account_id].values()
        return any(self._market.settles(own.symbol, home) != home for own, _ in lines)

    def line_name(self, name: str) -> str:
        """Return the line that a position's key is part of: of a pair that of its base."""
        instrument = None if name.startswith(ASSET) else self._market.instrument(symbol_of(name))
        if instrument is None or not instrument.is_pair:
            return name
        return f"{ASSET}{instrument.base}"

    def lines_of(self, symbol: str) -> list[tuple[str, str]]:
        """Return (account, line) of whoever holds or has ordered something of a symbol."""
        return [
            (account_id, name)
            for account_id, names in sorted(self._holders.get(symbol, {}).items())
            for name in sorted(names)
        ]

    def moved(self, symbol: str) -> list[str]:
        """Value again whom a symbol's mark concerns; return them, ascending."""
        holders = self._holders.get(symbol, {})
        concerned = sorted({**holders, **self._converted})
        for account_id in concerned:
            # Of other currencies anything may be converted by it.
            member = self.members[account_id]
            whole = account_id in self._converted
            self._touched[account_id] = None
            self._revalue(member, self._all_lines(member) if whole else [*holders[account_id]])
        return concerned

    # --- lines ----------------------------------------------------------------------------------

    def reservations(self, account_id: str) -> list[tuple[str, Reservation]]:
        """Return an account's reservations, ascending by key."""
        return self._path.under(Reservation, "reservation", account_id)

    def open_orders(
        self, account_id: str, name: str, without: str | None = None
    ) -> list[OpenOrder]:
        """Return what may still be filled of a line, reservations too.

        Args:
            account_id: whose.
            name: of the line.
            without: an order that is left out.
        """
        reserved = {one.order_id: one for one in self._path.reservations_of(account_id, name)}
        found = []
        for order_id, figures in self._shown(account_id, name):
            order = self._open_order(account_id, figures)
            replacing = reserved.pop(order_id, None)
            if replacing is not None:
                filled = Decimal(figures["filled_quantity"])
                left = subtract(replacing.quantity, filled)
                order = msgspec.structs.replace(order, open_quantity=max(order.open_quantity, left))
            found.append(order)
        found = [*found, *map(_reserved_order, reserved.values())]
        return [order for order in found if order.order_id != without]

    def _shown(self, account_id: str, name: str) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the orders that PSM shows of a line; to an asset those of all its pairs belong."""
        member = self.members[account_id]
        if not name.startswith(ASSET):
            return [*member.ordered(name).items()]
        return [
            (order_id, figures)
            for key in member.ordered_lines()
            if self.line_name(key) == name
            for order_id, figures in member.ordered(key).items()
        ]

    def _open_order(self, account_id: str, figures: Mapping[str, Any]) -> OpenOrder:
        """Return an order that PSM shows; one that risk never saw may open something."""
        external = self._path.has("external", f"{account_id}/{figures['order_id']}")
        left = subtract(Decimal(figures["quantity"]), Decimal(figures["filled_quantity"]))
        side: Side = figures["side"]
        return OpenOrder(
            order_id=figures["order_id"],
            symbol=figures["symbol"],
            side=side,
            open_quantity=left,
            price=None if figures["price"] is None else Decimal(figures["price"]),
            reduce_only=figures["reduce_only"] and not external,
        )

    def line(self, account_id: str, name: str, without: str | None = None) -> ExposureLine:
        """Return a line with all that is ordered of it, in the account's currency."""
        held = self.members[account_id].held(name, self._market)
        symbol = held.symbol
        rate = self._market.contract(symbol).initial_margin_rate or ZERO
        held = msgspec.structs.replace(held, margin_rate=rate, tags=self.tags(symbol))
        return line_of(held, self.open_orders(account_id, name, without))

    def tags(self, symbol: str) -> tuple[tuple[str, str], ...]:
        """Return what a symbol is counted under."""
        if self._rulebook is None:
            return ()
        tags = self._rulebook.tags_of(symbol)
        found = [("currency", tags.currency), ("sector", tags.sector)]
        clusters = self._rulebook.cluster_of()
        if clusters:
            found.append(("cluster", cluster_of(symbol, clusters)))
        return tuple((kind, tag) for kind, tag in found if tag is not None)

    def scaled(self, account_id: str, line: ExposureLine) -> ExposureLine:
        """Return a line of an account in the group's currency."""
        home = self.members[account_id].currency
        return line if home in (None, self.currency) else line.scaled(self.rate(account_id))

    def rate(self, account_id: str) -> Decimal | None:
        """Return group currency per unit of an account's; None where no mark says it."""
        home = self.members[account_id].currency
        return self._market.rate(home or self.currency, self.currency)

    def account_sums(self, account_id: str) -> Sums:
        """Return the sums over an account's own lines, in its currency."""
        return self._account_sums[account_id]

    def _replace(self, account_id: str, name: str, line: ExposureLine | None) -> None:
        lines = self._lines[account_id]
        before = lines.pop(name, None)
        after = None
        if line is not None and not line.is_empty:
            after = lines[name] = (line, self.scaled(account_id, line))
        self._account_sums[account_id].replace(before and before[0], after and after[0])
        self.sums.replace(before and before[1], after and after[1])
        counted = after or before
        if counted is not None:
            self._index(account_id, name, counted[0].symbol, held=after is not None)

    def _index(self, account_id: str, name: str, symbol: str, *, held: bool) -> None:
        holders = self._holders.setdefault(symbol, {})
        names = holders.setdefault(account_id, {})
        if held:
            names[name] = None
            return
        names.pop(name, None)
        if not names:
            del holders[account_id]
        if not holders:
            del self._holders[symbol]

    # --- figures --------------------------------------------------------------------------------

    def figures(self, account_id: str) -> DayFigures | None:
        """Return an account's figures in its own currency; None if it does not compute."""
        return self._own_figures(self.members[account_id])

    def figures_of(self, scope: str) -> DayFigures | None:
        """Return the figures of `group:x` in its currency, of `account:x` in the account's."""
        kind, _, name = scope.partition(":")
        if kind == "group":
            return self.total() if name == self.name else self.above.get(name)
        return self.figures(name) if name in self.members else None

    def total(self) -> DayFigures | None:
        """Return the group's; None while one of its members has none."""
        if self._missing.get("equity"):
            return None
        values = {name: self._sum(name) for name in ("opened", "profit", "realized")}
        return DayFigures(
            equity=self._sum("equity") or ZERO, flows=self._sum("flows") or ZERO, **values
        )

    def unknown(self) -> list[str]:
        """Return members that something is missing of, ascending."""
        return sorted(self._unknown)

    def _sum(self, name: str) -> Decimal | None:
        return None if self._missing.get(name) else self._totals.get(name, ZERO)

    def _own_figures(self, member: GroupMember) -> DayFigures | None:
        if member.known and member.currency is None:  # nothing came in yet
            return DayFigures(equity=ZERO, opened=ZERO, profit=ZERO, realized=ZERO, flows=ZERO)
        if member.equity is None:
            return None
        flows = member.amount("flows") or ZERO
        day = self._path.get(DayOpening, "day", member.account_id)
        opened = profit = realized = None
        if day is not None and day.equity is not None:
            opened = day.equity
            profit = subtract(subtract(member.equity, opened), subtract(flows, day.flows))
            realized = subtract(member.realized(), day.realized)
        elif day is not None and not member.equity and not flows:
            opened = profit = realized = ZERO
        return DayFigures(
            equity=member.equity, opened=opened, profit=profit, realized=realized, flows=flows
        )

    def _count(self, account_id: str, figures: DayFigures | None) -> None:
        """Count an account's figures in the totals, instead of those before."""
        rate = self.rate(account_id)
        after = None if figures is None or rate is None else figures.scaled(rate)
        before = self._figures.pop(account_id, None)
        if after is not None:
            self._figures[account_id] = after
        for name in DayFigures.__struct_fields__:
            was, own = getattr(before, name, None), getattr(after, name, None)
            total = self._totals.get(name, ZERO)
            total = subtract(add(total, own or ZERO), was or ZERO)
            self._totals[name] = total
            missing = self._missing.setdefault(name, {})
            if own is None:
                missing[account_id] = None
            else:
                missing.pop(account_id, None)

    def take_flow(self, account_id: str, amount: Decimal) -> None:
        """Note that money came or went, in the account's currency; `take_nav` counts it."""
        rate, key = self.rate(account_id), f"group:{self.name}"
        before = self._path.get(Peak, "peak", key)
        if before is not None and rate is not None and amount:
            flows = add(before.flows, multiply(amount, rate))
            self._path.put("peak", key, msgspec.structs.replace(before, flows=flows))

    def take_nav(self) -> None:
        """Bring the group's net asset value and its peak up to the figures of now.

        A flow changes units, not their value: nav = equity / units. Where nothing was left before
        a flow, or is left after it, an epoch begins at 1.
        """
        total, key = self.total(), f"group:{self.name}"
        if total is None:
            return
        before = self._path.get(Peak, "peak", key)
        after = first_peak(total.equity) if before is None else next_peak(before, total.equity)
        self._path.put("peak", key, after)

    def nav(self) -> Decimal | None:
        """Return the net asset value of a unit, to 34 digits; None before the first equity."""
        peak, total = self._path.get(Peak, "peak", f"group:{self.name}"), self.total()
        if peak is None or total is None or peak.units <= 0:
            return None
        return quotient(subtract(total.equity, peak.flows), peak.units)

    def drawdown(self) -> Decimal | None:
        """Return 1 - nav / its peak, to 34 digits; None before the first equity."""
        peak, nav = self._path.get(Peak, "peak", f"group:{self.name}"), self.nav()
        if peak is None or nav is None:
            return None
        return quotient(subtract(peak.peak, nav), peak.peak)


def _reserved_order(one: Reservation) -> OpenOrder:
    return OpenOrder(
        order_id=one.order_id,
        symbol=one.symbol,
        side=one.side,
        open_quantity=subtract(one.quantity, one.filled),
        price=one.price,
        reduce_only=one.reduce_only,
    )
