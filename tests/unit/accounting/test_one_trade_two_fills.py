"""One trade id, several fills: both sides of a match are ours, or one trade fills two orders."""

from __future__ import annotations

import pytest
from tests.support.cases import (
    Figures,
    Step,
    act,
    bust,
    buy,
    check,
    contract,
    deposit,
    pair,
    refused,
    sell,
    share,
)

PERP = [contract("X-PERP"), deposit("10000")]
TWICE = "duplicate_fill"


def of(order_id: str, fill_id: str = "t") -> dict[str, str]:
    return {"order_id": order_id, "fill_id": fill_id}


CASES: dict[str, tuple[str, list[Step], Figures]] = {
    "a self-trade": (  # 5 bought at 10; 2 sold and bought at 12: 4 realized, (30 + 24) / 5
        "USDT",
        [*PERP, buy("5", "10", "X-PERP", **of("o0", "t0")), sell("2", "12", "X-PERP", **of("o1")),
         buy("2", "12", "X-PERP", **of("o2"))],
        {"realized_pnl": "4", "positions.X-PERP.size": "5",
         "positions.X-PERP.entry_price": "10.8", "cash.USDT": "10004"},
    ),
    "a self-trade of one who holds nothing": (
        "USDT",
        [*PERP, buy("3", "20", "X-PERP", **of("o1")), sell("3", "20", "X-PERP", **of("o2"))],
        {"realized_pnl": "0", "open_positions": 0, "cash.USDT": "10000"},
    ),
    "with two fees": (
        "USDT",
        [*PERP, buy("3", "20", "X-PERP", commission="0.6", **of("o1")),
         sell("3", "20", "X-PERP", commission="-0.2", **of("o2"))],
        {"fees": "0.4", "cash.USDT": "9999.6", "open_positions": 0},
    ),
    "without orders": (
        "USDT",
        [*PERP, buy("3", "20", "X-PERP", fill_id="t"), sell("1", "20", "X-PERP", fill_id="t")],
        {"positions.X-PERP.size": "2", "realized_pnl": "0"},
    ),
    "two orders of one side": (  # 1 at 10 and 3 at 10 are 4
        "USDT",
        [*PERP, buy("1", "10", "X-PERP", **of("o1")), buy("3", "10", "X-PERP", **of("o2"))],
        {"positions.X-PERP.size": "4", "positions.X-PERP.entry_price": "10"},
    ),
    "three orders of one side, and one twice": (
        "USDT",
        [*PERP, buy("1", "10", "X-PERP", **of("o1")), buy("1", "10", "X-PERP", **of("o2")),
         buy("1", "10", "X-PERP", **of("o3")),
         refused(buy("1", "10", "X-PERP", **of("o2")), TWICE)],
        {"positions.X-PERP.size": "3"},
    ),
    "each side comes twice": (
        "USDT",
        [*PERP, buy("2", "10", "X-PERP", **of("o1")), sell("1", "10", "X-PERP", **of("o2")),
         refused(buy("2", "10", "X-PERP", **of("o1")), TWICE),
         refused(sell("1", "10", "X-PERP", **of("o2")), TWICE)],
        {"positions.X-PERP.size": "1", "cash.USDT": "10000"},
    ),
    "the order is told later": (
        "USDT",
        [*PERP, buy("2", "10", "X-PERP", fill_id="t"),
         refused(buy("2", "10", "X-PERP", **of("o1")), TWICE),
         buy("5", "10", "X-PERP", **of("o2"))],
        {"positions.X-PERP.size": "7"},
    ),
    "one id on two symbols": (
        "USDT",
        [*PERP, contract("Y-PERP"), buy("2", "10", "X-PERP", **of("o1")),
         buy("3", "10", "Y-PERP", **of("o1"))],
        {"positions.X-PERP.size": "2", "positions.Y-PERP.size": "3"},
    ),
    "of a coin": (  # both legs of a match at 50 000: what is left is what was there
        "USDT",
        [pair("BTC"), deposit("100000"), buy("1", "40000", "BTCUSDT", **of("o0", "t0")),
         sell("1", "50000", "BTCUSDT", **of("o1")), buy("1", "50000", "BTCUSDT", **of("o2"))],
        {"cash.BTC": "1", "cash.USDT": "60000", "assets.BTC.cost": "50000",
         "realized_pnl": "10000"},
    ),
    "of shares": (
        "USD",
        [share("ABC"), deposit("1000"), buy("10", "20", "ABC", **of("o1")),
         sell("4", "20", "ABC", **of("o2"))],
        {"cash.USD": "880", "positions.ABC.size": "6", "realized_pnl": "0"},
    ),
    "one of the two never was": (
        "USDT",
        [*PERP, buy("5", "10", "X-PERP", **of("o1")), sell("2", "12", "X-PERP", **of("o2")),
         refused(bust("t"), "ambiguous_target"),
         act("TradeBusted", fill_id="t", side="sell", reason="erroneous")],
        {"positions.X-PERP.size": "5", "realized_pnl": "0", "cash.USDT": "10000"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_both_fills_of_one_trade_are_facts(case: tuple[str, list[Step], Figures]) -> None:
    """A fill is known by symbol, id, side and order; only that again is the same one."""
    check(*case)
