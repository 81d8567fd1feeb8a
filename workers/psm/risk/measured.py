"""What a scope's limits are measured on, and what an order is of."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec

from psm.domain.money import ONE, ZERO, multiply
from psm.risk.exposure import Exposure, TagKind
from psm.risk.limits import Limits
from psm.risk.state import Contract, OpenOrder


class OrderPlace(msgspec.Struct, frozen=True, kw_only=True):
    """What an order is of, whatever the scope.

    Attributes:
        contract: what its quantity means.
        mark: price of its symbol; None for none.
        size: of the position that it changes, signed.
        room: how much of it the order's side may still close.
        tag_kinds: under which it is counted.
        others: open orders that it could trade with.
        known: its id is that of an open order.
    """

    contract: Contract
    mark: Decimal | None
    size: Decimal = ZERO
    room: Decimal = ZERO
    tag_kinds: tuple[TagKind, ...] = ("cluster",)
    others: tuple[OpenOrder, ...] = ()
    known: bool = False


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a scope, and the account or group that they are measured on.

    Attributes:
        scope: "firm", "group:x", ...; None where there is but one: everything is reported then,
            and a check says itself whether it is of the account or of a symbol.
        equity: in the currency of the exposure; None if unknown.
        money: what one of the order's symbol is worth at a price, in the same currency; None, or
            returning None, where that cannot be said.
        open_orders: how many.
        profit: of the day, flows apart; None if unknown. `opened` the equity that it began with.
        drawdown: 1 - nav / its peak.
        loss_streak: closed trades in loss since the last other one.
        notional_spent: approved on the order's side within the period; None where nobody counts.
        stale: something of it is not known: no figure of its exposure counts.
        latched: codes of the latches that hold here.
    """

    scope: str | None
    limits: Limits
    equity: Decimal | None
    exposure: Exposure
    money: Callable[[Decimal], Decimal | None] | None = None
    open_orders: int = 0
    profit: Decimal | None = None
    opened: Decimal | None = None
    drawdown: Decimal | None = None
    loss_streak: int | None = None
    notional_spent: Decimal | None = None
    stale: bool = False
    latched: tuple[str, ...] = ()


def loss_cap(limits: Limits, opened: Decimal | None) -> Decimal | None:
    """Return the loss of a day at which it is over, in money; None for no cap.

    Args:
        limits: `daily_loss` and `daily_loss_money`; the tighter holds.
        opened: equity that the day began with; a fraction of nothing, or of what is not known, is
            no cap.
    """
    caps = []
    share = limits.daily_loss
    if share is not None and share > ONE:
        caps.append(share)
    elif share is not None and opened is not None and opened > 0:
        caps.append(multiply(share, opened))
    if limits.daily_loss_money is not None:
        caps.append(limits.daily_loss_money)
    return min(caps) if caps else None
