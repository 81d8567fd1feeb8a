"""The audit events: what was seen, decided, ordered and filled, with the context of each decision.

Other services publish them to recorded subjects (`signals.*`, `risk.*` ...). They are kept for
explanations and replays and never folded into account state, so they may carry anything beside
the fields below: unknown fields are kept. Numbers are strings or JSON numbers, read through their
literal text. One struct per event type, current version; field names are the wire's.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from psm.contracts.fields import (
    Currency,
    Identifier,
    Key,
    NotNegative,
    Number,
    Payload,
    Positive,
    Signed,
    Symbol,
)
from psm.contracts.order_events import OrderType, Side
from psm.contracts.personal import Explanation, FreeObject, FreeText

Scalar = Annotated[
    Any,
    Meta(
        description="text, a number, true or false",
        extra_json_schema={"type": ["string", "number", "boolean"]},
    ),
]
Timeframe = Annotated[str, Meta(min_length=1, max_length=32, examples=["1m"])]
Severity = Literal["info", "warning", "error", "critical"]
Decision = Literal["approved", "rejected", "reduced"]
OrderResultStatus = Literal[
    "submitted", "accepted", "partially_filled", "filled", "cancelled", "rejected", "expired"
]


class MarketData(Payload, frozen=True, kw_only=True):
    """What a strategy saw: a tick, or with `timeframe` a candle (`price` is its close)."""

    symbol: Symbol
    price: Positive
    mark_price: Positive | None = None
    index_price: Positive | None = None
    bid: Positive | None = None
    ask: Positive | None = None
    bid_size: NotNegative | None = None
    ask_size: NotNegative | None = None
    volume: NotNegative | None = None
    timeframe: Timeframe | None = None
    open: Positive | None = None
    high: Positive | None = None
    low: Positive | None = None
    exchange: Key | None = None
    source: FreeText | None = None
    data: FreeObject | None = None


class SignalGenerated(Payload, frozen=True, kw_only=True):
    """A strategy wants a trade, and why. `confidence` is meant as 0 to 1."""

    strategy_id: Key
    symbol: Symbol
    side: Side
    confidence: NotNegative
    reason: Explanation
    price: Positive | None = None
    quantity: Positive | None = None
    account_id: Key | None = None
    timeframe: Timeframe | None = None
    strategy_params: FreeObject | None = None
    indicators: FreeObject | None = None
    context: FreeObject | None = None


class RiskCheck(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One check of a risk decision: what was measured, against which limit."""

    name: Key
    passed: bool
    value: Scalar
    limit: Scalar | None = None
    detail: FreeText | None = None


class RiskDecision(Payload, frozen=True, kw_only=True):
    """What risk said to a trade, each check with its value and limit, and the state it saw.

    `risk_state` is best the answer of `GET /psm/state/{account_id}` or the last `StateUpdated`:
    its hashes then prove what the decision was based on.
    """

    account_id: Key
    decision: Decision
    reason: Explanation
    checks: tuple[RiskCheck, ...]
    symbol: Symbol | None = None
    side: Side | None = None
    quantity: Positive | None = None
    approved_quantity: NotNegative | None = None
    price: Positive | None = None
    order_id: Identifier | None = None
    strategy_id: Key | None = None
    risk_state: FreeObject | None = None
    context: FreeObject | None = None


class OrderRequest(Payload, frozen=True, kw_only=True):
    """An order as it was sent to execution."""

    account_id: Key
    order_id: Identifier
    symbol: Symbol
    side: Side
    type: OrderType
    quantity: Positive
    price: Positive | None = None
    stop_price: Positive | None = None
    time_in_force: Key | None = None
    reduce_only: bool = False
    strategy_id: Key | None = None
    exchange: Key | None = None
    context: FreeObject | None = None


class OrderResult(Payload, frozen=True, kw_only=True):
    """What the venue answered to an order."""

    order_id: Identifier
    status: OrderResultStatus
    account_id: Key | None = None
    symbol: Symbol | None = None
    side: Side | None = None
    quantity: Positive | None = None
    filled_quantity: NotNegative | None = None
    average_price: Positive | None = None
    commission: Signed | None = None
    commission_currency: Currency | None = None
    fill_id: Identifier | None = None
    exchange: Key | None = None
    exchange_order_id: Identifier | None = None
    reason: FreeText | None = None
    context: FreeObject | None = None


class PositionUpdate(Payload, frozen=True, kw_only=True):
    """A position after an order's fill, as the publishing service sees it.

    An opinion for the record: the position itself is PSM's `PositionUpdated`.
    """

    account_id: Key
    order_id: Identifier
    symbol: Symbol
    side: Literal["long", "short", "flat"]
    size: Signed
    entry_price: Positive | None = None
    mark_price: Positive | None = None
    fill_id: Identifier | None = None
    fill_price: Positive | None = None
    fill_quantity: Positive | None = None
    commission: Signed | None = None
    realized_pnl: Signed | None = None
    unrealized_pnl: Signed | None = None
    context: FreeObject | None = None


class Alert(Payload, frozen=True, kw_only=True):
    """Something a person should know."""

    severity: Severity
    message: Explanation
    code: Key | None = None
    account_id: Key | None = None
    symbol: Symbol | None = None
    value: Scalar | None = None
    limit: Scalar | None = None
    context: FreeObject | None = None


class StateSnapshot(Payload, frozen=True, kw_only=True):
    """A whole state at one point, with the hashes that prove it."""

    account_id: Key
    state: FreeObject
    sequence_number: Number | None = None
    log_sequence: Number | None = None
    ledger_hash: Key | None = None
    state_hash: Key | None = None
    reason: FreeText | None = None


AUDIT_EVENTS: dict[str, type[Payload]] = {
    "market_data": MarketData,
    "signal_generated": SignalGenerated,
    "risk_decision": RiskDecision,
    "order_request": OrderRequest,
    "order_result": OrderResult,
    "position_update": PositionUpdate,
    "alert": Alert,
    "state_snapshot": StateSnapshot,
}
"""Struct of the current version, by `event_type`."""
