"""Liquidation at tier borders: where the margin jumps over what is left, that is the price."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.cases import Figures, Step, buy, check, contract, deposit, sell

Tiers = list[tuple[str, str]]
"""Floor of the notional, maintenance rate; nothing is deducted."""


def perp(tiers: Tiers, cash: str, multiplier: str = "1") -> list[Step]:
    """Return a contract with tiers, and money to trade it."""
    made: list[dict[str, Any]] = [
        {"notional_floor": floor, "maintenance_rate": rate, "maintenance_amount": "0"}
        for floor, rate in tiers
    ]
    return [contract("X-PERP", margin_tiers=made, multiplier=multiplier), deposit(cash)]


UP = [("0", "0.01"), ("100000", "0.05")]
STEEP = [("0", "0.01"), ("100000", "0.05"), ("110000", "0.2")]
DOWN = [("0", "0.05"), ("80000", "0.01")]


def at(price: str | None) -> Figures:
    """Return what the position says; the account is not liquidatable yet."""
    return {"positions.X-PERP.liquidation_price": price, "flags": []}


CASES: dict[str, tuple[str, list[Step], Figures]] = {
    "a short whose margin jumps at the border": (  # at 100: 3 000 left, 1 000 then 5 000 needed
        "USDT", [*perp(UP, "13000"), sell("1000", "90", "X-PERP")], at("100"),
    ),
    "twice the size, twice the border, twice the money": (
        "USDT",
        [*perp([("0", "0.01"), ("200000", "0.05")], "26000"), sell("2000", "90", "X-PERP")],
        at("100"),
    ),
    "ten units a contract": (
        "USDT", [*perp(UP, "13000", "10"), sell("100", "90", "X-PERP")], at("100"),
    ),
    "just enough beyond the border": (  # 15 000 - 10 000 are what 100 000 need
        "USDT", [*perp(UP, "15000"), sell("1000", "90", "X-PERP")], at("100"),
    ),
    "a little more": (  # (90 000 + 15 750) / 1 050
        "USDT", [*perp(UP, "15750"), sell("1000", "90", "X-PERP")],
        at("100.714285714285714286"),
    ),
    "before the border": (  # (90 000 + 9 980) / 1 010
        "USDT", [*perp(UP, "9980"), sell("1000", "90", "X-PERP")], at("98.990099009900990099"),
    ),
    "at the second border": (  # at 110: 5 600 left, 5 500 then 22 000 needed
        "USDT", [*perp(STEEP, "25600"), sell("1000", "90", "X-PERP")], at("110"),
    ),
    "past both borders": (  # (90 000 + 48 000) / 1 200
        "USDT", [*perp(STEEP, "48000"), sell("1000", "90", "X-PERP")], at("115"),
    ),
    "a long that falls into the higher rate": (  # below 80 it needs 5 %: 2 000 left, 4 000 needed
        "USDT", [*perp(DOWN, "12000"), buy("1000", "90", "X-PERP")], at("80"),
    ),
    "a long beyond that border": (  # (90 000 - 14 000) / 950: it has enough at 80
        "USDT", [*perp(DOWN, "14000"), buy("1000", "90", "X-PERP")], at("80"),
    ),
    "a long with more": (  # (90 000 - 15 200) / 950
        "USDT", [*perp(DOWN, "15200"), buy("1000", "90", "X-PERP")],
        at("78.736842105263157895"),
    ),
    "a long that nothing liquidates": (
        "USDT", [*perp(UP, "90000"), buy("1000", "90", "X-PERP")], at(None),
    ),
    "two fills, one price": (  # at (400 x 85 + 600 x 90) / 1 000 = 88
        "USDT",
        [*perp(UP, "15000"), sell("400", "85", "X-PERP"), sell("600", "90", "X-PERP")],
        at("100"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_the_border_is_the_price_where_the_margin_jumps(
    case: tuple[str, list[Step], Figures],
) -> None:
    """The nearest price on the losing side at which the margin is not covered any more."""
    check(*case)
