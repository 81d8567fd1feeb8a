"""What PSM publishes on `psm.*`: one frozen struct per update payload, schema 1.0.0.

Numbers are decimal strings in canonical form (no exponent, no trailing zeros, no `-0`), with at
most 18 decimals. A figure that does not exist (the entry price of a flat position, a ratio to an
equity that is not positive) is null, never zero.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

SCHEMA_VERSION = "1.0.0"

Decimal18 = Annotated[
    str, Meta(pattern=r"^-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?$", description="canonical decimal")
]
Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$", description="SHA-256, hex")]
Status = Literal["open", "gap", "blocked"]
OrderStatus = Literal[
    "submitted", "accepted", "partially_filled", "filled", "cancelled", "rejected", "expired"
]
Level = Literal["0.5", "0.8", "1.0", "leverage_limit"]
Cause = Literal["event", "mark"]
Change = Literal["opened", "increased", "reduced", "closed", "marked", "adjusted"]


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of every update.

    Attributes:
        account_id: the stream.
        sequence_number: version of the account after the cause; may repeat, 0 if none.
        log_sequence: of the message whose folding produced the update.
        event_log_sequence: of the original message, where it was parked or held before.
        cause: `event` of the account's own stream, or a `mark`.
        event_hash: SHA-256 of the account's last event, null before the first.
        chain_hash: of the account after its last event.
        flags: sorted codes; opinions about booked facts.
    """

    account_id: str
    sequence_number: int
    log_sequence: int
    event_log_sequence: int | UnsetType = UNSET
    cause: Cause
    event_hash: Hash | None
    chain_hash: Hash
    flags: tuple[str, ...]


class StateUpdated(Common, frozen=True, kw_only=True):
    """The whole account after an event or a mark."""

    status: Status
    currency: str | None
    cash: dict[str, Decimal18]
    equity: Decimal18 | None
    unrealized_pnl: Decimal18 | None
    realized_pnl: Decimal18
    realized_pnl_net: Decimal18
    fees: Decimal18
    funding: Decimal18
    deposits: Decimal18
    withdrawals: Decimal18
    exposure_gross: Decimal18 | None
    exposure_net: Decimal18 | None
    margin_initial: Decimal18 | None
    margin_maintenance: Decimal18 | None
    margin_available: Decimal18 | None
    withdrawable: Decimal18 | None
    leverage: Decimal18 | None
    leverage_limit: Decimal18 | None
    peak_equity: Decimal18 | None
    drawdown: Decimal18 | None
    open_positions: int
    open_orders: int
    ledger_hash: Hash
    state_hash: Hash


class PositionUpdated(Common, frozen=True, kw_only=True):
    """One position after an event or a mark; a flip publishes `closed`, then `opened`.

    `realized_pnl`, `fees` and `funding` are lifetime values of the symbol; the figures of the
    current cycle (flat to flat) carry `cycle` in their name.
    """

    symbol: str
    change: Change
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


class MarginUpdated(Common, frozen=True, kw_only=True):
    """Margin figures after a change. `margin_ratio` is maintenance margin over equity."""

    equity: Decimal18 | None
    margin_initial: Decimal18 | None
    margin_maintenance: Decimal18 | None
    margin_available: Decimal18 | None
    margin_ratio: Decimal18 | None
    leverage: Decimal18 | None
    leverage_limit: Decimal18 | None


class MarginWarning(MarginUpdated, frozen=True, kw_only=True):
    """An upward crossing of a warning level."""

    level: Level


class OrderUpdated(Common, frozen=True, kw_only=True):
    """One order after an event."""

    order_id: str
    symbol: str
    side: Literal["buy", "sell"]
    type: Literal["market", "limit", "stop", "stop_limit"]
    quantity: Decimal18
    filled_quantity: Decimal18
    average_price: Decimal18 | None
    status: OrderStatus


class EventRefused(msgspec.Struct, frozen=True, kw_only=True):
    """An incoming event that changed nothing, and why.

    `sequence_number`, `event_id` and `event_type` are those of the refused event, as far as it
    could be read; the account's version is in the envelope.
    """

    account_id: str
    log_sequence: int
    event_log_sequence: int | UnsetType = UNSET
    cause: Cause
    event_hash: Hash | None
    chain_hash: Hash | None
    flags: tuple[str, ...]
    outcome: Literal["refused", "rejected", "conflict", "stale"]
    reason: str
    detail: str
    field: str | UnsetType = UNSET
    event_id: str | UnsetType = UNSET
    event_type: str | UnsetType = UNSET
    sequence_number: int | UnsetType = UNSET


class StreamBlocked(Common, frozen=True, kw_only=True):
    """A stream waits: for a missing number (`sequence_gap`), or for an operator."""

    reason: str
    expected_sequence: int
    detail: str


class StreamResumed(Common, frozen=True, kw_only=True):
    """A stream goes on; the range is what was applied on release."""

    from_sequence: int
    to_sequence: int


UpdatePayload = (
    StateUpdated
    | PositionUpdated
    | MarginUpdated
    | MarginWarning
    | OrderUpdated
    | EventRefused
    | StreamBlocked
    | StreamResumed
)

POSITION_FIGURES = tuple(
    name
    for name in PositionUpdated.__struct_fields__
    if name not in Common.__struct_fields__ and name != "change"
)
"""Names of a position's own figures, as they stand in a state document."""

ORDER_FIGURES = tuple(
    name for name in OrderUpdated.__struct_fields__ if name not in Common.__struct_fields__
)
"""Names of an order's own figures, as they stand in a state document."""

KINDS: dict[type, str] = {
    StateUpdated: "state.updated",
    PositionUpdated: "position.updated",
    MarginUpdated: "margin.updated",
    MarginWarning: "margin.warning",
    OrderUpdated: "order.updated",
    EventRefused: "event.refused",
    StreamBlocked: "stream.blocked",
    StreamResumed: "stream.resumed",
}
"""Payload type -> the middle of its subject."""


class UpdateEnvelope(msgspec.Struct, frozen=True, kw_only=True):
    """What surrounds an update's payload; the same fields as an event's envelope."""

    event_id: str
    event_type: str
    stream_id: str
    sequence_number: int
    timestamp: str
    schema_version: str = SCHEMA_VERSION
    source_service: str = "psm"
    user_id: str = "psm"
    correlation_id: str | UnsetType = UNSET
    causation_id: str | UnsetType = UNSET
    payload: UpdatePayload | msgspec.Raw
