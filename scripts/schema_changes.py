"""What changed between two JSON Schemas, and how much: patch, minor or major.

A schema of an event that others write must never refuse what it allowed. A schema of an update
that PSM writes must never allow what it did not promise, because readers rely on it. So the same
change can be minor in one direction and major in the other. What is not understood is major.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any

import msgspec

Schema = Mapping[str, Any]


class Level(IntEnum):
    """How much a change matters to those who rely on a schema."""

    NONE = 0
    PATCH = 1
    MINOR = 2
    MAJOR = 3


class Change(msgspec.Struct, frozen=True):
    """One difference, and where."""

    level: Level
    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.level.name.lower()}: {self.path or 'the payload'}: {self.text}"


_DOCUMENTATION = frozenset({"$schema", "$comment", "description", "examples", "title"})
_LEAST = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems"})
_MOST = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems"})
_HANDLED = frozenset(
    {"$defs", "$ref", "anyOf", "type", "enum", "properties", "required", "default", "items"}
)
_ABSENT = object()


def compare(old: Schema, new: Schema, *, written: bool) -> list[Change]:
    """Return every change from `old` to `new`.

    Args:
        old: the schema that was published.
        new: the schema that is to be published.
        written: PSM writes these payloads; others read them.
    """
    return list(_Comparison(old, new, written=written).of(old, new, ""))


def level_of(changes: list[Change]) -> Level:
    """Return the highest level among the changes."""
    return max((change.level for change in changes), default=Level.NONE)


class _Comparison:
    def __init__(self, old: Schema, new: Schema, *, written: bool) -> None:
        self._old_defs = old.get("$defs", {})
        self._new_defs = new.get("$defs", {})
        self._wider = Level.MAJOR if written else Level.MINOR
        self._narrower = Level.MINOR if written else Level.MAJOR

    def of(self, old: Schema, new: Schema, path: str) -> Iterator[Change]:
        old, new = _resolved(old, self._old_defs), _resolved(new, self._new_defs)
        if "anyOf" in old or "anyOf" in new:
            yield from self._alternatives(old, new, path)
        else:
            yield from self._set(_types(old), _types(new), path, "type")
            yield from self._set(_texts(old, "enum"), _texts(new, "enum"), path, "value")
            yield from self._fields(old, new, path)
            if "items" in old and "items" in new:
                yield from self.of(old["items"], new["items"], f"{path}[]")
            elif "items" in old or "items" in new:
                yield Change(Level.MAJOR, path, "what a list holds is said, or no longer said")
        if "default" in old and "default" in new and old["default"] != new["default"]:
            yield Change(Level.MAJOR, path, "a left-out field means something else (default)")
        yield from self._keywords(old, new, path)

    def _alternatives(self, old: Schema, new: Schema, path: str) -> Iterator[Change]:
        before, after = _alternatives(old), _alternatives(new)
        nullable = {"type": "null"}
        yield from self._set(
            {"null"} if nullable in before else set(),
            {"null"} if nullable in after else set(),
            path,
            "type",
        )
        before = [option for option in before if option != nullable]
        after = [option for option in after if option != nullable]
        if len(before) == len(after) == 1:
            yield from self.of(before[0], after[0], path)
        else:
            known, wanted = ({json.dumps(o, sort_keys=True) for o in x} for x in (before, after))
            yield from self._set(known, wanted, path, "alternative")

    def _set(self, old: set[str], new: set[str], path: str, what: str) -> Iterator[Change]:
        if not old and not new:
            return
        for name in sorted(new - old):
            yield Change(self._wider, path, f"the {what} {name} is allowed too")
        for name in sorted(old - new):
            yield Change(self._narrower, path, f"the {what} {name} is no longer allowed")

    def _fields(self, old: Schema, new: Schema, path: str) -> Iterator[Change]:
        before, after = old.get("properties", {}), new.get("properties", {})
        must_before, must_after = set(old.get("required", ())), set(new.get("required", ()))
        for name in sorted(before.keys() | after.keys()):
            where = f"{path}.{name}" if path else name
            if name not in after:
                yield Change(Level.MAJOR, where, "the field is gone")
            elif name not in before:
                must = name in must_after
                level = self._narrower if must else Level.MINOR
                yield Change(level, where, f"a new field{', which is required' if must else ''}")
            else:
                yield from self.of(before[name], after[name], where)
                if name in must_after - must_before:
                    yield Change(self._narrower, where, "the field is required now")
                if name in must_before - must_after:
                    yield Change(self._wider, where, "the field may be left out now")

    def _keywords(self, old: Schema, new: Schema, path: str) -> Iterator[Change]:
        for name in sorted((old.keys() | new.keys()) - _HANDLED):
            before, after = old.get(name, _ABSENT), new.get(name, _ABSENT)
            if before == after:
                continue
            yield Change(self._level(name, before, after), path, _said(name, before, after))

    def _level(self, name: str, before: Any, after: Any) -> Level:
        if name in _DOCUMENTATION:
            return Level.PATCH
        if before is _ABSENT:
            return self._narrower
        if after is _ABSENT:
            return self._wider
        if name in _LEAST:
            return self._narrower if after > before else self._wider
        if name in _MOST:
            return self._narrower if after < before else self._wider
        return Level.MAJOR  # of two patterns nobody can say which one allows more


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    beside = {name: value for name, value in schema.items() if name != "$ref"}
    return {**definitions[reference.rpartition("/")[2]], **beside}


def _alternatives(schema: Schema) -> list[Schema]:
    return list(schema["anyOf"]) if "anyOf" in schema else [schema]


def _types(schema: Schema) -> set[str]:
    found = schema.get("type", [])
    return {found} if isinstance(found, str) else set(found)


def _texts(schema: Schema, name: str) -> set[str]:
    return {json.dumps(value) for value in schema.get(name, ())}


def _said(name: str, before: Any, after: Any) -> str:
    if name in _DOCUMENTATION:
        return f"another {name}"
    if before is _ABSENT:
        return f"{name} {after} is new"
    return f"{name} {before} is gone" if after is _ABSENT else f"{name} {before} is now {after}"
