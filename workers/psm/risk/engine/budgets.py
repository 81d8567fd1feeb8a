"""Budgets of parents in orders: what all groups below one have open, and had approved lately."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from psm.domain.money import add, exact_text, multiply
from psm.risk.engine.group import GroupState
from psm.risk.engine.watch import LossWatch
from psm.risk.engine.windows import SECOND, Windows
from psm.risk.exposure import OPEN
from psm.risk.limits import Limits
from psm.risk.messages import RiskOutput

OPEN_FOR = 60
"""Seconds for which only closing is left where too much is open; then it is looked at again."""
Budgets = Mapping[str, Decimal]
"""Money by limit and side: `notional_period|buy`."""


def limits_orders(limits: Limits) -> bool:
    """Return whether a parent's limits are on the orders of its groups."""
    return limits.open_orders_notional is not None or limits.notional_period is not None


def budgets_of(
    state: GroupState, windows: Windows, limits: Limits, clock: int
) -> dict[str, Decimal] | None:
    """Return what a group uses of a parent's budgets, in its currency; None if that is not known.

    Args:
        state: the group.
        windows: of what was approved.
        limits: of the parent.
        clock: of now, us.
    """
    found: dict[str, Decimal] = {}
    for side, key in OPEN.items():
        if limits.open_orders_notional is not None:
            if state.unknown() or state.lines.sums.unvalued(side):
                return None
            found[f"open_orders_notional|{side}"] = state.lines.sums.of(key)
        if limits.notional_period is not None:
            name = f"{state.name}|group:{state.name}|notional|{side}"
            total = windows.total(name, clock, limits.notional_period_seconds)
            found[f"notional_period|{side}"] = total
    return found


def budgets_text(budgets: Budgets) -> dict[str, str]:
    """Return budgets as records tell them."""
    return {name: exact_text(value) for name, value in budgets.items()}


def budgets_sum(parts: Iterable[tuple[Budgets, Decimal]]) -> dict[str, Decimal]:
    """Return the sum of what groups use, each with its rate to the parent's currency."""
    found: dict[str, Decimal] = {}
    for budgets, rate in parts:
        for name, value in budgets.items():
            money = multiply(value, rate)
            found[name] = add(found[name], money) if name in found else money
    return found


def spent(
    watch: LossWatch,
    state: GroupState,
    scope: str,
    limits: Limits,
    used: Budgets | None,
    clock: int,
) -> list[RiskOutput]:
    """Latch a group where its parent's budgets are used up; tell of what is near them."""
    outputs: list[RiskOutput] = []
    for code, limit, seconds in (
        ("open_orders_notional", limits.open_orders_notional, OPEN_FOR),
        ("notional_period", limits.notional_period, limits.notional_period_seconds),
    ):
        if limit is None or used is None:
            continue
        value = max(used[f"{code}|{side}"] for side in OPEN)
        if value > limit:
            until = int(clock) + int(seconds) * SECOND
            latched = watch.set_latch(state.name, scope, code, value, limit, clock, until=until)
            outputs = [*outputs, *latched]
        outputs = [*outputs, *watch.near_limit(scope, code, value, limit, clock)]
    return outputs
