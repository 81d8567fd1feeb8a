"""A fee in a coin comes out of the holding, whoever charges it and whatever the coin is worth."""

from __future__ import annotations

import pytest
from tests.support.cases import Figures, Step, act, bust, buy, check, deposit, marked, pair, sell

BNB = [pair("BNB"), marked("BNBUSDT", "300")]
BTC = [pair("BTC"), marked("BTCUSDT", "50000")]
IN_BNB = {"commission_currency": "BNB"}

CASES: dict[str, tuple[str, list[Step], Figures]] = {
    "all of the coin is used up": (  # 2 at 300 pay for twice 1
        "USDT",
        [*BNB, *BTC, deposit("10000"), buy("2", "300", "BNBUSDT"),
         buy("0.1", "50000", "BTCUSDT", commission="1", **IN_BNB),
         sell("0.1", "50000", "BTCUSDT", commission="1", **IN_BNB)],
        {"cash.BNB": "0", "cash.USDT": "9400", "fees": "600", "realized_pnl": "0",
         "equity": "9400", "flags": []},
    ),
    "the coin rose since": (  # one at 400, bought at 300
        "USDT",
        [*BNB, *BTC, deposit("10000"), buy("2", "300", "BNBUSDT"), marked("BNBUSDT", "400"),
         buy("0.1", "50000", "BTCUSDT", commission="1", **IN_BNB)],
        {"fees": "400", "realized_pnl": "100", "assets.BNB.cost": "300", "equity": "9800"},
    ),
    "the coin fell since": (
        "USDT",
        [*BNB, *BTC, deposit("10000"), buy("2", "300", "BNBUSDT"), marked("BNBUSDT", "250"),
         sell("0.1", "50000", "BTCUSDT", commission="1", **IN_BNB)],
        {"fees": "250", "realized_pnl": "-50", "assets.BNB.cost": "300", "equity": "9650"},
    ),
    "more than there is: the rest is owed": (  # 0.5 held at 300, 1 charged at 300
        "USDT",
        [*BNB, *BTC, deposit("10000"), buy("0.5", "300", "BNBUSDT"),
         buy("0.1", "50000", "BTCUSDT", commission="1", **IN_BNB)],
        {"cash.BNB": "-0.5", "assets.BNB.cost": "-150", "fees": "300", "realized_pnl": "0",
         "equity": "9700"},
    ),
    "of what is bought": (  # 1 BTC at 48 000, of which 0.01 go at that price
        "USDT",
        [*BTC, deposit("100000"),
         buy("1", "48000", "BTCUSDT", commission="0.01", commission_currency="BTC")],
        {"cash.BTC": "0.99", "assets.BTC.cost": "47520", "fees": "480", "realized_pnl": "0",
         "equity": "101500"},
    ),
    "of what is sold": (  # 1.01 at 40 000: one for 50 000, and 0.01 as a fee at 50 000
        "USDT",
        [*BTC, deposit("1.01", "BTC", cost="40400"),
         sell("1", "50000", "BTCUSDT", commission="0.01", commission_currency="BTC")],
        {"cash.BTC": "0", "cash.USDT": "50000", "fees": "500", "realized_pnl": "10100",
         "equity": "50000"},
    ),
    "a rebate": (  # half a coin comes at 300
        "USDT",
        [*BNB, *BTC, deposit("10000"), buy("0.1", "50000", "BTCUSDT", commission="-0.5", **IN_BNB)],
        {"cash.BNB": "0.5", "assets.BNB.cost": "150", "fees": "-150", "equity": "10150"},
    ),
    "of a contract": (
        "USDT",
        [*BNB, deposit("10000"), buy("1", "300", "BNBUSDT"),
         buy("2", "100", "X-PERP", commission="0.1", **IN_BNB)],
        {"cash.BNB": "0.9", "fees": "30", "assets.BNB.cost": "270", "equity": "9970"},
    ),
    "outside of a trade": (
        "USDT",
        [*BNB, deposit("10000"), buy("1", "300", "BNBUSDT"), marked("BNBUSDT", "310"),
         act("FeeCharged", amount="0.2", currency="BNB")],
        {"cash.BNB": "0.8", "fees": "62", "realized_pnl": "2", "equity": "9948"},
    ),
    "of the past, at the rate it states": (  # the mark of today is 300, the fee was of a day at 200
        "USDT",
        [*BNB, *BTC, deposit("10000"), buy("1", "150", "BNBUSDT"),
         buy("0.1", "50000", "BTCUSDT", commission="0.5", rates={"BNB": "200"}, **IN_BNB)],
        {"fees": "100", "realized_pnl": "25", "assets.BNB.cost": "75", "equity": "10000"},
    ),
    "of a fill that never was": (
        "USDT",
        [*BNB, *BTC, deposit("10000"), buy("2", "300", "BNBUSDT"),
         buy("0.1", "50000", "BTCUSDT", commission="1", fill_id="f", **IN_BNB), bust("f")],
        {"cash.BNB": "2", "cash.USDT": "9400", "fees": "0", "assets.BNB.cost": "600",
         "equity": "10000"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_fee_comes_out_of_what_is_held(case: tuple[str, list[Step], Figures]) -> None:
    """The coin leaves at its cost; the fee is what it is worth; the difference is realized."""
    check(*case)
