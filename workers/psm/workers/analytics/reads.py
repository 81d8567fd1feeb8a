"""Reads of the views of analytics: buckets, trades, lots, and how far they are complete."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from psm.adapters import postgres
from psm.analytics.rows import EVERY, LotRow, PnlRow, Timeframe, TradeRow
from psm.contracts.errors import PSMError
from psm.projections.analytics.reads import READS, as_time, nanoseconds, row_of
from psm.workers.analytics.parts import Part

PAGE_DEFAULT = 100
PAGE_MAX = 1_000
BUCKETS_MAX = 20_000
"""Buckets that figures are made of at most; of days that is half a century."""

TRADES_MAX = 100_000
"""Trades that figures are made of at most."""

_ALL_OF_THE_LOG = 2**63 - 1
_PLACE = re.compile(r"([0-9]{1,18}),(net|long|short),([0-9]{1,18}),(.{1,300})", re.DOTALL)
_BUCKET = re.compile(r"([0-9]{1,18}),(.{1,300})", re.DOTALL)

By = Literal["total", "symbol", "strategy"]


class NoAnalyticsError(PSMError):
    """An account or group of which the views of analytics have nothing."""


class TooManyRowsError(PSMError):
    """A question whose answer would be made of too many buckets or trades."""


class PlaceError(PSMError):
    """A text that is not where any page ends."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far an account's rows are complete: a bucket is whose end is not behind it."""

    account_id: str
    closed_through: int | None
    currency: str | None


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Log times from `start` to before `end`, nanoseconds; None: no bound."""

    start: int | None = None
    end: int | None = None

    @property
    def bounds(self) -> tuple[Any, Any]:
        """Both as PostgreSQL has them."""
        return (
            None if self.start is None else as_time(self.start),
            None if self.end is None else as_time(self.end),
        )


ALWAYS = Span()


class PnlPage(msgspec.Struct, frozen=True):
    """Some buckets; `next` is `after` of the page behind, None at the end."""

    rows: list[PnlRow]
    next: str | None


class TradesPage(msgspec.Struct, frozen=True):
    """Some trades, likewise."""

    rows: list[TradeRow]
    next: str | None


class LotsPage(msgspec.Struct, frozen=True):
    """Some lots, likewise."""

    rows: list[LotRow]
    next: str | None


class AnalyticsReads:
    """Answers reads from the views of analytics."""

    def __init__(self, pool: postgres.Pool) -> None:
        self._pool = pool

    async def standing(self, accounts: Sequence[str]) -> list[Standing]:
        """Return how far each account is complete, ascending by account.

        Raises:
            NoAnalyticsError: of one there is nothing.
            TransientError: PostgreSQL is away.
        """
        found = [
            Standing(
                account_id=row["account_id"],
                closed_through=row["closed_through"] and nanoseconds(row["closed_through"]),
                currency=row["currency"],
            )
            for row in await self._fetch("standing", list(accounts))
        ]
        missing = sorted(set(accounts) - {one.account_id for one in found})
        if missing:
            raise NoAnalyticsError(f"the views of analytics have no account {missing[0]}")
        return found

    async def members(self, group: str) -> list[str]:
        """Return the accounts of a group, ascending.

        Raises:
            NoAnalyticsError: there is no such group.
            TransientError: PostgreSQL is away.
        """
        found = [row["account_id"] for row in await self._fetch("members", group)]
        if not found:
            raise NoAnalyticsError(f"the views of analytics have no group {group}")
        return found

    async def series(
        self, account_id: str, timeframe: Timeframe, span: Span, strategy_id: str, symbol: str
    ) -> list[PnlRow]:
        """Return the rows that closes from `span.start` on are made of, and the one before it.

        Raises:
            TooManyRowsError: there are more than `BUCKETS_MAX`.
            TransientError: PostgreSQL is away.
        """
        rows = await self._fetch(
            "closes", account_id, strategy_id, symbol, timeframe, *span.bounds, BUCKETS_MAX + 1
        )
        if len(rows) > BUCKETS_MAX:
            raise TooManyRowsError(
                f"more than {BUCKETS_MAX:,} buckets of {timeframe}: choose a longer timeframe "
                "or a shorter range"
            )
        return [row_of(PnlRow, row) for row in rows]

    async def parts(
        self, accounts: Sequence[str], timeframe: Timeframe, span: Span, by: By
    ) -> list[Part]:
        """Return what each symbol or strategy of some accounts brought, by name."""
        rows = await self._fetch("parts", list(accounts), timeframe, *span.bounds, by)
        return [Part(**dict(row)) for row in rows]

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
    ) -> PnlPage:
        """Return a page of buckets, ascending, of all symbols or strategies where `by` says so.

        Args:
            account_id: whose.
            timeframe: of the buckets.
            span: when they begin.
            by: which of strategy and symbol goes over all there are.
            strategy_id: whose part; `*` for the whole.
            symbol: likewise.
            after: `next` of the page before.
            limit: how many at most, 1 to `PAGE_MAX`.

        Raises:
            PlaceError: `after` is not what a page ended with.
            TransientError: PostgreSQL is away.
        """
        place: tuple[Any, ...] = (None, None)
        if after is not None:
            microseconds, name = _parts_of(_BUCKET, after)
            place = (as_time(int(microseconds) * 1000), name)
        asked = (account_id, timeframe, by, strategy_id, symbol, *span.bounds, *place, limit + 1)
        rows = [row_of(PnlRow, row) for row in await self._fetch("pnl", *asked)]
        following = None
        if len(rows) > limit:
            last = rows[limit - 1]
            name = last.strategy_id if by == "strategy" else last.symbol
            following = f"{last.bucket // 1000},{name}"
        return PnlPage(rows[:limit], following)

    async def trades(
        self,
        account_id: str,
        span: Span = ALWAYS,
        *,
        strategy_id: str = EVERY,
        symbol: str | None = None,
        known_at: int | None = None,
        after: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> TradesPage:
        """Return a page of trades in the order in which they closed.

        Args:
            account_id: whose.
            span: when they closed.
            strategy_id: of whose own book; `*` for the account's.
            symbol: only of it.
            known_at: log sequence: as they were known then, before what was corrected later.
            after: `next` of the page before.
            limit: how many at most.

        Raises:
            PlaceError: `after` is not what a page ended with.
            TransientError: PostgreSQL is away.
        """
        known = _ALL_OF_THE_LOG if known_at is None else known_at
        asked = (account_id, strategy_id, symbol, *span.bounds, known, *_place(after), limit + 1)
        rows = [row_of(TradeRow, row) for row in await self._fetch("trades", *asked)]
        following = None
        if len(rows) > limit:
            last = rows[limit - 1]
            following = f"{last.closed // 1000},{last.position_side},{last.cycle},{last.symbol}"
        return TradesPage(rows[:limit], following)

    async def lots(
        self,
        account_id: str,
        span: Span = ALWAYS,
        *,
        symbol: str | None = None,
        known_at: int | None = None,
        after: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> LotsPage:
        """Return a page of closed lots in the order in which they closed; as `trades`."""
        known = _ALL_OF_THE_LOG if known_at is None else known_at
        asked = (account_id, symbol, *span.bounds, known, *_place(after), limit + 1)
        rows = [row_of(LotRow, row) for row in await self._fetch("lots", *asked)]
        following = None
        if len(rows) > limit:
            last = rows[limit - 1]
            following = f"{last.closed // 1000},{last.position_side},{last.lot},{last.symbol}"
        return LotsPage(rows[:limit], following)

    async def _fetch(self, name: str, *values: object) -> list[Any]:
        async with postgres.acquired(self._pool) as connection:
            return list(await connection.fetch(READS[name], *values))


def _place(after: str | None) -> tuple[Any, ...]:
    """Return the place that a page of trades or lots ended with, as the statements take it."""
    if after is None:
        return (None, None, None, None)
    microseconds, side, number, symbol = _parts_of(_PLACE, after)
    return as_time(int(microseconds) * 1000), symbol, side, int(number)


def _parts_of(pattern: re.Pattern[str], after: str) -> tuple[str, ...]:
    found = pattern.fullmatch(after)
    if found is None:
        raise PlaceError("after must be the `next` of the page before")
    return found.groups()
