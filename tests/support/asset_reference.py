"""The rules of assets written a second time: in fractions, straight from their definitions."""

from __future__ import annotations

from fractions import Fraction

ZERO = Fraction(0)


class Purse:
    """Assets of one account: signed quantities and costs, average cost, in its own currency."""

    def __init__(self, rates: dict[str, Fraction]) -> None:
        self.rates = rates
        self.money = self.realized = self.fees = self.flows_cost = ZERO
        self.held: dict[str, tuple[Fraction, Fraction]] = {}

    def move(self, asset: str, amount: Fraction, value: Fraction) -> None:
        """Acquire or dispose of an amount at a signed value; toward zero it realizes."""
        if asset == "USDT":
            self.money += amount
            return
        quantity, cost = self.held.get(asset, (ZERO, ZERO))
        if quantity * amount < 0:
            part = min(Fraction(1), abs(quantity / amount))  # of the movement that takes from it
            gone = cost * min(Fraction(1), abs(amount / quantity))
            self.realized += -value * part - gone
            quantity, cost = quantity + amount * part, cost - gone
            amount, value = amount * (1 - part), value * (1 - part)
        self.held[asset] = (quantity + amount, cost + value)

    def deposit(self, asset: str, amount: Fraction, cost: Fraction | None) -> Fraction:
        """What comes costs what is said, or its value; what covers is a trade at its value.

        Returns the flow at cost.
        """
        value = amount * self.rates[asset]
        quantity, _ = self.held.get(asset, (ZERO, ZERO))
        covering = min(amount, max(ZERO, -quantity)) if asset != "USDT" else ZERO
        part = covering / amount
        booked = value * part + (value if cost is None else cost) * (1 - part)
        self.flows_cost += booked
        if covering:
            self.move(asset, covering, value * part)
        if amount > covering:
            self.move(asset, amount - covering, booked - value * part)
        return booked

    def take_back(self, asset: str, amount: Fraction, cost: Fraction) -> None:
        """A deposit leaves with what it was booked at: of what is held at most its cost."""
        quantity, held = self.held.get(asset, (ZERO, ZERO))
        leaving = min(amount, max(ZERO, quantity)) if asset != "USDT" else ZERO
        gone = min(cost * leaving / amount, max(ZERO, held)) if leaving else ZERO
        gone = held if leaving and leaving == quantity else gone
        beyond = cost * (amount - leaving) / amount
        self.flows_cost -= gone + beyond
        if leaving:
            self.held[asset] = (quantity - leaving, held - gone)
        if amount > leaving:
            self.move(asset, leaving - amount, -beyond)

    def withdraw(self, asset: str, amount: Fraction) -> Fraction:
        """What goes leaves at its cost; beyond zero at its value. Returns the flow at cost."""
        quantity, cost = self.held.get(asset, (ZERO, ZERO))
        leaving = min(amount, max(ZERO, quantity)) if asset != "USDT" else ZERO
        at_cost = cost * leaving / quantity if leaving else ZERO
        beyond = (amount - leaving) * self.rates[asset]
        self.flows_cost -= at_cost + beyond
        if leaving:
            self.held[asset] = (quantity - leaving, cost - at_cost)
        if amount > leaving:
            self.move(asset, leaving - amount, -beyond)
        return at_cost + beyond

    def trade(self, base: str, quote: str, bought: Fraction, price: Fraction) -> Fraction:
        """Exchange two assets at the value of the quote; return the value of one base."""
        value = bought * price * self.rates[quote]
        self.move(base, bought, value)
        self.move(quote, -bought * price, -value)
        return price * self.rates[quote]

    def pay(self, asset: str, amount: Fraction, worth: Fraction) -> None:
        """A fee, or below zero a rebate, at what a unit is worth."""
        self.fees += amount * worth
        self.move(asset, -amount, -amount * worth)

    def equity(self) -> Fraction:
        """Money, and everything else at its rate."""
        return self.money + sum((q * self.rates[a] for a, (q, _) in self.held.items()), ZERO)
