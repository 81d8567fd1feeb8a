"""The scopes of an order: under whose limits it stands, and what each is measured on."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec

from psm.domain.money import ZERO, quotient, subtract
from psm.risk.engine.figures import DayFigures
from psm.risk.engine.group import GroupState
from psm.risk.engine.path import Latch, LossBase, Path, Peak, Streak
from psm.risk.engine.windows import Windows
from psm.risk.exposure import Exposure, ExposureLine
from psm.risk.limits import Limits
from psm.risk.market import MarketView
from psm.risk.measured import Measured
from psm.risk.rulebook import ScopedLimits
from psm.risk.state import ProposedOrder

DEFAULT_MARK_AGE = 60
"""Seconds that a mark may be old where nobody says otherwise."""


class Ordered(msgspec.Struct, frozen=True, kw_only=True):
    """An order and where it lands.

    Attributes:
        account_id: whose.
        line_name: of the position that it changes, or of the asset of a pair.
        clock: risk clock of the decision, us.
        replaces: order that it changes; `replaced` what is open of that.
    """

    order: ProposedOrder
    account_id: str
    group: str
    line_name: str
    clock: int
    replaces: str | None = None
    replaced: Decimal = ZERO

    @property
    def scopes(self) -> tuple[str, ...]:
        """Every scope that its windows count in."""
        order = self.order
        found = ["firm", f"group:{self.group}", f"account:{self.account_id}"]
        if order.strategy_id is not None:
            found.append(f"strategy:{order.strategy_id}")
        return (*found, f"symbol:{order.symbol}")

    def window(self, kind: str, scope: str, *parts: str) -> str:
        """Return the name of a window of one scope of the group."""
        return "|".join((self.group, scope, kind, *parts))


def is_of_account(scope: str) -> bool:
    """Return whether limits of a scope are measured on one account, and not on the group."""
    return scope.startswith(("account:", "strategy:"))


def latch_scope(scope: str, account_id: str, group: str) -> str:
    """Return what a loss latches that is over a limit of this scope."""
    return f"account:{account_id}" if is_of_account(scope) else f"group:{group}"


def with_defaults(found: tuple[ScopedLimits, ...]) -> tuple[tuple[str, Limits], ...]:
    """Return scopes and limits, the age of marks limited where no scope says it."""
    scoped = [(one.scope, one.limits) for one in found]
    if all(limits.mark_age is None for _, limits in scoped):
        if scoped and scoped[0][0] == "firm":
            scope, first = scoped[0]
            scoped[0] = scope, msgspec.structs.replace(first, mark_age=DEFAULT_MARK_AGE)
        else:
            scoped = [("firm", Limits(mark_age=DEFAULT_MARK_AGE)), *scoped]
    return tuple(scoped)


class Measures:
    """What limits are measured on, for one order.

    Args:
        state: the group.
        ordered: the order.
        own: the order's line without what it replaces, in the account's currency.
    """

    def __init__(
        self,
        state: GroupState,
        ordered: Ordered,
        own: ExposureLine,
        market: MarketView,
        path: Path,
        windows: Windows,
    ) -> None:
        self._state, self._ordered, self._own = state, ordered, own
        self._market, self._path, self._windows = market, path, windows
        replaces = ordered.replaces is not None
        self._counted = state.line(ordered.account_id, ordered.line_name) if replaces else own
        self._stale = bool(state.unknown())

    def measured(self, scope: str, limits: Limits) -> Measured:
        """Return limits of a scope with what they are measured on."""
        ordered, state = self._ordered, self._state
        of_account = is_of_account(scope)
        figures = state.figures(ordered.account_id) if of_account else state.total()
        latch = latch_scope(scope, ordered.account_id, ordered.group)
        side = ordered.order.side
        return Measured(
            scope=scope,
            limits=limits,
            equity=None if figures is None else figures.equity,
            exposure=self._exposure(of_account=of_account),
            money=self._money(of_account=of_account),
            open_orders=0
            if limits.open_orders_count is None
            else self._open_orders(of_account=of_account),
            profit=profit_of(self._path, latch, limits, figures, ordered.clock),
            opened=None if figures is None else figures.opened,
            drawdown=drawdown_of(state, self._path, latch),
            loss_streak=self._streak(latch),
            notional_spent=self._windows.total(
                ordered.window("notional", scope, side),
                ordered.clock,
                limits.notional_period_seconds,
            ),
            stale=self._stale and not of_account,
            latched=tuple(
                one.code for _, one in self._path.items(Latch, "latch") if one.scope == latch
            ),
        )

    def _exposure(self, *, of_account: bool) -> Exposure:
        state, account_id = self._state, self._ordered.account_id
        if of_account:
            sums = state.lines.sums_of(account_id)
            return Exposure(sums, self._own, self._counted, self._ordered.replaced)
        own, counted = (state.scaled(account_id, one) for one in (self._own, self._counted))
        return Exposure(state.lines.sums, own, counted, self._ordered.replaced)

    def _money(self, *, of_account: bool) -> Callable[[Decimal], Decimal | None]:
        state, ordered = self._state, self._ordered
        home = state.members[ordered.account_id].currency
        currency = home if of_account else state.currency
        return lambda price: self._market.worth(ordered.order.symbol, price, currency)

    def _open_orders(self, *, of_account: bool) -> int:
        state, account_id = self._state, self._ordered.account_id
        count = state.open_count_of(account_id) if of_account else state.open_count
        return count - 1 if self._ordered.replaces is not None else count

    def _streak(self, latch: str) -> int:
        found = self._path.get(Streak, "streak", latch)
        return 0 if found is None else found.losses


def profit_of(
    path: Path, latch: str, limits: Limits, figures: DayFigures | None, clock: int
) -> Decimal | None:
    """Return the day's profit that a cap is compared with: total, or what is realized.

    After a latch of it was lifted it counts from there.
    """
    if figures is None:
        return None
    realized = limits.daily_loss_basis == "realized"
    value = figures.realized if realized else figures.profit
    base = path.get(LossBase, "lossbase", latch)
    if value is None or base is None or base.until <= clock:
        return value
    return subtract(value, base.realized if realized else base.profit)


def nav_above(state: GroupState, path: Path, scope: str) -> Decimal | None:
    """Return the net asset value of a unit of a group's parent; None if that is not known."""
    peak, figures = path.get(Peak, "peak", scope), state.above.get(scope.partition(":")[2])
    if peak is None or figures is None or peak.units <= 0:
        return None
    return quotient(figures.equity, peak.units)


def drawdown_of(state: GroupState, path: Path, latch: str) -> Decimal | None:
    """Return the drawdown of a group or account: as published, or since its peak was rebased."""
    kind, _, name = latch.partition(":")
    if kind == "group" and name != state.name:
        top, nav = path.get(Peak, "peak", latch), nav_above(state, path, latch)
        return None if top is None or nav is None else quotient(subtract(top.peak, nav), top.peak)
    if kind == "group":
        return state.drawdown()
    rebased = path.get(Peak, "peak", latch)
    member = state.members[name]
    if rebased is None:
        return member.amount("drawdown")
    nav = member.amount("nav")
    if nav is None or rebased.peak <= 0:
        return None
    peak = max(rebased.peak, nav)
    return quotient(subtract(peak, nav), peak)
