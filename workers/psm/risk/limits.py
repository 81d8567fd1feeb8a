"""Limits by the name of their check, and what a check reports."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Literal

import msgspec

from psm.domain.money import ZERO, exact_text

Kind = Literal["hard", "reduce", "size", "order_size"]
"""What a failing check does: reject; allow no more than closes; cut the size; that, of reducing
orders too."""

CATALOGUE: Mapping[str, tuple[Kind, str]] = {
    "account_known": ("hard", ""),
    "stream_open": ("hard", ""),
    "state_behind": ("hard", "log_sequence"),
    "expired": ("hard", "s"),
    "too_many_orders": ("hard", "orders"),
    "instrument_known": ("hard", ""),
    "increment": ("hard", ""),
    "mode": ("hard", ""),
    "reduce_only": ("reduce", "quantity"),
    "restricted": ("hard", ""),
    "mark_age": ("hard", "s"),
    "price_collar": ("hard", "price"),
    "collar_period": ("hard", "price"),
    "max_order_quantity": ("order_size", "quantity"),
    "max_order_notional": ("order_size", "money"),
    "stop_required": ("hard", ""),
    "risk_per_trade": ("size", "money"),
    "available_margin": ("size", "money"),
    "leverage": ("size", "money"),
    "exposure_symbol": ("size", "money"),
    "exposure_gross": ("size", "money"),
    "exposure_net": ("size", "money"),
    "exposure_currency": ("size", "money"),
    "exposure_sector": ("size", "money"),
    "exposure_cluster": ("size", "money"),
    "open_orders_count": ("hard", "orders"),
    "open_orders_notional": ("size", "money"),
    "concentration": ("size", "fraction"),
    "duplicate_order_id": ("hard", ""),
    "duplicate_order": ("hard", "s"),
    "order_rate": ("hard", "orders"),
    "message_rate": ("hard", "requests"),
    "repeated_execution": ("hard", "orders"),
    "notional_period": ("order_size", "money"),
    "self_cross": ("hard", "price"),
    "daily_loss": ("reduce", "money"),
    "drawdown": ("reduce", "fraction"),
    "loss_streak": ("reduce", "cycles"),
    "cooldown": ("reduce", "s"),
    "session": ("hard", ""),
}
"""Every check in the order in which they are reported, its kind and the unit of its value."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The limits that hold for an order; one that is left out is no limit.

    Attributes:
        price_collar: fraction that a limit price may be worse than the mark; `price_collar_passive`
            how far it may be better.
        max_order_quantity: by symbol, or one for all.
        max_order_notional, open_orders_notional: money.
        risk_per_trade: fraction of equity between entry and stop, `fee_rate` of both ways included.
        stop_required: an order without a stop is rejected.
        available_margin: fraction of equity that initial margins may take; 1 is all of it.
        leverage, exposure_symbol, exposure_gross, exposure_net, exposure_cluster: notional as a
            multiple of equity.
        hedge_credit: how much of a cluster's smaller side its larger side is spared, 0 to 1.
        open_orders_count: orders open at once, this one included.
        exposure_currency, exposure_sector: as the others, over all symbols of a tag.
        concentration: share of one symbol in the gross exposure, above half of the equity.
        mark_age: seconds that a mark may be old.
        collar_period: fraction that the mean of the prices approved in the last
            `collar_period_seconds` may be worse than the mark.
        notional_period: money approved per side within `notional_period_seconds`.
        order_rate: orders approved within `order_rate_seconds`; `message_rate`: requests of every
            kind within `message_rate_seconds`.
        duplicate_order: seconds within which an equal order is refused.
        repeated_execution: orders of one strategy, symbol and side until it is enabled anew.
        cooldown: seconds after a latch ended in which orders may only close.
        self_cross: an order may not trade with one of the same books.
        daily_loss: up to 1 a fraction of the day's opening equity, above it money; and
            `daily_loss_money`, the tighter holds. Of `daily_loss_basis`: total profit, or what is
            realized; `daily_loss_sticky`: the latch stays at the day's end.
        drawdown: fraction of the peak.
        loss_streak: closed trades in loss, one after the other.
        on_limit: what is done with an order that is too large, unless it says so itself.
    """

    price_collar: Decimal | None = None
    price_collar_passive: Decimal | None = None
    max_order_quantity: Decimal | Mapping[str, Decimal] | None = None
    max_order_notional: Decimal | None = None
    stop_required: bool = False
    risk_per_trade: Decimal | None = None
    fee_rate: Decimal = ZERO
    available_margin: Decimal | None = None
    leverage: Decimal | None = None
    exposure_symbol: Decimal | None = None
    exposure_gross: Decimal | None = None
    exposure_net: Decimal | None = None
    exposure_cluster: Decimal | None = None
    exposure_currency: Decimal | None = None
    exposure_sector: Decimal | None = None
    hedge_credit: Decimal = ZERO
    open_orders_count: int | None = None
    open_orders_notional: Decimal | None = None
    concentration: Decimal | None = None
    self_cross: bool = False
    mark_age: int | None = None
    collar_period: Decimal | None = None
    collar_period_seconds: int = 60
    notional_period: Decimal | None = None
    notional_period_seconds: int = 60
    order_rate: int | None = None
    order_rate_seconds: int = 1
    message_rate: int | None = None
    message_rate_seconds: int = 1
    duplicate_order: int | None = None
    repeated_execution: int | None = None
    cooldown: int | None = None
    daily_loss: Decimal | None = None
    daily_loss_money: Decimal | None = None
    daily_loss_basis: Literal["total", "realized"] = "total"
    daily_loss_sticky: bool = False
    drawdown: Decimal | None = None
    loss_streak: int | None = None
    on_limit: Literal["reject", "reduce"] = "reject"

    def quantity_of(self, symbol: str) -> Decimal | None:
        """Return the largest quantity of one order in a symbol; None for no limit."""
        if isinstance(self.max_order_quantity, Mapping):
            return self.max_order_quantity.get(symbol)
        return self.max_order_quantity


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found, of the order as it was requested.

    Attributes:
        name: in the catalogue.
        scope: whose limit it is.
        passed: it does not stand in the way of the requested quantity.
        value, limit: texts; None where there is no limit, or nothing to compare.
        unit: of both.
        binding: it is what set the approved quantity.
        detail: what could not be known, or why it is no obstacle.
    """

    name: str
    scope: str
    passed: bool
    value: str | None = None
    limit: str | None = None
    unit: str = ""
    binding: bool = False
    detail: str | None = None


NEEDS_HISTORY = (
    *("stream_open", "state_behind", "expired", "too_many_orders", "mark_age", "collar_period"),
    *("exposure_currency", "exposure_sector", "beta_exposure", "correlated_risk"),
    *("duplicate_order", "order_rate", "message_rate", "repeated_execution", "notional_period"),
    *("cooldown", "session"),
)
"""Checks that look at more than a state holds: times, windows, tags. Never judged without them."""


def text(value: Decimal | int | None) -> str | None:
    """Return a figure as a check reports it."""
    if value is None:
        return None
    return exact_text(Decimal(value))
