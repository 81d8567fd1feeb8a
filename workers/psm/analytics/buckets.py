"""Buckets of an account, out of its minutes: 1m, 5m, 1h, 1d and 1w, all by the same rule.

A minute is put in when it is complete. A longer bucket is what its minutes are together; it is
never added to by an update, so what an update costs does not depend on how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import msgspec

from psm.analytics.rows import ACCOUNT_ITEMS, EVERY, PnlRow, Timeframe
from psm.analytics.statistics import minus, over
from psm.domain.money import ONE, ZERO, add, quotient, subtract

MINUTE_NS = 60_000_000_000
LENGTHS: dict[Timeframe, int] = {"1m": 1, "5m": 5, "1h": 60, "1d": 1_440, "1w": 10_080}
"""Minutes of a bucket."""

_MONDAY = 4 * 1_440  # 1970-01-05, in minutes
_TWO = Decimal(2)


def minutes_in(time_ns: int) -> int:
    """Return the whole minutes since the Unix epoch."""
    return time_ns // MINUTE_NS


def bucket_start(timeframe: Timeframe, minute: int) -> int:
    """Return the first minute of the bucket that a minute is in; weeks start on Monday."""
    offset = _MONDAY if timeframe == "1w" else 0
    return minute - (minute - offset) % LENGTHS[timeframe]


class Booked(msgspec.Struct, array_like=True):
    """What events booked, in the account currency; `corrected` is a part of the others."""

    realized: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    other: Decimal = ZERO
    corrected: Decimal = ZERO
    turnover: Decimal = ZERO
    fills: int = 0

    def put(self, more: Booked) -> None:
        """Add up; most of it is nothing, as marks book nothing."""
        if more.realized:
            self.realized = add(self.realized, more.realized)
        if more.fees:
            self.fees = add(self.fees, more.fees)
        if more.funding:
            self.funding = add(self.funding, more.funding)
        if more.other:
            self.other = add(self.other, more.other)
        if more.corrected:
            self.corrected = add(self.corrected, more.corrected)
        if more.turnover:
            self.turnover = add(self.turnover, more.turnover)
        self.fills = self.fills + more.fills

    def less(self, part: Booked) -> Booked:
        """Return what is not of a part."""
        return Booked(
            realized=subtract(self.realized, part.realized),
            fees=subtract(self.fees, part.fees),
            funding=subtract(self.funding, part.funding),
            other=subtract(self.other, part.other),
            corrected=subtract(self.corrected, part.corrected),
            turnover=subtract(self.turnover, part.turnover),
            fills=self.fills - part.fills,
        )

    @property
    def pnl(self) -> Decimal:
        """What is booked altogether."""
        return add(add(subtract(self.realized, self.fees), self.funding), self.other)


_NO_BOOKING = Booked()


class Worth(msgspec.Struct, frozen=True, array_like=True):
    """What a position stands at: unrealized PnL and gross exposure, in the account currency."""

    unrealized: Decimal = ZERO
    gross: Decimal = ZERO

    def plus(self, more: Worth) -> Worth:
        """Return both together."""
        return Worth(add(self.unrealized, more.unrealized), add(self.gross, more.gross))

    def less(self, part: Worth) -> Worth:
        """Return what is not of a part."""
        return Worth(subtract(self.unrealized, part.unrealized), subtract(self.gross, part.gross))


NOTHING = Worth()


class Standing(msgspec.Struct, frozen=True, array_like=True):
    """An account at the end of a minute.

    Attributes:
        known_equity, known_flows: where its equity last computed.
        fall: deepest fall of its unit in the epoch, at any mark, as a fraction.
    """

    epoch: int = 0
    equity: Decimal | None = ZERO
    nav: Decimal | None = None
    flows: Decimal = ZERO
    known_equity: Decimal = ZERO
    known_flows: Decimal = ZERO
    fall: Decimal | None = None


class Series(msgspec.Struct, array_like=True):
    """One strategy and symbol within a bucket, from where it stood at the start."""

    before: Worth
    at: Worth
    booked: Booked
    peak: Decimal = ZERO


class Minute(msgspec.Struct):
    """What is known of a minute that is not complete.

    Attributes:
        number: of the minute, from the Unix epoch.
        total: what was booked, whatever for.
        booked: by strategy and symbol.
        worth: of positions, by strategy and key of the position.
        peaks: gross exposure, by symbol; of the account under `*`.
        standing: None while its close is not told.
        through: log sequence of the last input that said anything of it.
    """

    number: int
    total: Booked
    booked: dict[str, dict[str, Booked]]
    worth: dict[str, dict[str, Worth]]
    peaks: dict[str, Decimal]
    standing: Standing | None = None
    through: int = 0


class Sealed(msgspec.Struct):
    """A complete minute, as buckets take it: series by strategy and symbol."""

    minute: int
    total: Booked
    series: dict[str, dict[str, Series]]
    before: Standing
    at: Standing
    peak: Decimal
    through: int


class Bucket(msgspec.Struct):
    """One bucket of an account as far as its minutes are complete."""

    timeframe: Timeframe
    start: int
    before: Standing
    at: Standing
    total: Booked
    series: dict[str, dict[str, Series]]
    peak: Decimal = ZERO
    end: int = 0
    through: int = 0

    def put(self, sealed: Sealed) -> None:
        """Add the next minute."""
        self.at, self.end, self.through = sealed.at, sealed.minute + 1, sealed.through
        self.peak = max(self.peak, sealed.peak)
        self.total.put(sealed.total)
        for strategy in sealed.series:
            mine = self.series.setdefault(strategy, {})
            for symbol, more in sealed.series[strategy].items():
                known = mine.get(symbol)
                if known is None:
                    mine[symbol] = known = Series(more.before, more.at, Booked())
                known.at, known.peak = more.at, max(known.peak, more.peak)
                known.booked.put(more.booked)

    def rows(self, account_id: str, rules: int) -> Iterator[PnlRow]:
        """Yield its rows: the total, symbols and what no symbol explains, then strategies."""
        writer = _Rows(self, account_id, rules)
        before, at = self.before, self.at
        pnl = None
        if at.equity is not None:
            gained = subtract(at.equity, before.known_equity)
            pnl = subtract(gained, subtract(at.flows, before.known_flows))
        change = None if pnl is None else subtract(pnl, self.total.pnl)
        every = _summed(self.series.get(EVERY, {}))
        yield writer.total(change, every)
        for symbol, series in sorted(self.series.get(EVERY, {}).items()):
            yield writer.of(EVERY, symbol, series)
        own = subtract(every.at.unrealized, every.before.unrealized)
        rest = None if change is None else subtract(change, own)
        items = self.total.less(every.booked)
        if self.timeframe != "1m" or rest != ZERO or items != _NO_BOOKING:
            yield writer.row(EVERY, ACCOUNT_ITEMS, items, rest, None, ZERO)
        for strategy in sorted(self.series):
            if strategy != EVERY:
                yield writer.of(strategy, EVERY, _summed(self.series[strategy]))
                for symbol, series in sorted(self.series[strategy].items()):
                    yield writer.of(strategy, symbol, series)


def _summed(series: dict[str, Series]) -> Series:
    """Return series of several symbols as one; its peak is not known, the sum is above it."""
    every = Series(NOTHING, NOTHING, Booked())
    for _, one in sorted(series.items()):
        every.before, every.at = every.before.plus(one.before), every.at.plus(one.at)
        every.peak = add(every.peak, one.peak)
        every.booked.put(one.booked)
    return every


class _Rows:
    """Writes the rows of one bucket."""

    def __init__(self, bucket: Bucket, account_id: str, rules: int) -> None:
        self._bucket, self._account_id, self._rules = bucket, account_id, rules
        equity = bucket.before.equity
        self._base = equity if equity is not None and equity > 0 else None

    def total(self, change: Decimal | None, every: Series) -> PnlRow:
        """Return the row of the whole account."""
        bucket = self._bucket
        at, before = bucket.at, bucket.before
        base = (before.nav if before.epoch == at.epoch else ONE) or ZERO
        row = self.row(EVERY, EVERY, bucket.total, change, every, bucket.peak)
        return msgspec.structs.replace(
            row,
            equity=at.equity,
            nav=at.nav,
            ret=minus(over(at.nav, base), ONE) if at.nav is not None and base > 0 else None,
            flows=subtract(at.flows, before.flows),
            max_drawdown=at.fall,
        )

    def of(self, strategy: str, symbol: str, series: Series) -> PnlRow:
        """Return the row of a strategy, a symbol, or one of them in the other."""
        change = subtract(series.at.unrealized, series.before.unrealized)
        return self.row(strategy, symbol, series.booked, change, series, series.peak)

    def row(
        self,
        strategy: str,
        symbol: str,
        booked: Booked,
        change: Decimal | None,
        series: Series | None,
        peak: Decimal,
    ) -> PnlRow:
        """Return a row of these figures."""
        bucket = self._bucket
        pnl = None if change is None else add(booked.pnl, change)
        gross = ZERO
        if series is not None:
            gross = quotient(add(series.before.gross, series.at.gross), _TWO)
        return PnlRow(
            account_id=self._account_id,
            strategy_id=strategy,
            symbol=symbol,
            timeframe=bucket.timeframe,
            bucket=bucket.start * MINUTE_NS,
            epoch=bucket.at.epoch,
            equity=None,
            nav=None,
            ret=None,
            realized=booked.realized,
            unrealized_change=change,
            fees=booked.fees,
            funding=booked.funding,
            other=booked.other,
            pnl=pnl,
            pnl_corrected=booked.corrected,
            flows=ZERO,
            turnover=booked.turnover,
            fills=booked.fills,
            max_drawdown=None,
            peak_gross=peak if series is not None else None,
            contribution=over(pnl, self._base) if pnl is not None and self._base else None,
            return_on_gross=over(pnl, gross) if pnl is not None and gross > 0 else None,
            through_log_sequence=bucket.through,
            through_bucket=bucket.end * MINUTE_NS,
            rules=self._rules,
        )
