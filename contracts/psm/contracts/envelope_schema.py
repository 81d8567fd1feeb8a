"""JSON Schema of the envelope: what surrounds every payload, and where a person may stand in it."""

from __future__ import annotations

from typing import Any

from psm.contracts.personal import PII

_UUID = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"

ENVELOPE: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Envelope",
    "description": "What surrounds every payload. Unknown further fields are kept and hashed.",
    "type": "object",
    "required": ["event_id", "event_type", "timestamp", "schema_version", "payload"],
    "properties": {
        "event_id": {
            "type": "string",
            "pattern": _UUID,
            "description": "Identity; a repeated event is byte-identical.",
        },
        "event_type": {"type": "string", "minLength": 1, "maxLength": 128},
        "stream_id": {
            "type": "string",
            "description": "Account or portfolio, or encoded symbol; optional where recorded.",
        },
        "sequence_number": {
            "type": "integer",
            "minimum": 0,
            "description": "Place in the stream from 1; 0 in an update of an account without any.",
        },
        "timestamp": {
            "type": "string",
            "format": "date-time",
            "description": "UTC, up to microseconds; explains, never orders.",
        },
        "schema_version": {"type": "string", "pattern": r"^\d+(\.\d+){0,2}$"},
        "payload": {"type": "object"},
        "source_service": {"type": "string"},
        "user_id": {"type": "string", "description": "On whose behalf.", PII: "subject"},
        "correlation_id": {"type": "string", "description": "Same trade or session."},
        "causation_id": {"type": "string", "description": "The event that caused this one."},
        "metadata": {
            "type": "object",
            "description": "Kept, hashed, never interpreted; `deprecated` is a notice.",
            PII: "free",
        },
    },
    "additionalProperties": {PII: "free"},
}
