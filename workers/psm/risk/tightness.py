"""Whether limits only tighten others: every one tighter or equal, none removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from psm.domain.money import ONE
from psm.risk.limits import Limits

LESS_IS_TIGHTER = (
    *("price_collar", "price_collar_passive", "max_order_notional", "risk_per_trade"),
    *("available_margin", "leverage", "exposure_symbol", "exposure_gross", "exposure_net"),
    *("exposure_cluster", "exposure_currency", "exposure_sector"),
    *("open_orders_count", "open_orders_notional", "concentration", "mark_age", "collar_period"),
    *("notional_period", "order_rate", "message_rate", "repeated_execution", "daily_loss"),
    *("daily_loss_money", "drawdown", "loss_streak"),
)
MORE_IS_TIGHTER = ("fee_rate", "duplicate_order", "cooldown")
"""None is 0 here."""
SET_IS_TIGHTER = ("stop_required", "self_cross", "daily_loss_sticky")
LONGER_IS_TIGHTER = {
    "notional_period": "notional_period_seconds",
    "order_rate": "order_rate_seconds",
    "message_rate": "message_rate_seconds",
}
"""Limit -> its window, in which no less may count."""
CREDITED = ("exposure_cluster", "exposure_currency", "exposure_sector")
"""Limits of figures that a hedge credit makes smaller."""
MUST_STAY = {
    "collar_period": "collar_period_seconds",
    "daily_loss": "daily_loss_basis",
    "daily_loss_money": "daily_loss_basis",
}
"""Limit -> what it is measured by, of which no value is tighter than another."""


def loosened(before: Limits, after: Limits) -> tuple[str, ...]:
    """Return which limits of `after` are looser than those of `before`, or only other ones."""
    found = [
        *(name for name in LESS_IS_TIGHTER if _more(before, after, name)),
        *(name for name in MORE_IS_TIGHTER if _value(after, name) < _value(before, name)),
        *(n for n in SET_IS_TIGHTER if getattr(before, n) and not getattr(after, n)),
        *_measured_otherwise(before, after),
    ]
    if _quantity_looser(before.max_order_quantity, after.max_order_quantity):
        found.append("max_order_quantity")
    if before.on_limit == "reject" and after.on_limit != "reject":
        found.append("on_limit")
    return tuple(dict.fromkeys(found))


def _measured_otherwise(before: Limits, after: Limits) -> Iterator[str]:
    """Yield by what limits that there were are measured another way, or within less time."""
    for name, window in LONGER_IS_TIGHTER.items():
        if _is_set(before, name) and getattr(after, window) < getattr(before, window):
            yield window
    if after.hedge_credit > before.hedge_credit and any(_is_set(before, n) for n in CREDITED):
        yield "hedge_credit"
    for name, measure in MUST_STAY.items():
        if _is_set(before, name) and getattr(after, measure) != getattr(before, measure):
            yield measure


def _more(before: Limits, after: Limits, name: str) -> bool:
    bound, new = getattr(before, name), getattr(after, name)
    if bound is None:
        return False
    if new is None or new > bound:
        return True
    # Up to 1 it is a share of the equity, above it money: neither is tighter than the other.
    return name == "daily_loss" and (new <= ONE) != (bound <= ONE)


def _is_set(limits: Limits, name: str) -> bool:
    return getattr(limits, name) is not None


def _value(limits: Limits, name: str) -> Decimal:
    return Decimal(getattr(limits, name) or 0)


def _quantity_looser(
    before: Decimal | Mapping[str, Decimal] | None, after: Decimal | Mapping[str, Decimal] | None
) -> bool:
    """Return whether some symbol has a larger quantity, or none, that had one."""
    if before is None:
        return False
    if not isinstance(before, Mapping):
        return after is None or isinstance(after, Mapping) or after > before
    if after is None:
        return bool(before)
    if not isinstance(after, Mapping):
        return any(after > bound for bound in before.values())
    return any(name not in after or after[name] > bound for name, bound in before.items())
