"""The AsyncAPI document: valid, complete and up to date."""

from __future__ import annotations

import gzip
import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from scripts.make_schemas import ASYNCAPI, document_difference
from tests.support.events import deposit, trade

from psm.contracts import asyncapi, deprecations, registry
from psm.contracts.deprecations import Deprecation
from psm.contracts.factory import EventFactory

META = Path(__file__).with_name("asyncapi-3.0.0.schema.json.gz")
"""JSON Schema of AsyncAPI 3.0.0 by the AsyncAPI Initiative, Apache-2.0."""
DRAFT_7 = "http://json-schema.org/draft-07/schema"


def validator() -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(json.loads(gzip.decompress(META.read_bytes())))


def message_schema(document: dict[str, Any], name: str) -> dict[str, Any]:
    payload = document["components"]["messages"][name]["payload"]
    return {"$schema": DRAFT_7, **payload, "components": document["components"]}


def test_document_in_git_is_up_to_date() -> None:
    """`make schemas` has nothing to write."""
    assert document_difference() == []


def test_document_is_valid_asyncapi() -> None:
    """The official schema of AsyncAPI 3.0 has nothing to object to; it has teeth."""
    document = json.loads(ASYNCAPI.read_text())
    errors = [
        f"{list(e.instance_path)}: {e.message[:200]}" for e in validator().iter_errors(document)
    ]
    assert errors == []
    for name in ("info", "asyncapi"):
        broken = {key: value for key, value in document.items() if key != name}
        assert not validator().is_valid(broken)
    document["operations"]["receive.control.rules"]["action"] = "look"
    assert not validator().is_valid(document)


def test_every_reference_leads_somewhere() -> None:
    """No channel, message or schema is named that is not there."""
    document = asyncapi.document()
    references = re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document))
    assert len(references) > 100
    for reference in references:
        found: Any = document
        for part in reference.split("/"):
            found = found[part]
        assert found


def test_every_event_type_and_subject_is_there() -> None:
    """Nothing of the registry is forgotten; a `state_snapshot` alone has no subject."""
    document = asyncapi.document()
    sent = {name for channel in document["channels"].values() for name in channel["messages"]}
    assert registry.kinds().keys() - sent == {"state_snapshot"}
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert {
        "trades.{stream_id}",
        "repair.{partition}.{stream_id}",
        "marks.{symbol}",
        "instruments.{symbol}",
        "control.rules",
        "psm.position.updated",
        "psm.position.updated.{partition}.{stream_id}",
        "psm.stream.resumed",
        "psm.get.state",
        "marketdata.ticker.{symbol}",
        "marketdata.candle.{symbol}.{timeframe}",
        "signals.strategy.{strategy_id}.{symbol}",
        "risk.decision.{account_id}",
        "risk.alert.{severity}",
        "orders.command.{account_id}",
        "orders.status.{order_id}",
        "fills.exchange.{exchange}.{symbol}",
        "fills.internal.{order_id}",
    } <= addresses


def test_messages_describe_real_events() -> None:
    """What services really send passes the document's own schemas, and junk does not."""
    document = asyncapi.document()
    signal = EventFactory("s", "1").create_signal(symbol="A", side="buy", confidence=1, reason="x")
    for name, body in (
        ("CashDeposited", deposit(1).data),
        ("TradeExecuted", trade(2, "buy", "1", "2").data),
        ("signal_generated", signal.body),
    ):
        schema = message_schema(document, name)
        event = json.loads(body)
        jsonschema_rs.validate(schema, event)
        assert not jsonschema_rs.is_valid(schema, {**event, "event_type": "Other"})
        assert not jsonschema_rs.is_valid(schema, {**event, "payload": {}})


def test_deprecation_stands_in_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version with a notice says so in its message, and the document stays valid."""
    given = Deprecation(
        event_type="FeeCharged",
        major=1,
        since=date(2026, 3, 1),
        ends=date(2027, 3, 1),
        instead="FeeCharged 2.0.0",
    )
    monkeypatch.setattr(deprecations, "DEPRECATIONS", (given,))
    document = asyncapi.document()
    assert document["components"]["messages"]["FeeCharged"]["x-deprecated"]["ends"] == "2027-03-01"
    assert validator().is_valid(json.loads(json.dumps(document)))


def test_every_deprecation_is_announced_in_the_docs() -> None:
    """A notice in the code stands in docs/events.md with its date, and nothing else does."""
    text = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
    announced = re.findall(r"^\| `(\w+)` (\d+)\.x \| \S+ \| (\S+) \|", text, re.MULTILINE)
    wanted = [(d.event_type, str(d.major), d.ends.isoformat()) for d in deprecations.DEPRECATIONS]
    assert announced == wanted
