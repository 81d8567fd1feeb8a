"""`psm pnl` and `psm trades`: rows of analytics as they stand in the views."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

from cyclopts import Parameter

from psm.analytics.rows import EVERY, Timeframe
from psm.contracts.errors import ConfigError
from psm.workers.analytics.documents import lot_document, pnl_document, trade_document
from psm.workers.analytics.reads import HOLDING_DAYS_MAX, AnalyticsReads, By
from psm.workers.cli.analyse.asking import (
    FIRST_PAGE,
    FROM_THE_START,
    Account,
    PastRange,
    RowsPage,
    asked,
)
from psm.workers.cli.shared.connections import check_account
from psm.workers.cli.shared.http import remote
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output

KnownAt = Annotated[
    int | None,
    Parameter(help="Log sequence: as it was known then, before what was corrected later."),
]
_PNL_COLUMNS = (
    "bucket", "strategy_id", "symbol", "pnl", "realized", "unrealized_change", "fees", "funding",
    "other", "equity", "nav", "ret", "flows", "turnover", "fills", "complete",
)  # fmt: skip
_TRADE_COLUMNS = (
    "symbol", "side", "opened", "closed", "net", "gross", "fees", "funding", "peak_size", "mae",
    "mfe", "currency", "strategy_id",
)  # fmt: skip
_LOT_COLUMNS = (
    "symbol", "side", "opened", "closed", "quantity", "open_price", "close_price", "pnl",
    "currency", "days_held", "term",
)  # fmt: skip


def pnl(
    account: Account,
    /,
    *,
    range_: PastRange = FROM_THE_START,
    timeframe: Annotated[Timeframe, Parameter(help="Length of the buckets.")] = "1d",
    by: Annotated[
        By, Parameter(help="A row for the whole, each symbol or each strategy.")
    ] = "total",
    strategy: Annotated[str, Parameter(help="Of this strategy; * is the whole account.")] = EVERY,
    symbol: Annotated[str, Parameter(help="Of this symbol; * is all of them.")] = EVERY,
    page: RowsPage = FIRST_PAGE,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Show profit and loss by buckets of log time: what was realized, paid, and how equity moved.

    Buckets in which nothing happened have no row. Symbols add up to the whole exactly.
    """
    check_account(account)
    page.check()
    span = range_.span

    async def read(reads: AnalyticsReads) -> Rows:
        (standing,) = await reads.standing([account])
        found = await reads.pnl(
            account,
            timeframe,
            span,
            by=by,
            strategy_id=strategy,
            symbol=symbol,
            after=page.after,
            limit=page.limit,
        )
        return [pnl_document(row, standing.closed_through) for row in found.rows], found.next

    query = {"timeframe": timeframe, "by": by, "strategy": strategy, "symbol": symbol}
    rows, following = _rows(f"{account}/pnl", range_, page, query, read)
    _print(rows, following, _PNL_COLUMNS, output)
    if not rows and output.format == "table":
        output.note("a minute has rows once it is complete: when marks came after it")


def trades(
    account: Account,
    /,
    *,
    range_: PastRange = FROM_THE_START,
    strategy: Annotated[str, Parameter(help="Of this strategy's own book.")] = EVERY,
    symbol: Annotated[str, Parameter(help="Of this symbol; * is all of them.")] = EVERY,
    known_at: KnownAt = None,
    page: RowsPage = FIRST_PAGE,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """List trades, from flat to flat, net of their fees and funding, as they closed."""
    check_account(account)
    page.check()
    _check_known_at(known_at)
    span = range_.span

    async def read(reads: AnalyticsReads) -> Rows:
        await reads.standing([account])
        found = await reads.trades(
            account,
            span,
            strategy_id=strategy,
            symbol=symbol,
            known_at=known_at,
            after=page.after,
            limit=page.limit,
        )
        return [trade_document(row) for row in found.rows], found.next

    query = {"strategy": strategy, "symbol": symbol, "known_at": known_at}
    _print(*_rows(f"{account}/trades", range_, page, query, read), _TRADE_COLUMNS, output)


def closed_lots(
    account: str,
    range_: PastRange,
    symbol: str,
    holding_days: int,
    known_at: int | None,
    page: RowsPage,
    output: Output,
) -> None:
    """Print the lots of an account, long and short term apart."""
    check_account(account)
    page.check()
    _check_known_at(known_at)
    if not 0 <= holding_days <= HOLDING_DAYS_MAX:
        raise ConfigError(f"--holding-days must be 0 to {HOLDING_DAYS_MAX}")
    span = range_.span

    async def read(reads: AnalyticsReads) -> Rows:
        await reads.standing([account])
        found = await reads.lots(
            account,
            span,
            symbol=symbol,
            known_at=known_at,
            after=page.after,
            limit=page.limit,
        )
        return [lot_document(row, holding_days) for row in found.rows], found.next

    query: dict[str, str | int | None] = {
        "symbol": symbol,
        "holding_days": holding_days,
        "known_at": known_at,
    }
    _print(*_rows(f"{account}/lots", range_, page, query, read), _LOT_COLUMNS, output)


Rows = tuple[list[dict[str, Any]], str | None]
"""Some rows, and where the next ones begin."""


def _rows(
    what: str,
    range_: PastRange,
    page: RowsPage,
    query: Mapping[str, str | int | None],
    read: Callable[[AnalyticsReads], Awaitable[Rows]],
) -> Rows:
    """Return rows as a service answers them where one is to be asked, else as the views do."""
    there = remote()
    if there is None:
        return asked(read)
    path = f"/psm/analytics/{what}"
    return there.rows(path, **range_.query, **query, after=page.after, limit=page.limit)


def _check_known_at(known_at: int | None) -> None:
    if known_at is not None and not 1 <= known_at < 2**63:
        raise ConfigError(f"--known-at {known_at}: give a log sequence, 1 or more")


def _print(
    rows: list[dict[str, Any]], following: str | None, columns: tuple[str, ...], output: Output
) -> None:
    if rows or output.format != "table":
        output.rows(rows, columns)
    else:
        output.note("none")
    if following is not None:
        output.note(f"there are more: --after={shlex.quote(following)}")
