"""Random logs of one account that holds shares and options while issuers act, from a seed."""

from __future__ import annotations

import random
from typing import Any

from tests.support.events import ACCOUNT, Sent, deposit, event, instrument, mark, opened, trade

SYMBOLS = ("AAA", "BBB", "CCC")
OPTION = "AAA-C"
TERMS = {"underlying": "AAA", "right": "call", "strike": "50", "expiry": "2026-06-19T20:00:00Z"}
RATIOS = (("1", "3"), ("2", "1"), ("7", "3"), ("1", "10"), ("1.5", "1"))
Payload = dict[str, Any]


class Shares:
    """Author of a log of valid events, in order; `sent` is the result."""

    def __init__(self, seed: int, length: int = 40, stream: str = ACCOUNT) -> None:
        self.stream = stream
        self.rng = random.Random(seed)
        self.number = 0
        self.marks: dict[str, int] = {}
        self.sent: list[Sent] = []
        self.fills: list[str] = []
        fixed = {"quote": "USD", "settle": "USD"}
        for symbol in SYMBOLS:
            self.sent.append(instrument(1, symbol, kind="equity", base=symbol, **fixed))
        terms = {**fixed, "kind": "option", "base": "AAA", "multiplier": "100", "option": TERMS}
        self.sent.append(instrument(1, OPTION, **terms))
        self.sent.append(opened(self._next(), currency="USD", stream=stream))
        self.sent.append(deposit(self._next(), "100000", stream=stream))
        makers = (self.fill, self.fill, self.split, self.paid, self.changed, self.spun, self.merged)
        for _ in range(length):
            self.rng.choice((*makers, self.settled, self.other, self.marked, self.marked))()

    def _next(self) -> int:
        self.number += 1
        return self.number

    def _tell(self, event_type: str, payload: Payload) -> None:
        self.sent.append(event(event_type, payload, self._next(), stream=self.stream))

    def _amount(self, high: int, *, signed: bool = False) -> str:
        sign = self.rng.choice(("", "-")) if signed else ""
        return f"{sign}{self.rng.randint(1, high)}.{self.rng.randint(0, 99):02d}"

    def _terms(self) -> Payload:
        new, old = self.rng.choice(RATIOS)
        return {"numerator": new, "denominator": old}

    def _fraction(self) -> Payload:
        """Return what the venue says about the size, or nothing."""
        if self.rng.random() < 0.5:
            return {}
        said: Payload = {"quantity_after": str(self.rng.randint(0, 9))}
        if self.rng.random() < 0.7:
            said["cash_in_lieu"] = self._amount(20, signed=True)
        return said

    def _two(self) -> tuple[str, str]:
        one, other = self.rng.sample(SYMBOLS, 2)
        return one, other

    def fill(self) -> None:
        """A fill of a share, or of the option."""
        symbol = self.rng.choice((*SYMBOLS, *SYMBOLS, OPTION))
        quantity = self._amount(30) if symbol != OPTION else str(self.rng.randint(1, 4))
        number = self._next()
        self.fills.append(f"f{number}")
        side = self.rng.choice(("buy", "buy", "sell"))
        price = self._amount(99)
        named = {"fill_id": f"f{number}", "stream": self.stream}
        self.sent.append(trade(number, side, quantity, price, symbol, **named))

    def marked(self) -> None:
        """A mark."""
        symbol = self.rng.choice((*SYMBOLS, OPTION))
        self.marks[symbol] = self.marks.get(symbol, 0) + 1
        told = symbol == OPTION and self.rng.random() < 0.7
        delta: Payload = {"delta": f"0.{self.rng.randint(0, 99):02d}"} if told else {}
        self.sent.append(mark(self.marks[symbol], self._amount(99), symbol, **delta))

    def split(self) -> None:
        """A split, or units on top."""
        kind = self.rng.choice(("SplitApplied", "StockDividend"))
        said = {"symbol": self.rng.choice(SYMBOLS), **self._terms(), **self._fraction()}
        self._tell(kind, said)

    def paid(self) -> None:
        """Money of the issuer."""
        payload = {"symbol": self.rng.choice(SYMBOLS), "amount": self._amount(90, signed=True)}
        if self.rng.random() < 0.5:
            self._tell("ReturnOfCapital", payload)
            return
        taxed = {"tax": self._amount(5)} if self.rng.random() < 0.5 else {}
        self._tell("DividendPaid", {**payload, **taxed})

    def changed(self) -> None:
        """One symbol becomes another, or ends to be one's alias."""
        old, new = self._two()
        self._tell("SymbolChanged", {"symbol": old, "new_symbol": self.rng.choice((new, new, old))})

    def spun(self) -> None:
        """A spin-off."""
        old, new = self._two()
        cost = {"cost_share": "0.3"} if self.rng.random() < 0.6 else {"cost": self._amount(200)}
        terms = {**self._terms(), **self._fraction(), **cost}
        self._tell("SpinOff", {"symbol": old, "new_symbol": new, **terms})

    def merged(self) -> None:
        """A merger."""
        old, new = self._two()
        said: Payload = {"symbol": old}
        if self.rng.random() < 0.7:
            said |= {"new_symbol": new, **self._terms(), **self._fraction()}
        if self.rng.random() < 0.7:
            said["cash"] = self._amount(900, signed=True)
        self._tell("Merged", said)

    def settled(self) -> None:
        """The option is paid, exercised or assigned."""
        kind = self.rng.choice(("expiry", "exercise", "assignment"))
        said: Payload = {"symbol": OPTION, "settlement_price": "0", "kind": kind}
        if self.rng.random() < 0.6:
            said["quantity"] = str(self.rng.randint(1, 3))
        if self.rng.random() < 0.6:
            said["deliver"] = {"symbol": "AAA", "quantity": self._amount(200), "price": "50"}
        else:
            said["settlement_price"] = self._amount(9)
        self._tell("PositionSettled", said)

    def other(self) -> None:
        """What moves no shares."""
        if self.rng.random() < 0.5:
            self._tell("BorrowChanged", {"asset": "USD", "amount": self._amount(9, signed=True)})
            return
        said = {"from": "USD", "from_amount": self._amount(9), "to": "EUR", "to_amount": "5"}
        self._tell("AssetsExchanged", {**said, "fee": "0.1"})
