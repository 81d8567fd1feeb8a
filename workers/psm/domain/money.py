"""Exact decimal arithmetic: sums and products are exact, a quotient has 34 significant digits.

The thread's own decimal context is never used: every operation names its context, so a caller's
settings cannot change a number. What cannot be represented exactly in 100 digits raises
`ArithmeticError` (decimal's signals derive from it) instead of being rounded in silence.
"""

from __future__ import annotations

from decimal import (
    ROUND_DOWN,
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
    Underflow,
)

from psm.contracts.codec import canonical_decimal

ZERO = Decimal(0)
ONE = Decimal(1)
PUBLISHED_DECIMALS = 18

_ERRORS = [InvalidOperation, DivisionByZero, Overflow, Underflow]
_EXACT = Context(100, ROUND_HALF_EVEN, -9999, 9999, 1, 0, [], [*_ERRORS, Inexact])
_TRUNCATED = Context(400, ROUND_DOWN, -9999, 9999, 1, 0, [], _ERRORS)
_QUOTIENT = Context(34, ROUND_HALF_EVEN, -9999, 9999, 1, 0, [], _ERRORS)
_PUBLISHED = Context(400, ROUND_HALF_EVEN, -9999, 9999, 1, 0, [], _ERRORS)
_PUBLISHED_QUANTUM = Decimal((0, (1,), -PUBLISHED_DECIMALS))
_LONGEST_FRACTION = PUBLISHED_DECIMALS + 1  # with the point

add = _EXACT.add
subtract = _EXACT.subtract
multiply = _EXACT.multiply
quotient = _QUOTIENT.divide
_round = _PUBLISHED.quantize
_truncate = _TRUNCATED.quantize
multiply_wide = _PUBLISHED.multiply
add_wide = _PUBLISHED.add
subtract_wide = _PUBLISHED.subtract
"""Sums of many exact products, without a limit that a legal input could reach."""


rounded_rate = _QUOTIENT.plus
"""Return a rate with at most 34 significant digits."""


def booked_value(value: Decimal) -> Decimal:
    """Return `value` as it is booked where a rate gave it: with 18 decimals, half-even."""
    return _round(value, _PUBLISHED_QUANTUM)


def scaled(value: Decimal, numerator: Decimal, denominator: Decimal) -> Decimal:
    """Return `value` x `numerator` / `denominator`, rounded once, to 34 significant digits."""
    return quotient(_PUBLISHED.multiply(value, numerator), denominator)


def exactly_scaled(value: Decimal, numerator: Decimal, denominator: Decimal) -> Decimal:
    """Return `scaled`, exactly where the quotient has an end within 100 digits."""
    product = _PUBLISHED.multiply(value, numerator)
    rounded = quotient(product, denominator)
    if _PUBLISHED.multiply(rounded, denominator) == product:
        return rounded
    try:
        return _EXACT.divide(product, denominator)
    except Inexact:
        return rounded


def truncated(value: Decimal) -> Decimal:
    """Return `value` cut toward zero to the 18 decimals that venues report in."""
    return _truncate(value, _PUBLISHED_QUANTUM)


negate = Decimal.copy_negate
"""Return `-value`, exactly."""
absolute = Decimal.copy_abs
"""Return the magnitude of `value`, exactly."""


def figure_sum(*values: Decimal) -> Decimal:
    """Return the sum of `values` for publication: never fails, wider than any published figure."""
    result = ZERO
    for value in values:
        result = _PUBLISHED.add(result, value)
    return result


exact_text = canonical_decimal
"""The canonical text of a decimal at full precision; what the hashes are taken over."""


def plain(value: Decimal | None) -> Decimal | None:
    """Return a figure without the zeros that its way of computing left after the point.

    A sum that is kept up to date has more of them than one that is computed again after a start.
    """
    return None if value is None else Decimal(exact_text(value))


def published_text(value: Decimal) -> str:
    """Return the canonical text of `value` with at most 18 decimals, half-even."""
    if not value:
        return "0"
    text = str(value)
    point = text.find(".")
    if "E" in text:
        return _text_of_extreme(value)
    if point < 0:
        return text
    if len(text) - point > _LONGEST_FRACTION:
        text = str(_round(value, _PUBLISHED_QUANTUM))
        if "E" in text:
            return _text_of_extreme(value)
    if text[-1] != "0":
        return text
    text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def published_or_null(value: Decimal | None) -> str | None:
    """Return the text of a figure as it is published; None where there is none."""
    if value is None:
        return None
    return published_text(value) if value else "0"


def published(value: Decimal) -> Decimal:
    """Return `value` rounded to 18 decimals, half-even: what `published_text` says."""
    return Decimal(published_text(value))


def _text_of_extreme(value: Decimal) -> str:
    """Return the same for a number that Python writes with an exponent: very great or small."""
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    if exponent < -PUBLISHED_DECIMALS:
        value = _round(value, _PUBLISHED_QUANTUM)
    return canonical_decimal(value)
