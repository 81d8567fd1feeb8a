"""`psm lots`: which purchase each sale closed, first in, first out."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from psm.analytics.rows import EVERY
from psm.contracts.errors import ConfigError
from psm.contracts.subjects import is_stream_id
from psm.workers.analytics.reads import HOLDING_DAYS
from psm.workers.cli.analyse.asking import FIRST_PAGE, FROM_THE_START, PastRange, RowsPage
from psm.workers.cli.analyse.rows import KnownAt, closed_lots
from psm.workers.cli.shared.lines import take_lines, tell_without_effect
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output, say_json
from psm.workers.replay.figures import FigureFolder, lot_document
from psm.workers.replay.lines import DEFAULT_PARTITIONS


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AccountLots:
    """Which lots of an account, and how they are told."""

    range_: PastRange = FROM_THE_START
    symbol: Annotated[str, Parameter(help="Of the account: of it; * is all of them.")] = EVERY
    holding_days: Annotated[
        int, Parameter(help="Of the account: held for more whole days is long term, else short.")
    ] = HOLDING_DAYS
    known_at: KnownAt = None
    page: RowsPage = FIRST_PAGE


ALL_LOTS = AccountLots()


def lots(
    file: Annotated[
        str | None,
        Parameter(
            name="FILE",
            help="What to read; - is standard input, and so is nothing.",
            allow_leading_hyphen=True,
        ),
    ] = None,
    /,
    *,
    account: Annotated[
        str | None, Parameter(help="Whose, from the views; in place of a file.")
    ] = None,
    of: AccountLots = ALL_LOTS,
    partitions: Annotated[int, Parameter(help="Of the file's log.")] = DEFAULT_PARTITIONS,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Print the lots that were closed, first in, first out, before fees.

    Of a file, without any server: one JSON line each, of the lines that `psm fold` takes; or of an
    account, from the views. What was busted later is left out. Once a position is flat its lots sum
    up to what it realized at average cost.
    """
    if account is None:
        if of != ALL_LOTS:
            raise ConfigError(
                "--from, --to, --symbol, --holding-days, --known-at, --limit and --after need "
                "--account"
            )
        as_json = output.format != "table"
        return _lots_of_file("-" if file is None else file, partitions, as_json=as_json)
    if file is not None:
        raise ConfigError("give a file or --account, not both")
    if partitions != DEFAULT_PARTITIONS:
        raise ConfigError("--partitions is for a file")
    closed_lots(account, of.range_, of.symbol, of.holding_days, of.known_at, of.page, output)
    return 0


def _lots_of_file(file: str, partitions: int, *, as_json: bool) -> int:
    """Print what a file closed; return the exit code."""
    if partitions < 1:
        raise ConfigError("--partitions must be 1 or more")
    if file != "-" and is_stream_id(file) and not Path(file).exists():
        raise ConfigError(f"there is no file {file}; of an account give --account {file}")
    folder = FigureFolder(periods=365, partitions=partitions)
    code = take_lines(file, folder.take, as_json=as_json)
    tell_without_effect(folder.without_effect(), as_json=as_json)
    for account_id, lot in folder.lots():
        say_json(lot_document(account_id, lot), sys.stdout)
    return code
