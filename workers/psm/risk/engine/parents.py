"""What is above a group: the limits that it shares with its siblings, watched after the fact.

Whoever decides for a group knows what the groups beside it told of themselves, and adds it up. So
a parent needs no loop and no lock: an order is held to the limits of its own group at once, and to
those of its parents as soon as their loss is known. What is not known leaves closing alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from psm.contracts import codec
from psm.domain.money import add, exact_text, subtract
from psm.risk.engine.budgets import (
    Budgets,
    budgets_of,
    budgets_sum,
    budgets_text,
    limits_orders,
    spent,
)
from psm.risk.engine.figures import DayFigures, first_peak, next_peak
from psm.risk.engine.group import GroupState
from psm.risk.engine.member import microseconds
from psm.risk.engine.membership import Memberships
from psm.risk.engine.path import Flag, FlowsSeen, Path, Peak
from psm.risk.engine.records import Chain, moment_text
from psm.risk.engine.watch import LossWatch
from psm.risk.engine.windows import Windows
from psm.risk.limits import Limits
from psm.risk.market import MarketView
from psm.risk.messages import RiskOutput, Stored
from psm.risk.rulebook import Rulebook, ScopedLimits

CODE = "group_figures"
SECOND = 1_000_000
TOLD_EVERY, TOLD_AGAIN = 5 * SECOND, 15 * SECOND
"""So soon after the last time a group's figures are told where they changed; where they did not."""
OLDEST = 30 * SECOND
"""Figures of a sibling that are older count as unknown."""


class _GroupTold(msgspec.Struct, frozen=True, kw_only=True):
    """What was told of a group: at a clock, its figures, and what it uses of parents' budgets."""

    at: int = 0
    figures: DayFigures | None = None
    mixed: bool = False
    budgets: Mapping[str, Budgets] = {}


_NOTHING = _GroupTold()


class ParentWatch:
    """Limits of the parents of a slot's groups."""

    def __init__(
        self,
        path: Path,
        chain: Chain,
        watch: LossWatch,
        market: MarketView,
        members: Memberships,
        windows: Windows,
    ) -> None:
        self._path, self._chain, self._watch = path, chain, watch
        self._market, self._members, self._windows = market, members, windows
        self._heard: dict[str, _GroupTold] = {}
        self._told: dict[str, _GroupTold] = {}
        self._next = 0

    def look(self, state: GroupState, rulebook: Rulebook, clock: int) -> list[RiskOutput]:
        """Latch what has reached a limit of a group's parents; note whether they are known."""
        outputs: list[RiskOutput] = []
        for one in _watched(rulebook, state.name, clock) if state.members else ():
            parent = one.scope.partition(":")[2]
            figures = state.above[parent] = self._sum(parent, rulebook, clock)
            limits = one.limits
            guessed = limits.drawdown is not None and self._is_mixed(parent, rulebook)
            if guessed:  # what flowed is told at the rates of now: nobody knows the fall from then
                limits = msgspec.structs.replace(limits, drawdown=None)
            used = None if figures is None else self._used(parent, limits, rulebook, clock)
            known = used is not None and not guessed
            if figures is not None and _limits_losses(one.limits):
                known = known and figures.profit is not None
                if not guessed:
                    self._take_nav(one.scope, figures)
                lost = self._watch.lost(state, one.scope, limits, rulebook, clock)
                outputs = [*outputs, *lost]
            over = spent(self._watch, state, one.scope, limits, used, clock)
            outputs = [*outputs, *over]
            self._note(one.scope, clock, blind=not known)
        return outputs

    def _used(self, parent: str, limits: Limits, rulebook: Rulebook, clock: int) -> Budgets | None:
        """Return what all groups of a parent use of its budgets; None while one is not known."""
        parts: list[tuple[Budgets, Decimal]] = []
        for group in rulebook.tree.sharing(parent) if limits_orders(limits) else ():
            own, heard = self._members.groups.get(group.name), self._heard.get(group.name)
            if own is not None:
                used: Budgets | None = budgets_of(own, self._windows, limits, clock)
            else:
                used = None if heard is None else heard.budgets.get(parent)
            rate = self._market.rate(group.currency, rulebook.groups[parent].currency)
            if used is None or rate is None:
                return None
            parts.append((used, rate))
        return budgets_sum(parts)

    def _is_mixed(self, parent: str, rulebook: Rulebook) -> bool:
        """Return whether a group or an account below a parent is of another currency than it."""
        currency = rulebook.groups[parent].currency
        for group in rulebook.tree.sharing(parent):
            own = self._members.groups.get(group.name)
            heard = self._heard.get(group.name, _NOTHING)
            mixed = heard.mixed if own is None else own.is_mixed
            if mixed or group.currency != currency:
                return True
        return False

    def tick(self, rulebook: Rulebook, clock: int) -> list[RiskOutput]:
        """Tell figures whose time has come, and look whether others' are too old by now."""
        if clock < self._next:
            return []
        self._next, outputs, above = int(clock) + SECOND, list[RiskOutput](), dict[str, None]()
        for state in self._members.states():
            watched = _watched(rulebook, state.name, clock)
            above.update(dict.fromkeys(one.scope for one in watched))
            if watched and state.members:
                outputs = [*outputs, *self._tell(state, watched, clock)]
                outputs = [*outputs, *self.look(state, rulebook, clock)]
        for scope in self._path.names("blind", ""):
            if scope not in above:
                self._path.drop("blind", scope)
        return outputs

    def take(self, record: Stored, rulebook: Rulebook, clock: int) -> list[RiskOutput]:
        """Take what the slot of a sibling told of it."""
        payload = codec.decode_untyped(record.data)["payload"]
        name, outputs = payload.get("group"), list[RiskOutput]()
        if payload.get("code") != CODE or name in self._members.groups:
            return []
        at = microseconds(payload["clock"])
        if name in self._heard and at < self._heard[name].at:
            return []
        self._heard[name] = _GroupTold(
            at=at,
            figures=_figures_of(payload.get("figures")),
            mixed=bool(payload.get("mixed")),
            budgets={
                parent: {limit: Decimal(money) for limit, money in used.items()}
                for parent, used in payload.get("budgets", {}).items()
            },
        )
        for state in self._members.states():
            if state.members and _share(rulebook, state.name, name):
                outputs = [*outputs, *self.look(state, rulebook, clock)]
        return outputs

    def _tell(
        self, state: GroupState, watched: Sequence[ScopedLimits], clock: int
    ) -> list[RiskOutput]:
        """Tell the figures of a group, and what it uses of the budgets that are watched."""
        before = self._told.get(state.name, _NOTHING)
        since = int(clock) - int(before.at)
        if since < TOLD_EVERY:
            return []
        used = {
            one.scope.partition(":")[2]: budgets_of(state, self._windows, one.limits, clock)
            for one in watched
        }
        budgets = {parent: found for parent, found in used.items() if found}
        told = _GroupTold(at=clock, figures=state.total(), mixed=state.is_mixed, budgets=budgets)
        if since < TOLD_AGAIN and msgspec.structs.replace(before, at=clock) == told:
            return []
        self._told[state.name] = told
        payload: dict[str, Any] = {
            "severity": "info",
            "code": CODE,
            "message": f"what {state.name} is worth",
            "group": state.name,
            "clock": moment_text(clock),
        }
        if told.mixed:
            payload["mixed"] = True
        if told.figures is not None:
            values = ((name, getattr(told.figures, name)) for name in DayFigures.__struct_fields__)
            payload["figures"] = {n: exact_text(v) for n, v in values if v is not None}
        if budgets:
            payload["budgets"] = {one: budgets_text(found) for one, found in budgets.items()}
        return self._chain.record("alert", "info", "alert", payload, clock)

    def _note(self, scope: str, clock: int, *, blind: bool) -> None:
        """Remember whether a parent's figures are known."""
        if not blind:
            self._path.drop("blind", scope)
        elif not self._path.has("blind", scope):
            self._path.put("blind", scope, Flag(clock=clock))

    def _sum(self, parent: str, rulebook: Rulebook, clock: int) -> DayFigures | None:
        """Return the sum over a parent's groups, in its currency; None while one is not known."""
        found: DayFigures | None = None
        for group in rulebook.tree.sharing(parent):
            own = self._members.groups.get(group.name)
            heard = self._heard.get(group.name, _NOTHING)
            if own is None and int(clock) - int(heard.at) > OLDEST:
                return None
            figures = heard.figures if own is None else own.total()
            rate = self._market.rate(group.currency, rulebook.groups[parent].currency)
            if figures is None or rate is None:
                return None
            figures = figures.scaled(rate)
            found = figures if found is None else _added(found, figures)
        return found

    def _take_nav(self, scope: str, figures: DayFigures) -> None:
        """Bring a parent's peak up to its figures; what flowed since the last time is in units."""
        seen = self._path.get(FlowsSeen, "flows", scope)
        before = self._path.get(Peak, "peak", scope)
        after = first_peak(figures.equity)
        if before is not None and seen is not None:
            came = subtract(figures.flows, seen.flows)
            pending = Peak(peak=before.peak, units=before.units, flows=came)
            after = next_peak(pending, figures.equity)
        self._path.put("peak", scope, after)
        self._path.put("flows", scope, FlowsSeen(flows=Decimal(exact_text(figures.flows))))


def _watched(rulebook: Rulebook, group: str, clock: int) -> list[ScopedLimits]:
    """Return the limits of a group's parents that are on what was lost, or ordered."""
    found = (rulebook.documents.limits_of(f"group:{p}", clock) for p in rulebook.tree.above(group))
    limited = [one for one in found if one is not None]
    return [one for one in limited if _limits_losses(one.limits) or limits_orders(one.limits)]


def _limits_losses(limits: Limits) -> bool:
    found = (limits.daily_loss, limits.daily_loss_money, limits.drawdown)
    return any(one is not None for one in found)


def _share(rulebook: Rulebook, group: str, other: str) -> bool:
    """Return whether two groups have a parent in common."""
    return any(name in rulebook.tree.above(other) for name in rulebook.tree.above(group))


def _figures_of(told: Mapping[str, str] | None) -> DayFigures | None:
    if told is None:
        return None
    values = {name: Decimal(told[name]) if name in told else None for name in _NAMES}
    equity, flows = Decimal(told["equity"]), Decimal(told["flows"])
    return DayFigures(equity=equity, flows=flows, **values)


_NAMES = ("opened", "profit", "realized")


def _added(one: DayFigures, other: DayFigures) -> DayFigures:
    values: dict[str, Decimal | None] = {}
    for name in _NAMES:
        first, second = getattr(one, name), getattr(other, name)
        values[name] = None if first is None or second is None else add(first, second)
    return DayFigures(
        equity=add(one.equity, other.equity), flows=add(one.flows, other.flows), **values
    )
