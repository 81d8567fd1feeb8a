"""Golden payloads: one full and one least payload of every version ever released.

Made once from the schema of a version, then never touched again: they stand for the events that are
out there. `python -m scripts.check_schemas --release` writes those of new versions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parents[1] / "tests" / "contracts" / "golden"
_NUMBER = "1.5"
_HASH = "ab" * 32


def write_missing(released: Mapping[str, Mapping[str, Any]], folder: Path = GOLDEN) -> int:
    """Write `<type>/<version>/{full,least}.json` where they are not there; return how many."""
    written = 0
    for path, schema in sorted(released.items()):
        place = folder / path.removesuffix(".json")
        for name, full in (("full", True), ("least", False)):
            file = place / f"{name}.json"
            if file.exists():
                continue
            place.mkdir(parents=True, exist_ok=True)
            value = sample(schema, schema.get("$defs", {}), full=full)
            file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
            written += 1
    return written


def sample(schema: Mapping[str, Any], definitions: Mapping[str, Any], *, full: bool) -> Any:
    """Return a value that is valid by the schema: every field, or only those that must be."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return sample(schema["anyOf"][0], definitions, full=full)
    if "enum" in schema:
        return schema["enum"][0]
    types = schema.get("type", "string")
    kind = types if isinstance(types, str) else types[0]
    if kind == "object":
        return _object(schema, definitions, full=full)
    if kind == "array":
        return [sample(schema["items"], definitions, full=full)] if full else []
    if kind == "integer":
        return max(1, schema.get("minimum", 1))
    if kind == "boolean":
        return True
    return _text(schema, types)


def _object(schema: Mapping[str, Any], definitions: Mapping[str, Any], *, full: bool) -> Any:
    required = set(schema.get("required", ()))
    fields = {
        name: sample(field, definitions, full=full)
        for name, field in schema.get("properties", {}).items()
        if full or name in required
    }
    if full and isinstance(extra := schema.get("additionalProperties"), dict):
        fields["USDT"] = sample(extra, definitions, full=full)
    return fields


def _text(schema: Mapping[str, Any], types: Any) -> str:
    if "64" in schema.get("pattern", ""):
        return _HASH
    if "pattern" in schema or types != "string":
        return _NUMBER
    return str(schema.get("examples", ["sample"])[0])
