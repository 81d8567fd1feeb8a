"""Average cost, flips, realized and unrealized PnL."""
# Decimals are compared with plain numbers:
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import pytest

from psm.contracts.fields import InstrumentKind
from psm.domain.ledger.positions import (
    Position,
    PositionStep,
    break_even_price,
    entry_price,
    fill,
    notional,
    notional_cash,
    unrealized_pnl,
)
from psm.domain.market.instrument import Instrument, undefined_instrument

D = Decimal
Fill = tuple[Literal["buy", "sell"], str, str]


def instrument(kind: InstrumentKind = "linear_perp", multiplier: str = "1") -> Instrument:
    """Return an instrument of a kind."""
    return Instrument(
        symbol="X", kind=kind, base="B", quote="Q", settle="Q", multiplier=D(multiplier)
    )


def filled(*fills: Fill, of: Instrument | None = None, fee: str = "0") -> list[PositionStep]:
    """Return every step of these fills from flat."""
    position = Position(instrument=of or instrument(), last_fill=D(1))
    steps: list[PositionStep] = []
    for side, quantity, price in fills:
        steps += fill(position, side, D(quantity), D(price), D(fee))
        position = steps[-1].position
    return steps


def last(*fills: Fill, of: Instrument | None = None, fee: str = "0") -> Position:
    """Return the position after these fills."""
    return filled(*fills, of=of, fee=fee)[-1].position


def test_open_and_increase() -> None:
    """The entry price is the average, nothing is realized."""
    steps = filled(("buy", "1", "100"), ("buy", "3", "104"))
    assert [s.change for s in steps] == ["opened", "increased"]
    position = steps[-1].position
    assert (position.size, entry_price(position)) == (4, 103)
    assert (position.realized_pnl, position.cycle, position.side) == (0, 1, "long")


def test_reduce_keeps_the_entry() -> None:
    """A partial close realizes, and leaves the entry price alone."""
    steps = filled(("sell", "4", "103"), ("buy", "1", "100"))
    assert steps[-1].change == "reduced"
    position = steps[-1].position
    assert (position.size, entry_price(position), position.side) == (-3, 103, "short")
    assert position.realized_pnl == 3


def test_close_is_flat_without_a_rest() -> None:
    """0.1 + 0.2 - 0.3 is flat, and flat has no entry, value or cost."""
    steps = filled(("buy", "0.1", "10"), ("buy", "0.2", "11"), ("sell", "0.3", "12"))
    assert steps[-1].change == "closed"
    position = steps[-1].position
    assert (position.size, position.cost, position.side) == (0, 0, "flat")
    assert entry_price(position) is None
    assert break_even_price(position) is None
    assert unrealized_pnl(position, D(99)) == 0


def test_flip_closes_and_opens() -> None:
    """A crossing fill books the close first, then opens the rest at the fill's price."""
    steps = filled(("buy", "2", "100"), ("sell", "5", "110"))
    assert [s.change for s in steps] == ["opened", "closed", "opened"]
    closed, reopened = steps[1].position, steps[2].position
    assert (closed.size, closed.realized_pnl, closed.cycle_realized_pnl) == (0, 20, 20)
    assert (reopened.size, entry_price(reopened), reopened.cycle) == (-3, 110, 2)
    assert (reopened.realized_pnl, reopened.cycle_realized_pnl) == (20, 0)


def test_fee_of_a_flip_is_split_by_quantity_and_sums_exactly() -> None:
    """The closing leg's share is rounded, the opening leg takes the rest."""
    position = last(("buy", "1", "100"))
    closed, reopened = fill(position, "sell", D(3), D(100), D(1))
    assert closed.position.cycle_fees == D("0." + "3" * 34)
    assert reopened.position.fees == 1
    assert reopened.position.cycle_fees == D("0." + "6" * 33 + "7")


def test_fees_never_enter_the_entry_price() -> None:
    """They are kept apart, and the break-even price tells them."""
    position = last(("buy", "2", "100"), fee="1")
    assert entry_price(position) == 100
    assert break_even_price(position) == D("100.5")
    short = last(("sell", "2", "100"), fee="1")
    assert break_even_price(short) == D("99.5")


@pytest.mark.parametrize(
    ("price", "expected"), [("110", "100"), ("100", "0"), ("90", "-100"), ("0.01", "-999.9")]
)
def test_unrealized(price: str, expected: str) -> None:
    """Long gains what short loses; the multiplier scales both."""
    ten = instrument(multiplier="10")
    assert unrealized_pnl(last(("buy", "1", "100"), of=ten), D(price)) == D(expected)
    assert unrealized_pnl(last(("sell", "1", "100"), of=ten), D(price)) == -D(expected)
    assert notional(last(("sell", "1", "100"), of=ten), D(price)) == 10 * D(price)


def test_inverse_averages_harmonically() -> None:
    """1000 at 5000 and 2000 at 6000 give 5625: the price that keeps the cash identity."""
    inverse = instrument("inverse_perp")
    position = last(("buy", "1000", "5000"), ("buy", "2000", "6000"), of=inverse)
    entry = entry_price(position)
    assert entry is not None
    assert abs(entry - 5625) < D("1e-25")
    assert unrealized_pnl(position, D(5625)).copy_abs() < D("1e-30")
    assert unrealized_pnl(position, D(6000)) > 0
    assert break_even_price(position) is None


def test_full_notional_moves_cash() -> None:
    """Buying costs, selling pays; the multiplier counts."""
    equity = instrument("equity", "100")
    assert notional_cash(equity, "buy", D(2), D("10.5")) == D(-2100)
    assert notional_cash(equity, "sell", D(2), D("10.5")) == D(2100)
    assert equity.full_notional
    assert not instrument().full_notional


def test_undefined_instrument_is_linear_with_multiplier_one() -> None:
    """It settles in the account's currency and has no tiers."""
    made = undefined_instrument("ABC", "EUR")
    assert (made.kind, made.multiplier, made.settle, made.defined) == (
        "linear_perp",
        1,
        "EUR",
        False,
    )
    assert made.margin_tiers == ()
