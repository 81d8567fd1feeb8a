"""Prices of zero and below, where an instrument has them: bought, sold, settled, averaged."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.cases import (
    Figures,
    Step,
    act,
    amend,
    bust,
    buy,
    check,
    contract,
    deposit,
    marked,
    refused,
    sell,
    share,
)


def future(multiplier: str = "1000", *, signed: bool = True) -> list[Step]:
    """Return a future on crude oil, and money to trade it."""
    more: dict[str, Any] = {"multiplier": multiplier, "signed_price": signed}
    return [contract("CL", "linear_future", "USD", **more), deposit("100000")]


def settled(price: str, kind: str = "expiry") -> Step:
    return act("PositionSettled", symbol="CL", settlement_price=price, kind=kind)


CASES: dict[str, tuple[str, list[Step], Figures]] = {
    "sold below zero": (  # 10 - -37.63 = 47.63 a barrel are lost
        "USD",
        [*future(), buy("1", "10", "CL"), sell("1", "-37.63", "CL")],
        {"realized_pnl": "-47630", "cash.USD": "52370", "open_positions": 0},
    ),
    "bought below zero, sold above": (
        "USD",
        [*future(), buy("2", "-5", "CL"), sell("2", "3", "CL")],
        {"realized_pnl": "16000", "cash.USD": "116000", "open_positions": 0},
    ),
    "a short from above zero gains below it": (
        "USD",
        [*future(), sell("1", "1", "CL"), marked("CL", "-2.5")],
        {"unrealized_pnl": "3500", "equity": "103500", "exposure_gross": "2500"},
    ),
    "averaged across zero": (  # (2 x 3 + 1 x -9) / 3
        "USD",
        [*future(), buy("2", "3", "CL"), buy("1", "-9", "CL"), marked("CL", "-1")],
        {"positions.CL.entry_price": "-1", "unrealized_pnl": "0", "equity": "100000"},
    ),
    "bought at nothing": (
        "USD",
        [*future(), buy("4", "0", "CL"), marked("CL", "0.5")],
        {"positions.CL.entry_price": "0", "unrealized_pnl": "2000", "equity": "102000"},
    ),
    "a flip below zero": (  # 1 from 5 closes at -2, 1 is sold there
        "USD",
        [*future(), buy("1", "5", "CL"), sell("2", "-2", "CL"), marked("CL", "-3")],
        {"realized_pnl": "-7000", "positions.CL.side": "short",
         "positions.CL.entry_price": "-2", "unrealized_pnl": "1000"},
    ),
    "settled below zero": (
        "USD",
        [*future(), buy("1", "2", "CL"), settled("-1.5")],
        {"realized_pnl": "-3500", "cash.USD": "96500", "open_positions": 0},
    ),
    "a session below zero": (
        "USD",
        [*future("10"), sell("3", "-1", "CL"), settled("-4", "session")],
        {"cash.USD": "100090", "positions.CL.entry_price": "-4", "realized_pnl": "90",
         "positions.CL.size": "3"},
    ),
    "a fill below zero that never was": (
        "USD",
        [*future(), buy("1", "2", "CL"), sell("1", "-40", "CL", fill_id="f"), bust("f"),
         marked("CL", "1")],
        {"realized_pnl": "0", "equity": "99000", "positions.CL.size": "1"},
    ),
    "an amendment to below zero": (
        "USD",
        [*future(), buy("1", "2", "CL", fill_id="f"), amend("f", price="-2"), marked("CL", "1")],
        {"positions.CL.entry_price": "-2", "equity": "103000"},
    ),
    "a share that is worth nothing": (
        "USD",
        [share("ABC"), deposit("1000"), buy("10", "20", "ABC"), marked("ABC", "0"),
         sell("10", "0", "ABC")],
        {"realized_pnl": "-200", "cash.USD": "800", "open_positions": 0},
    ),
    "not where prices have no sign": (
        "USD",
        [*future(signed=False), buy("1", "2", "CL"),
         refused(sell("1", "-1", "CL"), "invalid_payload")],
        {"positions.CL.size": "1", "cash.USD": "100000"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_price_below_zero_is_a_price(case: tuple[str, list[Step], Figures]) -> None:
    """Gain is what lies between two prices, whatever their signs."""
    check(*case)
