"""A recorded message as commands print it: a document, or a line for people."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from psm.contracts.codec import decode_untyped
from psm.contracts.errors import ContractError
from psm.domain.publication.log_times import log_time
from psm.workers.replay.playback import Recorded

_ENVELOPE = ("event_type", "stream_id", "sequence_number")


def as_document(one: Recorded) -> dict[str, Any]:
    """Return a message with where it stands; its body as JSON where it is JSON."""
    message = one.message
    return {
        "log_time": log_time(message.time_ns),
        "js_stream": one.js_stream,
        "sequence": message.sequence,
        "subject": message.subject,
        "data": _json_or_text(message.data),
    }


def as_line(one: Recorded) -> str:
    """Return time, subject, what and whose number, and the values that are not hashes."""
    message = one.message
    clock = log_time(message.time_ns)[11:23]
    try:
        event = decode_untyped(message.data)
    except ContractError:
        return f"{clock} {message.subject} {message.data.decode(errors='replace')}"
    payload = event.get("payload")
    values = payload if isinstance(payload, dict) else event
    shown = " ".join(
        f"{name}={_short(value)}"
        for name, value in values.items()
        if name not in _ENVELOPE and not name.endswith("_hash") and value is not None
    )
    number = event.get("sequence_number")
    place = f" #{number}" if number is not None else ""
    return f"{clock} {message.subject}{place} {event.get('event_type', '')} {shown}".rstrip()


def _short(value: Any) -> str:
    return (
        value if isinstance(value, str) else json.dumps(value, default=str, separators=(",", ":"))
    )


def _json_or_text(data: bytes) -> Any:
    try:
        decode_untyped(data)
    except ContractError:
        return data.decode(errors="replace")
    return msgspec.Raw(data)
