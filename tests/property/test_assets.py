"""Assets agree with a second implementation in fractions, and keep their invariants."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.asset_reference import Purse
from tests.support.domain import Log
from tests.support.events import deposit, event, fee, instrument, mark, opened, trade, withdrawal

PAIRS = {"BTCUSDT": ("BTC", "USDT"), "BNBUSDT": ("BNB", "USDT"), "BTCBNB": ("BTC", "BNB")}
NEAR = Fraction(1, 10**12)
FEWER = settings(max_examples=settings().max_examples // 2)
seeds = st.integers(0, 2**32)


class Flow(NamedTuple):
    """A flow that may be taken back, and the cost that it was booked at."""

    direction: str
    asset: str
    amount: str
    cost: Fraction
    reference: str


class Story:
    """A random log of one account that trades coins, told to the fold and to the reference."""

    def __init__(self, seed: int) -> None:
        self.rng, self.number, self.marks = random.Random(seed), 2, 0
        self.flows: list[Flow] = []
        self.log, self.purse = Log(), Purse({"USDT": Fraction(1)})
        for symbol, (base, quote) in PAIRS.items():
            self.log.when(instrument(1, symbol, kind="spot", base=base, quote=quote, settle=quote))
        self.reprice()
        self.log.when(opened(1), deposit(2, "1000"))
        self.purse.deposit("USDT", Fraction(1000), None)

    def draw(self, high: int) -> str:
        """Return a small number with two decimals, above zero."""
        return format(Decimal(self.rng.randint(1, high * 100)) / 100, "f")

    def next(self) -> int:
        """Return the next number of the account."""
        self.number += 1
        return self.number

    def reprice(self) -> None:
        """Mark both coins."""
        self.marks += 1
        for coin, around in (("BTC", 90), ("BNB", 9)):
            price = self.draw(around)
            self.purse.rates[coin] = Fraction(price)
            self.log.when(mark(self.marks, price, f"{coin}USDT"))

    def step(self) -> None:
        """Tell one thing to both."""
        rng, purse, amount = self.rng, self.purse, self.draw(3)
        asset = rng.choice(["BTC", "BNB"])
        draw = rng.randrange(7)
        if draw == 0:
            self.reprice()
        elif draw == 1:
            cost = self.draw(300) if rng.random() < 0.5 else None
            payload = {"amount": amount, "currency": asset} | ({"cost": cost} if cost else {})
            name = f"d{self.next()}"
            self.tell(event("CashDeposited", {**payload, "reference": name}, self.number))
            booked = purse.deposit(
                asset, Fraction(amount), None if cost is None else Fraction(cost)
            )
            self.flows.append(Flow("in", asset, amount, booked, name))
        elif draw == 2:
            name = f"w{self.next()}"
            self.tell(withdrawal(self.number, amount, currency=asset, reference=name))
            self.flows.append(
                Flow("out", asset, amount, purse.withdraw(asset, Fraction(amount)), name)
            )
        elif draw == 6 and self.flows:
            self.take_back(rng.choice(self.flows))
        elif draw == 3:
            self.tell(fee(self.next(), amount, currency=asset))
            purse.pay(asset, Fraction(amount), purse.rates[asset])
        else:
            self.trade(amount)

    def take_back(self, flow: Flow) -> None:
        """Take back half of a flow, or all of it, at what it was booked at."""
        amount = Decimal(flow.amount) / self.rng.choice([1, 2])
        cost = flow.cost * Fraction(amount) / Fraction(flow.amount)
        said = {"reference": flow.reference, "direction": flow.direction}
        said |= {"amount": format(amount, "f"), "currency": flow.asset}
        self.tell(event("CashReversed", said, self.next()))
        if flow.direction == "in":
            self.purse.take_back(flow.asset, Fraction(amount), cost)
        else:
            self.purse.deposit(flow.asset, Fraction(amount), cost)

    def trade(self, amount: str) -> None:
        """Trade a pair, with a fee in its base or in nothing."""
        symbol, side, price = (
            self.rng.choice([*PAIRS]),
            self.rng.choice(["buy", "sell"]),
            self.draw(50),
        )
        base, quote = PAIRS[symbol]
        paid = self.draw(1) if self.rng.random() < 0.5 else None
        more: dict[str, Any] = {"commission": paid, "commission_currency": base} if paid else {}
        self.tell(trade(self.next(), side, amount, price, symbol, **more))
        bought = Fraction(amount) * (1 if side == "buy" else -1)
        worth = self.purse.trade(base, quote, bought, Fraction(price))
        if paid:
            self.purse.pay(base, Fraction(paid), worth)

    def tell(self, sent: Any) -> None:
        """Fold an event; a venue's fact is always booked."""
        assert self.log.when(sent).outcome == "applied"


@given(seeds)
def test_fractions_and_definitions_give_the_same_assets(seed: int) -> None:
    """Quantities exactly; costs, totals and equity to what 18 decimals of a value leave."""
    story = Story(seed)
    for _ in range(40):
        story.step()
        account, purse = story.log.account(), story.purse
        ledger, valuation = account.ledger, account.value()
        for name, (quantity, cost) in purse.held.items():
            held = ledger.holding(name)
            assert Fraction(held.quantity) == quantity
            assert abs(Fraction(held.cost.amount) - cost) < NEAR
        assert Fraction(ledger.cash["USDT"]) == purse.money
        assert abs(Fraction(ledger.total("realized_pnl")) - purse.realized) < NEAR
        assert abs(Fraction(ledger.total("fees")) - purse.fees) < NEAR
        assert abs(Fraction(ledger.flows_cost()) - purse.flows_cost) < NEAR
        assert abs(Fraction(valuation.equity or 0) - purse.equity()) < NEAR


@FEWER
@given(seeds)
def test_a_deposit_and_its_withdrawal_leave_everything(seed: int) -> None:
    """At one rate: equity, nav, peak and quantity; and realized, where it is not below zero."""
    story = Story(seed)
    for _ in range(25):
        story.step()
    account = story.log.account()
    before, own = account.value(), account.valuation.performance
    held, realized = account.ledger.holding("BTC"), account.ledger.total("realized_pnl")
    story.tell(deposit(story.next(), "1.5", currency="BTC"))
    story.tell(withdrawal(story.next(), "1.5", currency="BTC"))
    after, now = account.value(), account.valuation.performance
    assert (after.equity, account.ledger.holding("BTC").quantity) == (before.equity, held.quantity)
    if held.quantity >= 0:
        assert account.ledger.total("realized_pnl") == realized
    if (before.equity or 0) > 0 and now.epoch == own.epoch and own.peak and now.peak:
        assert abs(Fraction(now.peak) / Fraction(own.peak) - 1) < Fraction(1, 10**30)


@FEWER
@given(seeds)
def test_selling_all_at_its_mark_leaves_equity(seed: int) -> None:
    """Through the instrument of the rate, without a fee: exactly."""
    story = Story(seed)
    for _ in range(25):
        story.step()
    account = story.log.account()
    before = account.value().equity
    for name in ("BTC", "BNB"):
        quantity = account.ledger.holding(name).quantity
        if quantity:
            price = format(account.prices.rate(name) or Decimal(0), "f")
            side = "sell" if quantity > 0 else "buy"
            amount = format(abs(quantity), "f")
            story.tell(trade(story.next(), side, amount, price, f"{name}USDT"))
    assert account.value().equity == before
    assert not account.value().exposure_gross


@FEWER
@given(seeds)
def test_marks_never_change_the_ledger_of_stated_rates(seed: int) -> None:
    """An account whose events say what everything was worth has one ledger, whatever marks say."""
    hashes = []
    for scale in ("1", "7"):
        rng, log = random.Random(seed), Log()
        log.when(instrument(1, "BTCUSDT", kind="spot", base="BTC"), opened(1), deposit(2))
        for number in range(3, 20):
            price = format(Decimal(rng.randint(1, 900)) * Decimal(scale), "f")
            log.when(mark(number, price, "BTCUSDT"))
            told = {"amount": str(rng.randint(1, 9)), "currency": "BTC"}
            rates = {"BTC": str(rng.randint(1, 500))}
            kind = rng.choice(["CashDeposited", "CashWithdrawn", "FeeCharged", "InterestAccrued"])
            log.when(event(kind, {**told, "rates": rates}, number))
        hashes.append(log.account().ledger_hash())
    assert hashes[0] == hashes[1]
