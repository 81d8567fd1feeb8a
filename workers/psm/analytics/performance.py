"""PerformanceFigures and risk of a series of daily closes of a unit, which starts at 1.

A figure that is not defined is None, never 0, NaN or infinity. All is + - x / and square roots in
34 digits, summed in time order; only `cagr` needs a power and is rounded to 12 significant digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Any

import msgspec

from psm.analytics.statistics import (
    deviations,
    mean,
    minus,
    over,
    plus,
    quantile,
    root,
    standard_deviation,
    sum_of_products,
    times,
    total,
    weights,
)
from psm.domain.money import ONE, ZERO, absolute

EWMA_DECAY = Decimal("0.94")
FEW = 100
"""Returns below which a quantile of them says little."""

_LONG = Context(50, ROUND_HALF_EVEN, -9999, 999, 1, 0, [], [InvalidOperation])
_SHORT = Context(12, ROUND_HALF_EVEN, -9999, 9999, 1, 0, [], [InvalidOperation])
_THREE = Decimal(3)


class NormalTail(msgspec.Struct, frozen=True, kw_only=True):
    """Constants of the normal distribution at a confidence in per cent."""

    confidence: int
    quantile: Decimal
    density: Decimal


TAIL_95 = NormalTail(
    confidence=95, quantile=Decimal("1.6448536269514722"), density=Decimal("0.10313564037537139")
)
TAIL_99 = NormalTail(
    confidence=99, quantile=Decimal("2.3263478740408408"), density=Decimal("0.02665214220345808")
)


class UnitStanding(msgspec.Struct, frozen=True, kw_only=True):
    """What closes of a unit do not say of the account.

    Attributes:
        equity: at the last close, by which fractions are money; None where it is not known.
        fall: deepest of the epoch at any mark, a fraction above zero; None where it is not known,
            or the closes begin within the epoch.
        base: what the unit was before the first of them; nothing is measured against what was not
            above zero.
    """

    equity: Decimal | None = None
    fall: Decimal | None = None
    base: Decimal = ONE


class PerformanceFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one series; fractions, not per cent.

    Attributes:
        n: returns.
        mean: of a return, as is every figure without "annual" below.
        volatility, sharpe, sortino, cagr, calmar: annual.
        max_drawdown: lowest close below the running maximum, negative; 1 is the first peak.
        max_drawdown_intraday: likewise of every mark of the epoch; None of a part of the epoch.
        max_drawdown_days: longest run of closes below the running maximum.
        var_hist_95, ...: the return that is undercut once in 20 (once in 100), and the mean of
            those beyond it; by the sample, and by a normal distribution.
        var_hist_95_money, ...: what would be lost of the equity at the last close.
        few: fewer than 100 returns.
        ruined: a close was not above zero; then only drawdown and total return are given, and not
            even these where it was so before the first of the closes.
    """

    n: int
    few: bool
    ruined: bool
    mean: Decimal | None = None
    volatility: Decimal | None = None
    sharpe: Decimal | None = None
    sortino: Decimal | None = None
    cagr: Decimal | None = None
    total_return: Decimal | None = None
    max_drawdown: Decimal | None = None
    max_drawdown_days: int = 0
    calmar: Decimal | None = None
    var_hist_95: Decimal | None = None
    var_hist_99: Decimal | None = None
    es_hist_95: Decimal | None = None
    es_hist_99: Decimal | None = None
    var_param_95: Decimal | None = None
    var_param_99: Decimal | None = None
    es_param_95: Decimal | None = None
    es_param_99: Decimal | None = None
    ewma_vol_daily: Decimal | None = None
    skew: Decimal | None = None
    kurtosis_excess: Decimal | None = None
    max_drawdown_intraday: Decimal | None = None
    var_hist_95_money: Decimal | None = None
    var_hist_99_money: Decimal | None = None
    es_hist_95_money: Decimal | None = None
    es_hist_99_money: Decimal | None = None
    var_param_95_money: Decimal | None = None
    var_param_99_money: Decimal | None = None
    es_param_95_money: Decimal | None = None
    es_param_99_money: Decimal | None = None


def performance(
    closes: Sequence[Decimal],
    periods: int,
    risk_free: Decimal = ZERO,
    standing: UnitStanding = UnitStanding(),  # noqa: B008 - frozen
) -> PerformanceFigures:
    """Return the figures of a unit's closes, the first return being against 1.

    Args:
        closes: one a bucket, in order.
        periods: buckets a year.
        risk_free: annual rate.
        standing: of the account at the last of them.
    """
    if standing.base <= 0:
        return PerformanceFigures(n=len(closes), few=len(closes) < FEW, ruined=True)
    fall, days = drawdown_of(closes)
    known: dict[str, Any] = {
        "n": len(closes),
        "few": len(closes) < FEW,
        "total_return": minus(closes[-1], ONE) if closes else None,
        "max_drawdown": fall,
        "max_drawdown_days": days,
        "max_drawdown_intraday": None if standing.fall is None else minus(ZERO, standing.fall),
    }
    if any(close <= 0 for close in closes):
        return PerformanceFigures(ruined=True, **known)
    returns = returns_of(closes)
    growth, tails = cagr(closes, periods), _tails(returns)
    return PerformanceFigures(
        ruined=False,
        **known,
        mean=mean(returns) if returns else None,
        **_ratios(returns, periods, risk_free),
        cagr=growth,
        calmar=over(growth, absolute(fall)) if growth is not None and fall else None,
        **tails,
        **_as_money(tails, standing.equity),
        ewma_vol_daily=ewma_volatility(returns),
        skew=skewness(returns),
        kurtosis_excess=kurtosis(returns),
    )


def returns_of(closes: Sequence[Decimal]) -> list[Decimal]:
    """Return close over close, less 1; the first is against 1, so a first day's loss counts."""
    found, before = [], ONE
    for close in closes:
        found.append(minus(over(close, before), ONE))
        before = close
    return found


def drawdown_of(closes: Sequence[Decimal]) -> tuple[Decimal | None, int]:
    """Return the lowest close below the running maximum, and the longest run below it."""
    peak, lowest, longest, run = ONE, ZERO, 0, 0
    for close in closes:
        if close >= peak:
            peak, run = close, 0
            continue
        run += 1
        longest = max(longest, run)
        below = minus(over(close, peak), ONE)
        lowest = min(lowest, below)
    return (lowest if closes else None), longest


def cagr(closes: Sequence[Decimal], periods: int) -> Decimal | None:
    """Return the annual growth of a unit that ended above zero, rounded to 12 digits.

    None below two closes, and beyond 10^999: minutes that gained one per cent make that of a year.
    """
    if len(closes) < 2 or closes[-1] <= 0:
        return None
    exponent = _LONG.divide(Decimal(periods), Decimal(len(closes)))
    power = _LONG.multiply(closes[-1].ln(context=_LONG), exponent).exp(context=_LONG)
    return _SHORT.plus(_LONG.subtract(power, ONE)) if power.is_finite() else None


def historical_tail(returns: Sequence[Decimal], tail: NormalTail) -> tuple[Decimal, Decimal]:
    """Return quantile, and mean of the worst floor((n - 1) (100 - c) / 100) + 1 returns."""
    ordered = sorted(returns)
    beyond = 100 - tail.confidence
    worst = ordered[: (len(ordered) - 1) * beyond // 100 + 1]
    return quantile(ordered, over(Decimal(beyond), Decimal(100))), mean(worst)


def parametric_tail(
    centre: Decimal, deviation: Decimal, tail: NormalTail
) -> tuple[Decimal, Decimal]:
    """Return quantile and expected shortfall of a normal distribution."""
    share = over(Decimal(100 - tail.confidence), Decimal(100))
    return (
        minus(centre, times(tail.quantile, deviation)),
        minus(centre, over(times(deviation, tail.density), share)),
    )


def ewma_volatility(returns: Sequence[Decimal]) -> Decimal | None:
    """Return the root of the mean square return, weighted by 0.94 a period, about zero."""
    if not returns:
        return None
    share = weights(EWMA_DECAY, len(returns))
    squares = [times(value, value) for value in returns]
    return root(over(sum_of_products(share, squares), total(share)))


def skewness(returns: Sequence[Decimal]) -> Decimal | None:
    """Return the third standardised moment, corrected for bias; None below four returns."""
    n = Decimal(len(returns))
    if len(returns) < 4:
        return None
    second, third = _moment(returns, 2), _moment(returns, 3)
    if not second:
        return None
    raw = over(third, times(second, root(second)))
    return over(times(root(times(n, minus(n, ONE))), raw), minus(n, Decimal(2)))


def kurtosis(returns: Sequence[Decimal]) -> Decimal | None:
    """Return the excess of the fourth standardised moment, corrected for bias; as `skewness`."""
    n = Decimal(len(returns))
    if len(returns) < 4:
        return None
    second, fourth = _moment(returns, 2), _moment(returns, 4)
    if not second:
        return None
    less = minus(n, ONE)
    raw = over(fourth, times(second, second))
    inner = minus(times(plus(n, ONE), raw), times(_THREE, less))
    return over(times(less, inner), times(minus(n, Decimal(2)), minus(n, _THREE)))


def _ratios(returns: Sequence[Decimal], periods: int, risk_free: Decimal) -> dict[str, Any]:
    """Return volatility, Sharpe and Sortino ratio, annual."""
    deviation = standard_deviation(returns)
    if deviation is None:
        return {}
    year, centre = root(Decimal(periods)), mean(returns)
    excess = minus(centre, over(risk_free, Decimal(periods)))
    losses = [value for value in returns if value < 0]
    down = root(over(sum_of_products(losses, losses), Decimal(len(returns))))
    return {
        "volatility": times(deviation, year),
        "sharpe": times(over(excess, deviation), year) if deviation else None,
        "sortino": times(over(excess, down), year) if down else None,
    }


def _tails(returns: Sequence[Decimal]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    deviation = standard_deviation(returns)
    if deviation is None:
        return found
    for tail in (TAIL_95, TAIL_99):
        names = f"hist_{tail.confidence}", f"param_{tail.confidence}"
        both = [historical_tail(returns, tail)]
        if deviation:
            both.append(parametric_tail(mean(returns), deviation, tail))
        for name, (value, shortfall) in zip(names, both, strict=False):
            found[f"var_{name}"], found[f"es_{name}"] = value, shortfall
    return found


def _as_money(tails: Mapping[str, Decimal], equity: Decimal | None) -> dict[str, Any]:
    """Return what returns would lose of an equity, above zero where they are losses."""
    if equity is None:
        return {}
    return {f"{name}_money": minus(ZERO, times(tail, equity)) for name, tail in tails.items()}


def _moment(returns: Sequence[Decimal], power: int) -> Decimal:
    """Return the mean of the deviations to a power."""
    raised = []
    for value in deviations(returns):
        product = ONE
        for _ in range(power):
            product = times(product, value)
        raised.append(product)
    return mean(raised)
