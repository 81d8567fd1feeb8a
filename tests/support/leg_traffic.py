"""Random logs of one account with legs and wallets, on linear contracts, from a seed."""

from __future__ import annotations

import random
from typing import Any

from tests.support.events import Sent, deposit, event, instrument, mark, opened

SYMBOLS = ("BTC-PERP", "ETH-PERP")
TIERS = [
    {"notional_floor": "0", "maintenance_rate": "0.005"},
    {"notional_floor": "20000", "maintenance_rate": "0.02"},
]


class LegTraffic:
    """Writes one log; `hedge` and `wallets` say what may be in it."""

    def __init__(
        self, seed: int, length: int = 60, *, modes: bool = True, wallets: bool = True
    ) -> None:
        self.rng = random.Random(seed)
        self.length = length
        self.number = 2
        self.marks = dict.fromkeys(SYMBOLS, 0)
        self.kinds = ["fill"] * 12 + ["mark"] * 5 + ["funding"] * 2
        self.kinds += ["mode"] * 2 if modes else []
        self.kinds += (
            ["margin_mode", "margin_mode", "transfer", "leverage", "report"] if wallets else []
        )
        self.wallets = wallets

    def messages(self) -> list[Sent]:
        """Return the log."""
        rng, multiplier = self.rng, self.rng.choice(["1", "10", "0.001"])
        start = [
            instrument(1, symbol, base="X", multiplier=multiplier, margin_tiers=TIERS)
            for symbol in SYMBOLS
        ]
        start += [opened(1), deposit(2, rng.choice(["500", "100000"]))]
        return start + [getattr(self, rng.choice(self.kinds))() for _ in range(self.length)]

    def tell(self, event_type: str, payload: dict[str, Any]) -> Sent:
        """Return the account's next event."""
        self.number += 1
        return event(event_type, payload, self.number)

    def amount(self, high: int, places: int = 2) -> str:
        """Return a decimal above zero."""
        value = self.rng.randint(1, high * 10**places)
        return f"{value // 10**places}.{value % 10**places:0{places}d}"

    def leg(self) -> dict[str, Any]:
        """Return the symbol, and often the side that an event names."""
        named: dict[str, Any] = {"symbol": self.rng.choice(SYMBOLS)}
        if self.rng.random() < 0.8:
            named["position_side"] = self.rng.choice(["long", "long", "short", "short", "net"])
        return named

    def fill(self) -> Sent:
        payload = {**self.leg(), "side": self.rng.choice(["buy", "sell"])}
        payload |= {"quantity": self.amount(3), "price": self.amount(300)}
        if self.rng.random() < 0.5:
            payload["commission"] = self.amount(1)
        if self.wallets and self.rng.random() < 0.1:
            payload["isolated_margin"] = self.rng.choice(["", "-"]) + self.amount(20)
        return self.tell("TradeExecuted", payload)

    def mark(self) -> Sent:
        symbol = self.rng.choice(SYMBOLS)
        self.marks[symbol] += 1
        return mark(self.marks[symbol], self.amount(300), symbol)

    def funding(self) -> Sent:
        payment = self.rng.choice(["", "-"]) + self.amount(5)
        return self.tell("FundingApplied", {**self.leg(), "funding_payment": payment})

    def mode(self) -> Sent:
        own = {"symbol": self.rng.choice(SYMBOLS)} if self.rng.random() < 0.5 else {}
        mode = self.rng.choice(["hedge", "hedge", "net"])
        return self.tell("PositionModeChanged", {"mode": mode, **own})

    def margin_mode(self) -> Sent:
        mode = self.rng.choice(["isolated", "isolated", "cross"])
        amount = {"amount": self.amount(50)} if self.rng.random() < 0.5 else {}
        return self.tell("MarginModeChanged", {**self.leg(), "mode": mode, **amount})

    def transfer(self) -> Sent:
        amount = self.rng.choice(["", "-"]) + self.amount(20)
        return self.tell("MarginTransferred", {**self.leg(), "amount": amount})

    def report(self) -> Sent:
        margin = {"initial": self.amount(50), "maintenance": self.amount(20)}
        return self.tell("MarginReported", {**self.leg(), **margin})

    def leverage(self) -> Sent:
        leverage = self.rng.choice(["1", "3", "7", "20"])
        payload = {"symbol": self.rng.choice(SYMBOLS), "leverage": leverage}
        return self.tell("LeverageChanged", payload)
