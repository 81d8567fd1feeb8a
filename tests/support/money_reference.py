"""Money and everything that corrects it, written a second time: slow, in fractions.

One account in USDT with coins and one contract, all of them marked. A correction takes its fact out
of the log, and the rest is booked from the start. Numbers, blocks and what operators do about them
are followed by a list that waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import msgspec
from tests.support.events import Sent
from tests.support.reference import Held

ZERO, ONE = Fraction(0), Fraction(1)
HOME = "USDT"
CONTRACT = "X-PERP"
Body = dict[str, Any]


class Coins(NamedTuple):
    """A holding: signed quantity and cost; whether some of the cost is unknown."""

    quantity: Fraction = ZERO
    cost: Fraction = ZERO
    unknown: bool = False


class MoneyReference:
    """All messages of a log in order; figures and `reports` are the result."""

    def __init__(self, messages: list[Sent]) -> None:
        self.reports: list[bool] = []
        self._start()
        facts: list[Body] = []
        for body in delivered(messages):
            kind = body["event_type"]
            if kind in ("TradeBusted", "TradeAmended", "EventReversed"):
                facts = corrected(facts, kind, body["payload"])
                self._start()
                for fact in facts:
                    self._book(fact)
            elif kind == "AccountReported":
                self.reports.append(self._matches(body["payload"]))
            else:
                facts.append(body)
                self._book(body)

    def _start(self) -> None:
        self.marks: dict[str, Fraction] = {}
        self.terms: dict[str, tuple[Fraction, Fraction]] = {}
        self.money = ZERO
        self.held: dict[str, Coins] = {}
        self.contract = Held(ONE, "linear_perp")
        self.sums: dict[str, Fraction] = {}
        self.orders: dict[str, Order] = {}
        self.units = self.peak = self.deepest = self.flows = ZERO
        self._flow = ZERO

    def _book(self, body: Body) -> None:
        """Book a fact; flows are shared out at the equity before it."""
        before, self._flow = self.equity(), ZERO
        self.stated = body["payload"].get("rates", {})
        getattr(self, body["event_type"])(body["payload"])
        self.flows += self._flow
        after = self.equity()
        if self.units:
            self.units *= (before + self._flow) / before
        elif after > 0:
            self.units = after
        if self.units:
            self.peak = max(self.peak, self.nav())
            self.deepest = max(self.deepest, 1 - self.nav() / self.peak)

    # --- figures ------------------------------------------------------------------------------

    def equity(self) -> Fraction:
        """Return money, coins at their marks, and what the contract gained."""
        coins = sum((c.quantity * self.marks[asset] for asset, c in self.held.items()), ZERO)
        return self.money + coins + self.gain()

    def gain(self) -> Fraction:
        """Return what the contract has not realized."""
        return self.contract.unrealized(self.marks.get(CONTRACT))

    def nav(self) -> Fraction:
        """Return the net asset value per unit."""
        return self.equity() / self.units

    def collateral(self) -> Fraction:
        """Return what secures margin: coins less their haircut, debts in full."""
        total = self.money + self.gain()
        for asset, coins in self.held.items():
            haircut = self.terms.get(asset, (ONE, ZERO))[0] if coins.quantity > 0 else ZERO
            total += coins.quantity * self.marks[asset] * (1 - haircut)
        return total

    def maintenance(self) -> Fraction:
        """Return the margin that debts need."""
        coins = {asset: c.quantity * self.marks[asset] for asset, c in self.held.items()}
        owed = {HOME: self.money, **coins}
        rates = {asset: rate for asset, (_, rate) in self.terms.items()}
        return sum((-min(ZERO, v) * rates.get(a, ZERO) for a, v in owed.items()), ZERO)

    def quantity(self, asset: str) -> Fraction:
        """Return how much of an asset there is."""
        return self.money if asset == HOME else self.held.get(asset, Coins()).quantity

    def _matches(self, p: Body) -> bool:
        names = {*p["assets"], HOME, *self.held}
        same = all(Fraction(p["assets"].get(n, 0)) == _rounded(self.quantity(n)) for n in names)
        sizes = {one["symbol"]: Fraction(one["size"]) for one in p["positions"]}
        return same and sizes.get(CONTRACT, ZERO) == self.contract.size

    # --- movements ----------------------------------------------------------------------------

    def _value(self, asset: str, amount: Fraction) -> Fraction | None:
        """Return what an amount is booked at: the stated rate, else the mark; None: stated none."""
        if asset == HOME:
            return amount
        rate = self.stated.get(asset, self.marks[asset])
        return None if rate is None else amount * Fraction(rate)

    def _sum(self, total: str, amount: Fraction) -> None:
        self.sums[total] = self.sums.get(total, ZERO) + amount

    def _move(self, asset: str, amount: Fraction, value: Fraction | None) -> Fraction:
        """Acquire or dispose of an amount; return what of it counts.

        Toward zero it realizes; without a value it leaves at its cost, and comes at none.
        """
        if asset == HOME:
            self.money += amount
            return amount
        closing = _toward_zero(self.quantity(asset), amount)
        counts, opening = ZERO, amount - closing
        if closing and value is None:
            counts = self._leave(asset, closing)
        elif closing and value is not None:
            part = value * closing / amount
            total = "unknown_cost" if self.held[asset].unknown else "realized_pnl"
            self._sum(total, self._leave(asset, closing) - part)
            counts = part
        if opening:
            added = None if value is None else value * opening / amount
            self._add(asset, opening, added)
            counts += added or ZERO
        return counts

    def _add(self, asset: str, amount: Fraction, cost: Fraction | None) -> None:
        """Add to a holding, away from zero, at a signed cost that may be unknown."""
        held = self.held.get(asset, Coins())
        unknown = held.unknown or cost is None
        self.held[asset] = Coins(held.quantity + amount, held.cost + (cost or ZERO), unknown)

    def _leave(self, asset: str, amount: Fraction) -> Fraction:
        """Take from a holding at its cost; return that cost, signed as the movement."""
        held = self.held[asset]
        gone, left = held.cost * -amount / held.quantity, held.quantity + amount
        self.held[asset] = Coins(left, held.cost - gone, held.unknown and bool(left))
        return -gone

    def _arrive(self, p: Body, asset: str, amount: Fraction, total: str, *, coming: bool) -> None:
        """Let something come from outside or go there: at market, and at cost into a total."""
        self._flow += amount * (ONE if asset == HOME else self.marks[asset])
        value = self._value(asset, amount)
        stated = Fraction(p["cost"]) * (1 if amount > 0 else -1) if "cost" in p else value
        closing = ZERO if asset == HOME else _toward_zero(self.quantity(asset), amount)
        booked, opening = ZERO, amount - closing
        covering = stated if value is None else value
        if closing and coming:
            part = None if covering is None else covering * closing / amount
            booked = self._move(asset, closing, part)
        elif closing:
            booked = self._leave(asset, closing)
        if opening:
            added = None if stated is None else stated * opening / amount
            booked += self._move(asset, opening, added)
        self._sum(total, -booked if total == "withdrawals" else booked)

    def _earn(self, p: Body, amount: Fraction, total: str) -> None:
        """Book what was gained (below zero: lost) without a trade."""
        asset = p.get("currency", HOME)
        self._sum(total, self._move(asset, amount, self._value(asset, amount)))

    def _pay(self, asset: str, amount: Fraction, value: Fraction | None, total: str) -> None:
        self._sum(total, -self._move(asset, -amount, None if value is None else -value))

    # --- the log and its tables ---------------------------------------------------------------

    def InstrumentDefined(self, _: Body) -> None:  # noqa: N802
        """Instruments are what the names say."""

    def MarkPriceUpdated(self, p: Body) -> None:  # noqa: N802
        self.marks[p["symbol"].removesuffix(HOME)] = Fraction(p["price"])

    def CollateralDefined(self, p: Body) -> None:  # noqa: N802
        rate = Fraction(p.get("borrow_maintenance_rate", 0))
        self.terms[p["asset"]] = Fraction(p["haircut"]), rate

    def RulesEnabled(self, _: Body) -> None:  # noqa: N802
        """There is one set of rules."""

    def LogTrimmed(self, _: Body) -> None:  # noqa: N802
        """Books do not follow from where messages are kept."""

    def LogRestored(self, _: Body) -> None:  # noqa: N802
        """As little."""

    def RegionPromoted(self, _: Body) -> None:  # noqa: N802
        """Nor from where they are folded."""

    # --- money --------------------------------------------------------------------------------

    def AccountOpened(self, _: Body) -> None:  # noqa: N802
        """It is in USDT."""

    def CashDeposited(self, p: Body) -> None:  # noqa: N802
        self._arrive(p, p.get("currency", HOME), Fraction(p["amount"]), "deposits", coming=True)

    def CashWithdrawn(self, p: Body) -> None:  # noqa: N802
        gone = -Fraction(p["amount"])
        self._arrive(p, p.get("currency", HOME), gone, "withdrawals", coming=False)

    def TransferredIn(self, p: Body) -> None:  # noqa: N802
        self._arrive(p, p.get("currency", HOME), Fraction(p["amount"]), "transfers", coming=True)

    def TransferredOut(self, p: Body) -> None:  # noqa: N802
        gone = -Fraction(p["amount"])
        self._arrive(p, p.get("currency", HOME), gone, "transfers", coming=False)

    def TransferReversed(self, p: Body) -> None:  # noqa: N802
        self._back(p, "transfers")

    def CashReversed(self, p: Body) -> None:  # noqa: N802
        self._back(p, "deposits" if p["direction"] == "in" else "withdrawals")

    def _back(self, p: Body, total: str) -> None:
        """Book the opposite of what once came in or went out, of the account's own money."""
        amount = Fraction(p["amount"]) * (-1 if p["direction"] == "in" else 1)
        self._arrive(p, HOME, amount, total, coming=amount > 0)

    def CashAdjusted(self, p: Body) -> None:  # noqa: N802
        self._earn(p, Fraction(p["amount"]), "adjustments")

    def InterestAccrued(self, p: Body) -> None:  # noqa: N802
        self._earn(p, Fraction(p["amount"]), "interest")

    def LossCovered(self, p: Body) -> None:  # noqa: N802
        self._earn(p, Fraction(p["amount"]), "losses_covered")

    def FundingApplied(self, p: Body) -> None:  # noqa: N802
        self._earn(p, Fraction(p["funding_payment"]), "funding")

    def FeeCharged(self, p: Body) -> None:  # noqa: N802
        self._charge(p, "fees")

    def TaxCharged(self, p: Body) -> None:  # noqa: N802
        self._charge(p, "taxes")

    def _charge(self, p: Body, total: str) -> None:
        asset, amount = p.get("currency", HOME), Fraction(p["amount"])
        self._pay(asset, amount, self._value(asset, amount), total)

    def PeakReset(self, p: Body) -> None:  # noqa: N802
        self.peak = max(Fraction(p["peak_nav"]), self.nav())
        self.deepest = Fraction(p["max_drawdown"])

    # --- trades and orders --------------------------------------------------------------------

    def TradeExecuted(self, p: Body) -> None:  # noqa: N802
        signed = Fraction(p["quantity"]) * (1 if p["side"] == "buy" else -1)
        price, base = Fraction(p["price"]), p["symbol"].removesuffix(HOME)
        if p["symbol"] == CONTRACT:
            before = self.contract.realized
            self.contract.fill(signed, price)
            self._gained(self.contract.realized - before)
        else:
            self._move(base, signed, signed * price)
            self.money -= signed * price
        fee, paid_in = Fraction(p.get("commission", 0)), p.get("commission_currency", HOME)
        value = fee * price if paid_in == base else self._value(paid_in, fee)
        self._pay(paid_in, fee, value, "fees")
        if "order_id" in p:
            self.orders[p["order_id"]].fills.append((abs(signed), price))

    def _gained(self, realized: Fraction) -> None:
        self.money += realized
        self._sum("realized_pnl", realized)

    def OrderSubmitted(self, p: Body) -> None:  # noqa: N802
        self.orders[p["order_id"]] = Order(Fraction(p["quantity"]))

    def OrderAccepted(self, p: Body) -> None:  # noqa: N802
        self.orders[p["order_id"]].accepted = True

    def OrderReplaced(self, p: Body) -> None:  # noqa: N802
        order = self.orders[p["order_id"]]
        order.quantity, order.accepted = (
            Fraction(p["quantity"]),
            True,
        )  # a venue changes what it has

    def OrderRejected(self, p: Body) -> None:  # noqa: N802
        self.orders[p["order_id"]].ended = "rejected"

    def OrderCancelled(self, p: Body) -> None:  # noqa: N802
        self.orders[p["order_id"]].ended = "cancelled"

    def OrderExpired(self, p: Body) -> None:  # noqa: N802
        self.orders[p["order_id"]].ended = "expired"

    # --- in kind and by hand ------------------------------------------------------------------

    def PositionTransferredIn(self, p: Body) -> None:  # noqa: N802
        signed = Fraction(p["quantity"]) * (-1 if p.get("side") == "short" else 1)
        if p["symbol"] != CONTRACT:
            self._arrive(p, p["symbol"], signed, "transfers", coming=True)
            return
        before, realized = self.gain(), self.contract.realized
        self.contract.fill(signed, Fraction(p["entry_price"]))
        self._gained(self.contract.realized - realized)
        self._flow += self.gain() - before + self.contract.realized - realized

    def PositionTransferredOut(self, p: Body) -> None:  # noqa: N802
        held = self.contract.size if p["symbol"] == CONTRACT else self.quantity(p["symbol"])
        side = p.get("side") or ("short" if held < 0 else "long")
        signed = Fraction(p["quantity"]) * (1 if side == "short" else -1)
        if p["symbol"] != CONTRACT:
            self._arrive(p, p["symbol"], signed, "transfers", coming=False)
            return
        before = self.gain()
        self._shift(signed, Fraction(p["entry_price"]))
        self._flow += self.gain() - before

    def PositionAdjusted(self, p: Body) -> None:  # noqa: N802
        amount, price = Fraction(p["quantity"]), Fraction(p["price"])
        if p["symbol"] == CONTRACT:
            self._shift(amount, price)
            return
        base = p["symbol"].removesuffix(HOME)
        closing = _toward_zero(self.quantity(base), amount)
        if closing:
            self._sum("adjustments", self._leave(base, closing))
        opening = amount - closing
        if opening:
            self._sum("adjustments", opening * price)
            self._move(base, opening, opening * price)

    def _shift(self, signed: Fraction, price: Fraction) -> None:
        """Change the contract's size; what goes leaves at its cost, what comes has this price."""
        realized = self.contract.realized
        self.contract.fill(signed, price)
        self.contract.realized = realized


class Order:
    """An order, and what filled it."""

    def __init__(self, quantity: Fraction) -> None:
        self.quantity = quantity
        self.fills: list[tuple[Fraction, Fraction]] = []
        self.accepted = False
        self.ended = ""

    @property
    def filled(self) -> Fraction:
        """How much of it is filled."""
        return sum((quantity for quantity, _ in self.fills), ZERO)

    @property
    def average(self) -> Fraction | None:
        """What it was filled at."""
        if not self.fills:
            return None
        return sum((quantity * price for quantity, price in self.fills), ZERO) / self.filled

    @property
    def status(self) -> str:
        """Where it is in its life; it is never filled wholly here."""
        if self.ended:
            return self.ended
        if self.fills:
            return "partially_filled"
        return "accepted" if self.accepted else "submitted"


def _rounded(value: Fraction) -> Fraction:
    """Return a figure as it is compared: to 18 decimals."""
    return Fraction(round(value * 10**18), 10**18)


def _toward_zero(held: Fraction, amount: Fraction) -> Fraction:
    """Return the part of a signed amount that takes from what is held on the other side."""
    if held * amount >= 0:
        return ZERO
    return max(amount, -held) if amount < 0 else min(amount, -held)


def delivered(messages: list[Sent]) -> Iterator[Body]:
    """Yield the bodies in the order in which they are booked: by number, past what blocks."""
    waiting: dict[int, Body] = {}
    following, blocked = 1, False
    for sent in messages:
        body: Body = msgspec.json.decode(sent.data)
        match body["event_type"]:
            case "EventDismissed":
                following, blocked = following + blocked, False
            case "SequenceVoided":
                following = body["payload"]["to"] + 1
            case "StreamRetried":
                pass  # what is unknown stays it
            case _ if sent.subject.startswith("trades.") and "sequence_number" in body:
                waiting[body["sequence_number"]] = body
            case _:
                yield body
        while not blocked and following in waiting:
            body = waiting.pop(following)
            blocked = not hasattr(MoneyReference, body["event_type"]) and not _corrects(body)
            if not blocked:
                following += 1
                yield body


def _corrects(body: Body) -> bool:
    return body["event_type"] in ("TradeBusted", "TradeAmended", "EventReversed")


def corrected(facts: list[Body], kind: str, p: Body) -> list[Body]:
    """Return the facts without the one that is named, or with it as it should have been."""
    found = [
        fact
        for fact in facts
        if fact["event_id"] == p.get("event_id")
        or ("fill_id" in p and fact["payload"].get("fill_id") == p["fill_id"])
    ]
    assert len(found) == 1, p
    if kind != "TradeAmended":
        return [fact for fact in facts if fact is not found[0]]
    changes = {n: v for n, v in p.items() if n not in ("fill_id", "event_id", "reason")}
    amended = {**found[0], "payload": {**found[0]["payload"], **changes}}
    return [amended if fact is found[0] else fact for fact in facts]
