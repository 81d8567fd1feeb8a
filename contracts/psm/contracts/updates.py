"""The updates that PSM publishes on `psm.*`: one frozen struct per update payload, schema 1.0.0.

Numbers are decimal strings in canonical form (no exponent, no trailing zeros, no `-0`), with at
most 18 decimals. A figure that does not exist (the entry price of a flat position, a ratio to an
equity that is not positive) is null, never zero.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, get_type_hints

import msgspec
from msgspec import UNSET, UnsetType

from psm.contracts.fields import InstrumentKind, MarginMode, PositionClass, PositionSide
from psm.contracts.reconciliation import ReconciliationReported
from psm.contracts.update_fields import Cause, Common, Decimal18, Hash, Status

SCHEMA_VERSION = "1.0.0"

OrderStatus = Literal[
    "submitted", "accepted", "partially_filled", "filled", "cancelled", "rejected", "expired"
]
Level = Literal["0.5", "0.8", "1.0", "leverage_limit"]
Change = Literal["opened", "increased", "reduced", "closed", "marked", "adjusted"]


class AppliedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What the event behind an update said; fields that it does not have are left out.

    `fee` is a commission, `reference` the venue's name of a movement, `target` what a correction or
    reversal names. Who said it, why, and to whom money went is in no update.
    """

    event_type: str
    symbol: str | UnsetType = UNSET
    position_side: str | UnsetType = UNSET
    side: str | UnsetType = UNSET
    quantity: Decimal18 | UnsetType = UNSET
    price: Decimal18 | UnsetType = UNSET
    fee: Decimal18 | UnsetType = UNSET
    order_id: str | UnsetType = UNSET
    fill_id: str | UnsetType = UNSET
    strategy_id: str | UnsetType = UNSET
    amount: Decimal18 | UnsetType = UNSET
    reference: str | UnsetType = UNSET
    target: str | UnsetType = UNSET


class AccountFigures(Common, frozen=True, kw_only=True):
    """The whole account after an event or a mark, as documents have it too.

    `nav` is the net asset value of a unit, 1 where the epoch began; `drawdown` is 1 - nav over its
    peak, and `max_drawdown` the deepest of the epoch, marks between two updates included. `flows`
    are external ones at market value, `flows_cost` at cost: equity = `flows_cost` + what was
    realized and is unrealized, funding, interest, dividends, adjustments and losses covered
    - fees, liquidation fees and taxes - `unrated_cost`, the known cost of what has no rate.
    """

    status: Status
    currency: str | None
    cash: dict[str, Decimal18]
    equity: Decimal18 | None
    unrealized_pnl: Decimal18 | None
    realized_pnl: Decimal18
    realized_pnl_net: Decimal18
    fees: Decimal18
    liquidation_fees: Decimal18
    funding: Decimal18
    deposits: Decimal18
    withdrawals: Decimal18
    transfers: Decimal18
    interest: Decimal18
    dividends: Decimal18
    adjustments: Decimal18
    taxes: Decimal18
    losses_covered: Decimal18
    borrowed: dict[str, Decimal18]
    flows: Decimal18
    flows_cost: Decimal18
    unrated_cost: Decimal18 | None
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
    max_drawdown: Decimal18 | None
    nav: Decimal18 | None
    nav_epoch: int
    open_positions: int
    open_orders: int
    ledger_hash: Hash
    state_hash: Hash


class AccountClosed(msgspec.Struct, frozen=True, kw_only=True):
    """An account's figures at the end of a minute of log time.

    A minute without an entry ended as the one before it; of several entries the last one counts, as
    an account that no mark concerns tells its close before the minute is over. All entries of a
    minute are told once the commit cursor's `closed_through` is at or beyond its end.
    """

    bucket_end: str
    equity: Decimal18 | None
    nav: Decimal18 | None
    flows: Decimal18
    max_drawdown: Decimal18 | None


class PositionClosed(msgspec.Struct, frozen=True, kw_only=True):
    """An open position's figures at the end of a minute of log time, in its own currency."""

    bucket_end: str
    unrealized_pnl: Decimal18 | None
    mark_price: Decimal18 | None


class StateUpdated(AccountFigures, frozen=True, kw_only=True):
    """The whole account after an event or a mark, and the event that was applied, where one was.

    `closed` has the closes of minutes that ended since the last one, where the account had changed.
    """

    applied: AppliedEvent | UnsetType = UNSET
    closed: tuple[AccountClosed, ...] | UnsetType = UNSET


class PositionUpdated(Common, frozen=True, kw_only=True):
    """One position after an event or a mark; a flip publishes `closed`, then `opened`.

    It is known by `class`, `symbol` and `position_side`: `net`, or one of the two legs of hedge
    mode. `side` is where its size lies: on the other side while a leg is closed too far.
    `realized_pnl`, `fees` and `funding` are lifetime values of the position; the figures of the
    current cycle (flat to flat) carry `cycle` in their name; `peak_size` is of the cycle too.
    Money is in `currency`, the one that the instrument settles in; what ends in `_account` is in
    the account currency, and what totals add, at the rate of when it was published. `cost` of a
    share is in the account currency, `cost_quote` in its own; contracts have none.
    `isolated_margin`, the wallet of its own, and `bankruptcy_price` are null in cross margin;
    `liquidation_price` is that of its margin mode. `mark_log_sequence` and `mark_time` are of the
    mark that values it. `cycle_mae` and `cycle_mfe` are the worst and the best that the cycle stood
    at, realized and unrealized together, marks between two updates included. `closed` has its
    closes of minutes that ended since its last update.

    Of an asset `symbol` is its name, `size` the magnitude of its quantity, `cost`, `mark_price` and
    `notional` are in the account currency; what only trades of contracts and shares have is null.
    """

    class_: PositionClass = msgspec.field(name="class")
    symbol: str
    position_side: PositionSide
    change: Change
    kind: InstrumentKind | None
    currency: str
    multiplier: Decimal18
    margin_mode: MarginMode | None
    side: Literal["long", "short", "flat"]
    size: Decimal18
    peak_size: Decimal18 | None
    entry_price: Decimal18 | None
    break_even_price: Decimal18 | None
    cost: Decimal18 | None
    cost_quote: Decimal18 | None
    mark_price: Decimal18 | None
    mark_source: Literal["mark", "fill"] | None
    mark_log_sequence: int | None
    mark_time: str | None
    notional: Decimal18 | None
    unrealized_pnl: Decimal18 | None
    unrealized_pnl_account: Decimal18 | None
    realized_pnl: Decimal18 | None
    realized_pnl_account: Decimal18 | None
    realized_pnl_net: Decimal18 | None
    fees: Decimal18 | None
    funding: Decimal18 | None
    cycle: int | None
    cycle_opened_at: str | None
    cycle_realized_pnl: Decimal18 | None
    cycle_fees: Decimal18 | None
    cycle_funding: Decimal18 | None
    cycle_mae: Decimal18 | None
    cycle_mfe: Decimal18 | None
    isolated_margin: Decimal18 | None
    liquidation_price: Decimal18 | None
    bankruptcy_price: Decimal18 | None
    closed: tuple[PositionClosed, ...] | UnsetType = UNSET


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
    """An upward crossing of a warning level: by the account, or by an isolated position.

    Of an isolated position `equity` is its wallet with what is unrealized, and so are the others.
    """

    level: Level
    symbol: str | UnsetType = UNSET
    position_side: PositionSide | UnsetType = UNSET


class OrderUpdated(Common, frozen=True, kw_only=True):
    """One order after an event."""

    order_id: str
    symbol: str
    position_side: PositionSide | None
    side: Literal["buy", "sell"]
    type: Literal["market", "limit", "stop", "stop_limit"]
    quantity: Decimal18
    price: Decimal18 | None
    stop_price: Decimal18 | None
    reduce_only: bool
    time_in_force: str | None
    strategy_id: str | None
    filled_quantity: Decimal18
    average_price: Decimal18 | None
    status: OrderStatus


class EventRefused(msgspec.Struct, frozen=True, kw_only=True):
    """An incoming event that changed nothing, and why.

    `sequence_number`, `event_id` and `event_type` are those of the refused event, as far as it
    could be read; the account's version is in the envelope. Where the token of its subject can be
    no token of a subject, `account_id` is `_invalid` and `token_hash` SHA-256 of the token's bytes.
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
    token_hash: Hash | UnsetType = UNSET


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
    | ReconciliationReported
)


def own_fields(payload: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the fields that an update does not share with all others, in their order."""
    common = Common.__struct_fields__
    return tuple(name for name in payload.__struct_encode_fields__ if name not in common)


OF_THE_EVENT = "applied"
"""Field of `StateUpdated` that tells of the event."""

CLOSED = "closed"
"""Field of `StateUpdated` and `PositionUpdated` that tells of minutes that are over."""

TOLD_ONCE = (OF_THE_EVENT, CLOSED)
"""Fields that tell of what happened, and not of a state: in no view or document."""


def figures_of(payload: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the names of an update's figures: its own fields without what tells of the event.

    The structs above are the one table of figures. Columns of views, SQL and the documents of
    reads follow from their fields, in this order.
    """
    return tuple(name for name in own_fields(payload) if name not in ("change", *TOLD_ONCE))


def is_decimal(payload: type[msgspec.Struct], name: str) -> bool:
    """Return whether a field is a decimal, perhaps null: a string here, `numeric` in a view."""
    return _types(payload)[name] in (Decimal18, Decimal18 | None)


def is_amounts(payload: type[msgspec.Struct], name: str) -> bool:
    """Return whether a field is decimals by their currency: an object here, `jsonb` in a view."""
    return bool(_types(payload)[name] == dict[str, Decimal18])


@cache
def _types(payload: type[msgspec.Struct]) -> dict[str, Any]:
    hints = get_type_hints(payload, include_extras=True)
    names = zip(payload.__struct_encode_fields__, payload.__struct_fields__, strict=True)
    return {encoded: hints[name] for encoded, name in names}


POSITION_FIGURES = figures_of(PositionUpdated)
"""Names of a position's own figures, as they stand in a state document."""

ORDER_FIGURES = figures_of(OrderUpdated)
"""Names of an order's own figures, as they stand in a state document."""

MARGIN_FIGURES = figures_of(MarginUpdated)
"""Names of an account's margin figures, as they stand in a margin document."""

VERSION_FIELDS = (
    "account_id", "sequence_number", "log_sequence", "status", "currency", "chain_hash",
    "ledger_hash", "state_hash",
)  # fmt: skip
"""Fields of `StateUpdated` with which every document says which state of the account it shows."""

KINDS: dict[type, str] = {
    StateUpdated: "state.updated",
    PositionUpdated: "position.updated",
    MarginUpdated: "margin.updated",
    MarginWarning: "margin.warning",
    OrderUpdated: "order.updated",
    EventRefused: "event.refused",
    StreamBlocked: "stream.blocked",
    StreamResumed: "stream.resumed",
    ReconciliationReported: "reconciliation.reported",
}
"""Payload type -> the middle of its subject."""

KIND_OF = {payload.__name__: kind for payload, kind in KINDS.items()}
"""The same by the event type in the envelope."""


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
