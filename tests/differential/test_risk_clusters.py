"""Correlations, shrinkage, clusters and betas equal those of numpy, scikit-learn and scipy."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from psm.risk.clusters import Closes, cluster_table, compute
from psm.risk.exposure import UNCLASSIFIED

CASES = json.loads((Path(__file__).parent / "risk_vectors.json").read_text("utf-8"))["cases"]
CLOSE = Decimal("1E-12")


def closes_of(case: dict[str, Any]) -> Closes:
    columns = {name: [Decimal(text) for text in texts] for name, texts in case["closes"].items()}
    length = len(next(iter(columns.values())))
    return Closes(tuple(f"day {n:03}" for n in range(length)), columns)


def assert_close(found: object, expected: object) -> None:
    if isinstance(expected, list):
        assert isinstance(found, list | tuple)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other)
    else:
        assert isinstance(found, Decimal)
        assert abs(found - Decimal(repr(expected))) <= CLOSE


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{len(case['closes'])}x{case['n']}")
def test_figures_equal_the_libraries(case: dict[str, Any]) -> None:
    """To 1e-12 for each entry, and the same partition."""
    found = compute(closes_of(case))
    assert (found.n, found.unclassified) == (case["n"], ())
    for name in ("correlation", "correlation_ewma", "shrinkage"):
        assert_close(getattr(found, name), case[name])
    assert_close(list(found.sigma.values()), case["sigma"])
    assert_close(list(found.beta.values()), case["beta"])
    partition = sorted(list(members) for members in found.clusters.values())
    assert partition == sorted(case["clusters"])


def test_a_missing_day_repeats_the_price_at_most_three_times() -> None:
    """Up to three days are returns of zero, the fourth is missing, and so is the way back."""
    case = closes_of(CASES[1])
    first = next(iter(case.prices))
    prices = [*case.prices[first]]
    for day in range(40, 44):
        prices[day] = None
    found = compute(Closes(case.days, {**case.prices, first: prices}))
    assert found.n == 90 - 2
    for day in range(10, 60):
        prices[day] = None
    found = compute(Closes(case.days, {**case.prices, first: prices}))
    assert found.unclassified == (first,)
    assert cluster_table(found)[first] == UNCLASSIFIED
    assert found.n == 90


def test_a_price_that_never_moves_has_no_correlation() -> None:
    """It is in no cluster, and the others are as without it."""
    case = closes_of(CASES[1])
    still = [Decimal(5)] * len(case.days)
    found = compute(Closes(case.days, {**case.prices, "still": still}))
    assert found.unclassified == ("still",)
    assert found.correlation == compute(case).correlation


def test_a_table_without_days_says_nothing() -> None:
    """No correlation is better than one of five days."""
    case = closes_of(CASES[1])
    short = Closes(case.days[:5], {name: column[:5] for name, column in case.prices.items()})
    found = compute(short)
    assert (found.symbols, found.n, found.shrinkage, dict(found.clusters)) == ((), 0, None, {})
    assert len(found.unclassified) == 4
