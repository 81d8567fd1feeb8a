"""Sizes of nautilus_trader's `FixedRiskSizer` for the risk tests, as JSON on stdout.

Run it in an environment of its own, for nothing of it is a dependency of PSM:

    pip install nautilus_trader
    python scripts/make_sizing_vectors.py > tests/differential/sizing_vectors.json

Every number is a text, so that both sides read the same digits. The batch is the instrument's lot:
the library's own default is a whole unit.
"""

from __future__ import annotations

import json
import random
import sys
from decimal import Decimal

import nautilus_trader
from nautilus_trader.model.instruments import Instrument
from nautilus_trader.model.objects import Money
from nautilus_trader.risk.sizing import FixedRiskSizer
from nautilus_trader.test_kit.providers import TestInstrumentProvider

CASES = 40
EXACT = (
    # on the border of a lot, and the smallest price step to either side of it
    ("100.00", "99.00", "10000", "0.01", "0"),
    ("100.00", "98.99", "10000", "0.01", "0"),
    ("100.00", "99.01", "10000", "0.01", "0"),
    ("99.00", "100.00", "10000", "0.01", "0"),
    ("100.00", "100.00", "10000", "0.01", "0"),
    ("100.00", "99.99", "0.01", "0.0001", "0"),
    ("100.00", "99.00", "0", "0.01", "0"),
    ("100.00", "99.00", "-5", "0.01", "0"),
)


def drawn(draw: random.Random) -> tuple[str, str, str, str, str]:
    """Return entry, stop, equity, risk and fee."""
    entry = Decimal(draw.randrange(1, 9_000_000)).scaleb(-2)
    stop = max(Decimal("0.01"), entry + Decimal(draw.randrange(-50_000, 50_000)).scaleb(-2))
    equity = Decimal(draw.randrange(1, 10**10)).scaleb(-2)
    risk = Decimal(draw.randrange(1, 500)).scaleb(-4)
    fee = draw.choice(("0", "0", "0.0005", "0.001"))
    return str(entry), str(stop), str(equity), str(risk), fee


def calculated(instrument: Instrument, row: tuple[str, str, str, str, str]) -> dict[str, str]:
    """Return the inputs by name, and the size that the library makes of them."""
    entry, stop, equity, risk, fee = row
    lot = instrument.size_increment.as_decimal()
    size = FixedRiskSizer(instrument).calculate(
        instrument.make_price(Decimal(entry)),
        instrument.make_price(Decimal(stop)),
        Money(Decimal(equity), instrument.quote_currency),
        Decimal(risk),
        commission_rate=Decimal(fee),
        unit_batch_size=lot,
    )
    return {
        "entry": entry,
        "stop": stop,
        "equity": equity,
        "risk": risk,
        "fee": fee,
        "lot": str(lot),
        "most": str(instrument.max_quantity.as_decimal()),
        "size": str(size.as_decimal()),
    }


def main() -> None:
    """Print the vectors."""
    draw = random.Random(20_261_130)  # noqa: S311 - reproducible on purpose
    instrument = TestInstrumentProvider.btcusdt_binance()
    rows = [*EXACT, *(drawn(draw) for _ in range(CASES))]
    made_with = {"nautilus_trader": nautilus_trader.__version__}
    cases = [calculated(instrument, row) for row in rows]
    json.dump({"made_with": made_with, "cases": cases}, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
