"""What one event changes in an account: computed by `evolve`, taken in by `Account.commit`."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from psm.domain.orders import Order
from psm.domain.positions import Step

TotalName = Literal[
    "realized_pnl",
    "fees",
    "funding",
    "deposits",
    "withdrawals",
    "transfers",
    "adjustments",
    "interest",
    "dividends",
]


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What one event changes, fully computed.

    Attributes:
        currency: the account currency, where the event opens the account.
        leverage_limit: likewise.
        cash: (currency, signed amount) entries.
        totals: (currency, name, amount) entries.
        steps: positions after the event; two for a flip.
        flow: external flow as (currency, amount), in above zero.
        leverage: (symbol, or empty for the account; new leverage).
        orders: orders after the event.
        split: (symbol, ratio) where the current mark is of units that no longer exist.
        flags: opinions about this event.
        key: business key to remember.
    """

    currency: str | None = None
    leverage_limit: Decimal | None = None
    cash: tuple[tuple[str, Decimal], ...] = ()
    totals: tuple[tuple[str, TotalName, Decimal], ...] = ()
    steps: tuple[Step, ...] = ()
    flow: tuple[str, Decimal] | None = None
    leverage: tuple[str, Decimal] | None = None
    orders: tuple[Order, ...] = ()
    split: tuple[str, Decimal] | None = None
    flags: tuple[str, ...] = ()
    key: bytes | None = None
