"""The page of all commands, from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from cyclopts import App

from psm.workers.cli import build

_HEAD = """\
# Commands

Each command says the same with `--help`. What a command prints as JSON (`-o json`) is stable;
tables are for people. Exit codes: 0 fine, 1 found a problem, 2 usage or environment,
130 interrupted.
"""


def cli_page() -> str:
    """Return the page: every command with its help, arguments and defaults."""
    return _HEAD + "".join(_section(path, app) for path, app in _walk(build(listing=False), ()))


def _walk(app: App, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], App]]:
    for name in app:
        if not name.startswith("-"):
            below = (*path, name)
            yield below, app[name]
            yield from _walk(app[name], below)


def _section(path: tuple[str, ...], app: App) -> str:
    heading = "#" * min(len(path) + 1, 4)
    text = f"\n{heading} psm {' '.join(path)}\n\n{inspect.cleandoc(_help(app))}\n"
    if app.default_command is None:
        return text
    shown = [one for one in app.assemble_argument_collection(parse_docstring=True) if one.show]
    if not shown:
        return text
    text += "\n| argument | | default |\n|---|---|---|\n"
    for one in shown:
        names = ", ".join(f"`{name}`" for name in one.names)
        about = " ".join((one.parameter.help or "").split()).replace("|", "\\|")
        text += f"| {names} | {about} | {_default(one.field_info.default, one.required)} |\n"
    return text


def _help(app: App) -> str:
    """Return what a command says about itself, without its table of arguments."""
    doc = app.default_command.__doc__ if app.default_command is not None else None
    return (doc or app.help or "").partition("\n    Args:")[0]


def _default(value: object, required: bool) -> str:
    if required:
        return "needed"
    if value is None or value is inspect.Parameter.empty or value is False:
        return ""
    return f"`{value}`"
