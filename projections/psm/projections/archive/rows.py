"""A message of a recorded stream as a row of the table `events`.

Pure and total: whatever the bytes are, there is a row. What a message does not say is null; so is
what it says in a way that no column can hold, and `left_out` names it. `raw` has it all.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from psm.contracts.subjects import OF_STREAMS, TRADES, token_bytes
from psm.projections.archive.keys import business_key
from psm.projections.storable import is_storable_text, storable_json, storable_text

_PLACE = (
    "js_stream", "js_sequence", "log_sequence", "subject", "subject_bytes", "stored_at",
    "stored_ns", "raw", "event_hash",
)  # fmt: skip
_SAID = (
    "event_id", "event_type", "stream_id", "sequence_number", "timestamp", "schema_version",
    "causation_id", "correlation_id", "source_service", "user_id",
)  # fmt: skip
_KEY = ("key_kind", "key", "key_symbol")
_DOCUMENTS = ("headers", "metadata", "payload")
COLUMNS = ("archive_sequence", *_PLACE, *_SAID, *_KEY, *_DOCUMENTS, "left_out")

_OF_STREAMS = tuple(f"{head}." for head in OF_STREAMS)
# An index entry has a limit of 2.7 KB; a longer identifier is none.
_TEXT_MAX = 512
_SEQUENCE_MAX = 2**63 - 1
_DIGITS_MAX = 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_IDENTIFIERS = frozenset({"event_id", "causation_id", "correlation_id"})
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NOTHING_SAID: tuple[Any, ...] = (None,) * len(_SAID)
_NO_KEY: tuple[Any, ...] = (None,) * len(_KEY)
_NO_DOCUMENTS: tuple[Any, ...] = (None,) * len(_DOCUMENTS)
_NULL = msgspec.Raw(b"null")
# Stands for what no text can hold; no column takes it.
_NO_TEXT = "\ud800"


class RecordedRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One message of a recorded stream.

    Attributes:
        js_stream: name of the JetStream stream.
        sequence: position in it.
        subject: as stored; a byte that is not UTF-8 is a surrogate, as of `surrogateescape`.
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
        place: where the message is: stream, position, subject, time, bytes.
        said: what its envelope says.
        key: its business key.
        documents: headers, metadata and payload as JSON texts.
        left_out: columns that cannot hold what the message says.
    """

    place: tuple[Any, ...]
    said: tuple[Any, ...]
    key: tuple[Any, ...]
    documents: tuple[Any, ...]
    left_out: tuple[str, ...]

    @property
    def js_stream(self) -> str:
        """Name of the JetStream stream."""
        return str(self.place[0])

    @property
    def js_sequence(self) -> int:
        """Position in it."""
        return int(self.place[1])

    @property
    def is_account_event(self) -> bool:
        """Whether it is a message whose outcome the fold decides."""
        return self.js_stream == TRADES and self.place[3].startswith(_OF_STREAMS)

    @property
    def has_event_id(self) -> bool:
        """Whether the message could be identified."""
        return self.said[0] is not None

    def record(self, archive_sequence: int) -> tuple[Any, ...]:
        """Return the whole row, in the order of `COLUMNS`."""
        columns = (*self.place, *self.said, *self.key, *self.documents)
        return (archive_sequence, *columns, list(self.left_out))

    def without_unstorable_columns(self) -> Row:
        """Return the row without JSON; one that has none keeps place, bytes and key only."""
        names: tuple[str, ...] = _DOCUMENTS
        values, said = self.documents, self.said
        if values == _NO_DOCUMENTS:
            names, values, said = _SAID, self.said, _NOTHING_SAID
        lost = (name for name, value in zip(names, values, strict=True) if value is not None)
        return msgspec.structs.replace(
            self, said=said, documents=_NO_DOCUMENTS, left_out=(*self.left_out, *lost)
        )


class _Wire(msgspec.Struct, gc=False):
    """Any JSON object, looked at as an envelope; each field is judged by itself."""

    event_id: msgspec.Raw = _NULL
    event_type: msgspec.Raw = _NULL
    stream_id: msgspec.Raw = _NULL
    sequence_number: msgspec.Raw = _NULL
    timestamp: msgspec.Raw = _NULL
    schema_version: msgspec.Raw = _NULL
    causation_id: msgspec.Raw = _NULL
    correlation_id: msgspec.Raw = _NULL
    source_service: msgspec.Raw = _NULL
    user_id: msgspec.Raw = _NULL
    metadata: msgspec.Raw = _NULL
    payload: msgspec.Raw = _NULL


class _Plain(msgspec.Struct, gc=False):
    """The same with every field decoded at once, which one odd field spoils."""

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


_wire = msgspec.json.Decoder(_Wire)
_plain = msgspec.json.Decoder(_Plain)
_value = msgspec.json.Decoder()
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


def row(message: RecordedRow) -> Row:
    """Return the row of a message."""
    left_out: list[str] = []
    place = _place(message, left_out)
    said, documents = _content(message.data, left_out)
    headers = _headers(message.headers, left_out)
    key = _NO_KEY
    if message.js_stream == TRADES and message.subject.startswith(_OF_STREAMS):
        found = business_key(said[1], message.data)
        key = _NO_KEY if found is None else msgspec.structs.astuple(found)
    return Row(
        place=place,
        said=said,
        key=key,
        documents=(headers, *documents),
        left_out=tuple(left_out),
    )


def _place(message: RecordedRow, left_out: list[str]) -> tuple[Any, ...]:
    subject = storable_text(message.subject)
    is_exact = subject == message.subject
    if not is_exact:
        left_out.append("subject")
    return (
        message.js_stream,
        message.sequence,
        message.sequence if message.js_stream == TRADES else None,
        subject,
        None if is_exact else token_bytes(message.subject),
        _EPOCH + timedelta(microseconds=message.time_ns // 1000),
        message.time_ns,
        message.data,
        hashlib.sha256(message.data).hexdigest(),
    )


def _content(data: bytes, left_out: list[str]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return what the envelope says, and metadata and payload."""
    said = _ordinary(data) if b"\\u" not in data and b"\0" not in data else None
    return _judged(data, left_out) if said is None else said


def _ordinary(data: bytes) -> tuple[tuple[Any, ...], tuple[Any, ...]] | None:
    """Return the content of a message in which everything can be held; None in doubt."""
    try:
        wire = _plain.decode(data)
        metadata, payload = storable_json(bytes(wire.metadata)), storable_json(bytes(wire.payload))
    except _UNREADABLE:
        return None
    if metadata is None or payload is None:
        return None
    values = msgspec.structs.astuple(wire)[:-2]
    for value in values:
        if type(value) is str and len(value) > _TEXT_MAX:
            return None
    event_id, event_type, stream_id, number, time, version, cause, correlation, by, user = values
    said = (
        _identifier(event_id),
        _text(event_type),
        _text(stream_id),
        number if type(number) is int and 0 <= number <= _SEQUENCE_MAX else None,
        _time(time),
        _text(version),
        _identifier(cause),
        _identifier(correlation),
        _text(by),
        _text(user),
    )
    return said, (None if metadata == "null" else metadata, None if payload == "null" else payload)


def _judged(data: bytes, left_out: list[str]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return the content field by field, and what must be left out."""
    try:
        wire = _wire.decode(data)
    except _UNREADABLE:
        fields = _leniently(data)
        left_out += [name for name in ("metadata", "payload") if fields.get(name) is not None]
        said = [_said(name, fields.get(name), left_out) for name in _SAID]
        return tuple(said), (None, None)
    said = [_said(name, _decoded(getattr(wire, name)), left_out) for name in _SAID]
    documents = [
        _json(name, raw, left_out)
        for name, raw in (("metadata", wire.metadata), ("payload", wire.payload))
    ]
    return tuple(said), tuple(documents)


def _leniently(data: bytes) -> Mapping[str, Any]:
    """Return the fields of what other parsers take for JSON, such as with half a surrogate."""
    try:
        text = data.decode("utf-8", "surrogateescape")
        fields = json.loads(text, parse_float=str, parse_int=_integer)
    except _UNREADABLE:
        return {}  # no JSON, or nested beyond reason
    return fields if isinstance(fields, dict) else {}


def _integer(text: str) -> int | None:
    return int(text) if len(text) < _DIGITS_MAX else None


def _decoded(raw: msgspec.Raw) -> Any:
    try:
        return _value.decode(raw)
    except _UNREADABLE:
        return _NO_TEXT  # not UTF-8, or a number beyond reason


def _headers(headers: Mapping[str, str] | None, left_out: list[str]) -> str | None:
    if not headers:
        return None
    try:
        text = storable_json(msgspec.json.encode(headers))
    except UnicodeEncodeError:
        text = None  # bytes that are no text
    if text is None:
        left_out.append("headers")
    return text


def _json(name: str, raw: msgspec.Raw, left_out: list[str]) -> str | None:
    data = bytes(raw)
    if data == b"null":
        return None
    text = storable_json(data)
    if text is None:
        left_out.append(name)
    return text


def _said(name: str, value: Any, left_out: list[str]) -> Any:
    """Return what a column of the envelope holds."""
    if name == "sequence_number":
        # A bool is an int, too.
        return value if type(value) is int and 0 <= value <= _SEQUENCE_MAX else None
    if not isinstance(value, str):
        return None
    if name == "timestamp":
        return _time(value)
    if len(value) > _TEXT_MAX or not is_storable_text(value):
        left_out.append(name)
        return None
    return _identifier(value) if name in _IDENTIFIERS else value


def _text(value: Any) -> str | None:
    return value if type(value) is str else None


def _identifier(value: Any) -> str | None:
    """A UUID in small letters; another identifier as it is."""
    if type(value) is not str or value.islower():
        return _text(value)
    return value.lower() if _UUID.fullmatch(value) else value


def _time(value: Any) -> datetime | None:
    if type(value) is not str:
        return None
    try:
        time = datetime.fromisoformat(value)
        return None if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
