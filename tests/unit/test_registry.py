"""Event types, their codecs and the published schemas."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from scripts.make_schemas import FOLDER, difference, rendered
from tests.support.domain import given
from tests.support.events import (
    SAMPLES,
    Sent,
    deposit,
    fee,
    funding,
    instrument,
    mark,
    opened,
    raw,
    rules,
    trade,
    unknown,
    withdrawal,
)

from psm.contracts import codec, registry
from psm.contracts.errors import ContractError
from psm.contracts.registry import UnknownEventError
from psm.contracts.updates import KINDS

EXAMPLES: list[Sent] = [
    opened(1, leverage_limit="5"),
    deposit(2, reference="r"),
    withdrawal(3),
    trade(4, "sell", "0.5", "10", commission="-0.1", fill_id="f", liquidation_fee="0"),
    funding(5, "-0.1", funding_rate="0.0001"),
    fee(6, "-1", reason="rebate"),
    mark(1, "10.5"),
    instrument(1, margin_tiers=[{"notional_floor": "0", "maintenance_rate": "0.004"}]),
    rules(1),
    *[raw(line) for line in SAMPLES[:2]],
]


def schema(event_type: str) -> dict[str, Any]:
    """Return the published schema."""
    text = (FOLDER / event_type / "1.0.0.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def test_published_schemas_are_up_to_date() -> None:
    """`make schemas` has nothing to write."""
    assert difference(FOLDER) == []


def test_a_difference_is_shown(tmp_path: Any) -> None:
    """A missing, a changed and an extra file are all differences."""
    for path, text in list(rendered().items())[1:]:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    (tmp_path / "CashDeposited/1.0.0.json").write_text("{}\n")
    (tmp_path / "old.json").write_text("{}\n")
    text = "".join(difference(tmp_path))
    for name in ("AccountOpened", "CashDeposited", "old.json"):
        assert f"+++ b/{name}" in text


@pytest.mark.parametrize("sent", EXAMPLES, ids=lambda s: codec.decode_envelope(s.data).event_type)
def test_examples_are_valid_and_decode(sent: Sent) -> None:
    """What the codec reads, the schema allows; also the samples with bare numbers."""
    envelope = codec.decode_envelope(sent.data)
    assert registry.codec_for(envelope).decode(envelope.payload)
    jsonschema_rs.validate(schema(envelope.event_type), json.loads(envelope.payload))


@pytest.mark.parametrize(
    "payload",
    [
        {"symbol": "A", "side": "long", "quantity": "1", "price": "1"},
        {"symbol": "A", "side": "buy", "quantity": "0.000", "price": "1"},
        {"symbol": "A", "side": "buy", "quantity": 0, "price": "1"},
        {"symbol": "A", "side": "buy", "quantity": "-1", "price": "1"},
        {"symbol": "A", "side": "buy", "quantity": "1_0", "price": "1"},
        {"symbol": "A", "side": "buy", "quantity": "1" * 19, "price": "1"},
        {"symbol": "A", "side": "buy", "quantity": "1"},
        {"symbol": "", "side": "buy", "quantity": "1", "price": "1"},
    ],
)
def test_schema_refuses_what_the_codec_refuses(payload: dict[str, Any]) -> None:
    """Producers can check their events with the schema alone."""
    assert not jsonschema_rs.is_valid(schema("TradeExecuted"), payload)
    envelope = codec.decode_envelope(trade(1, "buy", "1", "1").data)
    with pytest.raises(ContractError):
        registry.codec_for(envelope).decode(codec.encode(payload))


def test_updates_are_valid_by_their_schemas() -> None:
    """Everything that a varied log publishes validates."""
    log = given(
        instrument(margin_tiers=[{"notional_floor": "0", "maintenance_rate": "0.5"}]),
        opened(1, leverage_limit="2"),
        deposit(2, "100"),
        trade(3, "buy", "3", "33.33", commission="0.1"),
        trade(4, "sell", "4.5", "30.1", commission="0.1"),
        mark(1, "60"),
        mark(1, "60"),
        deposit(5, "-1"),
        deposit(7),
        deposit(6),
        raw(b"x"),
        deposit(6, salt="x"),
        trade(8, "buy", "1.5", "60"),
        withdrawal(9, "5000"),
        unknown(10),
    )
    seen = dict.fromkeys(u.kind for u in log.updates)
    assert len(seen) == 7, seen
    for update in log.updates:
        body = msgspec.json.decode(update.data)
        jsonschema_rs.validate(schema(body["event_type"]), body["payload"])


def test_unknown_types_and_versions() -> None:
    """Unknown is told apart: the type, or only its major version."""
    envelope = codec.decode_envelope(unknown(1).data)
    with pytest.raises(UnknownEventError) as caught:
        registry.codec_for(envelope)
    assert caught.value.reason == "unknown_event_type"
    envelope = codec.decode_envelope(deposit(1, schema_version="2").data)
    with pytest.raises(UnknownEventError) as caught:
        registry.codec_for(envelope)
    assert caught.value.reason == "unknown_schema_version"
    envelope = codec.decode_envelope(mark(1, "5").data)
    with pytest.raises(UnknownEventError, match=r"trades\.\*"):
        registry.account_codec_for(envelope)


@pytest.mark.parametrize(
    ("event_type", "field", "whose"),
    [
        ("CashAdjusted", "actor", "actor"),
        ("CashAdjusted", "reason", "free"),
        ("TransferredOut", "counterparty", "third"),
        ("PositionTransferredIn", "counterparty", "third"),
        ("FeeCharged", "reason", "free"),
        ("OrderCancelled", "reason", "free"),
        ("LogTrimmed", "actor", "actor"),
        ("signal_generated", "reason", "free"),
        ("signal_generated", "context", "free"),
        ("alert", "message", "free"),
        ("state_snapshot", "state", "free"),
        ("Envelope", "user_id", "subject"),
        ("Envelope", "metadata", "free"),
    ],
)
def test_fields_that_may_hold_somebodys_data_are_marked(
    event_type: str, field: str, whose: str
) -> None:
    """The mark stands beside the field, so that erasure finds it without knowing the code."""
    properties = registry.schemas()[f"{event_type}/1.0.0.json"]["properties"]
    assert properties[field]["x-psm-pii"] == whose


def test_marks_are_on_nested_and_unknown_fields_and_on_no_update() -> None:
    """A check's detail is free text; so is what an envelope carries beside its fields."""
    schemas = registry.schemas()
    check = schemas["risk_decision/1.0.0.json"]["$defs"]["RiskCheck"]["properties"]
    assert check["detail"]["x-psm-pii"] == "free"
    assert schemas["Envelope/1.0.0.json"]["additionalProperties"] == {"x-psm-pii": "free"}
    for kind in KINDS:
        assert "x-psm-pii" not in json.dumps(schemas[f"{kind.__name__}/1.0.0.json"])


def test_every_actor_reason_and_counterparty_is_marked() -> None:
    """Of every event type there is, and of each to come."""
    for path, schema in registry.schemas().items():
        if path.partition("/")[0] in {kind.__name__ for kind in KINDS}:
            continue
        for name, field in schema.get("properties", {}).items():
            if name in ("actor", "reason", "counterparty", "message", "context"):
                assert "x-psm-pii" in field, f"{path}: {name}"


def test_identifiers_say_that_they_are_opaque() -> None:
    """Updates repeat them, so producers are told not to put anybody's name there."""
    moved = registry.schemas()["TransferredOut/1.0.0.json"]["properties"]
    assert moved["transfer_id"]["x-psm-opaque"] == "^[A-Za-z0-9._:-]{1,64}$"
    paid = registry.schemas()["CashDeposited/1.0.0.json"]["properties"]
    assert paid["reference"]["x-psm-opaque"] == "^[A-Za-z0-9._:-]{1,128}$"
