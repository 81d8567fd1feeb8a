"""(event type, major version) -> struct, codec and JSON Schema.

`make schemas` writes `schemas/<event_type>/<version>.json`; a published file never changes.
"""

from __future__ import annotations

from inspect import cleandoc
from typing import Any, cast, get_args

import msgspec

from psm.contracts import events, updates
from psm.contracts.audit_events import AUDIT_EVENTS
from psm.contracts.envelope import Envelope
from psm.contracts.envelope_schema import ENVELOPE
from psm.contracts.errors import ContractError
from psm.contracts.fields import Payload
from psm.contracts.payload_codec import OpenPayloadCodec, PayloadCodec
from psm.contracts.rulebook_events import RULEBOOK_EVENTS

SCHEMA_VERSION = "1.0.0"
_VERSIONS: dict[str, str] = {"market_data": "1.1.0"}
"""Current schema version of each event type that is not at `SCHEMA_VERSION` any more."""

ACCOUNT_EVENTS: tuple[type[Payload], ...] = get_args(events.AccountEvent)

_CODECS: dict[tuple[str, int], PayloadCodec] = {
    (payload.__name__, 1): PayloadCodec(payload) for payload in get_args(events.Event)
}
_AUDIT_CODECS: dict[tuple[str, int], OpenPayloadCodec] = {
    (event_type, 1): OpenPayloadCodec(payload) for event_type, payload in AUDIT_EVENTS.items()
}
_ACCOUNT_TYPES = frozenset(payload.__name__ for payload in ACCOUNT_EVENTS)
_FROM_RULES: dict[tuple[str, int], int] = {}
"""The rules from which on a type and major may stand on `trades.*`, where it is not rules 1."""


class UnknownEventError(ContractError):
    """An event type or a major schema version that these rules do not know."""


def codec_for(envelope: Envelope) -> PayloadCodec:
    """Return the codec of an event.

    Raises:
        UnknownEventError: reason `unknown_event_type` or `unknown_schema_version`.
    """
    codec = _CODECS.get((envelope.event_type, envelope.major))
    if codec is not None:
        return codec
    if (envelope.event_type, 1) in _CODECS:
        raise UnknownEventError(
            "unknown_schema_version",
            f"{envelope.event_type} has no schema version {envelope.schema_version}",
            "schema_version",
        )
    raise UnknownEventError(
        "unknown_event_type", f"no event type {envelope.event_type} is known", "event_type"
    )


def account_codec_for(envelope: Envelope, rules: int | None = None) -> PayloadCodec:
    """Return the codec of an event on `trades.*`; what belongs elsewhere is unknown here.

    Args:
        envelope: of the event.
        rules: that the log has enabled; None for the newest that this code has.

    Raises:
        UnknownEventError: reason `unknown_event_type` or `unknown_schema_version`.
    """
    key = (envelope.event_type, envelope.schema_version, rules)
    found = _account_codecs.get(key)
    if found is None:
        found = _account_codec_for(envelope, rules)
        if len(_account_codecs) < _REMEMBERED_MAX:
            _account_codecs[key] = found
    return found


_account_codecs: dict[tuple[str, str, int | None], PayloadCodec] = {}
_REMEMBERED_MAX = 4096


def report_codec_for(envelope: Envelope, rules: int | None = None) -> PayloadCodec:
    """Return the codec of an `AccountReported`, which may come on `trades.*` without a number.

    Raises:
        UnknownEventError: reason `unknown_schema_version`.
    """
    return _known_by(rules, envelope, codec_for(envelope))


def _account_codec_for(envelope: Envelope, rules: int | None) -> PayloadCodec:
    if envelope.event_type not in _ACCOUNT_TYPES:
        raise UnknownEventError(
            "unknown_event_type",
            f"no event type {envelope.event_type} is known on trades.*",
            "event_type",
        )
    return _known_by(rules, envelope, codec_for(envelope))


def _known_by(rules: int | None, envelope: Envelope, codec: PayloadCodec) -> PayloadCodec:
    if rules is not None and _FROM_RULES.get((envelope.event_type, envelope.major), 1) > rules:
        raise UnknownEventError(
            "unknown_event_type" if envelope.major == 1 else "unknown_schema_version",
            f"{envelope.event_type} {envelope.schema_version} is not known by rules {rules}",
            "event_type" if envelope.major == 1 else "schema_version",
        )
    return codec


def is_account_event(event_type: str, major: int, rules: int) -> bool:
    """Return whether these rules know an event type and major version on `trades.*`."""
    known = event_type in _ACCOUNT_TYPES and (event_type, major) in _CODECS
    return known and _FROM_RULES.get((event_type, major), 1) <= rules


def audit_codec_for(envelope: Envelope) -> OpenPayloadCodec:
    """Return the codec of an audit event.

    Raises:
        UnknownEventError: reason `unknown_event_type` or `unknown_schema_version`.
    """
    codec = _AUDIT_CODECS.get((envelope.event_type, envelope.major))
    if codec is not None:
        return codec
    if envelope.event_type in AUDIT_EVENTS:
        raise UnknownEventError(
            "unknown_schema_version",
            f"{envelope.event_type} has no schema version {envelope.schema_version}",
            "schema_version",
        )
    raise UnknownEventError(
        "unknown_event_type", f"{envelope.event_type} is no audit event", "event_type"
    )


def version_of(event_type: str) -> str:
    """Return the current schema version of an event type that is known."""
    return _VERSIONS.get(event_type, SCHEMA_VERSION)


def kinds() -> dict[str, type[msgspec.Struct]]:
    """Return the payload struct of every event type there is, by its name on the wire."""
    named = (*get_args(events.Event), *updates.KINDS)
    return {**{kind.__name__: kind for kind in named}, **AUDIT_EVENTS, **RULEBOOK_EVENTS}


def schemas() -> dict[str, dict[str, Any]]:
    """Return every current JSON Schema by its path, `<type>/<version>.json`; `Envelope` is one."""
    return {
        f"Envelope/{SCHEMA_VERSION}.json": ENVELOPE,
        **{
            f"{name}/{version_of(name)}.json": _schema(name, kind) for name, kind in kinds().items()
        },
    }


def _schema(name: str, kind: type[msgspec.Struct]) -> dict[str, Any]:
    (body,), components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    root = components.pop(kind.__name__) if "$ref" in body else body
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": name,
        **{key: value for key, value in root.items() if key != "title"},
        **({"$defs": components} if components else {}),
    }
    return cast("dict[str, Any]", _lifted(_readable(schema)))


def _lifted(schema: Any) -> Any:
    """Return the schema with our marks beside the field, also where its text may be null."""
    if isinstance(schema, list):
        return [_lifted(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _lifted(value) for key, value in schema.items()}
    for option in schema.get("anyOf", ()):
        for mark in [key for key in option if key.startswith("x-psm-")]:
            schema[mark] = option.pop(mark)
    return schema


def _readable(schema: Any) -> Any:
    """Return the schema with decimals as what is read: a string, or a bare number's literal."""
    if isinstance(schema, list | tuple):
        return [_readable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(text := schema.get("description"), str):
        schema = {**schema, "description": cleandoc(text)}  # as Python 3.13 hands docstrings over
    if schema.get("format") == "decimal":
        kept = {key: value for key, value in schema.items() if key != "format"}
        return {**kept, "type": ["string", "number"]}
    return {key: _readable(value) for key, value in schema.items()}
