"""What each day said of an account at its end: figures of its trades and of its daily returns.

They follow from the rows alone, as they were known then: buckets that are complete do not change,
and of a trade that was corrected later the row before counts. So it does not matter when a day is
stated, and a day without a bucket has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from psm.analytics.closes import (
    BucketClose,
    between,
    bound_text,
    closes_of,
    contributions_of,
    counted,
    standing_of,
    units,
)
from psm.analytics.performance import performance
from psm.analytics.rows import EVERY, PnlRow, TradeRow
from psm.analytics.trades import trade_metrics
from psm.projections.analytics.reads import as_time, nanoseconds, row_of
from psm.projections.analytics.tables import RISK_METRICS, TRADE_STATISTICS
from psm.projections.rows import Row, write
from psm.projections.sql import Connection, load

DAY_NS = 86_400_000_000_000
WINDOWS = (("all", None), ("30d", 30), ("90d", 90), ("365d", 365))

_QUERIES = load(__package__, "history")

Part = tuple[str, str]
"""Strategy and symbol; `*` for all."""


def day_of(time_ns: int) -> int:
    """Return the start of the UTC day of a log time."""
    return time_ns - time_ns % DAY_NS


async def unstated(
    connection: Connection, partition: int, since: int | None, until: int, limit: int
) -> list[tuple[str, int]]:
    """Return accounts and days that are complete and have no figures yet, the earliest first.

    Args:
        connection: to the views.
        partition: of the accounts.
        since: start of the first day that may lack any, nanoseconds; None: every day may.
        until: start of the first day that is not complete.
        limit: how many at most.
    """
    start = None if since is None else as_time(since)
    records = await connection.fetch(_QUERIES["unstated"], partition, start, as_time(until), limit)
    return [(record["account_id"], nanoseconds(record["bucket"])) for record in records]


async def state(connection: Connection, account: str, day: int, year_days: int) -> int:
    """Write the figures of an account at the end of a day; the caller commits. Return the rows.

    Args:
        connection: to the views.
        account: whose.
        day: its start, nanoseconds.
        year_days: days a year, by which figures are annual.
    """
    end = day + DAY_NS
    buckets = await connection.fetch(_QUERIES["buckets"], account, as_time(end))
    trades = await connection.fetch(_QUERIES["trades"], account, as_time(end))
    days = [row_of(PnlRow, dict(record)) for record in buckets]
    known = [row_of(TradeRow, dict(record)) for record in trades]
    place = {"through_log_sequence": days[-1].through_log_sequence, "rules": days[-1].rules}
    figures = [row | place for row in _risk(account, _series(days, end), end, year_days)]
    statistics = [row | place for row in _statistics(account, known, end)]
    await write(connection, RISK_METRICS.statements["upsert"], figures)
    await write(connection, TRADE_STATISTICS.statements["upsert"], statistics)
    return len(figures) + len(statistics)


def _series(rows: Sequence[PnlRow], end: int) -> dict[Part, list[BucketClose]]:
    """Return the daily closes of an account and of its parts."""
    parts: dict[Part, list[PnlRow]] = {}
    for row in rows:
        parts.setdefault((row.strategy_id, row.symbol), []).append(row)
    whole = closes_of(parts.pop((EVERY, EVERY)), "1d", end)
    others = {part: contributions_of(own, whole, "1d") for part, own in sorted(parts.items())}
    return {(EVERY, EVERY): whole, **others}


def _risk(
    account: str, series: dict[Part, list[BucketClose]], end: int, year_days: int
) -> Iterable[Row]:
    for part, closes in series.items():
        for name, days in WINDOWS:
            chosen, base = between(closes, _start(days, end), None)
            entering = counted(chosen)
            standing = standing_of(closes, entering, base)
            figures = performance(units(entering, base), year_days, standing=standing)
            yield {
                **_named(account, part, name, end),
                "epoch": closes[-1].epoch,
                "periods_per_year": year_days,
                **msgspec.structs.asdict(figures),
            }


def _statistics(account: str, trades: Sequence[TradeRow], end: int) -> Iterable[Row]:
    parts: dict[tuple[Part, str], list[TradeRow]] = {}
    for trade in trades:
        whose = [(trade.strategy_id, EVERY)]
        if trade.strategy_id == EVERY:
            whose.append((EVERY, trade.symbol))
        for part in whose:
            parts.setdefault((part, trade.currency), []).append(trade)
    for (part, currency), own in sorted(parts.items()):
        for name, days in WINDOWS:
            start = 0 if days is None else end - days * DAY_NS
            figures = trade_metrics([trade for trade in own if trade.closed >= start])
            yield {
                **_named(account, part, name, end),
                **msgspec.structs.asdict(figures),
                "currency": currency,  # of a window without a trade, too
            }


def _named(account: str, part: Part, window: str, end: int) -> dict[str, Any]:
    strategy, symbol = part
    return {
        "account_id": account,
        "strategy_id": strategy,
        "symbol": symbol,
        "time_window": window,
        "day": bound_text(end - DAY_NS),
    }


def _start(days: int | None, end: int) -> str | None:
    return None if days is None else bound_text(end - days * DAY_NS)
