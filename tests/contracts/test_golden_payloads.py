"""Every version of every event that was ever published stays readable, for ever."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from scripts.check_schemas import RELEASED, read
from scripts.make_golden_payloads import GOLDEN

from psm.contracts import codec, recorded, registry, upcasters, updates
from psm.contracts.audit_events import AUDIT_EVENTS

FILES = sorted(GOLDEN.rglob("*.json"))
SCHEMAS = read(RELEASED)
UPDATES = {kind.__name__ for kind in updates.KINDS}


def envelope(path: Path) -> dict[str, Any]:
    """The whole event around a golden payload; a flat draft and an envelope are one themselves."""
    body = codec.decode_untyped(path.read_bytes())
    version = path.parent.name
    if version.startswith("0.") or path.parents[1].name == "Envelope":
        return body
    return {
        "event_id": "7b0e0c0e-8a57-4d8c-9c56-0b7f3f0f2a01",
        "event_type": path.parents[1].name,
        "stream_id": "acc_001",
        "timestamp": "2025-12-12T10:30:00Z",
        "schema_version": version,
        "payload": body,
    }


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(GOLDEN)))
def test_golden_payload_is_readable(path: Path) -> None:
    """The code of today reads it, upcast if need be, and its own schema still allows it."""
    before = envelope(path)
    if path.parents[1].name == "Envelope":
        jsonschema_rs.validate(SCHEMAS[f"Envelope/{path.parent.name}.json"], before)
        assert recorded.decode_recorded(codec.encode(before)).event_id == before["event_id"]
        return
    if "payload" in before:
        version = f"{before['event_type']}/{before['schema_version']}.json"
        jsonschema_rs.validate(SCHEMAS[version], json.loads(path.read_text()))
    fields = upcasters.upcast(before)
    now = codec.decode_envelope(codec.encode(fields))
    if now.event_type in UPDATES:
        schema = registry.schemas()[f"{now.event_type}/{registry.version_of(now.event_type)}.json"]
        jsonschema_rs.validate(schema, fields["payload"])
    elif now.event_type in AUDIT_EVENTS:
        assert recorded.decode_audit(now) == fields["payload"]
    else:
        assert registry.codec_for(now).decode(now.payload)


def test_no_published_version_is_forgotten() -> None:
    """Each released version has its full and its least golden payload; the drafts have theirs."""
    found = {path.relative_to(GOLDEN).as_posix() for path in FILES}
    for released in SCHEMAS:
        for name in ("full", "least"):
            assert f"{released.removesuffix('.json')}/{name}.json" in found
    for event_type, major in upcasters.STEPS:
        assert any(file.startswith(f"{event_type}/{major}.") for file in found)


def test_steps_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event takes every step from its own major on, and none before it."""

    def second(fields: Mapping[str, Any]) -> dict[str, Any]:
        return {**fields, "schema_version": "2.0.0", "payload": {**fields["payload"], "new": "1"}}

    monkeypatch.setitem(upcasters.STEPS, ("TradeExecuted", 1), second)
    flat = envelope(GOLDEN / "TradeExecuted/0.1.0/flat.json")
    upcast = upcasters.upcast(flat)
    assert (upcast["schema_version"], upcast["payload"]["new"]) == ("2.0.0", "1")
    assert (upcast["payload"]["side"], upcast["event_id"]) == ("sell", flat["event_id"])
    assert upcasters.upcast(upcast) == upcast
    other = envelope(GOLDEN / "FeeCharged/1.0.0/full.json")
    assert upcasters.upcast(other) == other
    assert upcasters.upcast({"schema_version": "x"}) == {"schema_version": "x"}


def test_updates_say_the_version_of_their_schema() -> None:
    """What PSM writes into an update's envelope is what the registry publishes."""
    for name in UPDATES:
        assert registry.version_of(name) == updates.SCHEMA_VERSION
