"""Logs at bounds of three, for the golden file of bounds, which `make_golden_cases` writes."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.events import SECOND, START, Sent, deposit, event, trade


def corners_of_bounds() -> Iterator[tuple[Sent, ...]]:
    """Yield logs of debts, names and aliases at their bounds, and of what corrections bring."""
    for sent in (*_counts(), *_corrections(), *_names()):
        yield tuple(one.later(START + number * SECOND) for number, one in enumerate(sent, 1))


def _counts() -> Iterator[list[Sent]]:
    yield [_borrowed(n, f"C{n % 5}", n) for n in range(1, 9)]
    yield [deposit(1), *[_borrowed(n, f"C{n}", 1) for n in (2, 3)], _borrowed(4, "C2", -1)]
    yield [_renamed(n, f"S{n}", f"T{n}") for n in range(1, 6)]
    yield [_renamed(n, pair[0], pair[1]) for n, pair in enumerate(("AB", "BC", "CD", "DA"), 1)]


def _corrections() -> Iterator[list[Sent]]:
    yield [
        *[trade(n, "buy", "1", "9", f"S{n}", fill_id=f"f{n}") for n in (1, 2, 3)],
        *[trade(4, "sell", "1", "9", "S2", fill_id="f4"), _ordered(5, "a"), _ordered(6, "b")],
        *[_busted(7, "f1"), _busted(8, "f4")],
    ]
    paid = {"fill_id": "f", "commission": "1"}
    yield [
        *[deposit(n, currency=f"C{n}") for n in (1, 2)],
        trade(3, "buy", "1", "9", "S1", commission_currency="C3", **paid),
        *[_amended(4, "C2"), _amended(5, "C4"), _amended(6, "C5"), deposit(7, currency="C3")],
    ]
    yield [
        *[deposit(n, currency=f"C{n}") for n in (1, 2, 3)],
        trade(4, "buy", "1", "9", "S1", commission_currency="C1", **paid),
        *[_amended(5, "C2"), _amended(6, "C4"), deposit(7, currency="C4")],
    ]


def _names() -> Iterator[list[Sent]]:
    """Yield logs whose names take a byte more each, on both sides of the bound."""
    for length in (9, *range(22, 35), 60):
        yield [
            *[_ordered(1, "x" * length), _ordered(2, "y" * 30), _ordered(3, "z" * 20)],
            *[deposit(4, currency="C4"), trade(5, "buy", "1", "9", "S1", fill_id="f")],
        ]
    for length in range(36, 44):
        yield [
            trade(1, "buy", "1", "9", "S" * length, fill_id="f", order_id="o" * 9),
            trade(2, "sell", "1", "9", "S" * length, fill_id="g"),
            *[_ordered(3, "p" * 40), _busted(4, "g"), deposit(5)],
        ]


def _borrowed(number: int, asset: str, amount: int) -> Sent:
    return event("BorrowChanged", {"asset": asset, "amount": str(amount)}, number)


def _renamed(number: int, old: str, new: str) -> Sent:
    return event("SymbolChanged", {"symbol": old, "new_symbol": new}, number)


def _ordered(number: int, order_id: str) -> Sent:
    payload = {"order_id": order_id, "symbol": "BTC-PERP", "side": "buy", "type": "market"}
    return event("OrderSubmitted", {**payload, "quantity": "1"}, number)


def _busted(number: int, fill_id: str) -> Sent:
    return event("TradeBusted", {"fill_id": fill_id, "reason": "r"}, number)


def _amended(number: int, currency: str) -> Sent:
    payload = {"fill_id": "f", "commission_currency": currency, "reason": "fee"}
    return event("TradeAmended", payload, number)
