"""A bust is a fact: what does not fit the corrected past any more does not refuse it."""

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
    sell,
    share,
)

INVERSE = [contract("INV", "inverse_perp", "BTC", base="BTC"), deposit("1")]
AB = [buy("10", "50000", "INV", fill_id="a"), sell("10", "40000", "INV", fill_id="b")]


def split(symbol: str = "INV", **terms: Any) -> Step:
    return act("SplitApplied", symbol=symbol, **(terms or {"ratio": "2"}))


def left(quantity: str) -> Step:
    """Return a contract that goes in kind; beyond zero it would need a price."""
    return act("PositionTransferredOut", symbol="INV", quantity=quantity, transfer_id="out")


SHARES = [share("ABC"), deposit("1000")]
CASES: dict[str, tuple[str, list[Step], Figures]] = {
    "a split of what was flat": (
        "BTC", [*INVERSE, *AB, split(), bust("b")],
        {"cash.BTC": "1", "realized_pnl": "0", "positions.INV.size": "10"},
    ),
    "of what was short": (
        "BTC",
        [*INVERSE, sell("6", "50000", "INV", fill_id="a"), buy("6", "40000", "INV", fill_id="b"),
         split(), bust("b")],
        {"cash.BTC": "1", "positions.INV.side": "short", "positions.INV.size": "6"},
    ),
    "two of them": (
        "BTC", [*INVERSE, *AB, split(), split(ratio="3"), bust("b")],
        {"positions.INV.size": "10", "realized_pnl": "0"},
    ),
    "and it applies again when the first fill goes too": (
        "BTC", [*INVERSE, *AB, split(), bust("b"), bust("a")],
        {"cash.BTC": "1", "positions": {}, "flags": []},
    ),
    "a fee of the fill that stays": (
        "BTC",
        [*INVERSE, buy("10", "50000", "INV", fill_id="a", commission="0.01"),
         sell("10", "40000", "INV", fill_id="b", commission="0.02"), split(), bust("b")],
        {"cash.BTC": "0.99", "fees": "0.01", "positions.INV.size": "10"},
    ),
    "an amendment that leaves a rest": (
        "BTC", [*INVERSE, *AB, split(), amend("b", quantity="4")],
        {"positions.INV.size": "6", "positions.INV.entry_price": "50000"},
    ),
    "what went in kind goes beyond nothing": (  # without a price nothing opens
        "BTC",
        [*INVERSE, buy("10", "50000", "INV", fill_id="a"), left("10"), bust("a")],
        {"cash.BTC": "1", "realized_pnl": "0"},
    ),
    "an order that filled is cancelled in vain": (
        "BTC",
        [*INVERSE, act("OrderSubmitted", order_id="o", symbol="INV", side="buy", type="market",
                       quantity="9"),
         buy("4", "50000", "INV", fill_id="a", order_id="o"),
         act("OrderCancelled", order_id="o"), bust("a")],
        {"cash.BTC": "1", "orders": {}, "open_orders": 0},
    ),
    "an order that only its fill told of": (
        "BTC",
        [*INVERSE, buy("4", "50000", "INV", fill_id="a", order_id="x"),
         deposit("1"), bust("a")],
        {"cash.BTC": "2", "orders": {}, "positions": {}},
    ),
    "a fraction of shares that are not there": (  # 7 of 7 for 2: the venue left 3; none were held
        "USD",
        [*SHARES, buy("7", "10", "ABC", fill_id="a"),
         split("ABC", numerator="1", denominator="2", quantity_after="3", cash_in_lieu="5"),
         bust("a")],
        {"positions": {}, "realized_pnl": "0", "dividends": "5", "cash.USD": "1005"},
    ),
    "the venue's size does not follow any more": (  # 4 of 14 stay, 1 for 2: 2, not 7
        "USD",
        [*SHARES, buy("4", "10", "ABC"), buy("10", "10", "ABC", fill_id="a"),
         split("ABC", numerator="1", denominator="2", quantity_after="7"), bust("a")],
        {"positions.ABC.size": "2", "positions.ABC.entry_price": "20", "realized_pnl": "0"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_bust_is_never_refused_for_what_came_after(
    case: tuple[str, list[Step], Figures],
) -> None:
    """What cannot compute does nothing; all else is booked as if the fill had not been."""
    check(*case)
