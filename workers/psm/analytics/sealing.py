"""Complete minutes on their way into buckets."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from psm.analytics.buckets import (
    LENGTHS,
    NOTHING,
    Booked,
    Bucket,
    Minute,
    Sealed,
    Series,
    Worth,
    bucket_start,
)
from psm.analytics.rows import EVERY, PnlRow
from psm.analytics.timeline_state import TimelineState
from psm.contracts.position_keys import position_key, symbol_of
from psm.domain.money import ZERO, add

RULES = 1
"""Version of the rules by which updates are folded."""


class Buckets:
    """Puts minutes of one account into its buckets, and keeps the rows that came of it."""

    def __init__(self) -> None:
        self._rows: list[PnlRow] = []
        self._grown: dict[str, None] = {}

    def seal(self, state: TimelineState, minute: Minute) -> None:
        """Put a complete minute into its buckets."""
        standing = minute.standing or state.standing
        series, peak = _series(state, minute), max(minute.peaks[EVERY], state.gross)
        if EVERY in minute.worth:
            state.gross = _gross(state.worth[EVERY])
        sealed = Sealed(
            minute=minute.number,
            total=minute.total,
            series=series,
            before=state.standing,
            at=standing,
            peak=max(peak, state.gross),
            through=minute.through,
        )
        for timeframe in LENGTHS:
            start = bucket_start(timeframe, minute.number)
            # Whether a minute was complete already when a strategy was named makes no difference.
            named = bucket_start(timeframe, state.strategies.since) <= start
            told = sealed if named else _of_account(sealed)
            if timeframe == "1m":
                alone = Bucket(timeframe, minute.number, state.standing, standing, Booked(), {})
                alone.put(told)
                self._rows.extend(alone.rows(state.account_id, RULES))
                continue
            bucket = state.buckets.get(timeframe)
            if bucket is None or bucket.start != start:
                if bucket is not None and timeframe in self._grown:
                    self._rows.extend(bucket.rows(state.account_id, RULES))
                bucket = Bucket(timeframe, start, state.standing, standing, Booked(), {})
                state.buckets[timeframe] = bucket
            bucket.put(told)
            self._grown[timeframe] = None
        state.standing = standing

    def rows(self, state: TimelineState) -> list[PnlRow]:
        """Return rows that are new or have grown since the last call."""
        for timeframe in sorted(self._grown):
            self._rows.extend(state.buckets[timeframe].rows(state.account_id, RULES))
        rows, self._rows, self._grown = self._rows, [], {}
        return rows


def _of_account(sealed: Sealed) -> Sealed:
    """Return a minute without strategies: it is of a bucket that ended before any was named."""
    own = sealed.series.get(EVERY)
    return msgspec.structs.replace(sealed, series={} if own is None else {EVERY: own})


def _series(state: TimelineState, minute: Minute) -> dict[str, dict[str, Series]]:
    """Return what each strategy and symbol did in a minute; positions move on to its end."""
    found: dict[str, dict[str, Series]] = {}
    for strategy in sorted({**minute.booked, **minute.worth}):
        known = state.worth.setdefault(strategy, {})
        series: dict[str, Series] = {}
        for symbol, booked in sorted(minute.booked.get(strategy, {}).items()):
            series[symbol] = Series(*_both(known, symbol), booked)
        for key in sorted(minute.worth.get(strategy, {})):
            symbol, worth = symbol_of(key), minute.worth[strategy][key]
            if symbol not in series:
                series[symbol] = Series(*_both(known, symbol), Booked())
            if worth == NOTHING:
                known.pop(key, None)
            else:
                known[key] = worth
            series[symbol].at = _worth_of(known, symbol)
        for symbol, one in series.items():
            is_whole = strategy == EVERY or minute.number < state.strategies.since
            told = minute.peaks.get(symbol, ZERO) if is_whole else ZERO
            one.peak = max(told, one.before.gross, one.at.gross)
        found[strategy] = series
    return found


def _gross(positions: dict[str, Worth]) -> Decimal:
    """Return the exposure of positions together."""
    gross = ZERO
    for worth in positions.values():
        gross = add(gross, worth.gross)
    return gross


def _both(known: dict[str, Worth], symbol: str) -> tuple[Worth, Worth]:
    worth = _worth_of(known, symbol)
    return worth, worth


def _worth_of(known: dict[str, Worth], symbol: str) -> Worth:
    """Return what a symbol's position, or its legs, are worth."""
    worth = NOTHING
    for side in ("net", "long", "short"):
        worth = worth.plus(known.get(position_key(symbol, side), NOTHING))
    return worth
