"""The documents that reads answer with. They describe; PostgreSQL writes them (`reads.sql`)."""

from __future__ import annotations

from typing import Literal

import msgspec

from psm.contracts.updates import Decimal18, Hash, OrderStatus, StateUpdated, Status


class PositionFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One position: the fields of `PositionUpdated` that are the position's own."""

    symbol: str
    side: Literal["long", "short", "flat"]
    size: Decimal18
    entry_price: Decimal18 | None
    break_even_price: Decimal18 | None
    mark_price: Decimal18 | None
    mark_source: Literal["mark", "fill"] | None
    notional: Decimal18 | None
    unrealized_pnl: Decimal18 | None
    realized_pnl: Decimal18
    realized_pnl_net: Decimal18
    fees: Decimal18
    funding: Decimal18
    cycle: int
    cycle_realized_pnl: Decimal18
    liquidation_price: Decimal18 | None


class OrderFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One order: the fields of `OrderUpdated` that are the order's own."""

    order_id: str
    symbol: str
    side: Literal["buy", "sell"]
    type: Literal["market", "limit", "stop", "stop_limit"]
    quantity: Decimal18
    filled_quantity: Decimal18
    average_price: Decimal18 | None
    status: OrderStatus


class StateDocument(StateUpdated, frozen=True, kw_only=True):
    """Everything of the last `StateUpdated`, with the account's positions and open orders.

    Hashes are null only while the account waits for its first event.
    """

    ledger_hash: Hash | None  # type: ignore[assignment]
    state_hash: Hash | None  # type: ignore[assignment]
    positions: dict[str, PositionFigures]
    orders: dict[str, OrderFigures]


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """What every answer says of the account it belongs to."""

    account_id: str
    sequence_number: int
    log_sequence: int
    status: Status
    currency: str | None
    chain_hash: Hash
    ledger_hash: Hash | None
    state_hash: Hash | None


class PositionsDocument(Versions, frozen=True, kw_only=True):
    """All positions of an account; flat ones with a history have the side flat."""

    positions: dict[str, PositionFigures]


class OrdersDocument(Versions, frozen=True, kw_only=True):
    """The open orders of an account, and of the ended ones the 256 that changed last."""

    orders: dict[str, OrderFigures]


class MarginDocument(Versions, frozen=True, kw_only=True):
    """The margin figures of an account; null until the first were published."""

    equity: Decimal18 | None
    margin_initial: Decimal18 | None
    margin_maintenance: Decimal18 | None
    margin_available: Decimal18 | None
    margin_ratio: Decimal18 | None
    leverage: Decimal18 | None
    leverage_limit: Decimal18 | None
