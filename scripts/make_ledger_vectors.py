"""Write the vectors of assets, hedge legs, isolated margin and liquidation prices.

Run in an environment of its own, with `beancount`, `nautilus_trader` and `ccxt` installed (none of
them is a dependency of this project):

    python scripts/make_ledger_vectors.py tests/differential/ledger_vectors.json
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import random
import sys
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

SEED = 20_261_129
CASES, STEPS = 30, 25
DIGITS = 60
DAY = datetime.date(2026, 1, 1)

Step = dict[str, str]
"""One fact of an account in its own words: `kind`, and the numbers of it as texts."""


def text(number: Decimal) -> str:
    """Return a number without an exponent."""
    return format(number, "f")


class Lots:
    """One commodity in beancount's inventory, averaged after every step: average cost in USD."""

    def __init__(self, name: str) -> None:
        from beancount.core.inventory import Inventory

        self.name, self.inventory, self.realized = name, Inventory(), Decimal(0)

    def acquire(self, quantity: Decimal, cost: Decimal) -> None:
        """Take in units at a total cost."""
        from beancount.core.amount import Amount
        from beancount.core.position import Cost

        self.inventory.add_amount(
            Amount(quantity, self.name), Cost(cost / quantity, "USD", DAY, None)
        )
        self.inventory = self.inventory.average()

    def dispose(self, quantity: Decimal, value: Decimal) -> None:
        """Give units away for a value, at their average cost."""
        from beancount.core.amount import Amount

        (lot,) = self.inventory
        self.realized += value - quantity * lot.cost.number
        self.inventory.add_amount(Amount(-quantity, self.name), lot.cost)

    @property
    def state(self) -> list[str]:
        """Quantity, cost, realized."""
        lots = list(self.inventory)
        if not lots:
            return ["0", "0", text(self.realized)]
        (lot,) = lots
        return [
            text(lot.units.number),
            text(lot.units.number * lot.cost.number),
            text(self.realized),
        ]


def coin_steps(rng: random.Random) -> list[Step]:
    """Return deposits in kind, trades against the account's currency and fees in the coin."""
    held, made, price = Decimal(0), [], Decimal(40_000)
    for _ in range(STEPS):
        price += Decimal(rng.randint(-9_000, 9_000)) / 10
        kind = rng.choice(["deposit", "buy", "sell", "sell", "fee"]) if held else "buy"
        quantity = Decimal(rng.randint(1, 3_000)).scaleb(-3)
        if kind in ("sell", "fee"):
            quantity = min(held, quantity if kind == "sell" else quantity.scaleb(-3))
            if rng.random() < 0.2 and kind == "sell":
                quantity = held
        step = {"kind": kind, "quantity": text(quantity), "price": text(price)}
        if kind == "deposit":
            step["cost"] = text(Decimal(rng.randint(1, 9_000_000)) / 100)
        held += quantity if kind in ("deposit", "buy") else -quantity
        made.append(step)
    return made


def coins_by_beancount(made: list[Step]) -> list[list[str]]:
    """Return (quantity, cost, realized) after every step; a fee is given away at its price."""
    lots, seen = Lots("BTC"), []
    for step in made:
        quantity, price = Decimal(step["quantity"]), Decimal(step["price"])
        if step["kind"] == "deposit":
            lots.acquire(quantity, Decimal(step["cost"]))
        elif step["kind"] == "buy":
            lots.acquire(quantity, quantity * price)
        else:
            lots.dispose(quantity, quantity * price)
        seen.append(lots.state)
    return seen


def foreign_steps(rng: random.Random) -> list[Step]:
    """Return trades of a coin quoted in a foreign currency, each with the rate of its day."""
    coins, euros, made = Decimal(0), Decimal(0), []
    for _ in range(STEPS):
        rate = Decimal(rng.randint(9_000, 13_000)).scaleb(-4)
        price = Decimal(rng.randint(30_000, 50_000))
        if not euros or rng.random() < 0.3:
            amount = Decimal(rng.randint(10_000, 900_000)) / 10
            cost = text(amount * rate)
            made.append({"kind": "deposit", "amount": text(amount), "cost": cost})
            euros += amount
            continue
        side = "sell" if coins and rng.random() < 0.5 else "buy"
        most = coins if side == "sell" else (euros / price).quantize(Decimal("0.001"))
        quantity = min(most, Decimal(rng.randint(1, 900)).scaleb(-3))
        if quantity <= 0:
            continue
        sign = 1 if side == "buy" else -1
        if euros - sign * quantity * price < 0:
            continue
        coins, euros = coins + sign * quantity, euros - sign * quantity * price
        made.append(
            {"kind": side, "quantity": text(quantity), "price": text(price), "rate": text(rate)}
        )
    return made


def foreign_by_beancount(made: list[Step]) -> list[dict[str, list[str]]]:
    """Return both holdings after every step; either leg of a trade has the value of its euros."""
    coins, euros, seen = Lots("BTC"), Lots("EUR"), []
    for step in made:
        if step["kind"] == "deposit":
            euros.acquire(Decimal(step["amount"]), Decimal(step["cost"]))
        else:
            quantity = Decimal(step["quantity"])
            paid = quantity * Decimal(step["price"])
            value = paid * Decimal(step["rate"])
            if step["kind"] == "buy":
                euros.dispose(paid, value)
                coins.acquire(quantity, value)
            else:
                coins.dispose(quantity, value)
                euros.acquire(paid, value)
        seen.append({"BTC": coins.state, "EUR": euros.state})
    return seen


def hedge_steps(rng: random.Random) -> list[Step]:
    """Return fills of two legs of one contract; neither is closed beyond what it holds."""
    held, made, price = {"long": Decimal(0), "short": Decimal(0)}, [], Decimal(40_000)
    for _ in range(STEPS):
        price += Decimal(rng.randint(-9_000, 9_000)) / 10
        leg = rng.choice(["long", "short"])
        closing = bool(held[leg]) and rng.random() < 0.45
        quantity = Decimal(rng.randint(1, 3_000)).scaleb(-3)
        if closing:
            quantity = held[leg] if rng.random() < 0.3 else min(held[leg], quantity)
        held[leg] += -quantity if closing else quantity
        side = "buy" if (leg == "long") != closing else "sell"
        made.append({"leg": leg, "side": side, "quantity": text(quantity), "price": text(price)})
    return made


def hedge_by_nautilus(made: list[Step]) -> list[dict[str, list[str]]]:
    """Return (size, entry, realized) of both legs after every fill: a position id for each."""
    from make_differential import by_nautilus

    seen = []
    for n in range(1, len(made) + 1):
        legs = {}
        for leg in ("long", "short"):
            own = [(s["side"], s["quantity"], s["price"]) for s in made[:n] if s["leg"] == leg]
            legs[leg] = by_nautilus(own, inverse=False)[-1] if own else ["0", "0", "0"]
        seen.append(legs)
    return seen


def margins_by_nautilus(rng: random.Random) -> list[dict[str, str]]:
    """Return what its margin account locks for an opened position: notional over leverage."""
    from nautilus_trader.accounting.accounts.margin import MarginAccount
    from nautilus_trader.model.objects import Price, Quantity
    from nautilus_trader.test_kit.providers import TestInstrumentProvider as Provider
    from nautilus_trader.test_kit.stubs.events import TestEventStubs

    instrument = Provider.btcusdt_perp_binance()
    rows = []
    for _ in range(CASES * 4):
        leverage = rng.randint(1, 125)
        quantity = Decimal(rng.randint(1, 3_000)).scaleb(-3)
        price = Decimal(rng.randint(300_000, 500_000)) / 10
        account = MarginAccount(TestEventStubs.margin_account_state())
        account.set_leverage(instrument.id, Decimal(leverage))
        locked = account.calculate_margin_init(
            instrument,
            Quantity(quantity, instrument.size_precision),
            Price(price, instrument.price_precision),
        )
        rows.append(
            {
                "leverage": str(leverage),
                "quantity": text(quantity),
                "price": text(price),
                "initial_rate": text(instrument.margin_init),
                "margin": text(locked.as_decimal()),
            }
        )
    return rows


TIERS = [("0", "0.004"), ("50000", "0.005"), ("250000", "0.01"), ("1000000", "0.025")]


def liquidations_by_ccxt(rng: random.Random) -> list[dict[str, Any]]:
    """Return the liquidation prices that its Binance parser computes, cross and isolated.

    It takes one tier's rate, without the amount that makes tiers continuous, so the positions stay
    in the lowest tier at entry, mark and liquidation.
    """
    import ccxt

    exchange = ccxt.binance()
    exchange.options["leverageBrackets"] = {"BTC/USDT:USDT": [list(tier) for tier in TIERS]}
    market = {
        "id": "BTCUSDT",
        "symbol": "BTC/USDT:USDT",
        "base": "BTC",
        "quote": "USDT",
        "linear": True,
        "inverse": False,
        "contractSize": 1,
        "precision": {"price": 0.00000001, "amount": 0.001},
        "limits": {},
        "type": "swap",
        "contract": True,
    }
    rows: list[dict[str, Any]] = []
    while len(rows) < CASES * 2:
        isolated = bool(rng.randint(0, 1))
        side = rng.choice([1, -1])
        size = Decimal(rng.randint(1, 900)).scaleb(-3)
        entry = Decimal(rng.randint(300_000, 500_000)) / 10
        mark = entry + Decimal(rng.randint(-4_000, 4_000)) / 10
        leverage = rng.choice([2, 4, 5, 10, 20])
        wallet = (size * entry / leverage).quantize(Decimal("0.00000001"))
        if not isolated:
            wallet += Decimal(rng.randint(0, 300_000)) / 100
        gain = side * size * (mark - entry)
        if size * max(entry, mark) > 45_000 or wallet + gain <= 0:
            continue
        found = exchange.parse_account_position(
            {
                "symbol": "BTCUSDT",
                "positionSide": "BOTH",
                "positionAmt": text(side * size),
                "unrealizedProfit": text(gain),
                "notional": text(side * size * mark),
                "isolatedMargin": text(wallet + gain) if isolated else "0",
                "isolatedWallet": text(wallet) if isolated else "0",
                "isolated": isolated,
                "initialMargin": text(size * mark / leverage),
                "maintMargin": text(size * mark * Decimal(TIERS[0][1])),
                "leverage": str(leverage),
                "entryPrice": text(entry),
                "crossMargin": text(wallet + gain),
                "crossWalletBalance": text(wallet),
                "updateTime": "0",
            },
            market,
        )
        price = found["liquidationPrice"]
        if price is None or not 0 < price * float(size) < 45_000:
            continue
        rows.append(
            {
                "isolated": isolated,
                "side": "buy" if side > 0 else "sell",
                "quantity": text(size),
                "entry": text(entry),
                "mark": text(mark),
                "wallet": text(wallet),
                "leverage": str(leverage),
                "liquidation_price": repr(price),
            }
        )
    return rows


def main() -> None:
    """Write the vectors to the path given."""
    rng = random.Random(SEED)  # noqa: S311 - a seeded sample, no secret
    coins = [coin_steps(rng) for _ in range(CASES)]
    foreign = [foreign_steps(rng) for _ in range(CASES)]
    hedges = [hedge_steps(rng) for _ in range(CASES // 2)]
    names = ("beancount", "nautilus_trader", "ccxt")
    with localcontext() as context:
        context.prec = DIGITS
        vectors = {
            "seed": SEED,
            "versions": {name: importlib.metadata.version(name) for name in names},
            "coins": [{"steps": s, "beancount": coins_by_beancount(s)} for s in coins],
            "foreign": [{"steps": s, "beancount": foreign_by_beancount(s)} for s in foreign],
        }
    vectors["hedge"] = [{"steps": s, "nautilus": hedge_by_nautilus(s)} for s in hedges]
    vectors["margins"] = margins_by_nautilus(rng)
    vectors["tiers"] = TIERS
    vectors["liquidations"] = liquidations_by_ccxt(rng)
    Path(sys.argv[1]).write_text(json.dumps(vectors) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
