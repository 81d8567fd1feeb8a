"""Shares, coins and contracts that come or go without a trade are flows, not gains or losses."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.cases import Figures, Step, act, buy, check, contract, deposit, marked, sell
from tests.support.cases import pair as spot
from tests.support.cases import share as defined


def goes(symbol: str, quantity: str, **more: Any) -> Step:
    return act(
        "PositionTransferredOut", symbol=symbol, quantity=quantity, transfer_id="out", **more
    )


def comes(symbol: str, quantity: str, **more: Any) -> Step:
    return act("PositionTransferredIn", symbol=symbol, quantity=quantity, transfer_id="in", **more)


SHARES = [defined("ABC"), deposit("10000"), buy("100", "50", "ABC")]
PERP = [contract("X-PERP", settle="USD"), marked("X-PERP", "120"), deposit("10000")]
QUIET = {"realized_pnl": "0", "drawdown": "0", "max_drawdown": "0"}

CASES: dict[str, tuple[str, list[Step], Figures]] = {
    "half of the shares, at a gain": (  # 50 of 100 that cost 5 000 and are worth 6 000
        "USD",
        [*SHARES, marked("ABC", "60"), goes("ABC", "50")],
        {"equity": "8000", "nav": "1.1", "flows": "7000", "transfers": "-2500", **QUIET},
    ),
    "all of them, at a loss": (  # nav fell to 0.9 by the mark, not by the flow
        "USD",
        [*SHARES, marked("ABC", "40"), goes("ABC", "100")],
        {"equity": "5000", "nav": "0.9", "drawdown": "0.1", "realized_pnl": "0",
         "transfers": "-5000", "flows": "6000"},
    ),
    "shares that come": (
        "USD",
        [defined("ABC"), marked("ABC", "40"), deposit("1000"), comes("ABC", "25", cost="500")],
        {"equity": "2000", "nav": "1", "flows": "2000", "transfers": "500",
         "unrealized_pnl": "500", "positions.ABC.entry_price": "20", **QUIET},
    ),
    "shares without a mark are worth what they cost": (
        "USD",
        [defined("ABC"), deposit("1000"), comes("ABC", "25", cost="500")],
        {"equity": "1500", "nav": "1", "flows": "1500", "unrealized_pnl": "0", **QUIET},
    ),
    "out and in again": (
        "USD",
        [*SHARES, marked("ABC", "80"), goes("ABC", "25"), comes("ABC", "25", cost="1250")],
        {"equity": "13000", "nav": "1.3", "flows": "10000", "transfers": "0",
         "positions.ABC.entry_price": "50", **QUIET},
    ),
    "a coin": (  # one of two that cost 30 000 each and are worth 50 000
        "USDT",
        [spot("BTC"), marked("BTCUSDT", "50000"), deposit("2", "BTC", cost="60000"),
         goes("BTC", "1")],
        {"equity": "50000", "nav": "1", "flows": "50000", "flows_cost": "30000",
         "assets.BTC.cost": "30000", **QUIET},
    ),
    "a coin by its pair": (
        "USDT",
        [spot("BTC"), marked("BTCUSDT", "50000"), deposit("100"),
         comes("BTCUSDT", "0.5", cost="20000")],
        {"cash.BTC": "0.5", "equity": "25100", "nav": "1", "transfers": "20000",
         "positions": {}, **QUIET},
    ),
    "a coin at its value": (  # without a cost it costs what it is worth
        "USDT",
        [spot("BTC"), marked("BTCUSDT", "50000"), deposit("100"), comes("BTC", "0.5")],
        {"assets.BTC.cost": "25000", "transfers": "25000", "equity": "25100", "nav": "1", **QUIET},
    ),
    "a contract at a gain": (  # 3 from 100 at 120: 60 of gain come with it, no money
        "USD",
        [*PERP, comes("X-PERP", "3", entry_price="100")],
        {"equity": "10060", "cash.USD": "10000", "nav": "1", "flows": "10060",
         "transfers": "0", "unrealized_pnl": "60", **QUIET},
    ),
    "a contract at a loss": (
        "USD",
        [*PERP, comes("X-PERP", "3", entry_price="150")],
        {"equity": "9910", "nav": "1", "flows": "9910", "unrealized_pnl": "-90", **QUIET},
    ),
    "a short that goes": (  # 2 of 4 sold at 130: 20 of the gain of 40 go with them
        "USD",
        [*PERP, sell("4", "130", "X-PERP"), goes("X-PERP", "2")],
        {"equity": "10020", "positions.X-PERP.size": "2", "positions.X-PERP.side": "short",
         "nav": "1.004", "flows": "9980", "unrealized_pnl": "20", **QUIET},
    ),
    "shares that cover a short": (  # 10 sold at 60 and covered at the mark of 50
        "USD",
        [defined("ABC"), deposit("10000"), sell("10", "60", "ABC"), marked("ABC", "50"),
         comes("ABC", "10", cost="450")],
        {"realized_pnl": "100", "equity": "10600", "nav": "1.01", "flows": "10500",
         "transfers": "500", "open_positions": 0},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_what_moves_in_kind_is_a_flow(case: tuple[str, list[Step], Figures]) -> None:
    """At market for net asset value and drawdown, at cost for the ledger."""
    check(*case)
