"""Compare the schemas of the code with those of the last release, and refuse what breaks others.

    python -m scripts.check_schemas            what changed; exit 1 if a rule is broken
    python -m scripts.check_schemas --release  what is now becomes the released state

A change that allows or promises something else needs a new version of its event type, set in
`psm.contracts.registry`: a minor one for what every reader and writer of before can live with, else
a major one, which also needs an upcaster and a migration note. Corrected documentation (patch)
needs no new version: what is valid stays the same.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from scripts.make_golden_payloads import write_missing
from scripts.schema_changes import Change, Level, compare, level_of

from psm.contracts import registry, upcasters, updates

ROOT = Path(__file__).parents[1]
RELEASED = ROOT / "schemas" / "released"
MIGRATIONS = ROOT / "docs" / "migrations"
WRITTEN = frozenset(kind.__name__ for kind in updates.KINDS)

Version = tuple[int, int, int]
Schemas = Mapping[str, Mapping[str, Any]]
"""JSON Schema by `<type>/<version>.json`."""


def check(
    released: Schemas,
    current: Schemas,
    *,
    upcast: Collection[tuple[str, int]] = tuple(upcasters.STEPS),
    migrations: Path = MIGRATIONS,
) -> tuple[list[str], list[str]]:
    """Return what changed since the release, and which rules that breaks.

    Args:
        released: every version ever released.
        current: the versions that the code has.
        upcast: (event type, major) of each upcaster there is.
        migrations: folder of the notes, `<type>-<major>.md`.
    """
    changes, problems = [], []
    now = {_type(path): (_version(path), schema) for path, schema in current.items()}
    for event_type, versions in sorted(_by_type(released).items()):
        latest = max(versions)
        if event_type not in now:
            problems.append(f"{event_type} is gone; an event type stays readable for ever")
            continue
        version, schema = now[event_type]
        found = compare(versions[latest], schema, written=event_type in WRITTEN)
        changes += [f"{event_type} {_text(latest)}: {change}" for change in found]
        problems += _judged(event_type, latest, version, found)
        problems += _major(event_type, latest, version, upcast, migrations)
    changes += [f"{name} is new" for name in sorted(now.keys() - _by_type(released).keys())]
    return changes, problems


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Return every schema below a folder by its path."""
    return {
        path.relative_to(folder).as_posix(): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.rglob("*.json"))
    }


def release(folder: Path = RELEASED) -> int:
    """Write the code's schemas as released, and golden payloads where there are none yet."""
    for path, schema in registry.schemas().items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(schema, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return write_missing(read(folder))


def _judged(event_type: str, latest: Version, version: Version, found: list[Change]) -> list[str]:
    level = level_of(found)
    if version < latest:
        return [f"{event_type}: {_text(version)} goes back behind {_text(latest)}"]
    if level <= Level.PATCH or _bump(latest, version) >= level:
        return []
    worst = "; ".join(str(change) for change in found if change.level == level)
    needed = f"a {level.name.lower()} change needs version {_text(_next(latest, level))}"
    return [f"{event_type}: {needed}, the code says {_text(version)} ({worst})"]


def _major(
    event_type: str,
    latest: Version,
    version: Version,
    upcast: Collection[tuple[str, int]],
    migrations: Path,
) -> list[str]:
    problems = []
    for major in range(latest[0], version[0]):
        if (event_type, major) not in upcast:
            problems.append(f"{event_type}: no upcaster from major {major} (upcasters.STEPS)")
        note = migrations / f"{event_type}-{major + 1}.md"
        if not note.is_file() or not note.read_text(encoding="utf-8").strip():
            problems.append(f"{event_type}: no migration note {note.name} in docs/migrations")
    return problems


def _by_type(schemas: Schemas) -> dict[str, dict[Version, Mapping[str, Any]]]:
    found: dict[str, dict[Version, Mapping[str, Any]]] = {}
    for path, schema in schemas.items():
        found.setdefault(_type(path), {})[_version(path)] = schema
    return found


def _type(path: str) -> str:
    return path.partition("/")[0]


def _version(path: str) -> Version:
    major, minor, patch = path.partition("/")[2].removesuffix(".json").split(".")
    return int(major), int(minor), int(patch)


def _text(version: Version) -> str:
    return ".".join(map(str, version))


def _bump(before: Version, after: Version) -> Level:
    if after[0] > before[0]:
        return Level.MAJOR
    if after[:2] > before[:2]:
        return Level.MINOR
    return Level.PATCH if after > before else Level.NONE


def _next(version: Version, level: Level) -> Version:
    major, minor, _ = version
    return (major + 1, 0, 0) if level == Level.MAJOR else (major, minor + 1, 0)


def main() -> int:
    """Run the script; return its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--release", action="store_true", help="make this the released state")
    options = parser.parse_args()
    changes, problems = check(read(RELEASED), registry.schemas())
    for change in changes:
        print(change)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if problems:
        return 1
    if options.release:
        print(f"released; {release()} golden payloads written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
