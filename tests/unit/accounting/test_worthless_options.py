"""Options that end: worthless or paid, held or written, whole or in part."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.cases import Figures, Step, act, buy, check, contract, deposit, marked, sell

_TERMS = {"underlying": "ABC", "strike": "50", "expiry": "2026-06-19T20:00:00Z"}


def option(right: str = "call", multiplier: str = "100", settle: str = "USD") -> list[Step]:
    """Return an option on ABC at 50, and 1 000 to trade it."""
    more: dict[str, Any] = {"option": {**_TERMS, "right": right}, "multiplier": multiplier}
    return [contract("OPT", "option", settle, **more), deposit("1000")]


def ends(price: str = "0", kind: str = "expiry", **more: Any) -> Step:
    return act("PositionSettled", symbol="OPT", settlement_price=price, kind=kind, **more)


GONE = {"open_positions": 0, "unrealized_pnl": "0"}

CASES: dict[str, tuple[str, list[Step], Figures]] = {
    "a call that was bought": (
        "USD",
        [*option(), buy("1", "1.5", "OPT"), ends()],
        {"cash.USD": "850", "realized_pnl": "-150", "equity": "850", **GONE},
    ),
    "a put that was bought": (
        "USD",
        [*option("put"), buy("2", "0.75", "OPT"), ends()],
        {"cash.USD": "850", "realized_pnl": "-150", **GONE},
    ),
    "a call that was written keeps the premium": (
        "USD",
        [*option(), sell("3", "2", "OPT"), ends()],
        {"cash.USD": "1600", "realized_pnl": "600", "equity": "1600", **GONE},
    ),
    "bought in two parts": (  # 100 + 300
        "USD",
        [*option(), buy("1", "1", "OPT"), buy("1", "3", "OPT"), ends()],
        {"cash.USD": "600", "realized_pnl": "-400", **GONE},
    ),
    "half was sold before": (  # 150 for one that cost 100, the other is lost
        "USD",
        [*option(), buy("2", "1", "OPT"), sell("1", "1.5", "OPT"), ends()],
        {"cash.USD": "950", "realized_pnl": "-50", **GONE},
    ),
    "a part expires": (  # 1 of 3 at 100 each is lost
        "USD",
        [*option(), buy("3", "1", "OPT"), marked("OPT", "2"), ends(quantity="1")],
        {"positions.OPT.size": "2", "realized_pnl": "-100", "unrealized_pnl": "200",
         "cash.USD": "700", "equity": "1100"},
    ),
    "marked at nothing before it ends": (
        "USD",
        [*option(), buy("1", "1.5", "OPT"), marked("OPT", "0"), ends()],
        {"realized_pnl": "-150", "equity": "850", "nav": "0.85", **GONE},
    ),
    "in the money, paid in cash": (  # 7 x 100 for what cost 150
        "USD",
        [*option(), buy("1", "1.5", "OPT"), ends("7", "exercise")],
        {"cash.USD": "1550", "realized_pnl": "550", **GONE},
    ),
    "written and assigned in cash": (
        "USD",
        [*option("put"), sell("1", "2", "OPT"), ends("5", "assignment")],
        {"cash.USD": "700", "realized_pnl": "-300", **GONE},
    ),
    "with a fee": (
        "USD",
        [*option(), buy("1", "1.5", "OPT"), ends(fee="0.65")],
        {"cash.USD": "849.35", "realized_pnl": "-150", "fees": "0.65", "equity": "849.35", **GONE},
    ),
    "of one unit": (
        "USD",
        [*option(multiplier="1"), buy("10", "0.015", "OPT"), ends()],
        {"cash.USD": "999.85", "realized_pnl": "-0.15", **GONE},
    ),
    "nothing is held any more": (
        "USD",
        [*option(), buy("1", "1.5", "OPT"), sell("1", "1.25", "OPT"), ends()],
        {"cash.USD": "975", "realized_pnl": "-25", **GONE},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_an_option_ends_at_what_it_pays(case: tuple[str, list[Step], Figures]) -> None:
    """Zero is a price: the premium is lost, or kept."""
    check(*case)
