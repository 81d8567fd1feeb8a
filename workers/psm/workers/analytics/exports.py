"""Tables to take away, as CSV or Parquet: one snapshot of the views, streamed.

Amounts are their exact texts in both formats. A column of decimals would have one scale for all
of its rows, and none holds an equity and a nav of 34 digits both: Parquet has them as strings, in
a schema that never depends on the values. Whoever reads them says what they shall become.
"""

from __future__ import annotations

import csv
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from psm.adapters import postgres
from psm.analytics.rows import Timeframe
from psm.contracts.errors import ConfigError
from psm.domain.money import exact_text
from psm.projections.sql import load
from psm.workers.analytics.reads import ALWAYS, Span

TableName = Literal["accounts", "pnl", "trades", "positions", "lots"]
Format = Literal["csv", "parquet"]

_STATEMENTS = load("psm.projections.analytics", "exports")
_ROWS = 2_000

Columns = list[tuple[str, str]]
"""Name and type in PostgreSQL of each column."""


class TableWriter(Protocol):
    """Takes rows of one table, batch by batch."""

    def put(self, rows: Sequence[Sequence[Any]]) -> None:
        """Write some rows."""


Open = Callable[[Columns], TableWriter]


async def export_table(
    pool: postgres.Pool,
    table: TableName,
    start: Open,
    *,
    accounts: Sequence[str] | None = None,
    span: Span = ALWAYS,
    timeframe: Timeframe = "1d",
) -> int:
    """Hand a table to a writer; return how many rows it has.

    Args:
        pool: of connections.
        table: which one.
        start: makes the writer, once the columns are known.
        accounts: only of these.
        span: of buckets by their start, of trades and lots by their end.
        timeframe: of buckets.

    Raises:
        TransientError: PostgreSQL is away.
    """
    values: list[Any] = [None if accounts is None else list(accounts)]
    if table == "pnl":
        values += [timeframe, *span.bounds]
    elif table in ("trades", "lots"):
        values += span.bounds
    count = 0
    writer: TableWriter | None = None
    # What the writer raises is no error of PostgreSQL: it is raised outside of the connection.
    async with aclosing(_rows(pool, table, values)) as batches:
        async for columns, rows in batches:
            writer = writer or start(columns)
            if rows:
                writer.put(rows)
            count += len(rows)
    return count


async def _rows(
    pool: postgres.Pool, table: TableName, values: Sequence[Any]
) -> AsyncGenerator[tuple[Columns, list[list[Any]]]]:
    """Yield the columns with no row, then with some rows each time."""
    async with (
        postgres.acquired(pool) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        statement = await connection.prepare(_STATEMENTS[table])
        columns = [(one.name, one.type.name) for one in statement.get_attributes()]
        yield columns, []
        async for rows in _batches(statement.cursor(*values, prefetch=_ROWS)):
            yield columns, rows


async def _batches(cursor: Any) -> AsyncIterator[list[list[Any]]]:
    batch: list[list[Any]] = []
    async for record in cursor:
        batch.append([_plain(value) for value in record.values()])
        if len(batch) == _ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _plain(value: Any) -> Any:
    """Return a value as both formats take it: times and whole numbers as such, the rest as text."""
    if isinstance(value, Decimal):
        return exact_text(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, list):
        return " ".join(value)
    return value


class CsvWriter:
    """CSV of RFC 4180 in UTF-8 with a line of headings; what is not defined is empty."""

    def __init__(self, file: IO[str], columns: Columns) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._writer.writerow([name for name, _ in columns])

    def put(self, rows: Sequence[Sequence[Any]]) -> None:
        """Write some rows."""
        self._writer.writerows([_csv(value) for value in row] for row in rows)


def _csv(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return value


def check_new(path: Path) -> None:
    """Make sure that a file can be made where there is none.

    Raises:
        ConfigError: there is something already, or nobody may look.
    """
    why = ""
    try:
        if path.is_dir():
            why = "is a folder; name a file"
        elif path.exists():
            why = "exists; choose another name or remove it"
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
    if why:
        raise ConfigError(f"{path} {why}")


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a place to write to beside `path`; the file is there once the block is through.

    Raises:
        ConfigError: there is such a file already, or it cannot be written.
    """
    check_new(path)
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
