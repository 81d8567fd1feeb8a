"""What the commands on analytics share: which account and range, and how they ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from cyclopts import Parameter

from psm.analytics.closes import PERIODS_MAX
from psm.analytics.rows import EVERY, Timeframe, Window
from psm.contracts.errors import ConfigError
from psm.contracts.subjects import STREAM_ID_RULE
from psm.workers.analytics.documents import decimal_of
from psm.workers.analytics.figures import FiguresQuestion, is_subject
from psm.workers.analytics.reads import PAGE_DEFAULT, PAGE_MAX, AnalyticsReads, Span
from psm.workers.cli.shared.connections import database
from psm.workers.process.config import load_settings
from psm.workers.process.times import utc_time

_Answer = TypeVar("_Answer")

Subject = Annotated[
    str,
    Parameter(
        name="ACCOUNT|GROUP",
        help="An account; or several as one: a,b,c, or group: and a group of the rulebook.",
    ),
]
Account = Annotated[str, Parameter(name="ACCOUNT", help="Whose.")]
Option = Annotated[str | None, Parameter(help="Only of it.")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PastRange:
    """Which part of the past.

    Attributes:
        start: first bucket or first close of a trade; a date, a time or -30d.
        end: the first one behind, likewise.
    """

    start: Annotated[
        str | None,
        Parameter(
            name="--from", help="Not before: a date, a time or -30d.", allow_leading_hyphen=True
        ),
    ] = None
    end: Annotated[
        str | None,
        Parameter(name="--to", help="Before this; likewise.", allow_leading_hyphen=True),
    ] = None

    @property
    def query(self) -> dict[str, str | None]:
        """Both as the API takes them: RFC 3339, UTC."""
        return {
            "from": None if self.start is None else utc_time(self.start),
            "to": None if self.end is None else utc_time(self.end),
        }

    @property
    def span(self) -> Span:
        """Both as log times."""
        bounds = self.query
        return Span.between(bounds["from"], bounds["to"])


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FiguresOptions:
    """What figures are made of, besides the range."""

    window: Annotated[Window, Parameter(help="The last days of the range.")] = "all"
    strategy: Annotated[str, Parameter(help="Of this strategy; * is the whole account.")] = EVERY
    symbol: Annotated[str, Parameter(help="Of this symbol; * is all of them.")] = EVERY
    periods: Annotated[
        int | None,
        Parameter(
            help="Buckets a year of annual figures; default PSM_ANALYTICS_YEAR_DAYS, or 365."
        ),
    ] = None
    risk_free: Annotated[str, Parameter(help="Annual rate, such as 0.03.")] = "0"

    def question(self, subject: str, timeframe: Timeframe, span: Span) -> FiguresQuestion:
        """Return what is asked.

        Raises:
            ConfigError: it means nothing.
        """
        check_subject(subject)
        if self.periods is not None and not 1 <= self.periods <= PERIODS_MAX:
            raise ConfigError(f"--periods must be 1 to {PERIODS_MAX}")
        return FiguresQuestion(
            subject=subject,
            timeframe=timeframe,
            span=span,
            window=self.window,
            strategy_id=self.strategy,
            symbol=self.symbol,
            periods=self.periods,
            risk_free=decimal_of("--risk-free", self.risk_free),
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RowsPage:
    """Which part of many rows."""

    limit: Annotated[int, Parameter(help=f"How many at most, 1 to {PAGE_MAX}.")] = PAGE_DEFAULT
    after: Annotated[str | None, Parameter(help="Where to go on, as the page before said.")] = None

    def check(self) -> None:
        """Make sure that it is one.

        Raises:
            ConfigError: it is not.
        """
        if not 1 <= self.limit <= PAGE_MAX:
            raise ConfigError(f"--limit {self.limit}: choose 1 to {PAGE_MAX}")


FROM_THE_START = PastRange()
WHOLE = FiguresOptions()
FIRST_PAGE = RowsPage()


def check_subject(subject: str) -> None:
    """Make sure that an argument can be an account or a group.

    Raises:
        ConfigError: it cannot.
    """
    if not is_subject(subject):
        raise ConfigError(
            f"{subject!r}: name an account, some with commas between (a,b), or group:NAME; "
            f"each name is {STREAM_ID_RULE}"
        )


def asked(read: Callable[[AnalyticsReads], Awaitable[_Answer]]) -> _Answer:
    """Return what a read of the views answers.

    Raises:
        PSMError: the read says why there is no answer.
    """

    async def run() -> _Answer:
        settings = load_settings()
        async with database(settings) as pool:
            return await read(AnalyticsReads(pool, settings.year_days))

    return asyncio.run(run())
