"""What comes on `orders.command.*`: orders, changes of orders, cancels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

import msgspec

from psm.contracts import codec
from psm.contracts.envelope import Envelope
from psm.contracts.errors import ContractError
from psm.contracts.position_keys import position_key
from psm.contracts.recorded import decode_audit, decode_recorded
from psm.contracts.subjects import decode_token, last_token
from psm.risk.engine.member import microseconds
from psm.risk.messages import Stored
from psm.risk.state import ProposedOrder, Side

Kind = Literal["order", "replace", "cancel"]

LIFETIME = 15 * 60 * 1_000_000
"""Longest life of a request after ORDERS stored it, us; that of one that does not say."""
EMBEDDED_MAX = 4096
"""Bytes of an order that a decision repeats in full; of a larger one without its context."""

_KINDS: Mapping[str, Kind] = {
    "order_request": "order",
    "replace_request": "replace",
    "cancel_request": "cancel",
}


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it was read.

    Attributes:
        fields: of its payload, numbers as their literal text.
        hash: SHA-256 of the payload as canonical JSON, hex; `length` bytes of that.
        error: why it is none; then `fields` are what could be read.
        expires: clock after which it must not be decided any more; `too_late`: it asks for more
            time than there is.
        correlation_id, event_id: of its envelope.
    """

    kind: Kind
    account_id: str
    sequence: int
    time: int
    fields: Mapping[str, Any]
    hash: str
    length: int
    expires: int
    too_late: bool = False
    error: str | None = None
    event_id: str | None = None
    correlation_id: str | None = None

    @property
    def links(self) -> dict[str, str]:
        """What the envelope of its answer says: which event caused it, and of which session."""
        found = {"causation_id": self.event_id, "correlation_id": self.correlation_id}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def order_id(self) -> str:
        """Of the order that it is about; empty if it could not be read."""
        return self.text("order_id") or ""

    @property
    def strategy_id(self) -> str | None:
        """Whose it is."""
        return self.text("strategy_id")

    def text(self, name: str) -> str | None:
        """Return a field; None where it is not there."""
        value = self.fields.get(name)
        return None if value is None else str(value)

    def number(self, name: str) -> Decimal | None:
        """Return a number; None where it is not there."""
        value = self.text(name)
        return None if value is None else Decimal(value)

    def embedded(self) -> dict[str, Any]:
        """Return the payload as a decision repeats it."""
        if self.length <= EMBEDDED_MAX:
            return dict(self.fields)
        named = {name: value for name, value in self.fields.items() if name in _NAMED}
        return named if len(codec.canonical_bytes(named)) <= EMBEDDED_MAX else {}


_NAMED = (
    *("account_id", "order_id", "symbol", "side", "type", "quantity", "price", "stop_price"),
    *("reduce_only", "time_in_force", "strategy_id", "exchange", "position_side", "stop_loss"),
    *("on_limit", "expires_at"),
)


def read_command(message: Stored) -> Command:
    """Return the request in a message; one that is none says why, and is rejected for it."""
    account_id = _account_of(message.subject)
    fields: dict[str, Any] = {}
    error, kind, event_id, correlation = None, "order_request", None, None
    envelope: Envelope | None = None
    try:
        envelope = decode_recorded(message.data)
        event_id, correlation = envelope.event_id, envelope.correlation_id
        kind = envelope.event_type
        fields = _fields_of(envelope)
        if fields["account_id"] != account_id:
            detail = f"the subject is that of {account_id}"
            raise ContractError("stream_mismatch", detail, "payload.account_id")
    except ContractError as refused:
        error = str(refused)
        fields = {} if envelope is None else _readable(envelope)
    latest = int(message.time) + LIFETIME
    wanted, canonical = _expiry(fields, latest), codec.canonical_bytes(fields)
    return Command(
        kind=_KINDS.get(kind, "order"),
        account_id=account_id,
        sequence=message.sequence,
        time=message.time,
        fields=fields,
        hash=hashlib.sha256(canonical).hexdigest(),
        length=len(canonical),
        expires=min(wanted, latest),
        too_late=wanted > latest,
        error=error,
        event_id=event_id,
        correlation_id=correlation,
    )


def _fields_of(envelope: Envelope) -> dict[str, Any]:
    """Return the payload of a request, checked."""
    if envelope.event_type not in _KINDS:
        detail = f"{envelope.event_type} is no request"
        raise ContractError("unknown_event_type", detail, "event_type")
    return decode_audit(envelope)


def _readable(envelope: Envelope) -> dict[str, Any]:
    """Return what can be read of a payload that is no request's."""
    try:
        return codec.decode_untyped(envelope.payload)
    except ContractError:
        return {}


def _account_of(subject: str) -> str:
    token = last_token(subject)
    try:
        return decode_token(token)
    except ValueError:  # it encodes nothing, and is nobody's
        return token


def order_of(command: Command, replaced: Mapping[str, Any] | None = None) -> ProposedOrder:
    """Return the order of a request; a change takes the rest from the order that it changes."""
    base = dict(replaced or {})
    merged = {**base, **{name: v for name, v in command.fields.items() if v is not None}}
    side: Side = merged["side"]
    on_limit = merged.get("on_limit")
    return ProposedOrder(
        symbol=merged["symbol"],
        side=side,
        quantity=Decimal(str(merged["quantity"])),
        order_id=command.order_id,
        type=merged["type"],
        price=_number(merged, "price"),
        stop_price=_number(merged, "stop_price"),
        stop_loss=_number(merged, "stop_loss"),
        reduce_only=bool(merged.get("reduce_only")),
        on_limit=on_limit if on_limit in ("reject", "reduce") else None,
        strategy_id=merged.get("strategy_id"),
    )


def line_of_command(fields: Mapping[str, Any]) -> str:
    """Return the key of the position that an order changes."""
    side = fields.get("position_side")
    return position_key(fields["symbol"], "net" if side is None else side)


def _number(fields: Mapping[str, Any], name: str) -> Decimal | None:
    value = fields.get(name)
    return None if value is None else Decimal(str(value))


def _expiry(fields: Mapping[str, Any], latest: int) -> int:
    text = fields.get("expires_at")
    if not isinstance(text, str) or not codec.is_timestamp(text):
        return latest
    return microseconds(text)
