"""Corporate actions and deliveries written a second time: slow, in fractions, from the rules.

One account of shares and options in one currency; a position is (signed size, signed cost).
"""

from __future__ import annotations

from fractions import Fraction
from math import floor
from typing import Any

import msgspec
from tests.support.events import Sent

ZERO = Fraction(0)
_PLACES = 10**18
Payload = dict[str, Any]


class ActionsReference:
    """All events of a log in order; sums per currency and positions are the result."""

    def __init__(self, messages: list[Sent]) -> None:
        self.instruments: dict[str, Payload] = {}
        self.cash: dict[str, Fraction] = {}
        self.sums: dict[str, Fraction] = {}
        self.borrowed: dict[str, Fraction] = {}
        self.exchanged = ZERO
        self.held: dict[str, tuple[Fraction, Fraction]] = {}
        self.alias: dict[str, str] = {}
        for sent in messages:
            body = msgspec.json.decode(sent.data)
            payload = body["payload"]
            kind = body["event_type"]
            if kind != "SymbolChanged" and payload.get("symbol") in self.alias:
                payload["symbol"] = self.alias[payload["symbol"]]
            getattr(self, kind)(payload)

    # --- helpers ------------------------------------------------------------------------------

    def _pay(self, amount: Fraction, total: str, booked: Fraction | None = None) -> None:
        self.cash["USD"] = self.cash.get("USD", ZERO) + amount
        self._sum(total, amount if booked is None else booked)

    def _sum(self, total: str, amount: Fraction) -> None:
        self.sums[total] = self.sums.get(total, ZERO) + amount

    def _of(self, symbol: str) -> tuple[Fraction, Fraction]:
        return self.held.get(symbol, (ZERO, ZERO))

    def _put(self, symbol: str, size: Fraction, cost: Fraction) -> None:
        self.held[symbol] = (size, cost)

    def _move(self, symbol: str, units: Fraction, value: Fraction) -> None:
        """Let units come (or go, below zero) at a signed value: away from zero it is cost."""
        size, cost = self._of(symbol)
        closing = ZERO
        if size * units < 0:
            closing = min(abs(units), abs(size))
            part = value * closing / abs(units)
            leaving = cost * closing / abs(size)
            self._sum("realized_pnl", -part - leaving)
            value, cost = value - part, cost - leaving
        after = size + units
        self._put(symbol, after, (cost + value) if after else ZERO)

    def _new_units(self, exact: Fraction, cost: Fraction, p: Payload) -> tuple[Fraction, Fraction]:
        """Return (size, cost that it carries); both magnitudes. The rest of the cost leaves."""
        cut = Fraction(floor(exact * _PLACES), _PLACES)
        size = Fraction(p["quantity_after"]) if "quantity_after" in p else cut
        if not size:
            return ZERO, ZERO
        if "cash_in_lieu" in p and size < exact:
            return size, cost * size / exact
        return size, cost

    def _lieu(self, p: Payload, total: str) -> None:
        self._pay(Fraction(p.get("cash_in_lieu", 0)), total)

    # --- events -------------------------------------------------------------------------------

    def InstrumentDefined(self, p: Payload) -> None:  # noqa: N802
        self.instruments[p["symbol"]] = p

    def MarkPriceUpdated(self, _: Payload) -> None:  # noqa: N802
        """Marks decide nothing of a ledger."""

    def AccountOpened(self, _: Payload) -> None:  # noqa: N802
        self.cash["USD"] = ZERO

    def CashDeposited(self, p: Payload) -> None:  # noqa: N802
        self._pay(Fraction(p["amount"]), "deposits")

    def TradeExecuted(self, p: Payload) -> None:  # noqa: N802
        multiplier = Fraction(self.instruments[p["symbol"]].get("multiplier", 1))
        units = Fraction(p["quantity"]) * (1 if p["side"] == "buy" else -1)
        value = units * Fraction(p["price"]) * multiplier
        self._pay(-value, "traded")
        self._move(p["symbol"], units, value)

    def SplitApplied(self, p: Payload, *, on_top: int = 0) -> None:  # noqa: N802
        size, cost = self._of(p["symbol"])
        if not size:
            self._lieu(p, "dividends")
            return
        sign = 1 if size > 0 else -1
        ratio = Fraction(p["numerator"]) / Fraction(p["denominator"]) + on_top
        units, kept = self._new_units(abs(size) * ratio, abs(cost), p)
        self._put(p["symbol"], sign * units, sign * kept)
        self._sum("realized_pnl", sign * kept - cost)
        self._lieu(p, "realized_pnl")

    def StockDividend(self, p: Payload) -> None:  # noqa: N802
        self.SplitApplied(p, on_top=1)

    def _paid_back(self, cost: Fraction, amount: Fraction, *, long: bool) -> Fraction:
        """Return the signed cost that cash for a position leaves; the rest is realized."""
        left = max(ZERO, cost - amount) if long else min(ZERO, cost - amount)
        self._pay(amount, "realized_pnl", amount - (cost - left))
        return left

    def ReturnOfCapital(self, p: Payload) -> None:  # noqa: N802
        size, cost = self._of(p["symbol"])
        amount = Fraction(p["amount"])
        if not size:
            self._pay(amount, "dividends")
            return
        self._put(p["symbol"], size, self._paid_back(cost, amount, long=size > 0))

    def DividendPaid(self, p: Payload) -> None:  # noqa: N802
        amount, tax = Fraction(p["amount"]), Fraction(p.get("tax", 0))
        self._pay(amount, "dividends", amount + tax)
        self._sum("taxes", tax)

    def SymbolChanged(self, p: Payload) -> None:  # noqa: N802
        old: str = p["symbol"]
        new: str = p["new_symbol"]
        if old == new:
            self.alias.pop(old, None)
            return
        old = self.alias.get(old, old)
        if old == new:
            return
        size, cost = self.held.pop(old, (ZERO, ZERO))
        if size:
            self._move(new, size, cost)
        self.alias = {name: new if of == old else of for name, of in self.alias.items()}
        self.alias[old] = new
        self.alias.pop(new, None)

    def SpinOff(self, p: Payload) -> None:  # noqa: N802
        size, cost = self._of(p["symbol"])
        if p["symbol"] == p["new_symbol"]:
            return  # the other one is an alias of it: refused
        self.alias.pop(p["new_symbol"], None)
        if not size:
            self._lieu(p, "dividends")
            return
        sign = 1 if size > 0 else -1
        if "cost" in p:
            moved = min(Fraction(p["cost"]), abs(cost))
        else:
            moved = abs(cost) * Fraction(p["cost_share"])
        self._put(p["symbol"], size, sign * (abs(cost) - moved))
        self._received(p, size, moved)

    def Merged(self, p: Payload) -> None:  # noqa: N802
        size, cost = self._of(p["symbol"])
        if p["symbol"] == p.get("new_symbol"):
            return
        self.alias.pop(p.get("new_symbol", ""), None)
        if not size:
            self._pay(Fraction(p.get("cash", 0)), "dividends")
            self._lieu(p, "dividends")
            return
        left = abs(self._paid_back(cost, Fraction(p.get("cash", 0)), long=size > 0))
        self._put(p["symbol"], ZERO, ZERO)
        if "new_symbol" not in p:
            self._sum("realized_pnl", -left if size > 0 else left)
            return
        self._received(p, size, left)

    def _received(self, p: Payload, size: Fraction, cost: Fraction) -> None:
        sign = 1 if size > 0 else -1
        ratio = Fraction(p["numerator"]) / Fraction(p["denominator"])
        units, kept = self._new_units(abs(size) * ratio, cost, p)
        self._sum("realized_pnl", sign * (kept - cost))
        self._lieu(p, "realized_pnl")
        if units:
            self._move(p["new_symbol"], sign * units, sign * kept)

    def PositionSettled(self, p: Payload) -> None:  # noqa: N802
        size, _ = self._of(p["symbol"])
        stated = "quantity" in p and (size or p["kind"] != "expiry")
        quantity = Fraction(p["quantity"]) if stated else abs(size)
        long = size > 0
        if stated and p["kind"] != "expiry":
            long = p["kind"] == "exercise"
        units = -quantity if long else quantity
        if "deliver" in p:
            self._deliver(p, units)
            return
        multiplier = Fraction(self.instruments[p["symbol"]].get("multiplier", 1))
        value = units * Fraction(p["settlement_price"]) * multiplier
        self._pay(-value, "settled")
        if units:
            self._move(p["symbol"], units, value)

    def _deliver(self, p: Payload, units: Fraction) -> None:
        size, cost = self._of(p["symbol"])
        gone = min(abs(units), abs(size)) if size * units < 0 else ZERO
        carried = cost * gone / abs(size) if gone else ZERO
        self._put(p["symbol"], size - gone if size > 0 else size + gone, cost - carried)
        rest = abs(units) - gone
        if rest:
            self._move(p["symbol"], rest if units > 0 else -rest, ZERO)
        # A call that was held receives, one that was owed delivers; the cost of what went goes on.
        long = units < 0 or (not units and p["kind"] == "exercise" and "quantity" in p)
        said = p["deliver"]
        under = self.alias.get(said["symbol"], said["symbol"])
        moved = Fraction(said["quantity"]) * (1 if long else -1)
        money = moved * Fraction(said["price"])
        self._pay(-money, "settled")
        self._move(under, moved, money + carried)

    def BorrowChanged(self, p: Payload) -> None:  # noqa: N802
        owed = self.borrowed.get(p["asset"], ZERO) + Fraction(p["amount"])
        self.borrowed[p["asset"]] = owed

    def AssetsExchanged(self, p: Payload) -> None:  # noqa: N802
        given, got = Fraction(p["from_amount"]), Fraction(p["to_amount"])
        fee = Fraction(p.get("fee", 0))
        self.cash[p["from"]] = self.cash.get(p["from"], ZERO) - given
        # Both at the dollars that went; the fee after it, at the price of the exchange.
        held, cost = self.cash.get(p["to"], ZERO) + got, self.exchanged + given
        leaving = cost * fee / held
        self._sum("realized_pnl", given * fee / got - leaving)
        self._sum("fees", given * fee / got)
        self.cash[p["to"]], self.exchanged = held - fee, cost - leaving
