"""Which symbols move together: correlation of daily returns, shrunk, and clusters by linkage.

Daily simple returns of the last 90 days on which every classified symbol has one; correlation
shrunk towards the identity by Ledoit and Wolf's estimator on standardised returns; average linkage
on d = sqrt((1 - rho) / 2), cut at rho = 0.5. Ties: smaller distance, then smaller pair of symbols.
Every operation is one of + - x / and square root in 34 digits, in a fixed order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import msgspec

from psm.analytics.statistics import (
    deviations,
    minus,
    over,
    plus,
    root,
    standard_deviation,
    sum_of_products,
    times,
    total,
    weights,
)
from psm.domain.money import ONE, ZERO
from psm.risk.exposure import UNCLASSIFIED

WINDOW = 90
LEAST_DAYS = 60
LONGEST_REPEAT = 3
CUT = Decimal("0.5")
DECAY = Decimal("0.97")
_TWO = Decimal(2)

_Entry = Callable[[int, int], Decimal]
Matrix = list[list[Decimal]]


class Closes(msgspec.Struct, frozen=True):
    """Daily closes.

    Attributes:
        days: ascending, one after the other.
        prices: by symbol, one for each day; None where there was none.
    """

    days: tuple[str, ...]
    prices: Mapping[str, Sequence[Decimal | None]]


class Clusters(msgspec.Struct, frozen=True, kw_only=True):
    """What moves together.

    Attributes:
        symbols: that are classified, ascending; the order of the matrices' rows.
        first_day, last_day, n: of the returns used.
        correlation: as the sample has it.
        correlation_ewma: weighted by 0.97 a day, for display.
        shrinkage: weight of the identity in `correlation_shrunk`.
        clusters: members by cluster; a cluster is named after its first symbol.
        unclassified: symbols with fewer than 60 days, or whose price never moved.
        sigma: sample standard deviation of the daily returns.
        beta: to the benchmark.
    """

    symbols: tuple[str, ...]
    first_day: str | None
    last_day: str | None
    n: int
    correlation: Matrix
    correlation_ewma: Matrix
    correlation_shrunk: Matrix
    shrinkage: Decimal | None
    clusters: Mapping[str, tuple[str, ...]]
    unclassified: tuple[str, ...]
    sigma: Mapping[str, Decimal]
    beta: Mapping[str, Decimal | None]


def compute(closes: Closes, benchmark: str | None = None) -> Clusters:
    """Return the clusters of the last days of a table of closes.

    Args:
        closes: of every symbol.
        benchmark: to which betas are taken; None for the first symbol.
    """
    returns = {symbol: daily_returns(closes.prices[symbol]) for symbol in sorted(closes.prices)}
    used, moving = _moving(returns)
    symbols, series = tuple(moving), list(moving.values())
    correlation = correlations(series)
    shrinkage = shrinkage_of(series) if len(symbols) > 1 else None
    shrunk = _shrunk(correlation, shrinkage or ZERO)
    days = [closes.days[day + 1] for day in used]
    return Clusters(
        symbols=symbols,
        first_day=next(iter(days), None),
        last_day=next(reversed(days), None),
        n=len(days),
        correlation=correlation,
        correlation_ewma=weighted_correlations(series),
        correlation_shrunk=shrunk,
        shrinkage=shrinkage,
        clusters=_named(linkage_clusters(shrunk), symbols),
        unclassified=tuple(symbol for symbol in returns if symbol not in symbols),
        sigma=dict(zip(symbols, map(_sigma, series), strict=True)),
        beta=_betas(symbols, series, benchmark or next(iter(symbols), None)),
    )


def cluster_table(found: Clusters) -> dict[str, str]:
    """Return the cluster of each symbol, as a decision takes it."""
    table = {symbol: name for name, members in found.clusters.items() for symbol in members}
    return {**table, **dict.fromkeys(found.unclassified, UNCLASSIFIED)}


def daily_returns(prices: Sequence[Decimal | None]) -> list[Decimal | None]:
    """Return one return less than prices: a missing day repeats the price, at most three times."""
    found: list[Decimal | None] = []
    last: Decimal | None = None
    repeated = 0
    for day, price in enumerate(prices):
        before = last
        if price is not None and price > 0:
            last, repeated = price, 0
        else:
            repeated += 1
            if repeated > LONGEST_REPEAT:
                last = None
        if day:
            known = before is not None and last is not None
            found.append(minus(over(last or ONE, before or ONE), ONE) if known else None)
    return found


def correlations(series: Sequence[Sequence[Decimal]]) -> Matrix:
    """Return the sample correlations of series of one length, none of them constant."""
    away = [deviations(values) for values in series]
    lengths = [root(sum_of_products(one, one)) for one in away]
    return _symmetric(
        len(series),
        lambda i, j: over(sum_of_products(away[i], away[j]), times(lengths[i], lengths[j])),
    )


def weighted_correlations(series: Sequence[Sequence[Decimal]]) -> Matrix:
    """Return correlations under exponential weights, about the weighted means."""
    if not series:
        return []
    share = weights(DECAY, len(series[0]))
    whole = total(share)
    away = []
    for values in series:
        centre = over(sum_of_products(values, share), whole)
        away.append([minus(value, centre) for value in values])
    weighted = [[times(a, w) for a, w in zip(one, share, strict=True)] for one in away]
    lengths = [root(sum_of_products(weighted[i], away[i])) for i in range(len(series))]
    return _symmetric(
        len(series),
        lambda i, j: over(sum_of_products(weighted[i], away[j]), times(lengths[i], lengths[j])),
    )


def shrinkage_of(series: Sequence[Sequence[Decimal]]) -> Decimal:
    """Return Ledoit and Wolf's weight of the identity for standardised returns, 0 to 1.

    With X the returns less their mean, over their standard deviation (n): S = X'X / n,
    d2 = |S - I|^2 / p, b2 = (sum over days of |x x'|^2 / n - |S|^2) / (n p), min(b2, d2) / d2.
    """
    p, n = Decimal(len(series)), Decimal(len(series[0]))
    scores = [_scores(values) for values in series]
    squares = [[times(value, value) for value in values] for values in scores]
    fourth = ZERO
    for day in range(len(series[0])):
        length = total(values[day] for values in squares)
        fourth = plus(fourth, times(length, length))
    sizes = ZERO
    apart = ZERO
    for i, one in enumerate(scores):
        for j, other in enumerate(scores):
            entry = over(sum_of_products(one, other), n)
            sizes = plus(sizes, times(entry, entry))
            off = minus(entry, ONE) if i == j else entry
            apart = plus(apart, times(off, off))
    spread = over(minus(over(fourth, n), sizes), times(n, p))
    distance = over(apart, p)
    if spread <= 0 or not distance:
        return ZERO
    return ONE if spread >= distance else over(spread, distance)


def linkage_clusters(correlation: Matrix) -> list[list[int]]:
    """Return the clusters of average linkage, cut at `CUT`; members and clusters ascending."""
    groups = [[place] for place in range(len(correlation))]
    distances = [
        [root(over(minus(ONE, _at_most_one(rho)), _TWO)) for rho in row] for row in correlation
    ]
    while len(groups) > 1:
        nearest: tuple[Decimal, int, int] | None = None
        for i, one in enumerate(groups):
            for j in range(i + 1, len(groups)):
                apart = _between(distances, one, groups[j])
                if nearest is None or apart < nearest[0]:
                    nearest = apart, i, j
        if nearest is None or nearest[0] > CUT:
            break
        _, i, j = nearest
        groups[i] = sorted([*groups[i], *groups[j]])
        del groups[j]
    return sorted(groups)


def _between(distances: Matrix, one: Sequence[int], other: Sequence[int]) -> Decimal:
    """Return the mean distance between members of two clusters."""
    summed = total(distances[i][j] for i in one for j in other)
    return over(summed, Decimal(len(one) * len(other)))


def _complete(returns: Mapping[str, list[Decimal | None]]) -> tuple[list[str], list[int]]:
    """Return the symbols that are classified, and the days on which all of them have a return."""
    days = range(max((len(values) for values in returns.values()), default=0))
    recent = list(days)[-WINDOW:]
    counts = {
        symbol: len([day for day in recent if values[day] is not None])
        for symbol, values in returns.items()
    }
    chosen = [symbol for symbol, count in counts.items() if count >= LEAST_DAYS]
    while chosen:
        used = [day for day in recent if all(returns[s][day] is not None for s in chosen)]
        if len(used) >= LEAST_DAYS:
            return chosen, used
        # The symbol with the fewest days leaves, of equal ones the last.
        chosen.remove(min(reversed(chosen), key=counts.__getitem__))
    return [], []


def _moving(
    returns: Mapping[str, list[Decimal | None]],
) -> tuple[list[int], dict[str, list[Decimal]]]:
    """Return the days that are used, and the returns of each symbol whose price ever moved."""
    chosen, used = _complete(returns)
    series = {symbol: [_known(returns[symbol][day]) for day in used] for symbol in chosen}
    return used, {name: values for name, values in series.items() if standard_deviation(values)}


def _named(groups: Sequence[Sequence[int]], symbols: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the members of each cluster by the cluster's first symbol."""
    return {symbols[group[0]]: tuple(symbols[place] for place in group) for group in groups}


def _betas(
    symbols: Sequence[str], series: Sequence[Sequence[Decimal]], benchmark: str | None
) -> dict[str, Decimal | None]:
    if benchmark not in symbols:
        return dict.fromkeys(symbols, None)
    base = deviations(series[symbols.index(benchmark)])
    variance = sum_of_products(base, base)
    return {
        symbol: over(sum_of_products(deviations(values), base), variance)
        for symbol, values in zip(symbols, series, strict=True)
    }


def _shrunk(correlation: Matrix, shrinkage: Decimal) -> Matrix:
    keep = minus(ONE, shrinkage)
    return [
        [ONE if i == j else times(keep, rho) for j, rho in enumerate(row)]
        for i, row in enumerate(correlation)
    ]


def _scores(values: Sequence[Decimal]) -> list[Decimal]:
    away = deviations(values)
    deviation = root(over(sum_of_products(away, away), Decimal(len(values))))
    return [over(value, deviation) for value in away]


def _symmetric(size: int, entry: _Entry) -> Matrix:
    result = [[ONE for _ in range(size)] for _ in range(size)]
    for i in range(size):
        for j in range(i):
            result[i][j] = result[j][i] = entry(i, j)
    return result


def _sigma(values: Sequence[Decimal]) -> Decimal:
    return standard_deviation(values) or ZERO


def _known(value: Decimal | None) -> Decimal:
    assert value is not None
    return value


def _at_most_one(rho: Decimal) -> Decimal:
    return min(ONE, rho)
