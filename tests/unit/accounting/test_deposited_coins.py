"""A coin that came from outside is the coin that is sold: one pocket, no position beside it."""

from __future__ import annotations

import pytest
from tests.support.cases import (
    Figures,
    Step,
    act,
    buy,
    check,
    deposit,
    marked,
    pair,
    sell,
    withdraw,
)

BTC = [pair("BTC"), marked("BTCUSDT", "50000")]
EUR = [pair("EUR"), marked("EURUSDT", "1.25")]
FLAT = {"positions": {}, "open_positions": 0, "exposure_gross": "0", "flags": []}

CASES: dict[str, tuple[str, list[Step], Figures]] = {
    "the whole coin": (
        "USDT",
        [*BTC, deposit("1", "BTC"), sell("1", "50000", "BTCUSDT")],
        {"equity": "50000", "cash.BTC": "0", "realized_pnl": "0", "withdrawable": "50000", **FLAT},
    ),
    "above its mark: what is above is gained": (
        "USDT",
        [*BTC, deposit("1", "BTC"), sell("1", "51000", "BTCUSDT")],
        {"equity": "51000", "realized_pnl": "1000", "nav": "1.02", **FLAT},
    ),
    "a part of it": (
        "USDT",
        [*BTC, deposit("2", "BTC"), sell("0.5", "50000", "BTCUSDT")],
        {"cash.BTC": "1.5", "cash.USDT": "25000", "assets.BTC.cost": "75000", "equity": "100000",
         "exposure_gross": "75000", "open_positions": 0},
    ),
    "more than there is": (
        "USDT",
        [*BTC, deposit("1", "BTC"), sell("1.5", "50000", "BTCUSDT")],
        {"cash.BTC": "-0.5", "cash.USDT": "75000", "assets.BTC.cost": "-25000",
         "equity": "50000", "realized_pnl": "0", "open_positions": 0},
    ),
    "two deposits at two prices": (  # 50 000 + 60 000, of which half goes for 60 000
        "USDT",
        [*BTC, deposit("1", "BTC"), marked("BTCUSDT", "60000"), deposit("1", "BTC"),
         sell("1", "60000", "BTCUSDT")],
        {"realized_pnl": "5000", "assets.BTC.cost": "55000", "assets.BTC.unrealized_pnl": "5000",
         "equity": "120000", "deposits": "110000", "flows_cost": "110000"},
    ),
    "deposited and bought": (  # (30 000 + 50 000) / 2 a coin
        "USDT",
        [*BTC, deposit("50000"), deposit("1", "BTC", cost="30000"), buy("1", "50000", "BTCUSDT"),
         sell("2", "50000", "BTCUSDT")],
        {"realized_pnl": "20000", "cash.BTC": "0", "cash.USDT": "100000", **FLAT},
    ),
    "through another pair": (  # 40 000 EUR at 1.25 are the 50 000 it cost
        "USDT",
        [*BTC, *EUR, pair("BTC", "EUR"), deposit("1", "BTC"), sell("1", "40000", "BTCEUR")],
        {"cash.BTC": "0", "cash.EUR": "40000", "assets.EUR.cost": "50000", "equity": "50000",
         "realized_pnl": "0", "open_positions": 0},
    ),
    "a coin against a coin": (  # 20 ETH at 2 500 for one BTC
        "USDT",
        [*BTC, pair("ETH"), marked("ETHUSDT", "2500"), pair("ETH", "BTC"), deposit("1", "BTC"),
         buy("20", "0.05", "ETHBTC")],
        {"cash.BTC": "0", "cash.ETH": "20", "assets.ETH.cost": "50000", "equity": "50000",
         "realized_pnl": "0"},
    ),
    "in an account of coins": (  # the account's own money: its cost is its quantity
        "BTC",
        [*BTC, deposit("2"), sell("1", "50000", "BTCUSDT")],
        {"cash.BTC": "1", "cash.USDT": "50000", "assets.USDT.cost": "1", "equity": "2",
         "realized_pnl": "0", "open_positions": 0},
    ),
    "sold, withdrawn and sold again": (
        "USDT",
        [*BTC, deposit("3", "BTC", cost="60000"), sell("1", "50000", "BTCUSDT"),
         withdraw("1", "BTC"), sell("1", "40000", "BTCUSDT")],
        {"realized_pnl": "50000", "cash.USDT": "90000", "withdrawals": "20000",
         "flows_cost": "40000", "equity": "90000", **FLAT},
    ),
    "transferred from another account": (
        "USDT",
        [*BTC, act("TransferredIn", amount="1", currency="BTC", transfer_id="t", cost="45000"),
         sell("1", "50000", "BTCUSDT")],
        {"transfers": "45000", "realized_pnl": "5000", "equity": "50000", "nav": "1", **FLAT},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_deposited_coin_is_the_coin_that_is_sold(case: tuple[str, list[Step], Figures]) -> None:
    """Whatever it cost, wherever it is sold: quantity, cost and gain of one holding."""
    check(*case)
