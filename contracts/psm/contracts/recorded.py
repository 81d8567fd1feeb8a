"""What crosses the recorded subjects: reading it, judging it, and where it belongs.

On recorded subjects `stream_id` and `sequence_number` are optional. An event type or a major
version that is not known here is kept as it is: an archive must not refuse what happened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from psm.contracts import codec, registry, subjects
from psm.contracts.envelope import MAX_BODY_BYTES, Envelope
from psm.contracts.errors import ContractError

HEADS = frozenset({"marketdata", "signals", "risk", "orders", "fills"})
"""First tokens of the recorded subjects."""

_NO_STREAM = "-"
_ROOM = 64
"""Bytes that are surely enough for a `stream_id` that is put in."""


def decode_recorded(data: bytes) -> Envelope:
    """Return the envelope in `data`; its `stream_id` is empty where it has none.

    Raises:
        ContractError: as `codec.decode_envelope`.
    """
    if len(data) > MAX_BODY_BYTES:
        raise ContractError("invalid_json", f"the body is larger than {MAX_BODY_BYTES} bytes")
    if len(data) <= MAX_BODY_BYTES - _ROOM:
        with contextlib.suppress(ContractError):  # what is wrong with it is said below
            return codec.decode_envelope(data, named=False)
    stream_id = codec.raw_fields(data).get("stream_id")
    if stream_id is not None and bytes(stream_id) != b"null":
        return codec.decode_envelope(data)
    envelope = codec.decode_envelope(codec.with_fields(data, {"stream_id": _NO_STREAM}))
    return msgspec.structs.replace(envelope, stream_id="")


def decode_audit(envelope: Envelope) -> dict[str, Any]:
    """Return every field of an audit event's payload, numbers as their literal text.

    Raises:
        UnknownEventError: it is no audit event, or its major version is not known.
        ContractError: the payload is not as its schema says; `field` names where.
    """
    payload = registry.audit_codec_for(envelope).decode(envelope.payload)
    if envelope.event_type == "market_data":
        _check_market_data(payload)
    return payload


def _check_market_data(payload: Mapping[str, Any]) -> None:
    """Make sure of what market data of its kind must have."""
    needed = "price" if payload.get("kind") is None else "exchange"
    if payload.get(needed) is None:
        raise ContractError("invalid_payload", f"{needed} is required", f"payload.{needed}")
    for side in ("bids", "asks"):
        for place, level in enumerate(payload.get(side) or ()):
            if len(level) < len(("price", "quantity")):
                field = f"payload.{side}[{place}]"
                raise ContractError("invalid_payload", "a level is [price, quantity]", field)


def subject_of(event_type: str, payload: Mapping[str, Any]) -> str | None:
    """Return the recorded subject of an audit event; None where it has none of its own.

    A `state_snapshot` has none: its publisher says where.
    """
    place = _PLACES.get(event_type)
    return place(payload) if place is not None else None


def _market_data(payload: Mapping[str, Any]) -> str:
    if payload.get("kind") is not None:
        return subjects.depth(payload["exchange"], payload["symbol"])
    if payload.get("timeframe") is not None:
        return subjects.candle(payload["symbol"], payload["timeframe"])
    return subjects.ticker(payload["symbol"])


_PLACES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "market_data": _market_data,
    "signal_generated": lambda p: subjects.signal(p["strategy_id"], p["symbol"]),
    "risk_decision": lambda p: subjects.risk_decision(p["account_id"]),
    "LatchSet": lambda p: subjects.risk_halt(p["scope"]),
    "cancel_all": lambda p: subjects.risk_halt(p["scope"]),
    "AccountReleased": lambda p: subjects.risk_release(p["account_id"]),
    "order_request": lambda p: subjects.order_command(p["account_id"]),
    "replace_request": lambda p: subjects.order_command(p["account_id"]),
    "cancel_request": lambda p: subjects.order_command(p["account_id"]),
    "order_result": lambda p: subjects.order_status(p["order_id"]),
    "position_update": lambda p: subjects.internal_fill(p["order_id"]),
    "alert": lambda p: subjects.risk_alert(p["severity"]),
}


def check(subject: str, data: bytes) -> None:
    """Make sure that a body may stand on a recorded subject, as far as its type is known.

    Raises:
        ContractError: the subject records nothing, the body is no event, its payload is not as
            its schema says, or it is an audit event of another subject.
    """
    subjects.check_subject(subject)
    if subjects.head_of(subject) not in HEADS:
        raise ContractError(
            "stream_mismatch", f"{subject} is not recorded; use {', '.join(sorted(HEADS))}"
        )
    envelope = decode_recorded(data)
    try:
        payload = decode_audit(envelope)
    except registry.UnknownEventError:
        return
    place = subject_of(envelope.event_type, payload)
    if place is not None and place.split(".")[:2] != subject.split(".")[:2]:
        raise ContractError(
            "stream_mismatch", f"a {envelope.event_type} belongs on {place}, not on {subject}"
        )
