"""Events of a producing service: complete, validated, and linked to what caused them.

    factory = EventFactory("momentum", "1.4.0", publisher=Publisher("nats://localhost:4222"))
    seen = factory.create_market_data(symbol="BTCUSDT", price=43250.5)
    signal = factory.caused_by(seen).create_signal(
        symbol="BTCUSDT", side=Side.BUY, confidence=0.82, reason="breakout", price=43250.5
    )
    await factory.publish(signal)

Needs nats-py and `psm.contracts` only. The clock gives an event its id and its `timestamp`, which
explain and never decide. Binary floats are accepted in audit events and nowhere else, as the
shortest decimal that reads back as the same float (`repr`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any, Self
from uuid import UUID

import msgspec

from psm.contracts import codec, deprecations, recorded, registry
from psm.contracts.audit_events import AUDIT_EVENTS
from psm.contracts.drafts import draft_of
from psm.contracts.envelope import MAX_BODY_BYTES, Envelope
from psm.contracts.errors import ConfigError, ContractError
from psm.contracts.identity import TimeOrderedIds, traceparent
from psm.contracts.publisher import Appended, Publisher
from psm.contracts.replay import require_live
from psm.contracts.subjects import is_stream_id

_INTEGERS_END = 10**18  # not every reader of JSON takes longer ones as they are

Value = str | int | float | Decimal
"""A price, quantity or other figure of an audit event."""


class Side(StrEnum):
    """Direction of a trade."""

    BUY = "buy"
    SELL = "sell"


class Severity(StrEnum):
    """Urgency of an alert."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class NewEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that is made and not yet published.

    Attributes:
        subject: where it belongs; None for a `state_snapshot`, whose publisher says where.
        body: the bytes that are published.
        payload: as they say it, floats and decimals as text.
    """

    event_id: str
    event_type: str
    stream_id: str | None
    timestamp: str
    schema_version: str
    source_service: str
    user_id: str
    correlation_id: str
    causation_id: str | None
    metadata: dict[str, Any]
    payload: dict[str, Any]
    subject: str | None
    body: bytes

    def to_dict(self) -> dict[str, Any]:
        """Return the envelope as it is on the wire."""
        return codec.decode_untyped(self.body)


Cause = NewEvent | Envelope | Mapping[str, Any] | bytes | str
"""What an event may be caused by: an event in any form, or just its id."""


class EventFactory:
    """Makes events in the name of one service.

    Attributes:
        causation_id: what its events name as their cause; None outside of `caused_by`.
        correlation_id: what its events share; None lets each start its own.
    """

    def __init__(
        self,
        service_name: str,
        version: str,
        *,
        publisher: Publisher | None = None,
        user_id: str | None = None,
        environment: str | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        ids: TimeOrderedIds | None = None,
    ) -> None:
        """Nothing is connected.

        Args:
            service_name: becomes `source_service`, and the `strategy_id` where none is given.
            version: of the service, for `metadata`.
            publisher: what `publish` uses; it stays the caller's to close.
            user_id: on whose behalf; the service's own name by default.
            environment: such as `production`, for `metadata`.
            clock: an aware time; a replay or a test gives its own.
            ids: maker of event ids.
        """
        if not service_name or not version:
            raise ConfigError("an EventFactory needs the name and the version of its service")
        self.service_name = service_name
        self.version = version
        self._publisher = publisher
        self._user_id = user_id or service_name
        self._metadata = {"service": service_name, "version": version}
        if environment is not None:
            self._metadata["environment"] = environment
        self._clock = clock
        self._ids = ids or TimeOrderedIds()
        self.causation_id: str | None = None
        self.correlation_id: str | None = None

    def caused_by(self, cause: Cause, *, correlation_id: str | None = None) -> Self:
        """Return a factory whose events name `cause` as theirs, and share its correlation.

        Args:
            cause: the event, as it was made or received, or its id.
            correlation_id: where `cause` has none; else the id of `cause` becomes it.
        """
        event_id, known = _identity(cause)
        derived = copy(self)
        derived.causation_id = event_id
        derived.correlation_id = correlation_id or known or self.correlation_id or event_id
        return derived

    # -- audit events --------------------------------------------------------------------------

    def create_market_data(
        self,
        *,
        symbol: str,
        price: Value | None = None,
        timeframe: str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        **fields: Any,
    ) -> NewEvent:
        """Return a tick, with `timeframe` a candle, with `kind` a book or changes to it."""
        fields |= {"symbol": symbol, "price": price, "timeframe": timeframe}
        return self._audit("market_data", fields, correlation_id, causation_id)

    def create_signal(
        self,
        *,
        symbol: str,
        side: Side | str,
        confidence: Value,
        reason: str,
        price: Value | None = None,
        strategy_params: Mapping[str, Any] | None = None,
        strategy_id: str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        **fields: Any,
    ) -> NewEvent:
        """Return what a strategy wants; `strategy_id` is the service's name by default."""
        fields |= {
            "strategy_id": strategy_id or self.service_name,
            "symbol": symbol,
            "side": side,
            "confidence": confidence,
            "reason": reason,
            "price": price,
            "strategy_params": strategy_params,
        }
        return self._audit("signal_generated", fields, correlation_id, causation_id)

    def create_risk_decision(
        self,
        *,
        account_id: str,
        decision: str,
        reason: str,
        checks: Sequence[Mapping[str, Any]],
        risk_state: Mapping[str, Any] | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        **fields: Any,
    ) -> NewEvent:
        """Return what risk said: approved, rejected or reduced.

        Args:
            account_id: whose risk was looked at.
            decision: `approved`, `rejected` or `reduced`.
            reason: one sentence.
            checks: each with `name`, `passed`, `value` and `limit`.
            risk_state: the state that was looked at, best with its hashes.
            correlation_id: same trade or session.
            causation_id: the event that asked for the decision.
            fields: of the schema, or any others.
        """
        fields |= {
            "account_id": account_id,
            "decision": decision,
            "reason": reason,
            "checks": checks,
            "risk_state": risk_state,
        }
        return self._audit("risk_decision", fields, correlation_id, causation_id)

    def create_order_request(
        self,
        *,
        account_id: str,
        order_id: str,
        symbol: str,
        side: Side | str,
        quantity: Value,
        order_type: str = "market",
        price: Value | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        **fields: Any,
    ) -> NewEvent:
        """Return an order as it goes to execution; `order_type` becomes the field `type`."""
        fields |= {
            "account_id": account_id,
            "order_id": order_id,
            "symbol": symbol,
            "side": side,
            "type": order_type,
            "quantity": quantity,
            "price": price,
        }
        return self._audit("order_request", fields, correlation_id, causation_id)

    def create_replace_request(
        self,
        *,
        account_id: str,
        order_id: str,
        quantity: Value | None = None,
        price: Value | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        **fields: Any,
    ) -> NewEvent:
        """Return the wish that an open order has another quantity or price; the rest stays."""
        fields |= {
            "account_id": account_id,
            "order_id": order_id,
            "quantity": quantity,
            "price": price,
        }
        return self._audit("replace_request", fields, correlation_id, causation_id)

    def create_cancel_request(
        self,
        *,
        account_id: str,
        order_id: str,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        **fields: Any,
    ) -> NewEvent:
        """Return the wish that an open order is filled no more."""
        fields |= {"account_id": account_id, "order_id": order_id}
        return self._audit("cancel_request", fields, correlation_id, causation_id)

    def create_order_result(
        self,
        *,
        order_id: str,
        status: str,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        **fields: Any,
    ) -> NewEvent:
        """Return what the venue answered to an order."""
        fields |= {"order_id": order_id, "status": status}
        return self._audit("order_result", fields, correlation_id, causation_id)

    def create_position_update(
        self,
        *,
        account_id: str,
        order_id: str,
        symbol: str,
        side: str,
        size: Value,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        **fields: Any,
    ) -> NewEvent:
        """Return a position after a fill, as this service sees it: long, short or flat."""
        fields |= {
            "account_id": account_id,
            "order_id": order_id,
            "symbol": symbol,
            "side": side,
            "size": size,
        }
        return self._audit("position_update", fields, correlation_id, causation_id)

    def create_alert(
        self,
        *,
        severity: Severity | str,
        message: str,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        **fields: Any,
    ) -> NewEvent:
        """Return something a person should know."""
        fields |= {"severity": severity, "message": message}
        return self._audit("alert", fields, correlation_id, causation_id)

    def create_state_snapshot(
        self,
        *,
        account_id: str,
        state: Mapping[str, Any],
        correlation_id: str | None = None,
        causation_id: str | None = None,
        **fields: Any,
    ) -> NewEvent:
        """Return a whole state; it has no subject of its own, `publish` is told one."""
        fields |= {"account_id": account_id, "state": state}
        return self._audit("state_snapshot", fields, correlation_id, causation_id)

    # -- events of the log ---------------------------------------------------------------------

    def create_event(
        self,
        event_type: str,
        stream_id: str,
        payload: Mapping[str, Any],
        *,
        correlation_id: str | None = None,
        causation_id: str | None = None,
    ) -> NewEvent:
        """Return an event of the log, such as `TradeExecuted`, without its number.

        Money is text or Decimal here; a binary float is refused.

        Raises:
            ContractError: there is no such event type, or its payload is not valid.
        """
        if event_type in AUDIT_EVENTS:
            raise ContractError(
                "unknown_event_type", f"{event_type} has a create_ method of its own", "event_type"
            )
        plain = {name: _plain(value, name, floats=False) for name, value in payload.items()}
        event = self._event(event_type, stream_id, plain, correlation_id, causation_id)
        return msgspec.structs.replace(event, subject=draft_of(event.body).subject)

    async def publish(self, event: NewEvent, *, subject: str | None = None) -> Appended | int:
        """Publish an event once, however often this is called with it.

        Args:
            event: made by this or another factory.
            subject: where a `state_snapshot` goes.

        Returns:
            Its place in the log, or for an audit event the sequence in its JetStream stream.

        Raises:
            ReplayModeError: this is a replay.
            ConfigError: the factory has no publisher, or the event no subject.
            ContractError, ConflictError, TransientError: see `Publisher`.
        """
        require_live(f"publish {event.event_type} {event.event_id}")
        if self._publisher is None:
            raise ConfigError("this EventFactory has no publisher; give it one")
        headers = {"traceparent": traceparent(event.correlation_id, event.event_id)}
        if event.event_type not in AUDIT_EVENTS:
            return await self._publisher.append(event.body, headers=headers)
        where = event.subject or subject
        if where is None:
            raise ConfigError(f"a {event.event_type} has no subject of its own: pass subject=")
        return await self._publisher.record(where, event.body, headers=headers)

    # -- making --------------------------------------------------------------------------------

    def _audit(
        self,
        event_type: str,
        fields: Mapping[str, Any],
        correlation_id: str | None,
        causation_id: str | None,
    ) -> NewEvent:
        given = {name: value for name, value in fields.items() if value is not None}
        payload = {name: _plain(value, f"payload.{name}") for name, value in given.items()}
        account_id = payload.get("account_id")
        stream_id = account_id if account_id is not None and is_stream_id(str(account_id)) else None
        event = self._event(event_type, stream_id, payload, correlation_id, causation_id)
        recorded.decode_audit(recorded.decode_recorded(event.body))
        return msgspec.structs.replace(event, subject=recorded.subject_of(event_type, payload))

    def _event(
        self,
        event_type: str,
        stream_id: str | None,
        payload: dict[str, Any],
        correlation_id: str | None,
        causation_id: str | None,
    ) -> NewEvent:
        now = self._clock()
        if now.tzinfo is None:
            raise ConfigError("the clock of an EventFactory must give aware times, in UTC")
        now = now.astimezone(UTC)
        event_id = str(self._ids.make(int(now.timestamp() * 1000)))
        version = registry.version_of(event_type)
        envelope: dict[str, Any] = {
            "event_id": event_id,
            "event_type": event_type,
            "stream_id": stream_id,
            "timestamp": now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "schema_version": version,
            "source_service": self.service_name,
            "user_id": self._user_id,
            "correlation_id": correlation_id or self.correlation_id or event_id,
            "causation_id": causation_id or self.causation_id,
            "metadata": {**self._metadata, **deprecations.metadata(event_type, version)},
            "payload": payload,
        }
        present = {name: value for name, value in envelope.items() if value is not None}
        body = codec.encode_event(present)
        if len(body) > MAX_BODY_BYTES:
            raise ContractError("invalid_json", f"the body is larger than {MAX_BODY_BYTES} bytes")
        return NewEvent(**envelope, subject=None, body=body)


def _identity(cause: Cause) -> tuple[str, str | None]:
    """Id and correlation of an event."""
    if isinstance(cause, str):
        return cause, None
    if isinstance(cause, NewEvent | Envelope):
        return cause.event_id, cause.correlation_id
    fields = codec.decode_untyped(cause) if isinstance(cause, bytes) else cause
    event_id = fields.get("event_id")
    if not isinstance(event_id, str):
        raise ContractError("missing_field", "the cause has no event_id", "event_id")
    return event_id, fields.get("correlation_id")


def _plain(value: Any, path: str, *, floats: bool = True) -> Any:
    """Return the value as JSON has it, every number that is not whole as its decimal text."""
    if value is None or isinstance(value, bool) or type(value) is str:
        return value
    if isinstance(value, int):
        return value if abs(value) < _INTEGERS_END else str(int(value))
    if isinstance(value, float):
        return _float_text(value, path, floats=floats)
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ContractError("malformed_field", f"{path} is {value}", path)
        return format(value, "f")
    if isinstance(value, Enum):
        return _plain(value.value, path, floats=floats)
    if isinstance(value, Mapping):
        return {str(k): _plain(v, f"{path}.{k}", floats=floats) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, f"{path}[{n}]", floats=floats) for n, v in enumerate(value)]
    if isinstance(value, UUID | str):
        return str(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    raise ContractError("malformed_field", f"{path}: {type(value).__name__} is not JSON", path)


def _float_text(value: float, path: str, *, floats: bool) -> str:
    if not floats:
        raise ContractError(
            "malformed_field", f"{path} is a binary float: pass a string or a Decimal", path
        )
    if not math.isfinite(value):
        raise ContractError("malformed_field", f"{path} is {value}", path)
    return format(Decimal(repr(value)), "f")
