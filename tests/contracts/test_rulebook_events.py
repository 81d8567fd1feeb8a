"""Events of the rulebook: what the codec takes, the JSON Schemas take, and conversely."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from tests.support.rules import ADA, BOB, Rules

from psm.contracts import registry
from psm.contracts.errors import ContractError
from psm.contracts.rulebook_codec import decode_event, decode_signed
from psm.contracts.rulebook_events import RULEBOOK_EVENTS

SCHEMAS = registry.schemas()
HASH = "ab" * 32
AT = "2026-12-01T00:00:00Z"
DESK = {"scope": "group", "id": "desk"}
CONTENTS: dict[str, dict[str, Any]] = {
    "LimitsProposed": {**DESK, "version": 1, "limits": {"leverage": "2"}, "valid_from": AT,
        "valid_until": "2026-12-02T00:00:00Z"},
    "LimitsApproved": {**DESK, "proposal_hash": HASH},
    "LimitsRevoked": {**DESK, "proposal_hash": HASH},
    "OverrideGranted": {
        "account_id": "a", "order_hash": HASH, "check": "leverage", "expires": AT,
    },
    "HaltSet": {**DESK, "mode": "halted", "code": "panic", "until": AT},
    "HaltLifted": {**DESK, "halt_hash": HASH, "rebase_peak": True},
    "StrategyEnabled": {"strategy_id": "s"},
    "ReservationReleased": {"account_id": "a", "order_id": "o1"},
    "GroupDefined": {"group": "desk", "members": ["a", "b"], "currency": "USDT", "parent": "top"},
    "ListDefined": {
        "name": "l", "kind": "restricted", "symbols": ["X"], "side": "buy", "accounts": ["a"],
    },
    "TagsDefined": {"name": "t", "tags": {"X": {"sector": "tech", "currency": "USD"}}},
    "ClustersDefined": {
        "version": 1, "as_of_day": "2026-11-30", "window": 90, "symbols": ["A", "B"],
        "clusters": {"A": ["A", "B"]}, "beta": {"A": "-1", "B": None}, "sigma": {"A": 0.5},
        "shrinkage": "0.1", "matrix_hash": HASH, "returns_hash": HASH, "code": "1.0.0",
    },
    "SessionsDefined": {
        "name": "s", "windows": [{"day": "mon", "opens": "08:00", "closes": "24:00"}],
        "symbols": ["X"], "accounts": ["a"], "closed": ["2026-12-25"],
    },
    "DayCalendarDefined": {"group": "desk", "first_day": "2026-12-01", "boundaries": [AT]},
    "KeyDefined": {"holder": "ada", "public_key": HASH, "rights": ["propose", "halt"]},
}  # fmt: skip
WRONG: tuple[tuple[str, str, Any], ...] = (
    ("LimitsProposed", "scope", "desk"),
    ("LimitsProposed", "version", 0),
    ("LimitsProposed", "limits", ["leverage"]),
    ("LimitsProposed", "actor", ""),
    ("LimitsProposed", "signature", "ab"),
    ("LimitsApproved", "proposal_hash", "ab"),
    ("HaltSet", "mode", "active"),
    ("HaltLifted", "rebase_peak", "yes"),
    ("GroupDefined", "members", "a"),
    ("GroupDefined", "members", [""]),
    ("GroupDefined", "members", [1]),
    ("GroupDefined", "members", [["a"]]),
    ("ListDefined", "symbols", ["x" * 65]),
    ("ListDefined", "accounts", {"a": 1}),
    ("TagsDefined", "tags", {"X": "tech"}),
    ("ClustersDefined", "clusters", {"A": "A"}),
    ("ClustersDefined", "clusters", {"A": [7]}),
    ("ClustersDefined", "sigma", {"A": "-1"}),
    ("SessionsDefined", "windows", [{"day": "monday", "opens": "08:00", "closes": "09:00"}]),
    ("SessionsDefined", "windows", ["mon"]),
    ("KeyDefined", "rights", ["everything"]),
    ("KeyDefined", "rights", "halt"),
)


def payload_of(event_type: str) -> dict[str, Any]:
    """Return the signed payload of an example."""
    event = Rules().event(ADA, event_type, **CONTENTS[event_type])
    payload: dict[str, Any] = json.loads(event.data)["payload"]
    return payload


def schema_takes(event_type: str, payload: dict[str, Any]) -> bool:
    schema = SCHEMAS[f"{event_type}/1.0.0.json"]
    return jsonschema_rs.validator_for(schema).is_valid(payload)


def codec_takes(event_type: str, payload: dict[str, Any]) -> bool:
    try:
        decode_event(event_type, json.dumps(payload).encode())
    except ContractError:
        return False
    return True


def test_there_is_an_example_of_every_event() -> None:
    assert CONTENTS.keys() == RULEBOOK_EVENTS.keys()


@pytest.mark.parametrize("event_type", CONTENTS)
def test_example_is_as_its_schema_says_with_every_field(event_type: str) -> None:
    payload = payload_of(event_type)
    assert payload.keys() == set(RULEBOOK_EVENTS[event_type].__struct_fields__)
    assert schema_takes(event_type, payload)
    assert codec_takes(event_type, payload)


@pytest.mark.parametrize("event_type", CONTENTS)
def test_field_that_is_missing_is_refused_by_both_or_neither(event_type: str) -> None:
    payload = payload_of(event_type)
    for name in payload:
        fewer = {field: value for field, value in payload.items() if field != name}
        assert codec_takes(event_type, fewer) == schema_takes(event_type, fewer), name


@pytest.mark.parametrize(("event_type", "field", "value"), WRONG)
def test_wrong_value_is_refused_by_both(event_type: str, field: str, value: object) -> None:
    payload = {**payload_of(event_type), field: value}
    assert not schema_takes(event_type, payload)
    assert not codec_takes(event_type, payload)


def test_equal_events_of_two_persons_have_equal_contents() -> None:
    """Whoever says it, with whichever key, and for whichever reason."""
    events = [
        decode_signed(one.subject, one.data).event
        for one in (
            Rules().event(ADA, "HaltLifted", **CONTENTS["HaltLifted"]),
            Rules().event(BOB, "HaltLifted", **CONTENTS["HaltLifted"], why="another reason"),
            Rules().event(BOB, "HaltLifted", **{**CONTENTS["HaltLifted"], "rebase_peak": False}),
        )
    ]
    assert events[0].content() == events[1].content() != events[2].content()
