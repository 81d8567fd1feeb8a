"""`psm lots`: which purchase each sale closed, first in, first out."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from psm.contracts.errors import ConfigError
from psm.workers.cli.analyse.asking import FIRST_PAGE, FROM_THE_START, PastRange, RowsPage
from psm.workers.cli.analyse.rows import KnownAt, closed_lots
from psm.workers.cli.shared.lines import take_lines
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output, say_json
from psm.workers.replay.figures import FigureFolder, lot_document
from psm.workers.replay.lines import DEFAULT_PARTITIONS


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
    range_: PastRange = FROM_THE_START,
    symbol: Annotated[str | None, Parameter(help="Of the account: only of it.")] = None,
    holding_days: Annotated[
        int | None,
        Parameter(
            help="Of the account: held for more whole days is long term, else short; default "
            f"{HOLDING_DAYS}."
        ),
    ] = None,
    known_at: KnownAt = None,
    page: RowsPage = FIRST_PAGE,
    partitions: Annotated[
        int | None, Parameter(help=f"Of the file's log; default {DEFAULT_PARTITIONS}.")
    ] = None,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Print the lots that were closed, first in, first out, before fees.

    Of a file, without any server: one JSON line each, of the lines that `psm fold` takes; or of an
    account, from the views. What was busted later is left out. Once a position is flat its lots sum
    up to what it realized at average cost.
    """
    if account is not None:
        if file is not None:
            raise ConfigError("give a file or --account, not both")
        if partitions is not None:
            raise ConfigError("--partitions is of a file's log")
        days = HOLDING_DAYS if holding_days is None else holding_days
        closed_lots(account, range_, symbol, days, known_at, page, output)
        return 0
    of_account = (range_, symbol, holding_days, known_at, page)
    if of_account != (FROM_THE_START, None, None, None, FIRST_PAGE):
        raise ConfigError(
            "--from, --to, --symbol, --holding-days, --known-at, --limit and --after need --account"
        )
    if file is not None and is_stream_id(file) and file != "-" and not Path(file).exists():
        raise ConfigError(f"there is no file {file}; of an account give --account {file}")
    folder = FigureFolder(periods=365, partitions=partitions or DEFAULT_PARTITIONS)
    code = take_lines("-" if file is None else file, folder.take)
    for account_id, lot in folder.lots():
        say_json(lot_document(account_id, lot), sys.stdout)
    return code
