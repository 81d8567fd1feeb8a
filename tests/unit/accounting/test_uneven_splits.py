"""Splits whose ratio is no decimal: sizes to 18 decimals, whole costs, and what is sold fits."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.cases import (
    Figures,
    Step,
    act,
    buy,
    check,
    contract,
    deposit,
    marked,
    pair,
    sell,
    share,
)

SHARES = [share("RVS"), deposit("10000")]
FLAT = {"open_positions": 0, "positions.RVS.size": "0", "positions.RVS.cycle": 1}


def split(new: str, old: str, symbol: str = "RVS", **more: Any) -> Step:
    return act("SplitApplied", symbol=symbol, numerator=new, denominator=old, **more)


CASES: dict[str, tuple[str, list[Step], Figures]] = {
    "1 for 3, the rest is sold": (
        "USD",
        [*SHARES, buy("300", "1", "RVS"), split("1", "3"), sell("100", "3", "RVS")],
        {"cash.USD": "10000", "realized_pnl": "0", **FLAT},
    ),
    "1 for 7": (
        "USD",
        [*SHARES, buy("700", "2", "RVS"), split("1", "7"), sell("100", "15", "RVS")],
        {"cash.USD": "10100", "realized_pnl": "100", **FLAT},
    ),
    "7 for 3": (
        "USD",
        [*SHARES, buy("30", "7", "RVS"), split("7", "3"), sell("70", "3", "RVS")],
        {"cash.USD": "10000", "realized_pnl": "0", **FLAT},
    ),
    "of a short": (
        "USD",
        [*SHARES, sell("300", "1", "RVS"), split("1", "3"), buy("100", "2", "RVS")],
        {"cash.USD": "10100", "realized_pnl": "100", **FLAT},
    ),
    "a rest that has no end is cut": (  # 100 / 3; its cost stays 100
        "USD",
        [*SHARES, buy("100", "1", "RVS"), split("1", "3")],
        {"positions.RVS.size": "33.333333333333333333", "realized_pnl": "0",
         "cash.USD": "9900"},
    ),
    "the venue rounds down and pays": (  # 33 of 33.333, a hundredth of the cost for 4
        "USD",
        [*SHARES, buy("100", "3", "RVS"),
         split("1", "3", quantity_after="33", cash_in_lieu="4")],
        {"positions.RVS.size": "33", "positions.RVS.entry_price": "9", "realized_pnl": "1",
         "cash.USD": "9704"},
    ),
    "the venue rounds up": (
        "USD",
        [*SHARES, buy("100", "3.4", "RVS"), split("1", "3", quantity_after="34")],
        {"positions.RVS.size": "34", "positions.RVS.entry_price": "10", "realized_pnl": "0"},
    ),
    "there and back": (
        "USD",
        [*SHARES, buy("30", "7", "RVS"), marked("RVS", "9"), split("7", "3"), split("3", "7")],
        {"positions.RVS.size": "30", "positions.RVS.entry_price": "7",
         "positions.RVS.mark_price": "9", "equity": "10060"},
    ),
    "the mark follows": (  # 9 a share is 27 for three in one
        "USD",
        [*SHARES, buy("300", "8", "RVS"), marked("RVS", "9"), split("1", "3")],
        {"positions.RVS.mark_price": "27", "equity": "10300", "nav": "1.03"},
    ),
    "open orders follow": (
        "USD",
        [*SHARES, act("OrderSubmitted", order_id="o", symbol="RVS", side="buy", type="limit",
                      quantity="21", price="2"), split("1", "3")],
        {"orders.o.quantity": "7", "orders.o.price": "6"},
    ),
    "of a contract": (
        "USDT",
        [contract("X-PERP"), deposit("1000"), buy("30", "10", "X-PERP"),
         split("1", "3", "X-PERP"), sell("10", "36", "X-PERP")],
        {"realized_pnl": "60", "cash.USDT": "1060", "open_positions": 0},
    ),
    "of a coin": (  # 6 at 300 become 2 at 900
        "USDT",
        [pair("BNB"), marked("BNBUSDT", "300"), deposit("2000"), buy("6", "300", "BNBUSDT"),
         split("1", "3", "BNB"), sell("2", "900", "BNBUSDT")],
        {"cash.BNB": "0", "cash.USDT": "2000", "realized_pnl": "0"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_split_says_two_whole_numbers(case: tuple[str, list[Step], Figures]) -> None:
    """Times the one, then by the other."""
    check(*case)
