"""A market that moves: perpetuals, the coins they are of, and a share."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import NamedTuple

from nats.aio.client import Client

from .line import Line

CURRENCY = "USDT"


class Listed(NamedTuple):
    """A symbol of the market; one that follows another is marked at its price."""

    price: Decimal
    increment: Decimal
    lot: Decimal
    kind: str = "linear_perp"
    quote: str = CURRENCY
    follows: str = ""

    def rounded(self, price: Decimal) -> Decimal:
        """Return a price as the venue quotes it, above zero."""
        return max(rounded(price, self.increment), self.increment)

    def lots(self, quantity: Decimal) -> Decimal:
        """Return a quantity in whole lots, at least one."""
        return max(rounded(quantity, self.lot), self.lot)


_SPOT = Listed(Decimal(42000), Decimal("0.1"), Decimal("0.0001"), kind="spot", follows="BTC-PERP")
MARKET = {
    "BTC-PERP": Listed(Decimal(42000), Decimal("0.1"), Decimal("0.001")),
    "ETH-PERP": Listed(Decimal(2250), Decimal("0.01"), Decimal("0.01")),
    "SOL-PERP": Listed(Decimal(95), Decimal("0.001"), Decimal("0.1")),
    "DOGE-PERP": Listed(Decimal("0.09"), Decimal("0.00001"), Decimal(1)),
    "BTCUSDT": _SPOT,
    "BNBUSDT": Listed(Decimal(310), Decimal("0.1"), Decimal("0.001"), kind="spot"),
    "ACME": Listed(Decimal(120), Decimal("0.01"), Decimal(1), kind="equity", quote="USD"),
}
PERPETUALS = tuple(symbol for symbol, listed in MARKET.items() if listed.kind == "linear_perp")
_TIERS = [
    {"notional_floor": "0", "maintenance_rate": "0.005", "maintenance_amount": "0"},
    {"notional_floor": "250000", "maintenance_rate": "0.01", "maintenance_amount": "1250"},
]


class RandomWalk:
    """A seeded random walk of every symbol, published as marks."""

    def __init__(self, nc: Client, chance: random.Random) -> None:
        self._nc = nc
        self._chance = chance
        self._lines = {symbol: Line(nc, f"marks.{symbol}", f"marks.{symbol}") for symbol in MARKET}
        self.prices = {symbol: listed.price for symbol, listed in MARKET.items()}
        self.published = 0

    async def start(self) -> None:
        """Define and mark what nobody did yet; go on from the last prices."""
        for symbol, listed in MARKET.items():
            subject = f"instruments.{symbol}"
            definition = Line(self._nc, subject, subject)
            await definition.look()
            if not definition.number:
                await definition.publish("InstrumentDefined", _definition(symbol, listed))
            line = self._lines[symbol]
            await line.look()
            if price := line.last.get("payload", {}).get("price"):
                self.prices[symbol] = Decimal(str(price))
            else:  # so that nothing is ever held that has no value
                await self._publish(symbol)

    async def move(self, symbol: str) -> None:
        """Publish the next mark of a symbol."""
        listed = MARKET[symbol]
        if listed.follows:
            self.prices[symbol] = listed.rounded(self.prices[listed.follows])
        else:
            # The pull back to the first price keeps a demo that runs for days in sight of it.
            away = float(self.prices[symbol] / listed.price) - 1
            step = self._chance.gauss(0, 0.0007) - 0.0005 * away
            self.prices[symbol] = listed.rounded(self.prices[symbol] * (1 + Decimal(repr(step))))
        await self._publish(symbol)

    async def _publish(self, symbol: str) -> None:
        payload = {"symbol": symbol, "price": str(self.prices[symbol]), "source": "demo"}
        await self._lines[symbol].publish("MarkPriceUpdated", payload)
        self.published += 1


def _definition(symbol: str, listed: Listed) -> dict[str, object]:
    base = symbol.partition("-")[0]
    return {
        "symbol": symbol,
        "kind": listed.kind,
        "base": base.removesuffix(listed.quote) if listed.kind == "spot" else base,
        "quote": listed.quote,
        "settle": listed.quote,
        "price_increment": str(listed.increment),
        "quantity_increment": str(listed.lot),
        **({"margin_tiers": _TIERS} if listed.kind == "linear_perp" else {}),
    }


def rounded(value: Decimal, step: Decimal) -> Decimal:
    """Return the nearest multiple of a step."""
    return (value / step).quantize(Decimal(1)) * step


def money(value: Decimal) -> str:
    """Return an amount as it is published."""
    return format(value.quantize(Decimal("0.00000001")), "f")
