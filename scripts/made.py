"""Files that are made of the sources: written, or checked that they are as they would be."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent


def settle(files: Mapping[Path, str], source: str) -> int:
    """Write what has changed; with `--check` only name it. Return 1 where the check fails.

    Args:
        files: path -> text.
        source: what they are made of, as the check says it.
    """
    stale = [
        file for file, text in files.items() if not file.exists() or file.read_text("utf-8") != text
    ]
    if "--check" not in sys.argv:
        for file in stale:
            file.write_text(files[file], "utf-8")
    elif stale:
        names = ", ".join(file.relative_to(ROOT).as_posix() for file in stale)
        print(f"not as {source}: {names}; run `make docs`", file=sys.stderr)
        return 1
    return 0
