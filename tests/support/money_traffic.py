"""Random logs of one account that moves money and coins, is corrected and reported, from a seed."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tests.support.events import (
    Sent,
    collateral,
    control,
    deposit,
    dismissed,
    event,
    event_id,
    instrument,
    mark,
    opened,
    report,
    retried,
    rules,
    unknown,
    voided,
)
from tests.support.money_reference import CONTRACT, HOME, MoneyReference

from psm.contracts.control_events import CONTROL_SUBJECTS

COINS = ("BTC", "BNB")
PRICES = {"BTC": 90, "BNB": 9, CONTRACT: 50}
REVERSIBLE = ("InterestAccrued", "FeeCharged", "FundingApplied", "TaxCharged", "PositionAdjusted")
Payload = dict[str, Any]


class MoneyTraffic:
    """Author of a log of valid events, in order; `sent` is the result."""

    def __init__(self, seed: int, length: int = 60) -> None:
        self.rng = random.Random(seed)
        self.number = 0
        self.tables: dict[str, int] = {}
        self.sent: list[Sent] = [rules(1)]
        self.fills: list[str] = []
        self.others: list[str] = []
        self.orders: list[str] = []
        for coin in COINS:
            pair = {"kind": "spot", "base": coin}
            self.sent.append(instrument(1, f"{coin}{HOME}", **pair))
        self.sent.append(instrument(1, CONTRACT, base="X"))
        for name in PRICES:
            self.marked(name)
        self.sent += [opened(self.next()), deposit(self.next(), "100000", reference="d0")]
        for _ in range(length):
            getattr(self, self.rng.choice(ACTS))()

    def next(self) -> int:
        """Return the account's next number."""
        self.number += 1
        return self.number

    def tell(self, event_type: str, payload: Payload) -> None:
        """Write the account's next event."""
        if event_type in REVERSIBLE:
            self.others.append(event_id(event_type, "acc_001", self.number + 1, ""))
        self.sent.append(event(event_type, payload, self.next()))

    def amount(self, high: int, *, signed: bool = False) -> str:
        """Return a decimal above zero, or of either sign."""
        sign = self.rng.choice(("", "-")) if signed else ""
        return sign + format(Decimal(self.rng.randint(1, high * 100)) / 100, "f")

    def some(self) -> Payload:
        """Return which money is meant, and for a coin often what it is worth."""
        asset = self.rng.choice((HOME, *COINS))
        return {} if asset == HOME else {"currency": asset, **self.stated(asset)}

    def stated(self, asset: str) -> Payload:
        """Return what an event says of a rate: mostly nothing, or a number, or that it has none."""
        if self.rng.random() < 0.5:
            return {}
        return {"rates": {asset: self.rng.choice((self.amount(120), self.amount(120), None))}}

    # --- tables and the log -------------------------------------------------------------------

    def marked(self, name: str = "") -> None:
        """Everything has a mark, at the start and again and again."""
        name = name or self.rng.choice(list(PRICES))
        symbol = name if name == CONTRACT else name + HOME
        self.tables[symbol] = number = self.tables.get(symbol, 0) + 1
        self.sent.append(mark(number, self.amount(PRICES[name]), symbol))

    def secured(self) -> None:
        """The terms of an asset as security."""
        asset = self.rng.choice((HOME, *COINS))
        self.tables[asset] = number = self.tables.get(asset, 0) + 1
        haircut = "0" if asset == HOME else self.rng.choice(("0", "0.05", "0.5", "1"))
        owed = {"borrow_maintenance_rate": "0.1"} if self.rng.random() < 0.7 else {}
        self.sent.append(collateral(number, asset, haircut, **owed))

    def controlled(self) -> None:
        """What an operator says to the whole log."""
        said: Payload = {
            "RegionPromoted": {
                "epoch": 1, "region": "b", "fork_sequence": 1, "previous_hash": "ab" * 32,
            },
            "LogTrimmed": {
                "through": 1, "certificate": "cd" * 32, "actor": "ann", "approval": "x",
            },
            "LogRestored": {"through": 1},
        }  # fmt: skip
        kind = self.rng.choice(list(said))
        subject = CONTROL_SUBJECTS[kind]
        self.tables[subject] = number = self.tables.get(subject, 0) + 1
        self.sent.append(control(kind, said[kind], number))

    def repaired(self) -> None:
        """The stream stops at what nobody knows, or waits for what never comes."""
        if self.rng.random() < 0.5:
            self.sent.append(unknown(self.next()))
            place = len(self.sent)
            self.flowed()
            self.sent.append(retried(salt=f"{place}"))
            self.marked()
            self.sent.append(dismissed(place))
            return
        missing = self.next()
        self.flowed()
        self.marked("BTC")
        self.traded()
        self.sent.append(voided(missing, missing))

    def reported(self) -> None:
        """A statement: what the reference has, or a little less."""
        known = MoneyReference(self.sent)
        assets = {name: _text(known.quantity(name)) for name in (HOME, *known.held)}
        if self.rng.random() < 0.4:
            assets[HOME] = _text(known.quantity(HOME) - 1)
        held = [{"symbol": CONTRACT, "size": _text(known.contract.size)}]
        self.sent.append(report(assets, *held, salt=f"{len(self.sent)}"))

    # --- money --------------------------------------------------------------------------------

    def flowed(self) -> None:
        """Money or coins come and go; some of the money comes back."""
        name = f"r{self.number}"
        kind = self.rng.choice(
            ("CashDeposited", "CashWithdrawn", "TransferredIn", "TransferredOut", "back", "back")
        )
        if kind == "back":
            self.returned(name)
            return
        payload = {"amount": self.amount(9), **self.some()}
        payload |= {"transfer_id" if "Transferred" in kind else "reference": name}
        if kind in ("CashDeposited", "TransferredIn") and "currency" in payload:
            payload |= {"cost": self.amount(400)} if self.rng.random() < 0.5 else {}
        self.tell(kind, payload)

    def returned(self, name: str) -> None:
        """The account's own money goes one way, and a part of it the other."""
        way = self.rng.choice(("in", "out"))
        kind, back, named = self.rng.choice(
            (
                ({"in": "CashDeposited", "out": "CashWithdrawn"}, "CashReversed", "reference"),
                ({"in": "TransferredIn", "out": "TransferredOut"}, "TransferReversed",
                 "transfer_id"),
            )
        )  # fmt: skip
        self.tell(kind[way], {"amount": "90", named: name})
        self.tell(back, {"amount": self.amount(90), named: name, "direction": way})

    def earned(self) -> None:
        """What is neither a trade nor a flow."""
        kind = self.rng.choice(("CashAdjusted", "InterestAccrued", "FeeCharged", "TaxCharged"))
        payload = {"amount": self.amount(4, signed=True), **self.some()}
        if kind == "CashAdjusted":
            payload |= {"reason": "late", "actor": "ann"}
        if kind == "TaxCharged":
            payload["kind"] = "withholding"
        self.tell(kind, payload)

    def of_contracts(self) -> None:
        """Funding, and losses that somebody else pays."""
        payment = self.amount(5, signed=True)
        if self.rng.random() < 0.6:
            self.tell("FundingApplied", {"symbol": CONTRACT, "funding_payment": payment})
        else:
            self.tell("LossCovered", {"symbol": CONTRACT, "amount": self.amount(5)})

    def reset(self) -> None:
        """An operator restates a peak that nobody reached."""
        deepest = self.rng.choice(("0", "0.4"))
        said = {"peak_nav": self.rng.choice(("40", "50")), "max_drawdown": deepest}
        self.tell("PeakReset", {**said, "actor": "ann", "reason": "wrong mark"})

    # --- trades, orders and what corrects them ------------------------------------------------

    def traded(self) -> None:
        """A fill, with a fee in whatever pays it."""
        symbol = self.rng.choice((CONTRACT, *(coin + HOME for coin in COINS)))
        more: Payload = {"fill_id": f"f{self.number}"}
        if self.rng.random() < 0.6:
            more |= {"commission": self.amount(1, signed=True)}
            more |= self.rng.choice(
                ({}, {"commission_currency": "BNB"}, {"commission_currency": "BTC"})
            )
        named = more.get("commission_currency", HOME)
        payload = {"symbol": symbol, "side": self.rng.choice(("buy", "sell")), **more}
        payload |= {"quantity": self.amount(4), "price": self.amount(90)}
        if named in COINS:
            payload |= self.stated(named)
        self.fills.append(more["fill_id"])
        self.tell("TradeExecuted", payload)

    def ordered(self) -> None:
        """An order of its whole life: filled in parts, and ended."""
        name = f"o{self.number}"
        order = {"symbol": CONTRACT, "side": "buy", "type": "limit", "price": "40"}
        self.tell("OrderSubmitted", {"order_id": name, **order, "quantity": "10"})
        if self.rng.random() < 0.7:
            self.tell("OrderAccepted", {"order_id": name})
        for part in range(self.rng.randint(0, 3)):
            fill = {
                "symbol": CONTRACT,
                "side": "buy",
                "order_id": name,
                "fill_id": f"{name}-{part}",
            }
            self.tell("TradeExecuted", {**fill, "quantity": self.amount(2), "price": "41.5"})
        if self.rng.random() < 0.3:
            self.tell("OrderReplaced", {"order_id": name, "quantity": "12"})
        if self.rng.random() < 0.7:
            verb = self.rng.choice(("Cancelled", "Expired", "Rejected"))
            self.tell(f"Order{verb}", {"order_id": name})

    def corrected(self) -> None:
        """A fill never was, or was another one; something else never was."""
        rng = self.rng
        if self.others and rng.random() < 0.3:
            named = {"event_id": self.others.pop(rng.randrange(len(self.others)))}
            self.tell("EventReversed", {**named, "reason": "wrong", "actor": "ann"})
        elif self.fills:
            place = rng.randrange(len(self.fills))
            said = {"fill_id": self.fills[place], "reason": "erroneous"}
            if rng.random() < 0.5:
                self.fills.pop(place)
                self.tell("TradeBusted", said)
                return
            changes = {"price": "33", "quantity": "2.5", "commission": "0.7", "side": "sell"}
            name = rng.choice(list(changes))
            self.tell("TradeAmended", {**said, name: changes[name]})

    # --- in kind and by hand ------------------------------------------------------------------

    def in_kind(self) -> None:
        """Coins or contracts come or go without a trade."""
        way, symbol = self.rng.choice(("In", "Out")), self.rng.choice((CONTRACT, *COINS))
        payload: Payload = {"symbol": symbol, "quantity": self.amount(3)}
        payload["transfer_id"] = f"k{self.number}"
        if way == "In" or self.rng.random() < 0.5:
            payload["side"] = self.rng.choice(("long", "short"))
        if symbol == CONTRACT:
            payload["entry_price"] = self.amount(60)
        else:
            payload |= {"cost": self.amount(90)} if self.rng.random() < 0.6 else {}
            payload |= self.stated(symbol)
        self.tell(f"PositionTransferred{way}", payload)

    def adjusted(self) -> None:
        """A person corrects what is held; some of it came for nothing."""
        symbol = self.rng.choice((CONTRACT, *(coin + HOME for coin in COINS)))
        said: Payload = {"quantity": self.amount(3, signed=True)}
        said |= {"reason": "late", "actor": "ann"}
        price = self.rng.choice(("0", self.amount(60)))
        self.tell("PositionAdjusted", {"symbol": symbol, "price": price, **said})


ACTS = (
    *("marked",) * 4, "secured", "controlled", "repaired", "reported",
    *("flowed",) * 3, "earned", "earned", "of_contracts", "reset",
    *("traded",) * 5, "ordered", *("corrected",) * 2, "in_kind", "in_kind", "adjusted",
)  # fmt: skip


def _text(value: Fraction) -> str:
    """Return a fraction as a decimal of 18 digits after the point."""
    return format(Decimal(round(value * 10**18)).scaleb(-18), "f")
