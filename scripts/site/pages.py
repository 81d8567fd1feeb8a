"""Pages of the site: copies of those of the project, with links that hold there."""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CONFIG = ROOT / "docs" / "zensical.toml"
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Pages that do not stand in `docs/`, and their names on the site."""

_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s]*)(#[^)\s]*)?\)")
_FENCE = re.compile(r"^\s*(```|~~~)")


def pages() -> dict[str, str]:
    """Return each page's text by its path on the site; links to other files are their names."""
    names = {f"docs/{path}": path for path in _documents()} | OUTSIDE
    return {
        target: _linked((ROOT / source).read_text("utf-8"), source, names)
        for source, target in sorted(names.items())
    }


def listed() -> list[str]:
    """Return the paths that the navigation names, in its order."""
    return list(_leaves(tomllib.loads(CONFIG.read_text("utf-8"))["project"]["nav"]))


def _documents() -> list[str]:
    folder = CONFIG.parent
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.md"))


def _leaves(entry: object) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict):
        for below in entry.values():
            yield from _leaves(below)
    elif isinstance(entry, list):
        for below in entry:
            yield from _leaves(below)


def _linked(text: str, source: str, names: dict[str, str]) -> str:
    """Return a page with links from its place on the site."""
    here = names[source]

    def moved(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        if not target or "://" in target or target.startswith("mailto:"):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        known = names.get(path) or names.get(f"{path}/README.md")
        if known is not None:
            link = posixpath.relpath(known, posixpath.dirname(here) or ".")
            return f"[{label}]({link}{anchor})"
        if (ROOT / path).exists():  # a file of the sources: the site does not have it
            return label if label.strip("`") == path else f"{label} (`{path}`)"
        raise LookupError(f"{source}: nothing is at {target}")

    lines, fenced = [], False
    for line in text.splitlines():
        fenced ^= bool(_FENCE.match(line))
        lines.append(line if fenced else _LINK.sub(moved, line))
    return "\n".join(lines) + "\n"
