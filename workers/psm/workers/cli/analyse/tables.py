"""`psm export TABLE`: rows of the views in a file, for notebooks and spreadsheets."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from psm.analytics.rows import Timeframe
from psm.contracts.errors import ConfigError
from psm.workers.analytics.exports import (
    Columns,
    CsvWriter,
    Format,
    Open,
    TableName,
    export_table,
    new_file,
)
from psm.workers.analytics.reads import Span
from psm.workers.cli.shared.connections import check_account, database
from psm.workers.cli.shared.output import Output
from psm.workers.process.config import load_settings

TABLES: tuple[TableName, ...] = ("accounts", "pnl", "trades", "positions", "lots")


def write_table(
    table: TableName,
    form: Format,
    out: Path | None,
    accounts: Sequence[str] | None,
    span: Span,
    timeframe: Timeframe,
    output: Output,
) -> None:
    """Write a table to a file; CSV goes to stdout where none is named.

    Raises:
        ConfigError: Parquet without a file, or the file exists.
    """
    for account in accounts or ():
        check_account(account)

    def run(start: Open) -> int:
        async def read() -> int:
            async with database(load_settings()) as pool:
                return await export_table(
                    pool, table, start, accounts=accounts, span=span, timeframe=timeframe
                )

        return asyncio.run(read())

    if out is None:
        if form == "parquet":
            raise ConfigError("--format parquet needs --out FILE")
        run(lambda columns: CsvWriter(sys.stdout, columns))
        return
    write = _write_csv if form == "csv" else _write_parquet
    with new_file(out) as part:
        rows = write(part, run)
    output.document({"file": str(out), "table": table, "rows": rows})


def _write_csv(path: Path, run: Callable[[Open], int]) -> int:
    with path.open("w", encoding="utf-8", newline="") as file:
        return run(_csv_to(file))


def _csv_to(file: IO[str]) -> Open:
    return lambda columns: CsvWriter(file, columns)


def _write_parquet(path: Path, run: Callable[[Open], int]) -> int:
    from psm.workers.analytics.parquet import ParquetWriter

    made: list[Any] = []

    def start(columns: Columns) -> ParquetWriter:
        writer = ParquetWriter(path, columns)
        made.append(writer)
        return writer

    rows = run(start)
    made[0].finish()
    return rows
