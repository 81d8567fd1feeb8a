"""The accounts of a group and what they add up to, in the group's currency.

Sums are kept line by line and account by account: a mark costs what its holders cost.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from psm.domain.money import ZERO, add, multiply, quotient, subtract
from psm.risk.engine.figures import DayFigures, first_peak, next_peak
from psm.risk.engine.lines import GroupLines
from psm.risk.engine.member import GroupMember
from psm.risk.engine.path import DayOpening, Path, Peak, Reservation
from psm.risk.exposure import ExposureLine
from psm.risk.market import MarketView
from psm.risk.rulebook import Rulebook

_Worth = tuple[Decimal | None, Decimal | None]
"""Net asset value and drawdown."""


class GroupState:
    """One group of a slot.

    Attributes:
        name: of the group.
        currency: of its figures.
        members: by account.
        lines: of its members, and the sums over them.
        above: figures of its parents that are watched, as they were looked at last.
        log_sequence: highest of its members' last inputs.
        open_count: orders that are open or reserved, of all members.
    """

    def __init__(self, name: str, currency: str, market: MarketView, path: Path) -> None:
        self.name, self.currency = name, currency
        self.members: dict[str, GroupMember] = {}
        self.lines = GroupLines(currency, market, path)
        self.above: dict[str, DayFigures | None] = {}
        self._market, self._path = market, path
        self._own: dict[str, DayFigures | None] = {}
        self._figures: dict[str, DayFigures] = {}
        self._total: DayFigures | None = None
        self._valued: tuple[Peak | None, DayFigures | None, _Worth] = None, None, (None, None)
        self._totals: dict[str, Decimal] = {}
        self._missing: dict[str, dict[str, None]] = {}
        self._homes: dict[str, str | None] = {}
        self._converted: dict[str, None] = {}
        self._abroad: dict[str, None] = {}
        self._touched: dict[str, None] = {}
        self._unknown: dict[str, None] = {}
        self._open: dict[str, int] = {}
        self.log_sequence = self.open_count = 0

    # --- members --------------------------------------------------------------------------------

    def use(self, rulebook: Rulebook) -> None:
        """Count by the tags of this rulebook from now on."""
        self.lines.rulebook = rulebook
        for account_id in self.members:
            self.refresh(account_id)

    def add(self, account_id: str) -> GroupMember:
        """Return a member, unknown at first."""
        member = self.members.get(account_id)
        if member is None:
            member = self.members[account_id] = GroupMember(account_id)
            self.lines.add(account_id)
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
        self.lines.remove(self.members[account_id])
        self._count(account_id, None)
        for missing in self._missing.values():
            missing.pop(account_id, None)
        by_account = (self._converted, self._abroad, self._unknown, self._own, self._homes)
        for of_accounts in by_account:
            of_accounts.pop(account_id, None)
        self.open_count -= int(self._open.pop(account_id, 0))
        del self.members[account_id]
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
        if self._homes.get(account_id) != member.currency:
            self._homes[account_id], names = member.currency, None
        self._count_orders(member)
        self._revalue(member, self.lines.names(member) if names is None else names)
        self._note_conversion(member)

    def reserve(self, before: Reservation | None, after: Reservation) -> None:
        """Count an order that was approved, instead of what was reserved for it before."""
        member = self.members[after.account_id]
        if before is not None or after.order_id in member.orders:
            self.refresh(after.account_id, (after.line,))  # of both the worse
            return
        self.lines.reserve(member, after)
        self._open[after.account_id] = self.open_count_of(after.account_id) + 1
        self.open_count += 1
        if self.lines.is_settled_abroad(member, after.line):
            self._converted[after.account_id] = None

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
        member.value(self._market)
        for name in dict.fromkeys(map(self.lines.line_name, names)):
            self.lines.refresh(member, name)
        self._count(member.account_id, self._own_figures(member))

    def _note_conversion(self, member: GroupMember) -> None:
        """Note whether marks of other symbols than its own may be rates for an account."""
        home = member.currency or self.currency
        self._abroad.pop(member.account_id, None)
        if home != self.currency:
            self._abroad[member.account_id] = None
        foreign = home != self.currency or bool(member.foreign())
        if foreign or self.lines.is_settled_abroad(member):
            self._converted[member.account_id] = None
        else:
            self._converted.pop(member.account_id, None)

    def moved(self, symbol: str) -> list[str]:
        """Value again whom a symbol's mark concerns; return them, ascending."""
        holders = self.lines.holders(symbol)
        concerned = sorted({**holders, **self._converted})
        for account_id in concerned:
            # Of other currencies anything may be converted by it.
            member = self.members[account_id]
            whole = account_id in self._converted
            self._touched[account_id] = None
            self._revalue(member, self.lines.names(member) if whole else [*holders[account_id]])
        return concerned

    # --- lines ----------------------------------------------------------------------------------

    def line(self, account_id: str, name: str, without: str | None = None) -> ExposureLine:
        """Return a line with all that is ordered of it, in the account's currency."""
        return self.lines.line(self.members[account_id], name, without)

    def scaled(self, account_id: str, line: ExposureLine) -> ExposureLine:
        """Return a line of an account in the group's currency."""
        return self.lines.scaled(self.members[account_id], line)

    # --- figures --------------------------------------------------------------------------------

    def figures(self, account_id: str) -> DayFigures | None:
        """Return an account's figures in its own currency; None if it does not compute."""
        return self._own.get(account_id)

    def figures_of(self, scope: str) -> DayFigures | None:
        """Return the figures of `group:x` in its currency, of `account:x` in the account's."""
        kind, _, name = scope.partition(":")
        if kind == "group":
            return self.total() if name == self.name else self.above.get(name)
        return self.figures(name) if name in self.members else None

    def total(self) -> DayFigures | None:
        """Return the group's; None while one of its members has none."""
        if self._total is None and not self._missing.get("equity"):
            values = {name: self._sum(name) for name in ("opened", "profit", "realized")}
            self._total = DayFigures(
                equity=self._sum("equity") or ZERO, flows=self._sum("flows") or ZERO, **values
            )
        return self._total

    @property
    def is_mixed(self) -> bool:
        """Whether a member is of another currency: what flowed to it is worth more or less now."""
        return bool(self._abroad)

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
        rate = self.lines.rate(self.members[account_id])
        self._own[account_id], self._total = figures, None
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
        rate, key = self.lines.rate(self.members[account_id]), f"group:{self.name}"
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
        return self._worth()[0]

    def drawdown(self) -> Decimal | None:
        """Return 1 - nav / its peak, to 34 digits; None before the first equity."""
        return self._worth()[1]

    def _worth(self) -> _Worth:
        """Return net asset value and drawdown; from equity and peak of now, computed once."""
        peak, total = self._path.get(Peak, "peak", f"group:{self.name}"), self.total()
        if self._valued[0] is not peak or self._valued[1] is not total:
            self._valued = peak, total, _worth_of(peak, total)
        return self._valued[2]


def _worth_of(peak: Peak | None, total: DayFigures | None) -> _Worth:
    if peak is None or total is None or peak.units <= 0:
        return None, None
    nav = quotient(subtract(total.equity, peak.flows), peak.units)
    return nav, quotient(subtract(peak.peak, nav), peak.peak)
