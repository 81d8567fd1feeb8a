"""A busted fill leaves nothing: no peak, no drawdown, no order, no fee, no flow."""

from __future__ import annotations

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
    pair,
    sell,
    share,
    withdraw,
)

SHARES = [share("ABC"), deposit("10000"), marked("ABC", "100")]
PERP = [contract("X-PERP"), deposit("10000"), marked("X-PERP", "100")]
NEVER = {"peak_equity": "10000", "drawdown": "0", "max_drawdown": "0", "nav": "1", "flags": []}

CASES: dict[str, tuple[str, list[Step], Figures]] = {
    "bought far too low": (  # equity was 19 000 for a moment
        "USD",
        [*SHARES, buy("100", "10", "ABC", fill_id="f"), bust("f")],
        {"equity": "10000", "positions": {}, **NEVER},
    ),
    "bought far too high": (  # equity was 1 000 for a moment
        "USD",
        [*SHARES, buy("100", "190", "ABC", fill_id="f"), bust("f")],
        {"equity": "10000", **NEVER},
    ),
    "sold far too high": (
        "USD",
        [*SHARES, sell("50", "250", "ABC", fill_id="f"), bust("f")],
        {"equity": "10000", **NEVER},
    ),
    "of a contract": (
        "USDT",
        [*PERP, buy("90", "50", "X-PERP", fill_id="f"), bust("f")],
        {"equity": "10000", "margin_initial": "0", **NEVER},
    ),
    "the marks rose and fell while it was there": (
        "USDT",
        [*PERP, buy("10", "100", "X-PERP", fill_id="f"), marked("X-PERP", "900"),
         marked("X-PERP", "20"), bust("f")],
        {"equity": "10000", **NEVER},
    ),
    "another one stays, with its own peak": (  # 10 from 100: 12 000 at 300, then 9 500 at 50
        "USDT",
        [*PERP, buy("10", "100", "X-PERP"), buy("40", "100", "X-PERP", fill_id="f"),
         marked("X-PERP", "300"), marked("X-PERP", "50"), bust("f")],
        {"equity": "9500", "peak_equity": "12000", "nav": "0.95",
         "drawdown": "0.208333333333333333", "max_drawdown": "0.208333333333333333"},
    ),
    "money came in meanwhile": (  # at 10 000, not at the 19 000 that never were
        "USD",
        [*SHARES, buy("100", "10", "ABC", fill_id="f"), deposit("10000"), bust("f")],
        {"equity": "20000", **NEVER, "peak_equity": "20000"},
    ),
    "money went out meanwhile": (
        "USD",
        [*SHARES, buy("100", "10", "ABC", fill_id="f"), withdraw("4000"), bust("f")],
        {"equity": "6000", **NEVER, "peak_equity": "6000"},
    ),
    "with its fee": (
        "USDT",
        [*PERP, buy("10", "50", "X-PERP", fill_id="f", commission="25"), bust("f")],
        {"equity": "10000", "fees": "0", **NEVER},
    ),
    "of a coin": (
        "USDT",
        [pair("BTC"), marked("BTCUSDT", "50000"), deposit("10000"),
         buy("0.1", "5000", "BTCUSDT", fill_id="f"), marked("BTCUSDT", "70000"), bust("f")],
        {"equity": "10000", "cash.USDT": "10000", **NEVER},
    ),
    "a price that was another one": (  # 10 at 90 instead of 9: 100 of gain
        "USD",
        [*SHARES, buy("10", "9", "ABC", fill_id="f"), amend("f", price="90")],
        {"equity": "10100", "peak_equity": "10100", "nav": "1.01", "max_drawdown": "0"},
    ),
    "two of them, and a dividend that stays": (
        "USD",
        [*SHARES, buy("10", "100", "ABC", fill_id="f"), buy("100", "1", "ABC", fill_id="g"),
         act("DividendPaid", symbol="ABC", amount="-5"), bust("g"), bust("f")],
        {"equity": "9995", "peak_equity": "10000", "drawdown": "0.0005",
         "max_drawdown": "0.0005", "nav": "0.9995"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_nothing_is_left_of_it(case: tuple[str, list[Step], Figures]) -> None:
    """Peak, drawdown and nav are those of the log without the fill."""
    check(*case)
