"""Series of closes out of rows: one a bucket, carried over where nothing happened."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec

from psm.analytics.buckets import LENGTHS, MINUTE_NS, bucket_start
from psm.analytics.performance import UnitStanding
from psm.analytics.rows import PnlRow, Timeframe
from psm.analytics.statistics import over, plus, times
from psm.domain.money import ONE, ZERO
from psm.domain.publication.log_times import log_time

PERIODS: dict[Timeframe, int] = {
    "1m": 525_600,
    "5m": 105_120,
    "1h": 8_760,
    "1d": 365,
    "1w": 52,
}
"""Buckets a year where markets never rest."""


class BucketClose(msgspec.Struct, frozen=True, kw_only=True):
    """An account, or a part of it, at the end of a bucket of log time.

    Attributes:
        bucket: its start: a day such as 2026-01-31, a time such as 2026-01-31T10:05:00Z where
            buckets are shorter.
        epoch: of the units; each starts at a `nav` of 1.
        complete: nothing can be added any more; what is not complete enters no statistic.
        ret: nav over that of the bucket before, less 1; over 1 in an epoch's first. None where that
            was not above zero.
        flows: external ones of the bucket.
        pnl: change of equity less flows.
        max_drawdown: deepest fall of the unit in the epoch so far, of every mark; of an account.
    """

    bucket: str
    epoch: int
    complete: bool
    equity: Decimal | None
    nav: Decimal | None
    ret: Decimal | None
    flows: Decimal
    pnl: Decimal | None
    max_drawdown: Decimal | None = None


def closes_of(
    rows: Sequence[PnlRow],
    timeframe: Timeframe,
    closed_through: int | None,
    since: int = 0,
    until: int | None = None,
) -> list[BucketClose]:
    """Return a close for each bucket from the first row's on, up to the one that is not complete.

    Args:
        rows: those of an account as a whole, ascending by bucket; where none stands nothing
            happened, and the close before it holds.
        timeframe: of the rows.
        closed_through: log time up to which buckets are complete, nanoseconds; None: none is.
        since: log time; closes before it are those of rows alone.
        until: log time; likewise from there on. None: no bound.
    """
    length, through = LENGTHS[timeframe], _minute(closed_through or 0)
    first = bucket_start(timeframe, _minute(since))
    last = through if until is None else min(through, _minute(until + MINUTE_NS - 1))
    found: list[BucketClose] = []
    for place, row in enumerate(rows, 1):
        following = rows[place] if place < len(rows) else None
        minute = _minute(row.bucket)
        end = minute + length
        found.append(_close(row, timeframe, complete=end <= through))
        beyond = last if following is None else _minute(following.bucket)
        found.extend(
            _carried(row, minute * MINUTE_NS, timeframe, complete=minute + length <= through)
            for minute in range(max(end, first), beyond, length)
        )
    return found


def contributions_of(
    rows: Iterable[PnlRow], account: Sequence[BucketClose], timeframe: Timeframe
) -> list[BucketClose]:
    """Return closes of a strategy or a symbol: what a unit of its contributions alone would be.

    A bucket that the account began without equity, its first one, has no contribution and enters
    no statistic; the unit goes on behind it from where it was.

    Args:
        rows: its own.
        account: the closes of its account, of the same buckets.
        timeframe: of both.
    """
    own = {bucket_text(row.bucket, timeframe): row for row in rows}
    found: list[BucketClose] = []
    nav, epoch = ONE, 0
    for close in account:
        row = own.get(close.bucket)
        if close.epoch != epoch:
            nav, epoch = ONE, close.epoch
        ret, pnl = (ZERO, ZERO) if row is None else (row.contribution, row.pnl)
        nav = nav if ret is None else times(nav, plus(ONE, ret))
        found.append(
            BucketClose(
                bucket=close.bucket,
                epoch=close.epoch,
                complete=close.complete,
                equity=None,
                nav=None if ret is None else nav,
                ret=ret,
                flows=ZERO,
                pnl=pnl,
            )
        )
    return found


def counted(closes: Sequence[BucketClose]) -> list[BucketClose]:
    """Return those that enter statistics: complete ones of the latest epoch, with a nav."""
    return [
        close
        for close in closes
        if close.complete and close.epoch == closes[-1].epoch and close.nav is not None
    ]


def between(
    closes: Sequence[BucketClose], start: str | None, end: str | None
) -> tuple[list[BucketClose], Decimal]:
    """Return the closes of buckets in [start, end), and the nav that their last epoch starts from.

    Args:
        closes: of one series, in order.
        start: a day or a time, as `bound_text` writes it; None: no bound.
        end: likewise.
    """
    found: list[BucketClose] = []
    navs: dict[int, Decimal] = {}  # the last one before the range, by epoch
    for close in closes:
        if end is not None and close.bucket >= end:
            break
        if start is None or close.bucket >= start:
            found.append(close)
        elif close.nav is not None:
            navs[close.epoch] = close.nav
    return found, navs.get(found[-1].epoch, ONE) if found else ONE


def units(closes: Iterable[BucketClose], base: Decimal) -> list[Decimal]:
    """Return the navs of closes that all have one, as those of a unit that starts at 1.

    Args:
        closes: of one epoch.
        base: nav before the first of them; one that is not above zero is no measure of any.
    """
    navs = [close.nav for close in closes if close.nav is not None]
    return navs if base == ONE or base <= 0 else [over(nav, base) for nav in navs]


def standing_of(
    closes: Sequence[BucketClose], entering: Sequence[BucketClose], base: Decimal = ONE
) -> UnitStanding:
    """Return where an account stood at the end of the closes that enter statistics.

    Args:
        closes: all of them, from before the first that enters.
        entering: see `counted`.
        base: nav before the first that enters.
    """
    if not entering:
        return UnitStanding(base=base)
    first, last = entering[0], entering[-1]
    since = next(close for close in closes if close.epoch == last.epoch)
    is_whole = since.bucket == first.bucket
    fall = last.max_drawdown if is_whole else None
    return UnitStanding(equity=last.equity, fall=fall, base=base)


def bucket_text(start: int, timeframe: Timeframe) -> str:
    """Return the start of a bucket as documents have it."""
    text = log_time(start)
    return text[:10] if timeframe in ("1d", "1w") else f"{text[:19]}Z"


def _minute(time_ns: int) -> int:
    return time_ns // MINUTE_NS


def bound_text(time_ns: int) -> str:
    """Return a time in a form that compares with those of buckets: a day where it begins one."""
    text = log_time(time_ns)
    return text[:10] if text.endswith("T00:00:00.000000Z") else f"{text[:19]}Z"


def _close(row: PnlRow, timeframe: Timeframe, *, complete: bool) -> BucketClose:
    return BucketClose(
        bucket=bucket_text(row.bucket, timeframe),
        epoch=row.epoch,
        complete=complete,
        equity=row.equity,
        nav=row.nav,
        ret=row.ret,
        flows=row.flows,
        pnl=row.pnl,
        max_drawdown=row.max_drawdown,
    )


def _carried(row: PnlRow, start: int, timeframe: Timeframe, *, complete: bool) -> BucketClose:
    """Return the close of a bucket in which nothing happened."""
    unchanged = ZERO if row.nav is not None and row.nav > 0 else None
    return BucketClose(
        bucket=bucket_text(start, timeframe),
        epoch=row.epoch,
        complete=complete,
        equity=row.equity,
        nav=row.nav,
        ret=unchanged,
        flows=ZERO,
        pnl=None if row.equity is None else ZERO,
        max_drawdown=row.max_drawdown,
    )
