"""Reads of the views of analytics: buckets, trades, lots, and how far they are complete."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, TypeVar

import msgspec

from psm.adapters import postgres
from psm.analytics.rows import EVERY, LotRow, PnlRow, Timeframe, TradeRow
from psm.analytics.year_days import EVERY_DAY, YearDays
from psm.contracts.errors import ConfigError, PSMError
from psm.projections.analytics.reads import READS, as_time, nanoseconds, row_of
from psm.workers.analytics.parts import PnlPart
from psm.workers.process.times import nanoseconds_of

PAGE_DEFAULT = 100
PAGE_MAX = 1_000
BUCKETS_MAX = 20_000
"""Buckets that figures are made of at most; of days that is half a century."""

TRADES_MAX = 100_000
"""Trades that figures are made of at most."""

HOLDING_DAYS = 365
HOLDING_DAYS_MAX = 36_500
"""Days up to which a lot may be short term; a century."""

_ALL_OF_THE_LOG = 2**63 - 1
_PLACE = re.compile(r"([0-9]{1,18}),(net|long|short),([0-9]{1,18}),(.{1,300})", re.DOTALL)
_NO_PLACE = "after must be what the page before ended with as its next"
_BUCKET = re.compile(r"([0-9]{1,18}),(.{1,300})", re.DOTALL)

By = Literal["total", "symbol", "strategy"]
_Row = TypeVar("_Row", bound=msgspec.Struct)


class NoAnalyticsError(PSMError):
    """An account or group of which the views of analytics have nothing."""


class TooManyRowsError(PSMError):
    """A question whose answer would be made of too many buckets or trades."""


class QuestionError(ConfigError):
    """A question that means nothing."""


class AccountStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How far an account's rows are complete: a bucket is whose end is not behind it."""

    account_id: str
    closed_through: int | None
    currency: str | None


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Log times from `start` to before `end`, nanoseconds; None: no bound."""

    start: int | None = None
    end: int | None = None

    @classmethod
    def between(cls, start: str | None, end: str | None) -> Span:
        """Return the span between two RFC 3339 UTC times; no log is older than 1970.

        Raises:
            QuestionError: there is nothing between them.
        """
        if start is not None and end is not None and nanoseconds_of(start) >= nanoseconds_of(end):
            raise QuestionError(f"from {start} to {end} is no time: it must be from before to")
        return cls(
            start=None if start is None else max(nanoseconds_of(start), 0),
            end=None if end is None else max(nanoseconds_of(end), 0),
        )

    @property
    def bounds(self) -> tuple[Any, Any]:
        """Both as PostgreSQL has them."""
        return (
            None if self.start is None else as_time(self.start),
            None if self.end is None else as_time(self.end),
        )


ALWAYS = Span()


class AnalyticsPage(msgspec.Struct, Generic[_Row], frozen=True):
    """Some rows; `next` is `after` of the page behind, None at the end."""

    rows: list[_Row]
    next: str | None


class AnalyticsReads:
    """Answers reads from the views of analytics.

    Attributes:
        year_days: by which annual figures are, where the question says nothing.
    """

    def __init__(self, pool: postgres.Pool, year_days: YearDays = EVERY_DAY) -> None:
        self._pool, self.year_days = pool, year_days

    async def standing(self, accounts: Sequence[str]) -> list[AccountStanding]:
        """Return how far each account is complete, ascending by account.

        Raises:
            NoAnalyticsError: of one there is nothing.
            TransientError: PostgreSQL is away.
        """
        found = [
            AccountStanding(
                account_id=row["account_id"],
                closed_through=row["closed_through"] and nanoseconds(row["closed_through"]),
                currency=row["currency"],
            )
            for row in await self._fetch("standing", list(accounts))
        ]
        missing = sorted(set(accounts) - {one.account_id for one in found})
        if missing:
            raise NoAnalyticsError(
                f"the views of analytics have no account {missing[0]}; psm accounts lists them, "
                "psm risk groups the groups, which are asked for as group:NAME"
            )
        return found

    async def members(self, group: str) -> list[str]:
        """Return the accounts of a group, ascending.

        Raises:
            NoAnalyticsError: there is no such group.
            TransientError: PostgreSQL is away.
        """
        found = [row["account_id"] for row in await self._fetch("members", group)]
        if not found:
            raise NoAnalyticsError(
                f"the views of analytics have no group {group}, or it has no account: "
                "psm risk groups lists them"
            )
        return found

    async def series(
        self, account_id: str, timeframe: Timeframe, span: Span, strategy_id: str, symbol: str
    ) -> list[PnlRow]:
        """Return the rows that closes from `span.start` on are made of, and the one before it.

        Raises:
            TooManyRowsError: there are more than `BUCKETS_MAX`.
            TransientError: PostgreSQL is away.
        """
        asked = (account_id, strategy_id, symbol, timeframe, *span.bounds)
        rows = await self._rows("closes", PnlRow, *asked, BUCKETS_MAX + 1)
        if len(rows) > BUCKETS_MAX:
            raise TooManyRowsError(
                f"more than {BUCKETS_MAX:,} buckets of {timeframe}: choose a longer timeframe "
                "or a shorter range"
            )
        return rows

    async def parts(
        self, accounts: Sequence[str], timeframe: Timeframe, span: Span, by: By
    ) -> list[PnlPart]:
        """Return what each symbol or strategy of some accounts brought, by name."""
        rows = await self._fetch("parts", list(accounts), timeframe, *span.bounds, by)
        return [PnlPart(**dict(row)) for row in rows]

    async def pnl(
        self,
        account_id: str,
        timeframe: Timeframe,
        span: Span = ALWAYS,
        *,
        by: By = "total",
        strategy_id: str = EVERY,
        symbol: str = EVERY,
        after: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> AnalyticsPage[PnlRow]:
        """Return a page of buckets, ascending, of all symbols or strategies where `by` says so.

        Args:
            account_id: whose.
            timeframe: of the buckets.
            span: when they begin.
            by: which of strategy and symbol goes over all there are.
            strategy_id: whose part; `*` for the whole, and where `by` goes over strategies.
            symbol: likewise.
            after: `next` of the page before.
            limit: how many at most, 1 to `PAGE_MAX`.

        Raises:
            QuestionError: one is named of what `by` goes over, or `after` is not what a page ended
                with.
            TransientError: PostgreSQL is away.
        """
        if {"strategy": strategy_id, "symbol": symbol}.get(by, EVERY) != EVERY:
            raise QuestionError(f"by {by} shows every {by}: leave out the one, or by")
        place: tuple[Any, ...] = (None, None)
        if after is not None:
            time, name = _parts_of(_BUCKET, after)
            place = (_time_of(time), name)
        asked = (account_id, timeframe, by, strategy_id, symbol, *span.bounds, *place)

        def place_of(row: PnlRow) -> str:
            return f"{row.bucket // 1000},{row.strategy_id if by == 'strategy' else row.symbol}"

        return await self._page("pnl", PnlRow, asked, limit, place_of)

    async def trades(
        self,
        account_id: str,
        span: Span = ALWAYS,
        *,
        strategy_id: str = EVERY,
        symbol: str = EVERY,
        known_at: int | None = None,
        after: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> AnalyticsPage[TradeRow]:
        """Return a page of trades in the order in which they closed.

        Args:
            account_id: whose.
            span: when they closed.
            strategy_id: of whose own book; `*` for the account's.
            symbol: only of it; `*` for all.
            known_at: log sequence: as they were known then, before what was corrected later.
            after: `next` of the page before.
            limit: how many at most.

        Raises:
            QuestionError: `after` is not what a page ended with.
            TransientError: PostgreSQL is away.
        """
        known = _ALL_OF_THE_LOG if known_at is None else known_at
        asked = (account_id, strategy_id, symbol, *span.bounds, known, *_place(after))
        return await self._page(
            "trades", TradeRow, asked, limit, lambda row: _place_text(row, row.cycle)
        )

    async def lots(
        self,
        account_id: str,
        span: Span = ALWAYS,
        *,
        symbol: str = EVERY,
        known_at: int | None = None,
        after: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> AnalyticsPage[LotRow]:
        """Return a page of closed lots in the order in which they closed; as `trades`."""
        known = _ALL_OF_THE_LOG if known_at is None else known_at
        asked = (account_id, symbol, *span.bounds, known, *_place(after))
        return await self._page("lots", LotRow, asked, limit, lambda row: _place_text(row, row.lot))

    async def _page(
        self,
        name: str,
        struct: type[_Row],
        asked: tuple[Any, ...],
        limit: int,
        place_of: Callable[[_Row], str],
    ) -> AnalyticsPage[_Row]:
        """Return a page of what a statement gives; one row more says whether another follows."""
        rows = await self._rows(name, struct, *asked, limit + 1)
        return AnalyticsPage(rows[:limit], place_of(rows[limit - 1]) if len(rows) > limit else None)

    async def _rows(self, name: str, struct: type[_Row], *values: object) -> list[_Row]:
        """Return what a statement gives; where it is much, the event loop goes on meanwhile."""
        records = await self._fetch(name, *values)
        if len(records) <= PAGE_MAX:
            return _told(struct, records)
        return await asyncio.to_thread(_told, struct, records)

    async def _fetch(self, name: str, *values: object) -> list[Any]:
        async with postgres.acquired(self._pool) as connection:
            return list(await connection.fetch(READS[name], *values))


def _told(struct: type[_Row], records: Sequence[Any]) -> list[_Row]:
    return [row_of(struct, record) for record in records]


def _place_text(row: TradeRow | LotRow, number: int) -> str:
    """Return the place of a trade or a lot in the order in which they closed."""
    return f"{row.closed // 1000},{row.position_side},{number},{row.symbol}"


def _place(after: str | None) -> tuple[Any, ...]:
    """Return the place that a page of trades or lots ended with, as the statements take it."""
    if after is None:
        return (None, None, None, None)
    time, side, number, symbol = _parts_of(_PLACE, after)
    return _time_of(time), symbol, side, int(number)


def _parts_of(pattern: re.Pattern[str], after: str) -> tuple[str, ...]:
    found = pattern.fullmatch(after)
    if found is None:
        raise QuestionError(_NO_PLACE)
    return found.groups()


def _time_of(microseconds: str) -> Any:
    try:
        return as_time(int(microseconds) * 1000)
    except OverflowError as error:
        raise QuestionError(_NO_PLACE) from error
