"""Updates as the timeline reads them: of each only the fields that it counts by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TypeAlias

import msgspec

from psm.contracts.errors import InvariantError
from psm.contracts.updates_read import ReadUpdate

MINUTE_NS = 60_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Applied(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the event behind a `StateUpdated` said."""

    event_type: str
    symbol: str | None = None
    position_side: str | None = None
    side: str | None = None
    quantity: str | None = None
    price: str | None = None
    fee: str | None = None
    order_id: str | None = None
    fill_id: str | None = None
    strategy_id: str | None = None
    amount: str | None = None
    target: str | None = None


class AccountCloseFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An account at the end of a minute."""

    bucket_end: str
    equity: str | None
    nav: str | None
    flows: str
    max_drawdown: str | None


class StateFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`StateUpdated`: the unit, lifetime totals, gross exposure, the event and the closes."""

    account_id: str
    sequence_number: int
    log_sequence: int
    cause: str
    currency: str | None
    equity: str | None
    nav: str | None
    nav_epoch: int
    flows: str
    max_drawdown: str | None
    exposure_gross: str | None
    realized_pnl: str
    fees: str
    liquidation_fees: str
    funding: str
    interest: str
    dividends: str
    adjustments: str
    taxes: str
    losses_covered: str
    applied: Applied | None = None
    closed: tuple[AccountCloseFacts, ...] = ()


class PositionCloseFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A position at the end of a minute."""

    bucket_end: str
    unrealized_pnl: str | None
    mark_price: str | None


class PositionFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`PositionUpdated`: what is open, what it is worth, its cycle and the closes."""

    class_: str = msgspec.field(name="class")
    account_id: str
    sequence_number: int
    log_sequence: int
    cause: str
    symbol: str
    position_side: str
    change: str
    kind: str | None
    currency: str | None
    multiplier: str
    side: str
    size: str
    peak_size: str | None
    cost: str | None
    cost_quote: str | None
    entry_price: str | None
    mark_price: str | None
    notional: str | None
    unrealized_pnl: str | None
    unrealized_pnl_account: str | None
    realized_pnl_account: str | None
    fees: str | None
    funding: str | None
    cycle: int | None
    cycle_opened_at: str | None
    cycle_realized_pnl: str | None
    cycle_fees: str | None
    cycle_funding: str | None
    cycle_mae: str | None
    cycle_mfe: str | None
    closed: tuple[PositionCloseFacts, ...] = ()


class OrderFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`OrderUpdated`: whose order it is."""

    account_id: str
    sequence_number: int
    log_sequence: int
    order_id: str
    strategy_id: str | None


class ToldState(msgspec.Struct, frozen=True, kw_only=True):
    """Envelope of a `StateUpdated`.

    Attributes:
        timestamp: log time.
        causation_id: of the event behind it.
    """

    timestamp: str
    causation_id: str | None = None
    payload: StateFacts


class ToldPosition(msgspec.Struct, frozen=True, kw_only=True):
    """Envelope of a `PositionUpdated`."""

    timestamp: str
    payload: PositionFacts


class ToldOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Envelope of an `OrderUpdated`."""

    timestamp: str
    payload: OrderFacts


Told: TypeAlias = ToldState | ToldPosition | ToldOrder
"""What a timeline takes."""

_DECODERS: dict[str, msgspec.json.Decoder[Told]] = {
    "state.updated": msgspec.json.Decoder(ToldState),
    "position.updated": msgspec.json.Decoder(ToldPosition),
    "order.updated": msgspec.json.Decoder(ToldOrder),
}
KINDS = frozenset(_DECODERS)
"""Kinds of updates that say something to a timeline."""


def told(update: ReadUpdate) -> Told:
    """Return what an update of one of `KINDS` says.

    Raises:
        InvariantError: PSM published something that is not its own contract.
    """
    try:
        return _DECODERS[update.kind].decode(update.data)
    except msgspec.DecodeError as error:
        raise InvariantError(f"a {update.kind} update cannot be read: {error}") from error


def minute_of(timestamp: str) -> int:
    """Return the minute of a log time, counted from the Unix epoch."""
    return _minute(timestamp[:16])


@lru_cache(maxsize=4096)
def _minute(text: str) -> int:
    return (datetime.fromisoformat(text).replace(tzinfo=UTC) - _EPOCH) // timedelta(minutes=1)


def nanoseconds_of(timestamp: str) -> int:
    """Return a log time, which has microseconds, in nanoseconds since the Unix epoch."""
    seconds, micros = int(timestamp[17:19]), int(timestamp[20:26])
    return (_minute(timestamp[:16]) * 60 + seconds) * 1_000_000_000 + micros * 1_000
