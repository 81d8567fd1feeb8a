"""`psm export`: a part of the log in a file, with the hashes it must give again; or a table."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from psm.analytics.rows import Timeframe
from psm.contracts.errors import ConfigError
from psm.workers.analytics.exports import Format, check_new
from psm.workers.analytics.reads import ALWAYS
from psm.workers.cli.analyse.asking import PastRange
from psm.workers.cli.analyse.tables import TABLES, write_table
from psm.workers.cli.shared.connections import check_account, checked_log
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.log.shape import log_shape
from psm.workers.process.config import Settings, load_settings
from psm.workers.replay.bundle import Manifest, export_bundle, manifest_of


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """Which rows of a table go where."""

    out: Annotated[
        Path | None, Parameter(help="File of the table, must not exist; CSV: else stdout.")
    ] = None
    only: Annotated[
        tuple[str, ...],
        Parameter(name="--account", negative="", help="Only of it; may be repeated."),
    ] = ()
    start: Annotated[
        str | None,
        Parameter(
            name="--from", help="Not before: a date, a time or -30d.", allow_leading_hyphen=True
        ),
    ] = None
    end: Annotated[
        str | None,
        Parameter(name="--until", help="Before this; likewise.", allow_leading_hyphen=True),
    ] = None
    timeframe: Annotated[Timeframe, Parameter(help="Length of the buckets of pnl.")] = "1d"


WHOLE_TABLE = TableOptions()
log = App(name="log", help="Export the log; `psm export` is the same.")


def export(
    account: Annotated[
        str | None,
        Parameter(
            name="ACCOUNT|TABLE",
            help="Whose events, with all that decides its state; else all. With --format a table: "
            "accounts, pnl, trades, positions or lots.",
        ),
    ] = None,
    /,
    *,
    to: Annotated[
        Path | None, Parameter(name="--to", help="File to write; .gz compresses. Must not exist.")
    ] = None,
    last: Annotated[int | None, Parameter(help="Log sequence to end with.")] = None,
    form: Annotated[
        Format | None, Parameter(name="--format", help="Write a table of the views.")
    ] = None,
    table: TableOptions = WHOLE_TABLE,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Write a bundle that gives the same hashes anywhere, offline: `psm replay --file`.

    Its lines are read by `psm fold` too. The manifest beside it has the hash of every account.

    With --format csv or parquet: a table of the views, of one moment. Amounts are exact texts.
    """
    if form is not None:
        if to is not None or last is not None:
            raise ConfigError("--to and --last are of the log; a table goes to --out")
        _export_table(account, form, table, output)
        return
    if table != WHOLE_TABLE:
        raise ConfigError("--out, --account, --from, --until and --timeframe need --format")
    if to is None:
        raise ConfigError("--to FILE is missing; for a table of the views give --format")
    if account is not None:
        check_account(account)
    if last is not None and last < 1:
        raise ConfigError("--last must be a log sequence, 1 or more")
    check_new(to)
    manifest = asyncio.run(_export(load_settings(), account, to, last, output))
    document = msgspec.to_builtins(manifest)
    document["accounts"] = len(document.pop("heads"))
    output.document({"file": str(to), "manifest": str(manifest_of(to)), **document})


log.command(export)


def _export_table(name: str | None, form: Format, table: TableOptions, output: Output) -> None:
    if name not in TABLES:
        raise ConfigError(f"--format is for a table: {', '.join(TABLES)}")
    span = PastRange(start=table.start, end=table.end).span
    if name in ("accounts", "positions") and span != ALWAYS:
        raise ConfigError(f"{name} are of now: leave out --from and --until")
    if name != "pnl" and table.timeframe != WHOLE_TABLE.timeframe:
        raise ConfigError("--timeframe is for the buckets of pnl")
    write_table(name, form, table.out, table.only or None, span, table.timeframe, output)


async def _export(
    settings: Settings, account: str | None, path: Path, last: int | None, output: Output
) -> Manifest:
    async with checked_log(settings, "psm-export") as nc:
        with output.following(f"exporting to {path.name}") as reached:
            return await export_bundle(
                nc, log_shape(settings), path, account=account, last=last, progress=reached
            )
