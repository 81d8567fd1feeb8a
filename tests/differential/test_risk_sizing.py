"""The size by Kelly's fraction is that of quantstats, on the trades of the analytics vectors."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from psm.risk.sizing import KELLY_LEAST, SizingInputs, kelly_capped

VECTORS = json.loads((Path(__file__).parent / "analytics_vectors.json").read_text("utf-8"))
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
    assert abs(found - wanted) <= Decimal("1E-9") * max(wanted, Decimal(1))
