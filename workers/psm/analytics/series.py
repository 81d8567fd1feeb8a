"""Series that a tear sheet shows: falls, months, distribution, rolling Sharpe ratio."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from psm.analytics.statistics import mean, minus, over, plus, root, standard_deviation, times
from psm.domain.money import ONE


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """How many values are in [low, high); the last bin has those at its high end, too."""

    low: Decimal
    high: Decimal
    count: int


def falls(closes: Sequence[Decimal]) -> list[Decimal]:
    """Return each close over the running maximum, less 1; 1 is the first peak, 0 is at it."""
    found, peak = [], ONE
    for close in closes:
        peak = max(peak, close)
        found.append(minus(over(close, peak), ONE))
    return found


def months(closes: Sequence[tuple[str, Decimal]]) -> dict[str, Decimal]:
    """Return the return of each month, such as 2026-01, of a unit that starts at 1.

    Args:
        closes: RFC 3339 time or date of the bucket, and close, in order; all above zero.
    """
    ends: dict[str, Decimal] = {}
    for time, close in closes:
        ends[time[:7]] = close
    found, before = {}, ONE
    for month, close in ends.items():
        found[month] = minus(over(close, before), ONE)
        before = close
    return found


def compounded(returns: Sequence[Decimal]) -> Decimal:
    """Return what returns one after the other make together."""
    value = ONE
    for one in returns:
        value = times(value, plus(ONE, one))
    return minus(value, ONE)


def distribution(returns: Sequence[Decimal], bins: int) -> list[Bin]:
    """Return how many returns are in each of `bins` equal parts of their range.

    One bin where all are the same; none where there is none.
    """
    if not returns:
        return []
    low, high = min(returns), max(returns)
    if low == high:
        return [Bin(low=low, high=high, count=len(returns))]
    width = over(minus(high, low), Decimal(bins))
    counts = [0 for _ in range(bins)]
    for value in returns:
        counts[min(int(over(minus(value, low), width)), bins - 1)] += 1
    edges = [*(plus(low, times(width, Decimal(index))) for index in range(bins)), high]
    return [
        Bin(low=edges[index], high=edges[index + 1], count=count)
        for index, count in enumerate(counts)
    ]


def rolling_sharpe(
    returns: Sequence[Decimal], window: int, periods: int, risk_free: Decimal
) -> list[Decimal | None]:
    """Return the annual Sharpe ratio of the last `window` returns at each of them.

    It is annual by `periods`, buckets a year, whatever the window is. None until the window is
    full, and where its returns are all the same.
    """
    year, base = root(Decimal(periods)), over(risk_free, Decimal(periods))
    found: list[Decimal | None] = [None for _ in returns[: window - 1]]
    for end in range(window, len(returns) + 1):
        part = returns[end - window : end]
        deviation = standard_deviation(part)
        ratio = over(minus(mean(part), base), deviation) if deviation else None
        found.append(None if ratio is None else times(ratio, year))
    return found
