"""Exact arithmetic, and the text of numbers."""

from __future__ import annotations

from decimal import Decimal, Inexact

import pytest

from psm.domain.money import (
    absolute,
    add,
    exact_text,
    figure_sum,
    multiply,
    negate,
    published_text,
    quotient,
    scaled,
    subtract,
)

D = Decimal


def test_sums_and_products_are_exact() -> None:
    """0.1 + 0.2 - 0.3 is zero, and 36 digits times 36 digits lose nothing."""
    assert not subtract(add(D("0.1"), D("0.2")), D("0.3"))
    wide = D("9" * 18 + "." + "9" * 18)
    assert multiply(wide, wide) == D("9" * 35 + "8." + "0" * 35 + "1")


def test_what_does_not_fit_raises() -> None:
    """Beyond 100 digits nothing is rounded in silence."""
    with pytest.raises(Inexact):
        add(D("1E+60"), D("1E-60"))
    with pytest.raises(ArithmeticError):
        quotient(D(1), D(0))


@pytest.mark.parametrize(
    ("numerator", "denominator", "result"),
    [
        (1, 3, "0." + "3" * 34),
        (2, 3, "0." + "6" * 33 + "7"),
        (1, 8, "0.125"),
        (10**40, 3, "3" * 34 + "000000"),
    ],
)
def test_quotient_has_34_digits(numerator: int, denominator: int, result: str) -> None:
    """Half-even, on significant digits."""
    assert exact_text(quotient(D(numerator), D(denominator))) == result


def test_scaled_rounds_once_and_never_fails() -> None:
    """A product of any width is allowed in between."""
    wide = D("1." + "7" * 98)
    assert scaled(wide, wide, wide) == quotient(wide, D(1))


def test_signs() -> None:
    """Negation and magnitude are exact at any width."""
    wide = D("-1." + "7" * 98)
    assert add(negate(wide), wide) == 0
    assert absolute(wide) == negate(wide)
    assert exact_text(negate(D(0))) == "0"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0.1234567890123456785", "0.123456789012345678"),
        ("0.1234567890123456775", "0.123456789012345678"),
        ("0.12345678901234567850000001", "0.123456789012345679"),
        ("-0.0000000000000000004", "0"),
        ("1E-30", "0"),
        ("1E+30", "1" + "0" * 30),
        ("0E-40", "0"),
        ("12.50", "12.5"),
        ("9" * 40 + ".5", "9" * 40 + ".5"),
    ],
)
def test_published_text(value: str, text: str) -> None:
    """At most 18 decimals, half-even, canonical."""
    assert published_text(D(value)) == text


def test_figures_for_publication_never_fail() -> None:
    """A sum of what is published is wider than any figure."""
    assert exact_text(figure_sum(D("1E+60"), D("1E-60"))) == "1" + "0" * 60 + "." + "0" * 59 + "1"
    assert figure_sum() == 0
