"""Checks of a built site: each link leads somewhere, and nothing is asked of another host."""

from __future__ import annotations

import posixpath
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "link": "href"}


class _Page(HTMLParser):
    """What a page links to, loads, and can be linked at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag says."""
        said = dict(attrs)
        for key in ("id", "name"):
            if said.get(key):
                self.anchors.add(str(said[key]))
        if tag == "a" and said.get("href"):
            self.links.add(str(said["href"]))
        if said.get("rel") == "canonical":
            return
        if tag in _LOADED and said.get(_LOADED[tag]):
            self.loaded.add(str(said[_LOADED[tag]]))


def faults(folder: Path) -> list[str]:
    """Return what is wrong with the pages of a site, a line each."""
    found = {
        path.relative_to(folder).as_posix(): _Page(path.read_text("utf-8"))
        for path in sorted(folder.rglob("*.html"))
    }
    wrong = []
    for name, page in found.items():
        wrong += [f"{name} loads {url}" for url in sorted(page.loaded) if urlsplit(url).netloc]
        if name == "404.html":  # its links are from the root of the site, wherever that is
            continue
        for url in sorted(page.links | page.loaded):
            why = _broken(url, name, folder, found)
            if why:
                wrong.append(f"{name}: {url} {why}")
    return wrong


def _broken(url: str, name: str, folder: Path, found: dict[str, _Page]) -> str | None:
    """Return why a link leads nowhere; None where it leads somewhere."""
    parts = urlsplit(url)
    if parts.scheme or parts.netloc:
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path)))
    if not parts.path:
        path = name
    elif parts.path.endswith("/") or path == "." or (folder / path).is_dir():
        path = posixpath.normpath(posixpath.join(path, "index.html"))
    if not (folder / path).exists():
        return "is not there"
    if parts.fragment and path in found and unquote(parts.fragment) not in found[path].anchors:
        return "has no such heading"
    return None
