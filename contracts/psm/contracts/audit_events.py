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

from psm.contracts.control_events import Digest
from psm.contracts.fields import (
    Currency,
    Identifier,
    Key,
    NotNegative,
    Number,
    Payload,
    PositionSide,
    Positive,
    Signed,
    Symbol,
    Text,
)
from psm.contracts.order_events import OrderType, Side
from psm.contracts.personal import Explanation, FreeObject, FreeText
from psm.contracts.rulebook_events import Moment

Scalar = Annotated[
    Any,
    Meta(
        description="text, a number, true or false",
        extra_json_schema={"type": ["string", "number", "boolean"]},
    ),
]
BookLevel = Annotated[
    tuple[NotNegative, ...],
    Meta(min_length=2, description="price, quantity", examples=[["43250.10", "0.500"]]),
]
Timeframe = Annotated[str, Meta(min_length=1, max_length=32, examples=["1m"])]
Severity = Literal["info", "warning", "error", "critical"]
Decision = Literal["approved", "rejected", "reduced"]
OrderResultStatus = Literal[
    "submitted", "accepted", "partially_filled", "filled", "cancelled", "rejected", "expired"
]


class MarketData(Payload, frozen=True, kw_only=True):
    """What a strategy saw: a tick, or with `timeframe` a candle (`price` is its close).

    With `kind` it is an order book, or changes to it, of an `exchange`: quantities are absolute, 0
    takes a level away. `first_id` and `last_id` are the venue's numbers of the changes in it,
    `prev_id` the last one before them, `depth` the levels a side that are subscribed to,
    `checksum` the venue's, of the book after it, in the form `checksum_format`. Prices and
    quantities keep the venue's digits. All others have a `price`.
    """

    symbol: Symbol
    price: Positive | None = None
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
    kind: Literal["snapshot", "delta"] | None = None
    bids: tuple[BookLevel, ...] | None = None
    asks: tuple[BookLevel, ...] | None = None
    first_id: NotNegative | None = None
    last_id: NotNegative | None = None
    prev_id: NotNegative | None = None
    depth: Number | None = None
    checksum: NotNegative | None = None
    checksum_format: Key | None = None
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
    """One check of a risk decision: what was measured, against which limit, and whose.

    `binding`: it is what set the approved quantity.
    """

    name: Key
    passed: bool
    value: Scalar | None = None
    limit: Scalar | None = None
    unit: Text | None = None
    scope: Key | None = None
    binding: bool = False
    detail: FreeText | None = None


class RiskDecision(Payload, frozen=True, kw_only=True):
    """What risk said to a trade, each check with its value and limit, and the state it saw.

    `risk_state` is best the answer of `GET /psm/state/{account_id}` or the last `StateUpdated`:
    its hashes then prove what the decision was based on. PSM's own engine proves it by `vector`:
    sequence number, log sequence and state hash of each account that it saw changed since its last
    decision; `vector_hash` is over all of the group, and `marks_log_sequence` the place of the
    marks. Its records are numbered `n`, and `previous` is SHA-256 of the bytes of the one before.
    `unlimited` names the checks that nobody limits. `path` is what the engine's memory changed.
    """

    account_id: Key
    decision: Decision
    reason: Explanation
    checks: tuple[RiskCheck, ...]
    unlimited: tuple[Key, ...] | None = None
    symbol: Symbol | None = None
    side: Side | None = None
    quantity: Positive | None = None
    approved_quantity: NotNegative | None = None
    price: Positive | None = None
    order_id: Identifier | None = None
    strategy_id: Key | None = None
    risk_state: FreeObject | None = None
    context: FreeObject | None = None
    command: Literal["order", "replace", "cancel"] | None = None
    max_quantity: NotNegative | None = None
    reducing_room: NotNegative | None = None
    order: FreeObject | None = None
    order_hash: Digest | None = None
    expires: Moment | None = None
    clock: Moment | None = None
    group: Key | None = None
    mode: Literal["active", "reducing", "halted"] | None = None
    vector: FreeObject | None = None
    vector_hash: Digest | None = None
    marks_log_sequence: Number | None = None
    orders_sequence: Number | None = None
    rulebook_sequence: Number | None = None
    rulebook_hash: Digest | None = None
    clusters_version: Number | None = None
    engine: Key | None = None
    figures: FreeObject | None = None
    counted: FreeObject | None = None
    path: FreeObject | None = None
    slot: NotNegative | None = None
    n: Number | None = None
    previous: Digest | None = None


class LatchSet(Payload, frozen=True, kw_only=True):
    """The engine itself halted a scope: a loss, a drawdown, orders that repeat.

    It holds until `until`, or until two persons lift it by SHA-256 of this event's bytes.
    """

    scope: Key
    mode: Literal["reducing", "halted"]
    code: Key
    value: Scalar
    limit: Scalar
    group: Key
    clock: Moment
    until: Moment | None = None
    path: FreeObject | None = None
    slot: NotNegative | None = None
    n: Number | None = None
    previous: Digest | None = None


class CancelAll(Payload, frozen=True, kw_only=True):
    """A person halted a scope: whoever executes is to cancel what these accounts have open in it.

    `halt_hash` is that of the `HaltSet` in the rulebook, which says who. A group's accounts may be
    in several.
    """

    scope: Key
    group: Key
    accounts: tuple[Key, ...]
    code: Key
    halt_hash: Digest
    clock: Moment
    path: FreeObject | None = None
    slot: NotNegative | None = None
    n: Number | None = None
    previous: Digest | None = None


class AccountReleased(Payload, frozen=True, kw_only=True):
    """A group gave an account up, with all that it remembered of it; the new group takes it.

    Requests up to `orders_sequence` the old group has answered, those behind it the new one does.
    """

    account_id: Key
    group: Key
    rulebook_sequence: Number
    orders_sequence: NotNegative
    memory: FreeObject
    clock: Moment
    path: FreeObject | None = None
    slot: NotNegative | None = None
    n: Number | None = None
    previous: Digest | None = None


class OrderRequest(Payload, frozen=True, kw_only=True):
    """An order as it was sent to execution, or as risk is asked for it.

    After `expires_at`, at most 15 minutes on, nothing is decided any more. `on_limit` says what to
    do with an order that is too large, `stop_loss` where the trade is given up. `expects` names
    the sequence number that an account must be at before the request is decided.
    """

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
    position_side: PositionSide | None = None
    expires_at: Moment | None = None
    on_limit: Literal["reject", "reduce"] | None = None
    stop_loss: Positive | None = None
    expects: Annotated[dict[Key, Number], Meta(max_length=100)] | None = None
    context: FreeObject | None = None


class ReplaceRequest(Payload, frozen=True, kw_only=True):
    """An open order should have another quantity or price; what is left out stays.

    `quantity` is that of the whole order, what is filled of it included.
    """

    account_id: Key
    order_id: Identifier
    quantity: Positive | None = None
    price: Positive | None = None
    stop_price: Positive | None = None
    stop_loss: Positive | None = None
    on_limit: Literal["reject", "reduce"] | None = None
    expires_at: Moment | None = None
    strategy_id: Key | None = None
    context: FreeObject | None = None


class CancelRequest(Payload, frozen=True, kw_only=True):
    """An open order should not be filled any more. Never refused."""

    account_id: Key
    order_id: Identifier
    strategy_id: Key | None = None
    reason: FreeText | None = None
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
    "LatchSet": LatchSet,
    "cancel_all": CancelAll,
    "AccountReleased": AccountReleased,
    "order_request": OrderRequest,
    "replace_request": ReplaceRequest,
    "cancel_request": CancelRequest,
    "order_result": OrderResult,
    "position_update": PositionUpdate,
    "alert": Alert,
    "state_snapshot": StateSnapshot,
}
"""Struct of the current version, by `event_type`."""
