"""What issuers and venues do to the accounts of a random market: the rarer events."""

from __future__ import annotations

import random
from decimal import ROUND_DOWN, Decimal
from typing import Any, Protocol

from tests.support.domain import Log, Seen

RATIOS = (("1", "3"), ("2", "1"), ("1", "10"), ("3", "2"))
_NEW = ("NEWCO", "HOLDCO", "SPUN")


class Writer(Protocol):
    """What an author of a log gives to the methods here."""

    rng: random.Random
    log: Log
    traded: tuple[str, ...]

    def tell(self, stream: str, event_type: str, payload: dict[str, Any]) -> Seen:
        """Write an account event."""
        ...

    def price(self, symbol: str) -> str:
        """Return a price of a symbol."""
        ...

    def signed(self, high: int) -> str:
        """Return a decimal of either sign."""
        ...


def named(author: Writer, stream: str) -> str:
    """Return a symbol that is traded, one that came by an action, or one that reads like a leg."""
    held = sorted(author.log.account(stream).ledger.positions)
    return author.rng.choice((*author.traded, *held))


def act(author: Writer, stream: str) -> None:
    """Write a corporate action."""
    rng, symbol = author.rng, named(author, stream)
    new = rng.choice((*_NEW, named(author, stream)))
    kind = rng.choice(("SymbolChanged", "SpinOff", "Merged", "Merged"))
    payload: dict[str, Any] = {"symbol": symbol}
    if kind == "SymbolChanged":
        payload["new_symbol"] = new if rng.random() < 0.8 else symbol
    elif kind == "SpinOff":
        share = {"cost_share": "0.25"} if rng.random() < 0.6 else {"cost": "120"}
        payload |= {"new_symbol": new, **_units(author, stream, symbol), **share}
    else:
        if rng.random() < 0.7:
            payload |= {"new_symbol": new, **_units(author, stream, symbol)}
        if rng.random() < 0.6:
            payload["cash"] = author.signed(900)
    if rng.random() < 0.3:
        payload["reference"] = f"ca{rng.randrange(40)}"
    author.tell(stream, kind, payload)


def _units(author: Writer, stream: str, symbol: str) -> dict[str, Any]:
    rng = author.rng
    new, old = rng.choice(RATIOS)
    said: dict[str, Any] = {"numerator": new, "denominator": old}
    held = author.log.account(stream).ledger.positions.get(symbol)
    if held is not None and rng.random() < 0.4:
        exact = abs(held.size) * Decimal(new) / Decimal(old)
        said["quantity_after"] = format(exact.quantize(Decimal(1), ROUND_DOWN), "f")
        if rng.random() < 0.7:
            said["cash_in_lieu"] = author.signed(3)
    return said


def deliver(author: Writer, stream: str) -> None:
    """Write an exercise, an assignment or an expiry, paid or delivered."""
    rng = author.rng
    symbol = rng.choice(author.traded)
    under = rng.choice([name for name in (*author.traded, *_NEW) if name != symbol])
    if rng.random() < 0.05:
        under = symbol  # what settles is not what is delivered: refused
    kind = rng.choice(("expiry", "exercise", "assignment"))
    payload: dict[str, Any] = {"symbol": symbol, "settlement_price": "0.5", "kind": kind}
    if rng.random() < 0.5:
        payload["quantity"] = rng.choice(("0.1", "1", "3"))
    if rng.random() < 0.7:
        quantity = rng.choice(("", "-")) + rng.choice(("1", "2.5", "10"))
        units = {"symbol": under, "quantity": quantity, "price": author.price(under)}
        payload |= {"deliver": units, "fill_id": f"d{rng.randrange(60)}"}
    elif rng.random() < 0.4:
        payload |= {"settlement_currency": "BTC", "underlying_price": "40000"}
    author.tell(stream, "PositionSettled", payload)


def exchange(author: Writer, stream: str) -> None:
    """Write an exchange of assets, a change of what is owed, or a dividend with a tax."""
    rng = author.rng
    draw = rng.random()
    if draw < 0.4:
        one, other = rng.sample(("USDT", "BTC", "USD", "BNB"), 2)
        said = {"from": one, "from_amount": "0.4", "to": other, "to_amount": "0.3"}
        fee = {"fee": "0.01"} if rng.random() < 0.5 else {}
        author.tell(stream, "AssetsExchanged", {**said, **fee})
    elif draw < 0.7:
        said = {"asset": rng.choice(("USDT", "BTC")), "amount": author.signed(4)}
        author.tell(stream, "BorrowChanged", said)
    else:
        said = {"symbol": rng.choice(author.traded), "amount": author.signed(9), "tax": "0.3"}
        taxed = {"tax_currency": "USD"} if rng.random() < 0.4 else {}
        author.tell(stream, "DividendPaid", {**said, **taxed})
