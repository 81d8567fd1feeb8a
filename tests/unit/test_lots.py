"""Lots: first in, first out, against average cost and by hand."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from psm.analytics.lots import LotBook

DAY = 86_400_000_000_000


def test_a_sale_closes_the_oldest_first() -> None:
    """Buy 2 at 10 and 3 at 20; sell 4 at 30: 2 x 20 and 2 x 10 gained, one is left at 20."""
    book = LotBook("A")
    assert book.fill(Decimal(2), Decimal(10), 0) == []
    assert book.fill(Decimal(3), Decimal(20), DAY) == []
    first, second = book.fill(Decimal(-4), Decimal(30), 3 * DAY)
    assert (first.quantity, first.pnl, first.days_held) == (Decimal(2), Decimal(40), 3)
    assert (second.quantity, second.pnl, second.days_held) == (Decimal(2), Decimal(20), 2)
    (left,) = book.open_lots
    assert (left.size, left.price, left.opened) == (Decimal(1), Decimal(20), DAY)


def test_a_flip_opens_the_other_side() -> None:
    """Long 1, sell 3: one lot is closed, two are short; a short gains as the price falls."""
    book = LotBook("A", Decimal(10))
    book.fill(Decimal(1), Decimal(5), 0)
    (closed,) = book.fill(Decimal(-3), Decimal(7), 1)
    assert (closed.side, closed.pnl) == ("long", Decimal(20))
    (closed,) = book.fill(Decimal(2), Decimal(4), 2)
    assert (closed.side, closed.quantity, closed.pnl) == ("short", Decimal(2), Decimal(60))
    assert book.open_lots == ()


def test_a_split_changes_no_worth() -> None:
    """Three for two: 2 at 30 are 3 at 20."""
    book = LotBook("A")
    book.fill(Decimal(2), Decimal(30), 0)
    book.split(Decimal(3), Decimal(2))
    (closed,) = book.fill(Decimal(-3), Decimal(21), 1)
    assert (closed.quantity, closed.open_price, closed.pnl) == (Decimal(3), Decimal(20), Decimal(3))


def test_an_inverse_contract_gains_in_the_coin() -> None:
    """100 contracts of 10 from 20 000 to 25 000: 1 000 x (1/20 000 - 1/25 000) = 0.01."""
    book = LotBook("A", Decimal(10), inverse=True)
    book.fill(Decimal(100), Decimal(20_000), 0)
    (closed,) = book.fill(Decimal(-100), Decimal(25_000), 1)
    assert closed.pnl == Decimal("0.01")


fills = st.lists(
    st.tuples(st.integers(-50, 50).filter(bool), st.integers(1, 1000)), min_size=1, max_size=30
)


@given(fills)
def test_once_flat_lots_gain_what_was_paid_and_received(made: list[tuple[int, int]]) -> None:
    """The sum of all lots is the cash flow: nothing is closed twice, or not at all."""
    book, gained, paid, size = LotBook("A"), Decimal(0), 0, 0
    for time, (quantity, price) in enumerate([*made, (-sum(q for q, _ in made), 77)]):
        closed = book.fill(Decimal(quantity), Decimal(price), time) if quantity else []
        gained += sum(lot.pnl for lot in closed)
        paid -= quantity * price
        size += quantity
        assert sum(lot.size for lot in book.open_lots) == size
        assert all(lot.opened <= lot.closed == time for lot in closed)
    assert book.open_lots == ()
    assert gained == paid


def test_a_lot_that_almost_nothing_was_paid_for_computes() -> None:
    """Spin-offs leave costs, splits leave sizes with 34 digits of their own: 67 of one gain."""
    book = LotBook("A", Decimal(100))
    price, size = (
        Decimal("3.069510610653962777009082108373882E-34"),
        Decimal("0.4285714285714285714285714285714286"),
    )
    book.fill(-size, price, 0)
    (closed,) = book.fill(size, Decimal("6.26"), DAY)
    assert closed.quantity == size
    assert Decimal("-268.3") < closed.pnl < Decimal("-268.2")
