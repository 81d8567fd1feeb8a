"""Named queries: plain SQL in files of the package whose code runs it.

One `-- name: <name>` line stands before each query; what stands above the first is a comment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from textwrap import indent
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    # Generic for the type checker only; a pool hands out proxies of connections.
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
else:
    Connection = asyncpg.Connection

_VARIABLE = re.compile(r"^( *):(\w+)", re.MULTILINE)
_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def load(package: str, file: str) -> dict[str, str]:
    """Return the queries of `<file>.sql` in a package by name.

    Raises:
        FileNotFoundError: there is no such file.
    """
    text = (files(package) / f"{file}.sql").read_text("utf-8")
    _, *parts = _NAME.split(text)
    return {
        name: body.strip().removesuffix(";")
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }


def expanded(template: str, variables: Mapping[str, str]) -> str:
    """Return a query with each `:name` that begins a line replaced, and indented as it is."""

    def text(found: re.Match[str]) -> str:
        return indent(variables[found[2]], found[1])

    return _VARIABLE.sub(text, template)
