"""A message of a recorded stream as a row of the table `events`.

Pure and total: whatever the bytes are, there is a row. What a message does not say, or says in a
way that no column can hold, is null; `raw` has it all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

LOG = "TRADES"

COLUMNS = (
    "archive_sequence", "js_stream", "js_sequence", "log_sequence", "subject", "stored_at",
    "stored_ns", "headers", "raw", "event_hash", "event_id", "event_type", "stream_id",
    "sequence_number", "timestamp", "schema_version", "causation_id", "correlation_id",
    "source_service", "user_id", "metadata", "payload",
)  # fmt: skip

_HEADERS = COLUMNS.index("headers") - 1
# An index entry has a limit of 2.7 KB; a longer identifier is none.
_TEXT_MAX = 512
_SEQUENCE_MAX = 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NULL = msgspec.Raw(b"null")


class Recorded(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One message of a recorded stream.

    Attributes:
        js_stream: name of the JetStream stream.
        sequence: position in it.
        subject: as stored.
        time_ns: when it was stored, nanoseconds since the epoch.
        data: the body.
        headers: of the producer, or None.
    """

    js_stream: str
    sequence: int
    subject: str
    time_ns: int
    data: bytes
    headers: Mapping[str, str] | None = None


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row of `events` that has no `archive_sequence` yet.

    Attributes:
        where: the columns that say where the message is, up to `event_hash`.
        what: the columns that say what it is; in the order of `COLUMNS`.
    """

    where: tuple[Any, ...]
    what: tuple[Any, ...]

    @property
    def has_event_id(self) -> bool:
        """Whether the message could be identified."""
        return self.what[0] is not None

    def record(self, archive_sequence: int) -> tuple[Any, ...]:
        """Return the whole row, in the order of `COLUMNS`."""
        return (archive_sequence, *self.where, *self.what)

    def lesser(self) -> Row:
        """Return the row without JSON; one that has none keeps only place and bytes."""
        without_json = Row(
            where=(*self.where[:_HEADERS], None, *self.where[_HEADERS + 1 :]),
            what=(*self.what[:-2], None, None),
        )
        return Row(where=self.where, what=_NOTHING) if without_json == self else without_json


class _Envelope(msgspec.Struct, gc=False):
    """Any JSON object, looked at as an envelope."""

    event_id: Any = None
    event_type: Any = None
    stream_id: Any = None
    sequence_number: Any = None
    timestamp: Any = None
    schema_version: Any = None
    causation_id: Any = None
    correlation_id: Any = None
    source_service: Any = None
    user_id: Any = None
    metadata: msgspec.Raw = _NULL
    payload: msgspec.Raw = _NULL


_decoder = msgspec.json.Decoder(_Envelope)
_NOTHING: tuple[Any, ...] = (None,) * len(_Envelope.__struct_fields__)


def row(message: Recorded) -> Row:
    """Return the row of a message."""
    headers = message.headers
    where = (
        message.js_stream,
        message.sequence,
        message.sequence if message.js_stream == LOG else None,
        message.subject,
        _EPOCH + timedelta(microseconds=message.time_ns // 1000),
        message.time_ns,
        _headers(headers) if headers else None,
        message.data,
        hashlib.sha256(message.data).hexdigest(),
    )
    try:
        what = _what(_decoder.decode(message.data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        what = _NOTHING  # no JSON object, or one nested beyond reason
    return Row(where=where, what=what)


def _headers(headers: Mapping[str, str]) -> str | None:
    try:
        return msgspec.json.encode(headers).decode()
    except UnicodeEncodeError:
        return None  # bytes that are no text


def _what(envelope: _Envelope) -> tuple[Any, ...]:
    return (
        _identifier(envelope.event_id),
        _text(envelope.event_type),
        _text(envelope.stream_id),
        _sequence(envelope.sequence_number),
        _time(envelope.timestamp),
        _text(envelope.schema_version),
        _identifier(envelope.causation_id),
        _identifier(envelope.correlation_id),
        _text(envelope.source_service),
        _text(envelope.user_id),
        _json(envelope.metadata),
        _json(envelope.payload),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and len(value) <= _TEXT_MAX else None


def _identifier(value: Any) -> str | None:
    """A UUID in small letters; another identifier as it is."""
    text = _text(value)
    if text is None or text.islower():
        return text
    return text.lower() if _UUID.fullmatch(text) else text


def _sequence(value: Any) -> int | None:
    # A bool is an int, too.
    return value if type(value) is int and 0 <= value <= _SEQUENCE_MAX else None


def _time(value: Any) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
        return None if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _json(raw: msgspec.Raw) -> str | None:
    text = bytes(raw).decode()
    return None if text == "null" else text
