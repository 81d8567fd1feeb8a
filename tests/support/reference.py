"""The accounting rules written a second time: slow, in fractions, straight from the definitions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
from tests.support.events import Sent

ZERO = Fraction(0)


class Held:
    """A position: what was bought and sold of one symbol."""

    def __init__(self, multiplier: Fraction, kind: str) -> None:
        self.multiplier = multiplier
        self.kind = kind
        self.size = ZERO
        self.entry = ZERO
        self.last = ZERO
        self.realized = ZERO

    def fill(self, signed: Fraction, price: Fraction) -> None:
        """Average when the size grows, realize when it shrinks, both on a flip."""
        closing = ZERO
        if self.size * signed < 0:
            closing = min(abs(signed), abs(self.size)) * (1 if signed > 0 else -1)
            self.realized -= closing * (price - self.entry) * self.multiplier
        opening = signed - closing
        left = self.size + closing
        if opening:
            self.entry = (left * self.entry + opening * price) / (left + opening)
        self.size += signed
        self.last = price

    def unrealized(self, mark: Fraction | None) -> Fraction:
        """Gain at the mark, or at the account's own last fill."""
        price = self.last if mark is None else mark
        return self.size * (price - self.entry) * self.multiplier


class Reference:
    """All accounts of a log of valid events, in order, in one currency."""

    def __init__(self, messages: list[Sent]) -> None:
        self.instruments: dict[str, dict[str, Any]] = {}
        self.marks: dict[str, Fraction] = {}
        self.cash: dict[str, Fraction] = {}
        self.fees: dict[str, Fraction] = {}
        self.funding: dict[str, Fraction] = {}
        self.held: dict[tuple[str, str], Held] = {}
        for sent in messages:
            body = msgspec.json.decode(sent.data)
            getattr(self, body["event_type"])(body["stream_id"], body["payload"])

    def InstrumentDefined(self, _: str, p: dict[str, Any]) -> None:  # noqa: N802
        self.instruments[p["symbol"]] = p

    def MarkPriceUpdated(self, _: str, p: dict[str, Any]) -> None:  # noqa: N802
        self.marks[p["symbol"]] = Fraction(p["price"])

    def AccountOpened(self, stream: str, _: dict[str, Any]) -> None:  # noqa: N802
        self.cash[stream] = self.fees[stream] = self.funding[stream] = ZERO

    def CashDeposited(self, stream: str, p: dict[str, Any]) -> None:  # noqa: N802
        self.cash[stream] += Fraction(p["amount"])

    def CashWithdrawn(self, stream: str, p: dict[str, Any]) -> None:  # noqa: N802
        self.cash[stream] -= Fraction(p["amount"])

    def FeeCharged(self, stream: str, p: dict[str, Any]) -> None:  # noqa: N802
        self.cash[stream] -= Fraction(p["amount"])
        self.fees[stream] += Fraction(p["amount"])

    def FundingApplied(self, stream: str, p: dict[str, Any]) -> None:  # noqa: N802
        self.cash[stream] += Fraction(p["funding_payment"])
        self.funding[stream] += Fraction(p["funding_payment"])

    def TradeExecuted(self, stream: str, p: dict[str, Any]) -> None:  # noqa: N802
        defined = self.instruments.get(p["symbol"], {})
        multiplier = Fraction(defined.get("multiplier", 1))
        made = Held(multiplier, defined.get("kind", "linear_perp"))
        held = self.held.setdefault((stream, p["symbol"]), made)
        signed = Fraction(p["quantity"]) * (1 if p["side"] == "buy" else -1)
        before = held.realized
        price, commission = Fraction(p["price"]), Fraction(p.get("commission", 0))
        held.fill(signed, price)
        paid = held.kind == "equity"
        self.cash[stream] += -signed * price * multiplier if paid else held.realized - before
        self.cash[stream] -= commission
        self.fees[stream] += commission

    def positions(self, stream: str) -> dict[str, Held]:
        """Return the positions of an account by symbol."""
        return {symbol: held for (owner, symbol), held in self.held.items() if owner == stream}

    def realized(self, stream: str) -> Fraction:
        """Return what the account realized."""
        return sum((h.realized for h in self.positions(stream).values()), ZERO)

    def unrealized(self, stream: str) -> Fraction:
        """Return what the open positions gained."""
        held = self.positions(stream)
        return sum((h.unrealized(self.marks.get(s)) for s, h in held.items()), ZERO)

    def equity(self, stream: str) -> Fraction:
        """Return cash plus gains, and the value of what is fully paid."""
        total = self.cash[stream]
        for symbol, held in self.positions(stream).items():
            price = self.marks.get(symbol, held.last)
            if held.kind == "equity":
                total += held.size * price * held.multiplier
            else:
                total += held.unrealized(self.marks.get(symbol))
        return total
