"""An order of an inverse contract was filled at the price at which its position was entered."""

from __future__ import annotations

import pytest
from tests.support.cases import Figures, Step, act, amend, bust, check, contract, deposit

INVERSE = [contract("BTC-INV", "inverse_perp", "BTC"), deposit("1")]
LINEAR = [contract("BTC-PERP"), deposit("100000")]


def order(symbol: str, quantity: str = "90000", side: str = "buy") -> Step:
    terms = {"symbol": symbol, "side": side, "type": "market", "quantity": quantity}
    return act("OrderSubmitted", order_id="o", **terms)


def fills(symbol: str, *parts: tuple[str, str], side: str = "buy") -> list[Step]:
    """Return the fills of the order: (quantity, price), named f0, f1 ..."""
    return [
        act("TradeExecuted", symbol=symbol, side=side, quantity=quantity, price=price,
            order_id="o", fill_id=f"f{number}")
        for number, (quantity, price) in enumerate(parts)
    ]  # fmt: skip


def both(price: str, filled: str, symbol: str = "BTC-INV") -> Figures:
    """Return what order and position say."""
    return {
        "orders.o.average_price": price,
        "orders.o.filled_quantity": filled,
        f"positions.{symbol}.entry_price": price,
    }


_TWO = (("1000", "5000"), ("2000", "6000"))
CASES: dict[str, tuple[str, list[Step], Figures]] = {
    "two prices": (  # 3000 / (0.2 + 0.333...) = 5625
        "BTC", [*INVERSE, order("BTC-INV"), *fills("BTC-INV", *_TWO)], both("5625", "3000"),
    ),
    "equal parts": (  # 200 / (100 / 40 000 + 100 / 60 000)
        "BTC",
        [*INVERSE, order("BTC-INV"), *fills("BTC-INV", ("100", "40000"), ("100", "60000"))],
        both("48000", "200"),
    ),
    "one price": (
        "BTC",
        [*INVERSE, order("BTC-INV"), *fills("BTC-INV", ("7", "41"), ("5", "41"))],
        both("41", "12"),
    ),
    "three prices": (  # 600 / (0.2 + 0.1 + 0.05 + ...): 100/500 + 200/2000 + 300/6000 = 0.35
        "BTC",
        [*INVERSE, order("BTC-INV"),
         *fills("BTC-INV", ("100", "500"), ("200", "2000"), ("300", "6000"))],
        both("1714.285714285714285714", "600"),
    ),
    "sold": (  # 400 / (300 / 10 000 + 100 / 5 000) = 400 / 0.05
        "BTC",
        [*INVERSE, order("BTC-INV", side="sell"),
         *fills("BTC-INV", ("300", "10000"), ("100", "5000"), side="sell")],
        both("8000", "400"),
    ),
    "in a contract of 100 dollars": (  # the multiplier changes no price
        "BTC",
        [contract("BTC-INV", "inverse_perp", "BTC", multiplier="100"), deposit("9"),
         order("BTC-INV"), *fills("BTC-INV", ("10", "5000"), ("20", "6000"))],
        both("5625", "30"),
    ),
    "of a future": (
        "BTC",
        [contract("BTC-INV", "inverse_future", "BTC"), deposit("1"), order("BTC-INV"),
         *fills("BTC-INV", *_TWO)],
        both("5625", "3000"),
    ),
    "announced after its first fill": (
        "BTC",
        [*INVERSE, *fills("BTC-INV", ("1000", "5000")), order("BTC-INV"),
         *fills("BTC-INV", ("0", "0"), ("2000", "6000"))[1:]],
        both("5625", "3000"),
    ),
    "one of three never was": (
        "BTC",
        [*INVERSE, order("BTC-INV"), *fills("BTC-INV", *_TWO, ("500", "9000")), bust("f2")],
        both("5625", "3000"),
    ),
    "one was at another price": (
        "BTC",
        [*INVERSE, order("BTC-INV"), *fills("BTC-INV", ("1000", "7000"), ("2000", "6000")),
         amend("f0", price="5000")],
        both("5625", "3000"),
    ),
    "one was of another size": (
        "BTC",
        [*INVERSE, order("BTC-INV"), *fills("BTC-INV", ("1", "5000"), ("2000", "6000")),
         amend("f0", quantity="1000")],
        both("5625", "3000"),
    ),
    "of a linear contract the mean is plain": (  # (1 x 5000 + 2 x 6000) / 3
        "USDT",
        [*LINEAR, order("BTC-PERP"), *fills("BTC-PERP", ("1", "5000"), ("2", "6000"))],
        both("5666.666666666666666667", "3", "BTC-PERP"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_order_and_position_say_the_same_price(case: tuple[str, list[Step], Figures]) -> None:
    """Weighted by contracts, harmonically where the contract is inverse."""
    check(*case)
