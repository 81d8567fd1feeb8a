"""Sizes are those of other libraries, from recorded vectors.

Kelly's fraction is that of quantstats, on the trades of the analytics vectors; the risk per trade
is that of nautilus_trader's `FixedRiskSizer`.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from psm.domain.money import absolute, add, multiply, subtract
from psm.risk.sizing import KELLY_LEAST, SizingInputs, fixed_fractional, kelly_capped, size

FOLDER = Path(__file__).parent
VECTORS = json.loads((FOLDER / "analytics_vectors.json").read_text("utf-8"))
SIZED = json.loads((FOLDER / "sizing_vectors.json").read_text("utf-8"))["cases"]
EQUITY, LOT = Decimal(1000), Decimal("1E-12")


@pytest.mark.parametrize("case", VECTORS["trades"], ids=lambda case: len(case["nets"]))
def test_kelly_is_that_of_quantstats(case: dict[str, Any]) -> None:
    """A thousand of equity at a price of 1: the size is a thousand times the fraction."""
    nets = [Decimal(net) for net in case["nets"]]
    wins, losses = [x for x in nets if x > 0], [x for x in nets if x < 0]
    found = kelly_capped(
        SizingInputs(
            equity=EQUITY,
            price=Decimal(1),
            lot=LOT,
            win_rate=Decimal(len(wins)) / (len(wins) + len(losses)),
            average_win=sum(wins, Decimal(0)) / len(wins),
            average_loss=sum(losses, Decimal(0)) / len(losses),
            trades=KELLY_LEAST,
            fraction=Decimal(1),
            cap=Decimal(10),
        )
    )
    wanted = EQUITY * max(Decimal(0), Decimal(repr(case["kelly"])))
    assert abs(found - wanted) <= Decimal("1E-12") * max(wanted, Decimal(1))


def inputs_of(case: dict[str, Any]) -> SizingInputs:
    named = ("entry", "stop", "equity", "risk", "fee", "lot")
    values: dict[str, Any] = {name: Decimal(case[name]) for name in named}
    return SizingInputs(**values)


@pytest.mark.parametrize(
    "case",
    [one for one in SIZED if one["fee"] == "0"],
    ids=lambda one: f"{one['entry']} to {one['stop']}",
)
def test_risk_per_trade_is_that_of_nautilus_trader(case: dict[str, Any]) -> None:
    """To the last digit; the library also cuts to the instrument's largest quantity."""
    found = size("fixed_fractional", inputs_of(case))
    assert min(found, Decimal(case["most"])) == Decimal(case["size"])


@pytest.mark.parametrize(
    "case",
    [one for one in SIZED if one["fee"] != "0"],
    ids=lambda one: f"{one['entry']} to {one['stop']}",
)
def test_fees_are_of_the_notional(case: dict[str, Any]) -> None:
    """nautilus_trader takes them off the money at risk, so at its size more than that is lost."""
    given = inputs_of(case)
    distance = absolute(subtract(given.entry, given.stop))
    each = add(distance, multiply(add(given.entry, given.stop), given.fee))
    budget = multiply(given.equity, given.risk)
    theirs, most, own = Decimal(case["size"]), Decimal(case["most"]), fixed_fractional(given)
    assert multiply(own, each) <= budget < multiply(add(own, given.lot), each)
    assert min(own, most) <= theirs
    assert multiply(theirs, each) > budget or theirs == most
