"""Schema changes are classified, and what breaks others does not get through."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripts import check_schemas, make_schemas
from scripts.check_schemas import RELEASED, check, read
from scripts.make_golden_payloads import sample, write_missing
from scripts.schema_changes import Level, compare, level_of

from psm.contracts import registry

ROOT = Path(__file__).parents[2]
TRADE = "TradeExecuted/1.0.0.json"
STATE = "StateUpdated/1.0.0.json"


def changed(path: str, change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The schemas of the code, one of them changed on purpose."""
    schemas = copy.deepcopy(registry.schemas())
    change(schemas[path])
    return schemas


def moved(schemas: dict[str, Any], path: str, version: str) -> dict[str, Any]:
    """The same with another version of one event type."""
    return {
        (f"{path.partition('/')[0]}/{version}.json" if name == path else name): schema
        for name, schema in schemas.items()
    }


def test_the_code_keeps_the_rules() -> None:
    """What is in git may be released: `make schemas-check` is content."""
    done = subprocess.run(
        [sys.executable, "-m", "scripts.check_schemas"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def field(schema: dict[str, Any], name: str) -> dict[str, Any]:
    return dict(schema["properties"][name])


CHANGES: list[tuple[str, Callable[[dict[str, Any]], object], Level, Level]] = [
    ("nothing", lambda s: s, Level.NONE, Level.NONE),
    ("documentation", lambda s: s.update(description="better"), Level.PATCH, Level.PATCH),
    (
        "documentation of a field",
        lambda s: s["properties"]["price"].update(description="better"),
        Level.PATCH,
        Level.PATCH,
    ),
    (
        "a new optional field",
        lambda s: s["properties"].update(venue={"type": "string"}),
        Level.MINOR,
        Level.MINOR,
    ),
    (
        "a new required field",
        lambda s: (s["properties"].update(venue={"type": "string"}), s["required"].append("venue")),
        Level.MAJOR,
        Level.MINOR,
    ),
    ("a field is gone", lambda s: s["properties"].pop("price"), Level.MAJOR, Level.MAJOR),
    (
        "a field is renamed",
        lambda s: s["properties"].update(cost=s["properties"].pop("price")),
        Level.MAJOR,
        Level.MAJOR,
    ),
    (
        "a field may be left out",
        lambda s: s["required"].remove("price"),
        Level.MINOR,
        Level.MAJOR,
    ),
    (
        "a field must be there",
        lambda s: s["required"].append("venue_note"),
        Level.MAJOR,
        Level.MINOR,
    ),
    (
        "another type",
        lambda s: s["properties"]["price"].update(type="boolean"),
        Level.MAJOR,
        Level.MAJOR,
    ),
    (
        "a further type",
        lambda s: s["properties"]["venue_note"].update(type=["string", "integer"]),
        Level.MINOR,
        Level.MAJOR,
    ),
    (
        "null is allowed too",
        lambda s: s["properties"].update(price={"anyOf": [field(s, "price"), {"type": "null"}]}),
        Level.MINOR,
        Level.MAJOR,
    ),
    (
        "a further choice",
        lambda s: s["properties"]["side"]["enum"].append("short"),
        Level.MINOR,
        Level.MAJOR,
    ),
    (
        "a choice less",
        lambda s: s["properties"]["side"]["enum"].remove("sell"),
        Level.MAJOR,
        Level.MINOR,
    ),
    (
        "another default",
        lambda s: s["properties"]["execution"].update(default="adl"),
        Level.MAJOR,
        Level.MAJOR,
    ),
    (
        "a longer text",
        lambda s: s["properties"]["venue_note"].update(maxLength=20),
        Level.MINOR,
        Level.MAJOR,
    ),
    (
        "a shorter text",
        lambda s: s["properties"]["venue_note"].update(maxLength=5),
        Level.MAJOR,
        Level.MINOR,
    ),
    (
        "no limit any more",
        lambda s: s["properties"]["venue_note"].pop("maxLength"),
        Level.MINOR,
        Level.MAJOR,
    ),
    (
        "a new limit",
        lambda s: s["properties"]["venue_note"].update(minLength=2),
        Level.MAJOR,
        Level.MINOR,
    ),
    (
        "another pattern",
        lambda s: s["properties"]["price"].update(pattern="^x$"),
        Level.MAJOR,
        Level.MAJOR,
    ),
    (
        "an unknown keyword",
        lambda s: s.update({"not": {"const": 1}}),
        Level.MAJOR,
        Level.MINOR,
    ),
    (
        "inside of a shared definition",
        lambda s: s["$defs"]["Leg"]["properties"].update(price={"type": "string"}),
        Level.MINOR,
        Level.MINOR,
    ),
    (
        "inside of a list",
        lambda s: s["$defs"]["Leg"]["properties"]["size"].update(type="string"),
        Level.MAJOR,
        Level.MAJOR,
    ),
    (
        "a list of anything",
        lambda s: s["properties"]["legs"].pop("items"),
        Level.MAJOR,
        Level.MAJOR,
    ),
]
SCHEMA: dict[str, Any] = {
    "$defs": {"Leg": {"type": "object", "properties": {"size": {"type": "integer"}}}},
    "description": "An example with everything.",
    "type": "object",
    "properties": {
        "price": {"type": ["string", "number"], "pattern": "^[0-9]+$", "exclusiveMinimum": 0},
        "side": {"enum": ["buy", "sell"]},
        "execution": {"enum": ["trade", "adl"], "default": "trade"},
        "venue_note": {"type": "string", "maxLength": 10},
        "legs": {"type": "array", "items": {"$ref": "#/$defs/Leg"}},
    },
    "required": ["price", "side"],
}


@pytest.mark.parametrize(("name", "change", "read_level", "written_level"), CHANGES)
def test_changes_are_classified(
    name: str, change: Callable[[dict[str, Any]], object], read_level: Level, written_level: Level
) -> None:
    """Each kind of change, for what others write and for what PSM writes."""
    new = copy.deepcopy(SCHEMA)
    change(new)
    assert level_of(compare(SCHEMA, new, written=False)) == read_level, name
    assert level_of(compare(SCHEMA, new, written=True)) == written_level, name


def test_documentation_needs_no_version() -> None:
    """A patch is reported and passes."""
    changes, problems = check(
        registry.schemas(), changed(TRADE, lambda s: s.update(description="better"))
    )
    assert problems == []
    assert changes == ["TradeExecuted 1.0.0: patch: the payload: another description"]


def test_a_minor_change_needs_a_minor_version() -> None:
    """Without it the change is refused and the next version named; with it, it passes."""
    wider = changed(TRADE, lambda s: s["properties"].update(venue={"type": "string"}))
    _, problems = check(registry.schemas(), wider)
    (problem,) = problems
    assert problem.startswith("TradeExecuted: a minor change needs version 1.1.0")
    assert problem.endswith("the code says 1.0.0 (minor: venue: a new field)")
    assert check(registry.schemas(), moved(wider, TRADE, "1.0.1"))[1] != []
    assert check(registry.schemas(), moved(wider, TRADE, "1.1.0"))[1] == []


def test_a_breaking_change_needs_version_upcaster_and_note(tmp_path: Path) -> None:
    """All three, or it fails; each missing one is named."""
    broken = changed(TRADE, lambda s: s["properties"].pop("price"))
    _, problems = check(registry.schemas(), broken, migrations=tmp_path)
    assert "a major change needs version 2.0.0" in problems[0]
    assert "price: the field is gone" in problems[0]
    assert check(registry.schemas(), moved(broken, TRADE, "1.1.0"), migrations=tmp_path)[1]
    bumped = moved(broken, TRADE, "2.0.0")
    _, problems = check(registry.schemas(), bumped, upcast=(), migrations=tmp_path)
    assert problems == [
        "TradeExecuted: no upcaster from major 1 (upcasters.STEPS)",
        "TradeExecuted: no migration note TradeExecuted-2.md in docs/migrations",
    ]
    (tmp_path / "TradeExecuted-2.md").write_text("\n")
    steps = [("TradeExecuted", 1)]
    assert check(registry.schemas(), bumped, upcast=steps, migrations=tmp_path)[1] != []
    (tmp_path / "TradeExecuted-2.md").write_text("What to do.\n")
    assert check(registry.schemas(), bumped, upcast=steps, migrations=tmp_path)[1] == []


def test_what_psm_writes_must_keep_its_promises() -> None:
    """An update whose field may be left out breaks readers; an event's does not."""
    _, problems = check(
        registry.schemas(), changed(STATE, lambda s: s["required"].remove("equity"))
    )
    assert "StateUpdated: a major change" in problems[0]
    _, problems = check(registry.schemas(), changed(TRADE, lambda s: s["required"].remove("price")))
    assert "TradeExecuted: a minor change" in problems[0]


def test_nothing_is_removed_and_nothing_goes_back() -> None:
    """A type that is gone and a version that is lower are refused; a new type is welcome."""
    fewer = {path: schema for path, schema in registry.schemas().items() if path != TRADE}
    changes, problems = check(registry.schemas(), fewer)
    assert problems == ["TradeExecuted is gone; an event type stays readable for ever"]
    changes, problems = check(fewer, registry.schemas())
    assert (changes, problems) == (["TradeExecuted is new"], [])
    later = moved(registry.schemas(), TRADE, "1.2.0")
    assert check(later, registry.schemas())[1] == ["TradeExecuted: 1.0.0 goes back behind 1.2.0"]


def test_newest_release_counts() -> None:
    """A change is compared with the highest version, by number and not by text."""
    first = registry.schemas()[TRADE]
    widened = copy.deepcopy(first)
    widened["properties"]["venue"] = {"type": "string"}
    released = {
        TRADE: first,
        "TradeExecuted/1.9.0.json": first,
        "TradeExecuted/1.10.0.json": widened,
    }
    assert check(released, {"TradeExecuted/1.10.0.json": widened}) == ([], [])


def test_the_check_fails_the_build(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The command ends with 1 and says why."""
    broken = changed(TRADE, lambda s: s["properties"].pop("price"))
    monkeypatch.setattr(registry, "schemas", lambda: broken)
    monkeypatch.setattr(sys, "argv", ["check_schemas"])
    assert check_schemas.main() == 1
    assert "error: TradeExecuted: a major change needs version 2.0.0" in capsys.readouterr().err


def test_released_files_stay_beside_newer_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a bump both versions are published; the old file is the released one."""
    bumped = moved(registry.schemas(), TRADE, "1.1.0")
    monkeypatch.setattr(registry, "schemas", lambda: bumped)
    rendered = make_schemas.rendered()
    assert json.loads(rendered[TRADE]) == read(RELEASED)[TRADE]
    assert "TradeExecuted/1.1.0.json" in rendered


def test_golden_payloads_are_never_written_again(tmp_path: Path) -> None:
    """Only those that are missing are made, and they follow the schema."""
    assert write_missing({TRADE: SCHEMA}, tmp_path) == 2
    full = tmp_path / "TradeExecuted/1.0.0/full.json"
    assert json.loads(full.read_text()) == sample(SCHEMA, SCHEMA["$defs"], full=True)
    full.write_text("{}")
    assert write_missing({TRADE: SCHEMA}, tmp_path) == 0
    assert full.read_text() == "{}"
