"""Named queries: plain SQL in `queries/*.sql`, one `-- name: <name>` line before each."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    # Generic for the type checker only; a pool hands out proxies of connections.
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
else:
    Connection = asyncpg.Connection

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def load(file: str) -> dict[str, str]:
    """Return the queries of `queries/<file>.sql` by name.

    Raises:
        FileNotFoundError: there is no such file.
    """
    text = (files(__package__) / "queries" / f"{file}.sql").read_text("utf-8")
    _, *parts = _NAME.split(text)
    return {
        name: body.strip().removesuffix(";")
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }
