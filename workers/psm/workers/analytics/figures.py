"""Figures of one account or group over one range, all of the rows that the views have."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from psm.analytics.buckets import LENGTHS, MINUTE_NS, bucket_start
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
from psm.analytics.groups import group_closes
from psm.analytics.performance import PerformanceFigures, performance
from psm.analytics.rows import EVERY, PnlRow, Timeframe, TradeRow, Window
from psm.analytics.trades import TradeMetrics, trade_metrics
from psm.contracts.errors import PSMError
from psm.contracts.subjects import is_stream_id
from psm.domain.money import ZERO
from psm.workers.analytics.reads import (
    BUCKETS_MAX,
    TRADES_MAX,
    AccountStanding,
    AnalyticsReads,
    NoAnalyticsError,
    Span,
    TooManyRowsError,
)

GROUP = "group:"
"""What the name of a group begins with where an account could stand, too."""

MEMBERS_MAX = 500
"""Accounts that somebody may list."""

_DAYS: dict[Window, int | None] = {"all": None, "30d": 30, "90d": 90, "365d": 365}
_DAY_NS = 1_440 * MINUTE_NS


class MixedCurrenciesError(PSMError):
    """A group whose members have their books in different currencies."""


class FiguresQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked.

    Attributes:
        subject: account, accounts with commas between them, or `group:` and the name of a group
            of the rulebook.
        timeframe: of the buckets.
        span: which buckets, by their start; trades by their end.
        window: the last days before the span's end, or before what is complete.
        strategy_id, symbol: a part of an account; `*` for the whole.
        periods: buckets a year; None: those that the settings have for the account.
        risk_free: annual rate.
    """

    subject: str
    timeframe: Timeframe = "1d"
    span: Span = Span()
    window: Window = "all"
    strategy_id: str = EVERY
    symbol: str = EVERY
    periods: int | None = None
    risk_free: Decimal = ZERO

    @property
    def group(self) -> str | None:
        """Name of the group; None of an account."""
        if self.subject.startswith(GROUP):
            return self.subject.removeprefix(GROUP)
        return self.subject if "," in self.subject else None

    @property
    def is_part(self) -> bool:
        """Whether a strategy or a symbol is asked for, not the whole."""
        return (self.strategy_id, self.symbol) != (EVERY, EVERY)


class SubjectFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The answer.

    Attributes:
        question: with the span that its window means.
        members: accounts of a group.
        currency: None where it is not known.
        closed_through: log time up to which all of it is complete.
        periods: buckets a year.
        closes: one for each bucket of the span.
        base: nav before the first that counts, by which `navs` are divided.
        counted: those that enter statistics.
        exposure: highest gross exposure of each bucket, where it is known; of one account.
    """

    question: FiguresQuestion
    members: list[str]
    currency: str | None
    closed_through: int | None
    through_log_sequence: int
    rules: int
    periods: int
    closes: list[BucketClose]
    base: Decimal
    counted: list[BucketClose]
    exposure: list[tuple[int, Decimal | None]]
    metrics: PerformanceFigures
    trades: list[TradeRow]
    trade_metrics: TradeMetrics

    @property
    def epochs(self) -> int:
        """How many epochs of units there were."""
        return self.closes[-1].epoch if self.closes else 0

    @property
    def navs(self) -> list[Decimal]:
        """Closes that enter statistics, of a unit that starts at 1."""
        return units(self.counted, self.base)


def is_subject(text: str) -> bool:
    """Return whether a text can be an account, a list of accounts, or a group."""
    if text.startswith(GROUP):
        return is_stream_id(text.removeprefix(GROUP))
    accounts = text.split(",")
    return len(accounts) <= MEMBERS_MAX and all(map(is_stream_id, accounts))


async def figures_of(reads: AnalyticsReads, question: FiguresQuestion) -> SubjectFigures:
    """Return the figures that a question asks for; what is computed is so beside the event loop.

    Raises:
        NoAnalyticsError: there is nothing of the account or the group, or of such a part.
        TooManyRowsError: they would be made of too many rows.
        MixedCurrenciesError: members of the group have different currencies.
        TransientError: PostgreSQL is away.
    """
    members = await _members(reads, question)
    standings = await reads.standing(members)
    closed_through = _closed_through(standings)
    question = _resolved(question, closed_through)
    read = await _read(reads, members, question, closed_through)
    periods = question.periods or reads.year_days.periods(question.timeframe, members)
    return await asyncio.to_thread(
        _computed, question, members, standings[0].currency, closed_through, read, periods
    )


class _Read(msgspec.Struct, frozen=True):
    """The rows of an answer: those of each member as a whole, of the part, and trades."""

    whole: list[list[PnlRow]]
    own: list[PnlRow] | None
    trades: list[TradeRow]


async def _read(
    reads: AnalyticsReads,
    members: Sequence[str],
    question: FiguresQuestion,
    closed_through: int | None,
) -> _Read:
    """Return the rows that the closes of a span are made of, and the trades."""
    timeframe, span = question.timeframe, question.span
    whole = [await reads.series(account, timeframe, span, EVERY, EVERY) for account in members]
    _check_buckets(whole, question, closed_through)
    own: list[PnlRow] | None = None
    if question.is_part:
        strategy, symbol = question.strategy_id, question.symbol
        own = await reads.series(members[0], timeframe, span, strategy, symbol)
        if not own:
            raise NoAnalyticsError(
                f"{members[0]} has no complete minute of strategy {strategy}, symbol {symbol} in "
                f"this range: psm pnl {members[0]} --by strategy, or --by symbol, shows which "
                "there are"
            )
    return _Read(whole, own, await _trades(reads, members, question))


def _computed(
    question: FiguresQuestion,
    members: list[str],
    currency: str | None,
    closed_through: int | None,
    read: _Read,
    periods: int,
) -> SubjectFigures:
    """Return the figures of what was read; it takes a processor for a while where that is much."""
    rows = [row for series in read.whole for row in series] if read.own is None else read.own
    series = _closes(question, closed_through, read)
    closes, base = between(series, *_texts(question.span))
    entering = counted(closes)
    return SubjectFigures(
        question=question,
        members=members if question.group is not None else [],
        currency=currency,
        closed_through=closed_through,
        through_log_sequence=max((row.through_log_sequence for row in rows), default=0),
        rules=max((row.rules for row in rows), default=0),
        periods=periods,
        closes=closes,
        base=base,
        counted=entering,
        exposure=[(row.bucket, row.peak_gross) for row in rows] if len(members) == 1 else [],
        metrics=performance(
            units(entering, base), periods, question.risk_free, standing_of(series, entering, base)
        ),
        trades=read.trades,
        trade_metrics=trade_metrics(read.trades),
    )


def _closes(
    question: FiguresQuestion, closed_through: int | None, read: _Read
) -> list[BucketClose]:
    """Return closes from before the span on."""
    timeframe, span = question.timeframe, question.span
    series = [
        _since_units(closes_of(rows, timeframe, closed_through, span.start or 0, span.end))
        for rows in read.whole
    ]
    if question.group is not None:
        return group_closes(series)
    return series[0] if read.own is None else contributions_of(read.own, series[0], timeframe)


async def _members(reads: AnalyticsReads, question: FiguresQuestion) -> list[str]:
    """Return the accounts that a question is about."""
    if question.group is None:
        return [question.subject]
    if question.is_part:
        raise NoAnalyticsError("ask for a strategy or a symbol of an account, not of a group")
    if question.subject.startswith(GROUP):
        return await reads.members(question.group)
    return sorted(set(question.subject.split(",")))


def _closed_through(standings: Sequence[AccountStanding]) -> int | None:
    """Return up to where all are complete.

    Raises:
        MixedCurrenciesError: they cannot be added up.
    """
    currencies = sorted({one.currency for one in standings if one.currency is not None})
    if len(currencies) > 1:
        raise MixedCurrenciesError(
            f"members have their books in {' and '.join(currencies)}: nothing says at which rate "
            "to add them up"
        )
    ends = [one.closed_through for one in standings]
    known = [end for end in ends if end is not None]
    return min(known) if known and len(known) == len(ends) else None


def _resolved(question: FiguresQuestion, closed_through: int | None) -> FiguresQuestion:
    """Return the question with the span that its window means."""
    days = _DAYS[question.window]
    if days is None:
        return question
    end = question.span.end if question.span.end is not None else closed_through or 0
    minute = bucket_start(question.timeframe, end // MINUTE_NS)
    end = minute * MINUTE_NS
    start = max(end - days * _DAY_NS, question.span.start or 0)
    return msgspec.structs.replace(question, span=Span(start=start, end=end))


def _check_buckets(
    series: Sequence[Sequence[PnlRow]], question: FiguresQuestion, closed_through: int | None
) -> None:
    firsts = [rows[0].bucket for rows in series if rows]
    start = max(min(firsts, default=closed_through or 0), question.span.start or 0)
    length = LENGTHS[question.timeframe] * MINUTE_NS
    end = closed_through or 0
    if question.span.end is not None:
        end = min(end, question.span.end)
    if end - start > BUCKETS_MAX * length:
        raise TooManyRowsError(
            f"more than {BUCKETS_MAX:,} buckets of {question.timeframe}: choose a longer "
            "timeframe or a shorter range"
        )


def _since_units(closes: list[BucketClose]) -> list[BucketClose]:
    """Return closes from the first positive equity on, as a file's are."""
    first = next((place for place, close in enumerate(closes) if close.epoch), len(closes))
    return closes[first:]


def _texts(span: Span) -> tuple[str | None, str | None]:
    """Return a span as closes have their buckets."""
    return (
        None if span.start is None else bound_text(span.start),
        None if span.end is None else bound_text(span.end),
    )


async def _trades(
    reads: AnalyticsReads, members: Sequence[str], question: FiguresQuestion
) -> list[TradeRow]:
    """Return the trades of all members in the order in which they closed."""
    found: list[TradeRow] = []
    for account in members:
        page = await reads.trades(
            account,
            question.span,
            strategy_id=question.strategy_id,
            symbol=question.symbol,
            limit=TRADES_MAX,
        )
        found += page.rows
        if page.next is not None or len(found) > TRADES_MAX:
            raise TooManyRowsError(f"more than {TRADES_MAX:,} trades: choose a shorter range")
    return sorted(found, key=_order_of) if len(members) > 1 else found


def _order_of(trade: TradeRow) -> tuple[Any, ...]:
    return trade.closed, trade.account_id, trade.symbol, trade.position_side, trade.cycle
