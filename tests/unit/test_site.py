"""The site of the documentation: links are moved with their pages, and faults are found."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts.site.check import faults
from scripts.site.cli_page import cli_page
from scripts.site.pages import listed, pages

from psm.workers.cli import COMMANDS


def test_navigation_has_each_page_once() -> None:
    assert sorted(listed()) == sorted([*pages(), "cli.md"])


def test_links_are_moved_with_their_pages() -> None:
    """Between pages they lead to the page; to the sources they are names of files."""
    found = pages()
    assert "[access](access.md)" in found["index.md"]
    assert "[performance](../performance.md#" in found["adr/0006-exact-sums.md"]
    assert "stories (`tests/stories`)" in found["index.md"]
    assert all("](../workers" not in text for text in found.values())


def test_every_command_has_a_section() -> None:
    page = cli_page()
    for name, *_ in COMMANDS:
        assert f"\n## psm {name}\n" in page
    assert (
        "| `SCOPE` | firm, group:NAME, account:ID, strategy:ID or symbol:NAME. | needed |" in page
    )


@pytest.mark.parametrize(
    ("html", "said"),
    [
        ('<a href="other.html">x</a>', ["index.html: other.html is not there"]),
        ('<a href="#there">x</a><h1 id="here">', ["index.html: #there has no such heading"]),
        ('<script src="https://example.org/x.js">', ["index.html loads https://example.org/x.js"]),
        ('<a href="https://example.org">x</a><a href="#here">y</a><h1 id="here">', []),
    ],
)
def test_faults_are_found(tmp_path: Path, html: str, said: list[str]) -> None:
    (tmp_path / "index.html").write_text(html)
    assert faults(tmp_path) == said
