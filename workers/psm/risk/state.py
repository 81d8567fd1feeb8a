"""What a decision looks at: an account or a group at a moment, and an order."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Literal

import msgspec

from psm.domain.money import ONE, ZERO

Side = Literal["buy", "sell"]
Mode = Literal["active", "reducing", "halted"]


class Contract(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a symbol's quantity means; without one it is linear, multiplier 1, any step."""

    multiplier: Decimal = ONE
    lot_size: Decimal | None = None
    tick_size: Decimal | None = None
    min_quantity: Decimal = ZERO
    min_notional: Decimal = ZERO
    initial_margin_rate: Decimal | None = None


class OpenOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An order that may still be filled; a reservation is one, too."""

    order_id: str
    symbol: str
    side: Side
    open_quantity: Decimal
    price: Decimal | None = None
    reduce_only: bool = False


class RiskState(msgspec.Struct, frozen=True, kw_only=True):
    """An account, or a group, as a decision sees it.

    Attributes:
        equity: account currency.
        day_open_equity: at the start of the day; None if unknown, then `daily_loss` knows nothing.
        flows: deposits less withdrawals since then.
        drawdown: 1 - nav / its peak.
        mode: tightest of the halts that apply.
        marks: price by symbol.
        positions: signed size by symbol.
        open_orders: what may still be filled.
        contracts: by symbol.
        loss_streak: closed trades in loss since the last other one.
    """

    equity: Decimal
    day_open_equity: Decimal | None = None
    flows: Decimal = ZERO
    drawdown: Decimal | None = None
    mode: Mode = "active"
    marks: Mapping[str, Decimal] = {}
    positions: Mapping[str, Decimal] = {}
    open_orders: tuple[OpenOrder, ...] = ()
    contracts: Mapping[str, Contract] = {}
    loss_streak: int | None = None


class ProposedOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An order before it is sent.

    Attributes:
        price: of a limit order, else None.
        stop_price: trigger of a stop order.
        stop_loss: where the trade is given up; the stop of `risk_per_trade`.
        on_limit: what to do if it is too large; None as the limits say.
        strategy_id: whose it is.
    """

    symbol: str
    side: Side
    quantity: Decimal
    order_id: str = ""
    type: str = ""
    price: Decimal | None = None
    stop_price: Decimal | None = None
    stop_loss: Decimal | None = None
    reduce_only: bool = False
    on_limit: Literal["reject", "reduce"] | None = None
    strategy_id: str | None = None
