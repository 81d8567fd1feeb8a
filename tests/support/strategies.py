"""Random logs from a seed: hypothesis draws the seed and the size, the log follows from them."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
from hypothesis import strategies as st
from tests.support.events import (
    SECOND,
    START,
    Sent,
    deposit,
    event,
    fee,
    funding,
    instrument,
    mark,
    opened,
    raw,
    trade,
    withdrawal,
)

SYMBOLS = ("BTC-PERP", "ETH-PERP", "AAPL", "GOLD")
TIERS = [
    {"notional_floor": "0", "maintenance_rate": "0.004"},
    {"notional_floor": "50000", "maintenance_rate": "0.1"},
    {"notional_floor": "250000", "maintenance_rate": "0.25"},
]


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """What a random log is made from.

    Attributes:
        seed: of everything below.
        length: number of account events and marks.
        accounts: how many streams.
        symbols: how many symbols; the third is an equity, the fourth nobody defines.
        refusals: also make events that are refused, and bad marks.
        costs: trades carry commissions, and funding and fees occur.
        flows: cash comes and goes after the opening deposit.
        pace: how much longer everything takes; with 30 and more minutes end.
    """

    seed: int
    length: int = 40
    accounts: int = 2
    symbols: int = 4
    refusals: bool = True
    costs: bool = True
    flows: bool = True
    pace: int = 1

    def messages(self) -> list[Sent]:
        """Return the log."""
        return _Author(self).write()


def stories(**fixed: Any) -> st.SearchStrategy[Story]:
    """Return a strategy of stories; `fixed` fields are not drawn."""
    drawn: dict[str, st.SearchStrategy[Any]] = {
        "seed": st.integers(0, 2**32),
        "length": st.integers(1, 60),
        "accounts": st.integers(1, 3),
        "symbols": st.integers(1, 4),
        "pace": st.sampled_from([1, 10, 100]),
    }
    return st.builds(Story, **{**drawn, **{name: st.just(v) for name, v in fixed.items()}})


class _Author:
    def __init__(self, story: Story) -> None:
        self.story = story
        self.rng = random.Random(story.seed)
        self.numbers: dict[str, int] = {}
        self.sizes: dict[tuple[str, str], Fraction] = {}
        self.symbols = SYMBOLS[: story.symbols]
        self.prices = {symbol: self.rng.randint(1, 60_000) for symbol in self.symbols}
        self.fills: dict[str, list[tuple[str, str]]] = {}
        self.time = START

    def write(self) -> list[Sent]:
        messages = [self.definition(symbol) for symbol in self.symbols if symbol != "GOLD"]
        for n in range(self.story.accounts):
            stream = f"acc_{n:03d}"
            limit = {"leverage_limit": "3"} if self.rng.random() < 0.3 else {}
            messages.append(opened(self.next(stream), stream=stream, **limit))
            messages.append(deposit(self.next(stream), self.number(6), stream=stream))
        return messages + [self.anything() for _ in range(self.story.length)]

    def definition(self, symbol: str) -> Sent:
        if symbol == "AAPL":
            return instrument(1, symbol, kind="equity", base=symbol)
        multiplier = self.rng.choice(["1", "1", "10", "0.001"])
        return instrument(1, symbol, base="X", multiplier=multiplier, margin_tiers=TIERS)

    def next(self, stream: str) -> int:
        self.numbers[stream] = self.numbers.get(stream, 0) + 1
        return self.numbers[stream]

    def number(self, digits: int = 3) -> str:
        """Return a positive decimal, its size and its decimals at random."""
        decimals = self.rng.choice([0, 0, 1, 2, 4, 8])
        value = Decimal(self.rng.randint(1, 10 ** (digits + decimals))).scaleb(-decimals)
        return format(value, "f")

    def price(self, symbol: str) -> str:
        step = self.prices[symbol] * self.rng.randint(-30, 30) // 1000
        self.prices[symbol] = max(1, self.prices[symbol] + step)
        return f"{self.prices[symbol]}.{self.rng.randint(0, 99):02d}"

    def anything(self) -> Sent:
        self.time += self.story.pace * self.rng.choice([1, SECOND // 10, SECOND // 3, 2 * SECOND])
        draw = self.rng.random()
        if draw < 0.3:
            return self.mark()
        stream = f"acc_{self.rng.randrange(self.story.accounts):03d}"
        if draw < 0.38 and self.story.refusals:
            return self.refused(stream)
        if draw < 0.5 and self.story.flows:
            make = self.rng.choice([deposit, withdrawal])
            return make(self.next(stream), self.number(4), stream=stream)
        if draw < 0.62 and self.story.costs:
            return self.cost(stream)
        return self.trade(stream)

    def mark(self) -> Sent:
        symbol = self.rng.choice(self.symbols)
        number = self.numbers.get(symbol, 0)
        if not self.story.refusals or self.rng.random() < 0.9:
            number = self.next(symbol)
        if number == 0 or (self.story.refusals and self.rng.random() < 0.03):
            return Sent(subject=f"marks.{symbol}", data=b"junk", at=self.time)
        return mark(number, self.price(symbol), symbol, at=self.time)

    def cost(self, stream: str) -> Sent:
        symbol = self.rng.choice(self.symbols)
        signed = self.rng.choice(["", "-"]) + self.number(1)
        if self.rng.random() < 0.5:
            return funding(self.next(stream), signed, symbol, stream=stream)
        tagged = {"symbol": symbol} if self.rng.random() < 0.5 else {}
        return fee(self.next(stream), signed, stream=stream, **tagged)

    def trade(self, stream: str) -> Sent:
        symbol = self.rng.choice(self.symbols)
        held = self.sizes.get((stream, symbol), Fraction(0))
        quantity = self.number(2)
        side = self.rng.choice(["buy", "sell"])
        if held and self.rng.random() < 0.4:  # close exactly
            side = "sell" if held > 0 else "buy"
            quantity = format(_decimal(abs(held)), "f")
        signed = Fraction(quantity) * (1 if side == "buy" else -1)
        self.sizes[stream, symbol] = held + signed
        extra: dict[str, Any] = {}
        if self.story.costs:
            extra["commission"] = self.rng.choice(["", "-"]) + self.number(1)
        number = self.next(stream)
        if self.rng.random() < 0.5:
            extra["fill_id"] = f"{stream}-{number}"
            self.fills.setdefault(stream, []).append((symbol, extra["fill_id"]))
        return trade(number, side, quantity, self.price(symbol), symbol, stream=stream, **extra)

    def refused(self, stream: str) -> Sent:
        if self.rng.random() < 0.3:
            return raw(b'{"no":"event"}', stream=stream)
        number = self.next(stream)
        choice = self.rng.randrange(4)
        if choice == 3 and self.fills.get(stream):
            symbol, fill_id = self.rng.choice(self.fills[stream])
            return trade(number, "buy", "1", "1", symbol, stream=stream, fill_id=fill_id)
        if choice == 0:
            return deposit(number, "-" + self.number(), stream=stream)
        if choice == 1:
            return opened(number, stream=stream)
        return event("TradeExecuted", {"symbol": "X", "side": "long"}, number, stream=stream)


def _decimal(value: Fraction) -> Decimal:
    """Return a fraction with a denominator of tens exactly."""
    return Decimal(int(value * 10**8)).scaleb(-8)


def disturbed(messages: list[Sent], seed: int) -> list[Sent]:
    """Return the messages with account events doubled and moved; the tables keep their order.

    The last delivery of every event still comes, only later or earlier than its number says.
    """
    rng = random.Random(seed)
    keyed: list[tuple[float, int, Sent]] = []
    for place, sent in enumerate(messages):
        if not sent.subject.startswith("trades."):
            keyed.append((place, 0, sent))
            continue
        keyed.append((place + rng.choice([0, 0, rng.uniform(-8, 8)]), 1, sent))
        while rng.random() < 0.3:
            keyed.append((place + rng.uniform(-3, 30), 2, sent))
    definitions = sum(sent.subject.startswith("instruments.") for sent in messages)
    tail = sorted(keyed[definitions:], key=lambda entry: entry[:2])
    return [sent for *_, sent in [*keyed[:definitions], *tail]]
