"""What came for nothing: its cost is nothing, its value a gain or a flow by what is known."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.cases import Figures, Step, act, check, deposit, marked, pair, sell, share


def airdrop(symbol: str, quantity: str, price: str = "0", **more: Any) -> Step:
    """Return units that came by hand."""
    by_hand = {"reason": "airdrop", "actor": "ops"}
    return act("PositionAdjusted", symbol=symbol, quantity=quantity, price=price, **by_hand, **more)


AIR, MARKED = [pair("AIR"), deposit("100")], [pair("AIR"), marked("AIRUSDT", "2"), deposit("100")]

CASES: dict[str, tuple[str, list[Step], Figures]] = {
    "of a coin without a mark": (
        "USDT",
        [*AIR, airdrop("AIRUSDT", "10")],
        {"cash.AIR": "10", "assets.AIR.cost": "0", "assets.AIR.value": None, "equity": "100",
         "adjustments": "0", "flags": ["rate_missing"]},
    ),
    "of a coin with a mark: a gain": (
        "USDT",
        [*MARKED, airdrop("AIRUSDT", "10")],
        {"assets.AIR.cost": "0", "assets.AIR.unrealized_pnl": "20", "equity": "120",
         "nav": "1.2", "flows": "100", "adjustments": "0"},
    ),
    "by the coin's own name": (
        "USDT",
        [*MARKED, airdrop("AIR", "10")],
        {"cash.AIR": "10", "assets.AIR.cost": "0", "equity": "120"},
    ),
    "that is sold": (
        "USDT",
        [*MARKED, airdrop("AIRUSDT", "10"), sell("10", "3", "AIRUSDT")],
        {"cash.AIR": "0", "cash.USDT": "130", "realized_pnl": "30", "equity": "130"},
    ),
    "on top of what was paid for": (  # 10 for 20, then 30 for nothing: 0.5 a coin
        "USDT",
        [*MARKED, deposit("10", "AIR"), airdrop("AIRUSDT", "30"), sell("20", "2", "AIRUSDT")],
        {"assets.AIR.cost": "10", "assets.AIR.entry_price": "0.5", "realized_pnl": "30"},
    ),
    "that covers what is owed": (  # -4 at 2 are covered for nothing: what they brought leaves
        "USDT",
        [*MARKED, sell("4", "2", "AIRUSDT"), airdrop("AIRUSDT", "10")],
        {"cash.AIR": "6", "assets.AIR.cost": "0", "adjustments": "8", "realized_pnl": "0",
         "equity": "120"},
    ),
    "of shares": (
        "USD",
        [share("ABC"), marked("ABC", "5"), deposit("100"), airdrop("ABC", "10")],
        {"positions.ABC.size": "10", "positions.ABC.entry_price": "0", "equity": "150",
         "unrealized_pnl": "50", "adjustments": "0"},
    ),
    "of shares beside shares that cost": (  # 10 at 6, then 20 for nothing: 2 each
        "USD",
        [share("ABC"), marked("ABC", "6"), deposit("100"),
         act("TradeExecuted", symbol="ABC", side="buy", quantity="10", price="6"),
         airdrop("ABC", "20"), sell("15", "6", "ABC")],
        {"positions.ABC.size": "15", "positions.ABC.entry_price": "2", "realized_pnl": "60",
         "cash.USD": "130", "equity": "220"},
    ),
    "of foreign shares": (  # their cost is nothing in every currency
        "USD",
        [pair("EUR", "USD"), marked("EURUSD", "1.1"), share("SAP", "EUR"), marked("SAP", "100"),
         deposit("100"), airdrop("SAP", "2")],
        {"positions.SAP.entry_price": "0", "unrealized_pnl": "220", "equity": "320",
         "adjustments": "0"},
    ),
    "that a later mark rates: a flow": (
        "USDT",
        [*AIR, airdrop("AIRUSDT", "10"), marked("AIRUSDT", "3")],
        {"equity": "130", "flows": "130", "nav": "1", "drawdown": "0", "flags": []},
    ),
    "in a fraction, at a price": (  # what is added by hand costs what is said
        "USDT",
        [*MARKED, airdrop("AIRUSDT", "0.125", "4")],
        {"assets.AIR.cost": "0.5", "adjustments": "0.5", "assets.AIR.unrealized_pnl": "-0.25",
         "equity": "100.25"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_what_came_for_nothing_costs_nothing(case: tuple[str, list[Step], Figures]) -> None:
    """A price of zero is a price; what is held then is worth its mark."""
    check(*case)
