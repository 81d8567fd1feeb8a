"""Limits by the name of their check, and what a check reports."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

import msgspec

from psm.contracts import limits as bounds
from psm.contracts.errors import ContractError
from psm.contracts.payload_codec import is_number
from psm.domain.money import ZERO, exact_text

Kind = Literal["hard", "reduce", "size", "order_size"]
"""What a failing check does: reject; allow no more than closes; cut the size; that, of reducing
orders too."""

CATALOGUE: Mapping[str, tuple[Kind, str]] = {
    "well_formed": ("hard", ""),
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
        available_margin: fraction of equity that initial margins, and the fee of the order at
            `fee_rate`, may take; 1 is all of it.
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


_CHOICES: Mapping[str, tuple[object, ...]] = {
    "on_limit": ("reject", "reduce"),
    "daily_loss_basis": ("total", "realized"),
    "stop_required": (True, False),
    "self_cross": (True, False),
    "daily_loss_sticky": (True, False),
}
_LONGEST = 19
"""Digits of a count that is surely too large."""
_COUNTS = (
    *("open_orders_count", "loss_streak", "mark_age", "order_rate", "message_rate"),
    *("duplicate_order", "repeated_execution", "cooldown", "collar_period_seconds"),
    *("notional_period_seconds", "order_rate_seconds", "message_rate_seconds"),
)


class Check(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What one check found, of the order as it was requested; as JSON without what is not there.

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


def limits_of_document(values: Mapping[str, Any]) -> Limits:
    """Return the limits of a document: numbers are texts, exact, and none is below zero.

    Raises:
        ContractError: reason `unknown_limit` or `invalid_payload`; `field` names the limit.
    """
    for name in values:
        if name not in Limits.__struct_fields__:
            known = ", ".join(Limits.__struct_fields__)
            text = f'there is no limit "{name}"; there are {known}'
            raise ContractError("unknown_limit", text, f"limits.{name}")
    given = {name: _counted(name, v) for name, v in values.items() if v is not None}
    for name, value in given.items():
        _check_limit(name, value)
    try:
        return msgspec.convert(given, Limits)
    except msgspec.ValidationError:
        raise ContractError("invalid_payload", "the limits cannot be read", "limits") from None


def _counted(name: str, value: object) -> object:
    """Return a count that is written as text as a number; everything else as it is."""
    text = isinstance(value, str) and value.isascii() and value.isdigit()
    return int(str(value)) if name in _COUNTS and text and len(str(value)) < _LONGEST else value


def _check_limit(name: str, value: object) -> None:
    """Refuse what is not of the limit's kind, in words that never change."""
    field = f"limits.{name}"
    known = _CHOICES.get(name)
    if known is not None:
        if value not in known or type(value) is not type(known[0]):
            words = " or ".join(_word(one) for one in known)
            raise ContractError("invalid_payload", f"{name} must be {words}", field)
    elif name in _COUNTS:
        least = 1 if name.endswith("_seconds") else 0
        if type(value) is not int or not least <= value <= bounds.INTEGER:
            text = f"{name} must be an integer from {least}"
            raise ContractError("invalid_payload", text, field)
    elif name == "max_order_quantity" and isinstance(value, Mapping):
        for symbol, most in value.items():
            _require_number(most, f"{field}.{symbol}")
    else:
        _require_number(value, field)


def _require_number(value: object, field: str) -> None:
    text = str(value) if type(value) is int else value
    if not isinstance(text, str) or not is_number(text, "not_negative"):
        raise ContractError("invalid_payload", f"{field} must be a decimal of zero or more", field)


def _word(choice: object) -> str:
    return str(choice).lower()


NEEDS_HISTORY = (
    *(
        "well_formed",
        "stream_open",
        "state_behind",
        "expired",
        "too_many_orders",
        "mark_age",
        "collar_period",
    ),
    *("exposure_currency", "exposure_sector", "beta_exposure", "correlated_risk"),
    *("duplicate_order", "order_rate", "message_rate", "repeated_execution", "notional_period"),
    *("cooldown", "session"),
)
"""Checks that look at more than a state holds: times, windows, tags. Never judged without them."""


def text(value: Decimal | int | None) -> str | None:
    """Return a figure as a check reports it."""
    if value is None:
        return None
    return str(value) if isinstance(value, int) else exact_text(value)
