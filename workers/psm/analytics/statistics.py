"""Statistics in 34 significant digits: + - x / and square roots, always in the order given.

These operations are correctly rounded by IEEE 754-2008, so every machine gets the same digits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow

from psm.domain.money import ONE, ZERO

DIGITS = Context(
    34, ROUND_HALF_EVEN, -9999, 9999, 1, 0, [], [InvalidOperation, DivisionByZero, Overflow]
)
plus = DIGITS.add
minus = DIGITS.subtract
times = DIGITS.multiply
over = DIGITS.divide
root = DIGITS.sqrt


def total(values: Iterable[Decimal]) -> Decimal:
    """Return the sum, added up in order."""
    result = ZERO
    for value in values:
        result = plus(result, value)
    return result


def mean(values: Sequence[Decimal]) -> Decimal:
    """Return the arithmetic mean of at least one value."""
    return over(total(values), Decimal(len(values)))


def deviations(values: Sequence[Decimal]) -> list[Decimal]:
    """Return each value less the mean."""
    centre = mean(values)
    return [minus(value, centre) for value in values]


def sum_of_products(left: Sequence[Decimal], right: Sequence[Decimal]) -> Decimal:
    """Return the scalar product of two series of one length."""
    result = ZERO
    for one, other in zip(left, right, strict=True):
        result = plus(result, times(one, other))
    return result


def standard_deviation(values: Sequence[Decimal]) -> Decimal | None:
    """Return the sample standard deviation (n - 1); None below two values."""
    if len(values) < 2:
        return None
    away = deviations(values)
    return root(over(sum_of_products(away, away), Decimal(len(values) - 1)))


def quantile(ordered: Sequence[Decimal], share: Decimal) -> Decimal:
    """Return a quantile of ascending values by linear interpolation (Hyndman and Fan's type 7)."""
    place = times(Decimal(len(ordered) - 1), share)
    below = int(place)
    low = ordered[below]
    if below + 1 >= len(ordered):
        return low
    return plus(low, times(minus(ordered[below + 1], low), minus(place, Decimal(below))))


def weights(decay: Decimal, count: int) -> list[Decimal]:
    """Return `count` exponential weights, oldest first, the newest 1."""
    result = [ONE]
    for _ in range(count - 1):
        result.append(times(result[-1], decay))
    return result[::-1]
