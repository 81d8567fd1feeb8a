"""The liquidation price: the nearest price on the losing side, borders of tiers included."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given as sampled
from hypothesis import strategies as st
from tests.support.domain import Log, given
from tests.support.events import SYMBOL, deposit, instrument, opened, trade

Tiers = list[tuple[int, int]]
"""Floor of the notional, rate in percent; nothing is deducted."""


def tiers_of(tiers: Tiers) -> list[dict[str, Any]]:
    """Return tiers as events say them."""
    return [
        {
            "notional_floor": str(floor),
            "maintenance_rate": f"{percent / 100:.2f}",
            "maintenance_amount": "0",
        }
        for floor, percent in tiers
    ]


def held(tiers: Tiers, side: str, quantity: int, cash: int, **more: Any) -> Log:
    """Return an account with one position that was entered at 90."""
    return given(
        instrument(margin_tiers=tiers_of(tiers), **more),
        opened(1),
        deposit(2, str(cash)),
        trade(3, side, str(quantity), "90"),
    )


@pytest.mark.parametrize(
    ("side", "quantity", "cash", "tiers", "expected"),
    [
        ("sell", 1000, 13000, [(0, 1), (100_000, 5)], "100"),  # jumps over equity at the border
        ("sell", 1000, 16000, [(0, 1), (100_000, 5)], "100.952380952380952381"),
        ("sell", 1000, 10000, [(0, 1), (100_000, 5)], "99.009900990099009901"),
        ("buy", 1000, 5400, [(0, 5), (80_000, 1)], "85.454545454545454545"),
        ("buy", 1000, 12000, [(0, 5), (80_000, 1)], "80"),
        ("buy", 1000, 50_000, [(0, 1), (60_000, 5)], "40.40404040404040404"),
        ("buy", 1000, 95_000, [(0, 1)], None),
        ("sell", 1, 1_000_000, [(0, 0)], "1000090"),
    ],
)
def test_the_nearest_price_where_the_margin_is_not_covered(
    side: str, quantity: int, cash: int, tiers: Tiers, expected: str | None
) -> None:
    """In a tier where it is solved, at a border where the margin jumps beyond equity."""
    log = held(tiers, side, quantity, cash)
    assert log.state()["flags"] == []
    assert log.position()["liquidation_price"] == expected


def test_an_account_that_is_liquidatable_already_is_told_where_it_recovers() -> None:
    """As before: the solution that lies in its own tier."""
    log = held([(0, 10)], "buy", 100, 500)
    assert log.state()["flags"] == ["liquidatable"]
    assert log.position()["liquidation_price"] == "94.444444444444444444"


_BORDERS = st.tuples(st.integers(1, 9000), st.integers(0, 60))


@sampled(
    st.sampled_from(["buy", "sell"]),
    st.integers(1, 40),
    st.integers(1, 6000),
    st.lists(_BORDERS, max_size=4, unique_by=lambda t: t[0]),
    st.integers(0, 20),
)  # fmt: skip
def test_until_there_the_margin_is_covered_and_there_it_is_not(
    side: str, quantity: int, cash: int, more: Tiers, first: int
) -> None:
    """Looked at from outside: at 40 prices on the way, and on both sides of the price itself."""
    tiers = [(0, first), *sorted(more)]
    log = held(tiers, side, quantity, cash)
    if "liquidatable" in log.state()["flags"]:
        return
    position, account = log.account().ledger.positions[SYMBOL], log.account()
    text = log.position()["liquidation_price"]
    sign = 1 if side == "buy" else -1

    def left(price: Fraction) -> Fraction:
        value = abs(Fraction(position.size)) * price
        rate = next(percent for floor, percent in reversed(tiers) if floor <= value)
        gain = sign * (value - Fraction(position.cost))
        return Fraction(account.ledger.cash["USDT"]) + gain - value * rate / 100

    end = Fraction(text) if text else Fraction(0) if sign > 0 else Fraction(10**7)
    for step in range(40):
        price = 90 + (end - 90) * step / 40
        assert left(price) > -Fraction(1, 10**12), float(price)
    if text:
        beyond = end * (1 - sign * Fraction(1, 10**9))
        assert min(left(end), left(beyond)) <= Fraction(1, 10**12)
