"""The tear sheet of an account or a group, out of the views."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.analytics.closes import bound_text, bucket_text
from psm.analytics.rows import Timeframe
from psm.workers.analytics.documents import time_text
from psm.workers.analytics.figures import FiguresQuestion, SubjectFigures, figures_of
from psm.workers.analytics.reads import AnalyticsReads, TooManyRowsError
from psm.workers.analytics.report.figures import ReportFigures

ENOUGH = 30
"""Returns from which on a curve says something."""

_COARSE_FIRST: tuple[Timeframe, ...] = ("1d", "1h", "5m", "1m")


async def tear_sheet(
    reads: AnalyticsReads, question: FiguresQuestion, *, any_timeframe: bool = False
) -> ReportFigures:
    """Return what the page shows.

    Args:
        reads: of the views.
        question: what is asked.
        any_timeframe: take the longest buckets of which there are enough, else the shortest.

    Raises:
        NoAnalyticsError, TooManyRowsError, MixedCurrenciesError, TransientError: as `figures_of`.
    """
    look = _longest if any_timeframe else figures_of
    figures = await look(reads, question)
    accounts = figures.members or [question.subject]
    span, timeframe = figures.question.span, figures.question.timeframe
    return ReportFigures(
        subject=question.group or question.subject,
        asked=question.subject,
        kind="account" if question.group is None else "group",
        strategy_id=figures.question.strategy_id,
        symbol=figures.question.symbol,
        members=figures.members,
        currency=figures.currency,
        timeframe=timeframe,
        start=None if span.start is None else bound_text(span.start),
        end=None if span.end is None else bound_text(span.end),
        closed_through=time_text(figures.closed_through),
        through_log_sequence=figures.through_log_sequence,
        rules=figures.rules,
        periods_per_year=figures.periods,
        risk_free=figures.question.risk_free,
        closes=figures.closes,
        navs=[
            (close.bucket, nav) for close, nav in zip(figures.counted, figures.navs, strict=True)
        ],
        exposure=_exposure(figures),
        metrics=figures.metrics,
        symbols=await reads.parts(accounts, timeframe, span, "symbol"),
        strategies=await reads.parts(accounts, timeframe, span, "strategy"),
        trades=figures.trades,
        trade_metrics=figures.trade_metrics,
    )


async def _longest(reads: AnalyticsReads, question: FiguresQuestion) -> SubjectFigures:
    """Return figures of the longest buckets of which there are enough; else of the shortest."""
    found: SubjectFigures | None = None
    for timeframe in _COARSE_FIRST:
        try:
            figures = await figures_of(
                reads, msgspec.structs.replace(question, timeframe=timeframe)
            )
        except TooManyRowsError:
            break
        found = figures
        if figures.metrics.n >= ENOUGH:
            break
    assert found is not None  # of days there are never too many
    return found


def _exposure(figures: SubjectFigures) -> list[tuple[str, Decimal | None]]:
    """Return the highest exposure of each bucket; None where nothing was published of it."""
    if not figures.exposure:
        return []
    timeframe = figures.question.timeframe
    known = {bucket_text(bucket, timeframe): peak for bucket, peak in figures.exposure}
    return [(close.bucket, known.get(close.bucket)) for close in figures.closes]
