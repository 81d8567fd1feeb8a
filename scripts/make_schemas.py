"""Write the JSON Schemas and the AsyncAPI document, or check that the files are up to date.

A new shape gets a new version (`make schemas-check`); files of released versions stay beside it.
`--check` shows the difference and exits 1.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from pathlib import Path

from psm.contracts import asyncapi, registry

ROOT = Path(__file__).parents[1]
FOLDER = Path(registry.__file__).parent / "schemas"
RELEASED = ROOT / "schemas" / "released"
ASYNCAPI = ROOT / "docs" / "asyncapi.json"


def rendered() -> dict[str, str]:
    """Return the text of every schema file by its path below the folder."""
    released = {
        path.relative_to(RELEASED).as_posix(): json.loads(path.read_text(encoding="utf-8"))
        for path in RELEASED.rglob("*.json")
    }
    schemas = {**released, **registry.schemas()}
    return {path: _text(schema) for path, schema in sorted(schemas.items())}


def _text(document: object) -> str:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def document_difference() -> list[str]:
    """Return the unified diff from the AsyncAPI document there is to what it should be."""
    before = ASYNCAPI.read_text(encoding="utf-8") if ASYNCAPI.exists() else ""
    name = ASYNCAPI.relative_to(ROOT).as_posix()
    after = _text(asyncapi.document())
    lines = (before.splitlines(keepends=True), after.splitlines(keepends=True))
    return list(difflib.unified_diff(*lines, f"a/{name}", f"b/{name}"))


def difference(folder: Path) -> list[str]:
    """Return the unified diff from what is in `folder` to what it should hold."""
    wanted = rendered()
    found = {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*.json"))
    }
    lines: list[str] = []
    for path in sorted(wanted.keys() | found.keys()):
        before = found.get(path, "").splitlines(keepends=True)
        after = wanted.get(path, "").splitlines(keepends=True)
        lines += difflib.unified_diff(before, after, f"a/{path}", f"b/{path}")
    return lines


def write(folder: Path) -> int:
    """Write every schema that is missing or different; return how many."""
    written = 0
    for path, text in rendered().items():
        file = folder / path
        if file.exists() and file.read_text(encoding="utf-8") == text:
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        written += 1
    return written


def main() -> int:
    """Run the script; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="show the difference, write nothing")
    if not parser.parse_args().check:
        print(f"{write(FOLDER)} schemas written to {FOLDER}", file=sys.stderr)
        ASYNCAPI.write_text(_text(asyncapi.document()), encoding="utf-8")
        return 0
    lines = difference(FOLDER) + document_difference()
    sys.stdout.writelines(lines)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
