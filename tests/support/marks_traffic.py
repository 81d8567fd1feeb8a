"""Random logs in which marks do everything: accounts near liquidation, ruined, back again.

Linear contracts in one currency; net and hedge mode, cross and isolated; the times of marks stand,
leap, go back and pause for days. The author keeps sizes, so that every event is one that applies.
"""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

from tests.support.events import SECOND, START, Sent, event, instrument, mark, opened

SYMBOLS = ("BTC-PERP", "ETH-PERP")
TIERS = [
    {"notional_floor": "0", "maintenance_rate": "0.2"},
    {"notional_floor": "400", "maintenance_rate": "0.4"},
]
STEPS_MS = (0, 90, 400, 400, 1_000, 1_000, 2_500, 7_000, 20_000)
"""Between two messages."""
LEAPS_S = (-7_200, -30, 65, 3_600, 7_200, 220_000)
"""Of a leader whose time is wrong, and of a weekend."""


class MarksTraffic:
    """Writes one log of `accounts` accounts."""

    def __init__(self, seed: int, length: int = 120, accounts: int = 2) -> None:
        self.rng = random.Random(seed)
        self.length = length
        self.streams = [f"acc_{number:03d}" for number in range(accounts)]
        self.numbers: dict[str, int] = {}
        self.sizes: dict[tuple[str, str, str], Fraction] = {}
        self.hedged = {s: self.rng.random() < 0.4 for s in self.streams}
        self.isolated = {s: self.rng.random() < 0.5 for s in self.streams}
        self.prices = dict.fromkeys(SYMBOLS, 100_00)
        self.time = START + self.rng.randrange(60) * SECOND

    def messages(self) -> list[Sent]:
        """Return the log."""
        rng, multiplier = self.rng, self.rng.choice(["1", "2", "0.5"])
        found = [
            instrument(1, symbol, base="X", multiplier=multiplier, margin_tiers=TIERS)
            for symbol in SYMBOLS
        ]
        for stream in self.streams:
            found.append(opened(self.next(stream), stream=stream))
            found.append(self.tell(stream, "CashDeposited", {"amount": rng.choice(["60", "300"])}))
            if self.hedged[stream]:
                found.append(self.tell(stream, "PositionModeChanged", {"mode": "hedge"}))
            if self.isolated[stream]:
                payload = {"symbol": SYMBOLS[0], "leverage": rng.choice(["1", "3"])}
                found.append(self.tell(stream, "LeverageChanged", payload))
                payload = {"symbol": SYMBOLS[0], "mode": "isolated", "position_side": "long"}
                found.append(self.tell(stream, "MarginModeChanged", payload))
            found.append(self.fill(stream))
        return [one.later(self.now()) for one in found + self.rest()]

    def rest(self) -> list[Sent]:
        """Return what follows the start: mostly marks, at last a silence."""
        kinds = [self.move] * 12 + [self.repeat, self.junk] + [self.own] * 4
        return [self.rng.choice(kinds)() for _ in range(self.length)]

    def now(self) -> int:
        """Return the time of the next message."""
        self.time += self.rng.choice(STEPS_MS) * SECOND // 1_000
        if self.rng.random() < 0.02:
            self.time += self.rng.choice(LEAPS_S) * SECOND
        return self.time

    def next(self, name: str) -> int:
        """Return the next number of a stream or symbol."""
        self.numbers[name] = self.numbers.get(name, 0) + 1
        return self.numbers[name]

    def tell(self, stream: str, kind: str, payload: dict[str, Any]) -> Sent:
        """Return an account's next event."""
        return event(kind, payload, self.next(stream), stream=stream)

    def move(self) -> Sent:
        """Return a mark, not far from the one before, seldom at the same price."""
        symbol = self.rng.choice(SYMBOLS)
        step = self.rng.choice([-900, -150, -20, -1, 0, 1, 20, 150, 900])
        self.prices[symbol] = max(1_00, self.prices[symbol] + step)
        return mark(self.next(symbol), money(self.prices[symbol]), symbol)

    def repeat(self) -> Sent:
        """Return the newest number of a symbol again: stale, or of nobody yet."""
        symbol = self.rng.choice(SYMBOLS)
        return mark(self.numbers.get(symbol, 1), money(self.prices[symbol] + 500), symbol)

    def junk(self) -> Sent:
        """Return bytes that are no mark: they move the clock all the same."""
        return Sent(subject=f"marks.{self.rng.choice(SYMBOLS)}", data=b"junk")

    def own(self) -> Sent:
        """Return an event of an account."""
        stream, draw = self.rng.choice(self.streams), self.rng.random()
        if draw < 0.5:
            return self.fill(stream)
        amount = money(self.rng.randint(1, 40_00))
        if draw < 0.7:
            kind = self.rng.choice(["CashDeposited", "CashWithdrawn"])
            return self.tell(stream, kind, {"amount": amount})
        leg = self.leg(stream)
        if draw < 0.85 and self.isolated[stream]:
            payload = {**named(SYMBOLS[0], leg), "amount": self.rng.choice(["", "-"]) + amount}
            return self.tell(stream, "MarginTransferred", payload)
        payload = {**named(self.rng.choice(SYMBOLS), leg), "funding_payment": "-" + amount}
        return self.tell(stream, "FundingApplied", payload)

    def leg(self, stream: str) -> str:
        """Return a side of an account's positions."""
        return self.rng.choice(["long", "short"]) if self.hedged[stream] else "net"

    def fill(self, stream: str) -> Sent:
        """Return a trade near the price; it may close, and without legs turn a position over."""
        rng, leg = self.rng, self.leg(stream)
        symbol = rng.choice(SYMBOLS)
        held = self.sizes.get((stream, symbol, leg), Fraction(0))
        size, side = Fraction(rng.randint(1, 300), 100), rng.choice([1, -1])
        if leg != "net":
            side = 1 if leg == "long" else -1
        if held and rng.random() < 0.4:
            side = -1 if held > 0 else 1
            size = abs(held) if leg != "net" or rng.random() < 0.5 else size
        self.sizes[stream, symbol, leg] = held + side * size
        price = money(self.prices[symbol] + rng.randint(-100, 100))
        payload = {"side": "buy" if side > 0 else "sell", "quantity": money(int(size * 100))}
        return self.tell(stream, "TradeExecuted", {**named(symbol, leg), **payload, "price": price})


def named(symbol: str, leg: str) -> dict[str, Any]:
    """Return how an event names a leg."""
    return {"symbol": symbol} if leg == "net" else {"symbol": symbol, "position_side": leg}


def money(cents: int) -> str:
    """Return hundredths as a decimal."""
    return f"{cents // 100}.{cents % 100:02d}"
