"""Whoever types a command from a page finds it: each one there is, with the options it is given."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from cyclopts import App
from tests.unit.test_docs import DOCS, PAGES

from psm.workers.cli import build

_FENCE = re.compile(r"^```(?:console|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(psm [a-z][^`]*)`", re.DOTALL)
_RUN = re.compile(r"^\s*(?:\$ )?(?:docker compose run --rm operator|psm) (.*)$", re.MULTILINE)
_WORD = re.compile(r"[a-z][a-z-]*")
ANYWHERE = {"-h", "--help", "--version", "-o", "--output", "-q", "--quiet", "--no-color"}


@cache
def commands() -> dict[tuple[str, ...], set[str]]:
    """Return the options of each command by its words."""
    return dict(_below(build(listing=False), ()))


def _below(app: App, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    names: set[str] = set()
    if path and app.default_command is not None:
        for one in app.assemble_argument_collection(parse_docstring=True):
            names.update(one.names)
    yield path, names
    for name in app:
        if not name.startswith("-"):
            yield from _below(app[name], (*path, name))


def typed(text: str) -> Iterator[str]:
    """Yield what a page says to type behind `psm`, in its blocks and in its lines."""
    for block in _FENCE.findall(text):
        yield from _RUN.findall(block.replace("\\\n", " "))
    for code in _INLINE.findall(_FENCE.sub("", text)):
        yield " ".join(code.split()).removeprefix("psm ")


def unknown(line: str) -> str | None:
    """Return what there is not of a command line; None where all of it is there."""
    try:
        plain = re.sub(
            r"[][]", " ", line.replace("\\|", " ")
        )  # of tables, and what may be left out
        words = shlex.split(re.sub(r"[|>;&].*", "", plain), comments=True)
    except ValueError:
        words = line.split()
    path: tuple[str, ...] = ()
    while words and (*path, words[0]) in commands():
        path, words = (*path, words[0]), words[1:]
    if not path:
        return f"no command {line!r}"
    groups = {known[: len(path)] for known in commands() if len(known) > len(path)}
    if path in groups and not commands()[path] and words and _WORD.fullmatch(words[0]):
        return f"no command psm {' '.join(path)} {words[0]}"
    options = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    beyond = {option for option in options if not re.search("[A-Z….]", option)}
    beyond -= commands()[path] | ANYWHERE
    return f"psm {' '.join(path)} has no {', '.join(sorted(beyond))}" if beyond else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS.parent).as_posix())
def test_commands_of_a_page_exist(page: Path) -> None:
    """With their options."""
    said = [unknown(line) for line in typed(page.read_text("utf-8"))]
    assert [why for why in said if why is not None] == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("state acc_001 --live", None),
        ("states acc_001", "no command 'states acc_001'"),
        ("streams aply", "no command psm streams aply"),
        ("state acc_001 --life", "psm state has no --life"),
        ("audit -o json > audit.json", None),
        ("publish first.jsonl  # --nothing", None),
    ],
)
def test_what_is_missing_is_noticed(line: str, why: str | None) -> None:
    assert unknown(line) == why
