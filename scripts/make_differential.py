"""Write the differential vectors: what other people's ledgers make of the same fills.

Run in an environment of its own, with `backtrader`, `empyrical-reloaded` and `nautilus_trader`
installed (none of them is a dependency of this project):

    python scripts/make_differential.py tests/differential/vectors.json
"""

from __future__ import annotations

import importlib.metadata
import json
import random
import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

SEED = 20_251_212
CASES, FILLS = 40, 30
Fill = tuple[str, str, str]
"""Side, quantity, price."""


def fills(rng: random.Random, *, decimals: int = 3, crossing: bool = True) -> list[Fill]:
    """Return random fills; some close exactly, and some cross zero."""
    held, price, made = Decimal(0), Decimal(40_000), []
    for _ in range(FILLS):
        price += Decimal(rng.randint(-9_000, 9_000)) / 10
        quantity = Decimal(rng.randint(1, 3_000)).scaleb(-decimals)
        side = rng.choice(["buy", "sell"])
        if held and rng.random() < 0.3:
            side, quantity = ("sell" if held > 0 else "buy"), abs(held)
        signed = quantity if side == "buy" else -quantity
        if not crossing and held * signed < 0:
            signed = max(signed, -abs(held)) if signed < 0 else min(signed, abs(held))
        held += signed
        made.append((side, format(abs(signed), "f"), format(price, "f")))
    return made


def by_backtrader(made: list[Fill]) -> list[list[str]]:
    """Return (size, entry, realized) after every fill, in exact fractions."""
    from backtrader.position import Position

    position, realized, seen = Position(Fraction(0), Fraction(0)), Fraction(0), []
    for side, quantity, price in made:
        signed = Fraction(quantity) * (1 if side == "buy" else -1)
        entry = position.price
        size, after, _, closed = position.update(signed, Fraction(price))
        realized += -closed * (Fraction(price) - entry)
        seen.append([str(size), str(after), str(realized)])
    return seen


def by_nautilus(made: list[Fill], *, inverse: bool) -> list[list[str]]:
    """Return (size, entry, realized) after every fill; a crossing one is split as its engine does.

    Its entry is a float and its money is rounded at every booking.
    """
    from nautilus_trader.core.uuid import UUID4
    from nautilus_trader.model import identifiers as ids
    from nautilus_trader.model.enums import LiquiditySide, OrderSide, OrderType
    from nautilus_trader.model.events import OrderFilled
    from nautilus_trader.model.objects import Money, Price, Quantity
    from nautilus_trader.model.position import Position
    from nautilus_trader.test_kit.providers import TestInstrumentProvider as Provider

    instrument = Provider.xbtusd_bitmex() if inverse else Provider.btcusdt_perp_binance()
    position, past, seen, count = None, Decimal(0), [], 0

    def filled(side: str, quantity: Decimal, price: str) -> Any:
        nonlocal count
        count += 1
        return OrderFilled(
            trader_id=ids.TraderId("TRADER-001"),
            strategy_id=ids.StrategyId("S-001"),
            instrument_id=instrument.id,
            client_order_id=ids.ClientOrderId(f"O-{count}"),
            venue_order_id=ids.VenueOrderId(f"V-{count}"),
            account_id=ids.AccountId("SIM-001"),
            trade_id=ids.TradeId(f"T-{count}"),
            position_id=ids.PositionId("P-1"),
            order_side=OrderSide.BUY if side == "buy" else OrderSide.SELL,
            order_type=OrderType.MARKET,
            last_qty=Quantity(quantity, instrument.size_precision),
            last_px=Price(Decimal(price), instrument.price_precision),
            currency=instrument.quote_currency,
            commission=Money(0, instrument.get_cost_currency()),
            liquidity_side=LiquiditySide.TAKER,
            event_id=UUID4(),
            ts_event=0,
            ts_init=0,
        )

    for side, quantity, price in made:
        left = Decimal(quantity)
        if position is not None and position.is_open and (position.is_long != (side == "buy")):
            part = min(left, position.quantity.as_decimal())
            position.apply(filled(side, part, price))
            left -= part
            if position.is_closed:
                past += position.realized_pnl.as_decimal()
                position = None
        if left:
            if position is None:
                position = Position(instrument, filled(side, left, price))
            else:
                position.apply(filled(side, left, price))
        if position is None:
            seen.append(["0", "0", str(past)])
            continue
        signed = position.quantity.as_decimal() * (1 if position.is_long else -1)
        booked = position.realized_pnl.as_decimal() if position.realized_pnl else Decimal(0)
        seen.append([str(signed), repr(position.avg_px_open), str(past + booked)])
    return seen


def by_empyrical(equities: list[str]) -> list[float]:
    """Return the deepest drawdown of every prefix of an equity curve."""
    import empyrical
    import numpy as np

    values = np.array([float(equity) for equity in equities])
    returns = values[1:] / values[:-1] - 1
    return [float(empyrical.max_drawdown(returns[:n])) for n in range(1, len(returns) + 1)]


def equity_curve(rng: random.Random) -> list[str]:
    """Return a positive equity curve in cents."""
    value, curve = 100_000_00, []
    for _ in range(FILLS):
        curve.append(format(Decimal(value) / 100, "f"))
        value += rng.randint(-4_000_00, 4_000_00)
        value = max(value, 100_00)
    return curve


def inverse_fills(rng: random.Random) -> list[Fill]:
    """Return fills that open once and close in parts: entries never have to be averaged.

    The reference averages inverse entries arithmetically, which breaks the cash identity.
    """
    price, made = Decimal(40_000), []
    while len(made) < FILLS:
        price += Decimal(rng.randint(-1_000, 1_000)) / 2
        size, side = rng.randint(3, 9_000), rng.choice(["buy", "sell"])
        made.append((side, str(size), format(price, "f")))
        part = rng.randint(1, size - 1)
        for closing in (part, size - part):
            price += Decimal(rng.randint(-1_000, 1_000)) / 2
            made.append(("sell" if side == "buy" else "buy", str(closing), format(price, "f")))
    return made


def main() -> None:
    """Write the vectors to the path given."""
    rng = random.Random(SEED)  # noqa: S311 - a seeded sample, no secret
    linear = [fills(rng) for _ in range(CASES)]
    inverse = [inverse_fills(rng) for _ in range(CASES // 2)]
    curves = [equity_curve(rng) for _ in range(CASES // 2)]
    names = ("backtrader", "nautilus_trader", "empyrical-reloaded")
    vectors = {
        "seed": SEED,
        "versions": {name: importlib.metadata.version(name) for name in names},
        "linear": [
            {"fills": f, "backtrader": by_backtrader(f), "nautilus": by_nautilus(f, inverse=False)}
            for f in linear
        ],
        "inverse": [{"fills": f, "nautilus": by_nautilus(f, inverse=True)} for f in inverse],
        "drawdown": [{"equity": c, "empyrical": by_empyrical(c)} for c in curves],
    }
    Path(sys.argv[1]).write_text(json.dumps(vectors) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
