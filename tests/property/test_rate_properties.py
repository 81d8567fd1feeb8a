"""Rates against a definition of their own, in fractions, over random markets and own fills."""

from __future__ import annotations

from fractions import Fraction
from random import Random
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from tests.support.domain import Log
from tests.support.events import deposit, event, instrument, mark, opened, trade

from psm.domain.snapshot import dump_account, load_account

ASSETS = ("A", "B", "EUR", "USDT", "USD", "BTC")
KINDS = ("spot", "spot", "spot", "equity", "linear_perp", "inverse_perp", "linear_future")
BRIDGES = ("USDT", "USD", "BTC")
TURNS = (
    (("spot",), True),
    (("spot",), False),
    (("equity",), True),
    (("linear_perp", "inverse_perp"), True),
    (("linear_perp", "inverse_perp"), False),
)
PRICES = ("0", "-2", "0.5", "3", "7", "40")

Steps = list[Fraction]


class Told(msgspec.Struct):
    """An instrument as it was told, and its last mark."""

    kind: str
    base: str
    quote: str
    multiplier: Fraction
    price: Fraction | None = None
    index: Fraction | None = None


class Slow:
    """The market and the own fills of one account, asked from the beginning each time."""

    def __init__(self, home: str) -> None:
        self.home = home
        self.told: dict[str, Told] = {}
        self.fills: list[tuple[Told, Fraction]] = []

    def rate(self, asset: str) -> Fraction | None:
        """Return the rate of an asset into the account currency."""
        if asset == self.home:
            return Fraction(1)
        found = self._market(asset)
        return self._own(asset) if found is None else found

    def _market(self, asset: str) -> Fraction | None:
        found = self._step(asset, self.home, zero=True)
        if found is not None:
            return found
        for bridge in BRIDGES:
            if bridge not in (asset, self.home):
                first = self._step(asset, bridge, zero=False)
                second = self._step(bridge, self.home, zero=False)
                if first is not None and second is not None:
                    return first * second
        return None

    def _step(self, asset: str, home: str, *, zero: bool) -> Fraction | None:
        for kinds, forward in TURNS:
            wanted = (asset, home) if forward else (home, asset)
            for one in self.told.values():
                if one.kind not in kinds or (one.base, one.quote) != wanted:
                    continue
                if one.kind == "linear_perp" and one.multiplier != 1:
                    continue
                price = one.price
                if one.kind.endswith("perp") and one.index is not None:
                    price = one.index
                if one.kind == "equity" or one.kind == "spot":
                    price = None if price is None else price * one.multiplier
                if price is not None and (price > 0 or (price == 0 and forward and zero)):
                    return price if forward else 1 / price
        return None

    def _exchanges(self, asset: str, *, zero: bool) -> list[tuple[Fraction, str]]:
        found = []
        last: dict[int, None] = {}
        for one, price in reversed(self.fills):
            if id(one) in last or asset not in (one.base, one.quote):
                continue
            last[id(one)] = None
            forward = one.base == asset
            if price > 0 or (price == 0 and forward and zero):
                worth = price * one.multiplier
                found.append((worth, one.quote) if forward else (1 / worth, one.base))
        return found

    def _own(self, asset: str) -> Fraction | None:
        for rate, other in self._exchanges(asset, zero=True):
            if other == self.home:
                return rate
        for rate, other in self._exchanges(asset, zero=False):
            further = None if other == self.home else self._market(other)
            if further:
                return rate * further
        for rate, other in self._exchanges(asset, zero=False):
            for last, home in self._exchanges(other, zero=False):
                if home == self.home:
                    return rate * last
        return None


@given(st.integers(0, 2**32))
def test_rates_are_what_their_definition_says(seed: int) -> None:
    """Of every asset, whatever is defined, marked and traded, in whatever order."""
    random = Random(seed)
    home = random.choice(ASSETS)
    log, slow, number = Log(), Slow(home), 1
    log.when(opened(1, currency=home))
    for at in range(2, 26):
        act = random.random()
        if act < 0.4 or not slow.told:
            base, quote = random.sample(ASSETS, 2)
            told = Told(random.choice(KINDS), base, quote, Fraction(random.choice((1, 1, 1, 10))))
            slow.told[f"S{at}"] = told
            log.when(
                instrument(1, f"S{at}", kind=told.kind, base=base, quote=quote, settle=quote,
                           multiplier=str(told.multiplier), signed_price=True)
            )  # fmt: skip
            continue
        symbol = random.choice([*slow.told])
        told, price = slow.told[symbol], random.choice(PRICES)
        if told.kind == "inverse_perp" and not Fraction(price) > 0:
            price = "9"
        if act < 0.75:
            told.price, told.index = Fraction(price), None
            more: dict[str, Any] = {}
            if random.random() < 0.3:
                more = {"index_price": random.choice(PRICES)}
                told.index = Fraction(more["index_price"])
            log.when(mark(at, price, symbol, **more))
        else:
            number += 1
            log.when(trade(number, random.choice(("buy", "sell")), "1", price, symbol))
            if told.kind == "spot":
                slow.fills.append((told, Fraction(price)))
    for asset in ASSETS:
        expected, found = slow.rate(asset), log.account().prices.rate(asset)
        assert (found is None) == (expected is None), asset
        if found is not None and expected is not None:
            assert abs(Fraction(found) - expected) <= expected / 10**33, asset


@given(st.integers(0, 2**32))
def test_figures_follow_every_price_that_they_depend_on(seed: int) -> None:
    """An account that holds every asset is valued as one that was just loaded, after each step."""
    random = Random(seed)
    log = Log()
    home = random.choice(ASSETS)
    log.when(opened(1, currency=home))
    for at, asset in enumerate(ASSETS, start=2):
        log.when(deposit(at, str(at), currency=asset))
    number = len(ASSETS) + 1
    told: list[str] = []
    for at in range(2, 26):
        act = random.random()
        if act < 0.4 or not told:
            base, quote = random.sample(ASSETS, 2)
            kind = random.choice(KINDS)
            log.when(instrument(1, f"S{at}", kind=kind, base=base, quote=quote, settle=quote))
            told.append(f"S{at}")
        elif act < 0.7:
            log.when(mark(at, random.choice(("0.5", "3", "7")), random.choice(told)))
        elif act < 0.9:
            number += 1
            log.when(trade(number, "buy", "1", random.choice(("2", "5")), random.choice(told)))
        else:
            number += 1
            terms = {"symbol": random.choice(told), "ratio": random.choice(("4", "0.5"))}
            log.when(event("SplitApplied", terms, number))
        account = log.account()
        again, _ = load_account(dump_account(account, log.books.position, b""))
        again.enter(log.books.market)
        assert again.equity() == account.equity()
        assert again.value().flags == account.value().flags
