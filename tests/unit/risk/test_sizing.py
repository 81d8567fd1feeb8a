"""Sizes: the largest multiple of the lot that a rule allows, against the rule itself."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psm.risk.sizing import Rule, SizingInputs, size


def sized(rule: Rule, **given_inputs: Any) -> Decimal:
    return size(rule, msgspec.convert(given_inputs, SizingInputs))


positive = st.integers(1, 10_000).map(lambda n: str(Decimal(n).scaleb(-2)))
share = st.integers(1, 100).map(lambda n: str(Decimal(n).scaleb(-2)))


def used(rule: Rule, x: Fraction, row: dict[str, Any]) -> tuple[Fraction, Fraction]:
    """Return what x costs under a rule, and its budget; written apart from the code."""
    g = {name: Fraction(value) for name, value in row.items() if not isinstance(value, bool)}
    m, equity = g["multiplier"], g["equity"]
    inverse = row["inverse"]
    notional = x * m / g["price"] if inverse else x * m * g["price"]
    entry, stop = g["entry"], g["stop"]
    if rule == "fixed_fractional":
        if inverse:
            entry, stop = 1 / entry, 1 / stop
        return x * m * (abs(entry - stop) + (entry + stop) * g["fee"]), equity * g["risk"]
    if rule == "fixed_notional":
        return notional, equity * g["weight"]
    if rule == "volatility_target":
        return notional * g["sigma"], equity * g["target"]
    wins, win, loss = g["win_rate"], g["average_win"], g["average_loss"]
    kelly = wins - (1 - wins) / (win / loss)
    return notional, equity * min(g["cap"], max(Fraction(0), kelly * g["fraction"]))


@given(
    st.sampled_from(["fixed_fractional", "fixed_notional", "volatility_target", "kelly_capped"]),
    st.fixed_dictionaries(
        {
            **dict.fromkeys(("equity", "multiplier", "price", "entry", "stop"), positive),
            **dict.fromkeys(("average_win", "average_loss"), positive),
            **dict.fromkeys(("risk", "fee", "weight", "sigma", "target"), share),
            **dict.fromkeys(("win_rate", "fraction", "cap"), share),
            "lot": st.sampled_from(["1", "0.5", "0.001"]),
            "inverse": st.booleans(),
        }
    ),
)
def test_a_size_is_the_largest_that_the_rule_allows(rule: Rule, row: dict[str, Any]) -> None:
    """It fits, one lot more does not, and it is on the grid."""
    found = Fraction(sized(rule, **row))
    lot = Fraction(row["lot"])
    if rule == "fixed_fractional" and Decimal(row["entry"]) == Decimal(row["stop"]):
        assert found == 0
        return
    cost, budget = used(rule, found, row)
    assert cost <= budget
    more, budget = used(rule, found + lot, row)
    assert more > budget
    assert found % lot == 0


@pytest.mark.parametrize(
    ("rule", "inputs"),
    [
        ("fixed_notional", {"equity": "0", "weight": "1", "price": "1"}),
        ("fixed_notional", {"equity": "10", "weight": "1", "price": "0"}),
        ("fixed_fractional", {"equity": "10", "risk": "1", "entry": "5", "stop": "5"}),
        ("volatility_target", {"equity": "10", "target": "1", "price": "1", "sigma": "0"}),
        ("atr", {"equity": "10", "risk": "1", "atr": "0"}),
        ("kelly_capped", {"equity": "10", "price": "1", "win_rate": "0.9", "average_win": "1",
                          "average_loss": "1", "trades": 29}),
        ("kelly_capped", {"equity": "10", "price": "1", "win_rate": "0.4", "average_win": "1",
                          "average_loss": "1", "trades": 30}),
    ],
)  # fmt: skip
def test_what_says_nothing_is_no_size(rule: Rule, inputs: dict[str, Any]) -> None:
    """Zero, never an error and never a guess."""
    assert sized(rule, **inputs) == 0


def test_fees_are_of_the_notional() -> None:
    """1 % of 10 000 at a distance of 5, with 0.1 % both ways: 100 / (5 + 0.195)."""
    inputs = {"equity": "10000", "risk": "0.01", "entry": "100", "stop": "95", "lot": "0.01"}
    assert sized("fixed_fractional", **inputs) == 20
    assert sized("fixed_fractional", **inputs, fee="0.001") == Decimal("19.24")


def test_an_average_true_range() -> None:
    """1 % of 10 000 in two ranges of 25: two units; of an inverse contract by its own stop."""
    assert sized("atr", equity="10000", risk="0.01", atr="25", atr_multiple="2", lot="1") == 2
    coin = sized("atr", equity="1", risk="0.01", atr="25", price="100", inverse=True, lot="1")
    assert coin == 3  # 3 x (1/75 - 1/100) = 0.01


def test_inverse_is_a_notional_in_the_coin() -> None:
    """One coin at 50 000, contracts of 100: 500 of them."""
    assert sized("inverse", equity="1", weight="1", multiplier="100", price="50000", lot="1") == 500
