"""The liquidation price where a position's own mark rates what secures it."""

from __future__ import annotations

from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import given as sampled
from hypothesis import strategies as st
from tests.support.domain import Log, given
from tests.support.events import (
    Sent,
    collateral,
    deposit,
    instrument,
    mark,
    opened,
    trade,
    withdrawal,
)

TENTH = [{"notional_floor": "0", "maintenance_rate": "0.1"}]
PERCENT = [{"notional_floor": "0", "maintenance_rate": "0.01"}]


def perp(tiers: list[dict[str, Any]] = TENTH) -> Sent:
    """Return the definition of a perpetual on bitcoin."""
    return instrument(1, "P", base="BTC", quote="USDT", settle="USDT", margin_tiers=tiers)


def inverse() -> Sent:
    """Return the definition of an inverse perpetual, 100 dollars a contract."""
    return instrument(
        1, "I", kind="inverse_perp", base="BTC", quote="USD", settle="BTC", multiplier="100",
        margin_tiers=PERCENT,
    )  # fmt: skip


def spot(base: str, quote: str) -> Sent:
    """Return the definition of a spot instrument."""
    return instrument(1, f"{base}{quote}", kind="spot", base=base, quote=quote, settle=quote)


def secured(side: str, *more: Sent) -> Log:
    """Return an account with a coin that counts by half, and a contract on it."""
    log = given(perp(), collateral(1, haircut="0.5"), mark(1, "50000", "P"), opened(1))
    log.when(deposit(2, "1000"), deposit(3, "1", currency="BTC"), trade(4, side, "1", "50000", "P"))
    if more:
        log.when(*more)
    return log


def price(log: Log, symbol: str = "P") -> str | None:
    """Return the liquidation price of a position."""
    found: str | None = log.position(symbol)["liquidation_price"]
    return found


def test_holdings_that_the_mark_rates_move_with_it() -> None:
    """A short that its coin covers by half, and a long that it doubles by half."""
    assert price(secured("sell")) == "85000"
    assert price(secured("buy")) == "35000"


def test_holdings_that_another_mark_rates_stand_still() -> None:
    """With a spot price the contract's own says nothing of the coin."""
    log = secured("sell", spot("BTC", "USDT"), mark(1, "50000", "BTCUSDT"))
    assert price(log) == "69090.909090909090909091"


def test_what_is_owed_moves_with_it_too() -> None:
    """In full, with the margin of borrowing."""
    log = given(perp(), collateral(1, haircut="0.5", borrow_maintenance_rate="0.1"), opened(1))
    log.when(mark(1, "50000", "P"), deposit(2, "80000"), withdrawal(3, "1", currency="BTC"))
    log.when(trade(4, "sell", "1", "50000", "P"))
    # 80 000 - x - (x - 50 000) = 0.1 x + 0.1 x
    assert price(log) == "59090.909090909090909091"


def test_an_inverse_contract_that_rates_its_own_currency() -> None:
    """Without dollars all is in bitcoin; dollars stand still as the coin falls."""
    log = given(inverse(), mark(1, "50000", "I"), opened(1, currency="USD"))
    log.when(deposit(2, "1", currency="BTC"), trade(3, "buy", "250", "50000", "I"))
    # 1 + 25 000 / 50 000 - 25 000 / x = 250 / x
    assert price(log, "I") == "16833.333333333333333333"
    log.when(deposit(4, "10000"))
    # x (1.5 - 25 000 / x) + 10 000 = 250
    assert price(log, "I") == "10166.666666666666666667"


def test_an_inverse_contract_that_rates_dollars() -> None:
    """In an account in bitcoin, whose dollars are worth one over the price."""
    log = given(inverse(), mark(1, "50000", "I"), opened(1, currency="BTC"), deposit(2, "1"))
    log.when(deposit(3, "10000", currency="USD"), collateral(1, asset="USD", haircut="0"))
    log.when(trade(4, "buy", "250", "50000", "I"))
    # 1.5 - 25 000 / x + 10 000 / x = 250 / x
    assert price(log, "I") == "10166.666666666666666667"


def test_a_step_of_a_path_gives_none() -> None:
    """The coin is worth something in euros by two marks, one of them the position's own."""
    log = given(perp(), spot("USDT", "EUR"), mark(1, "50000", "P"), mark(1, "0.5", "USDTEUR"))
    log.when(opened(1, currency="EUR"), deposit(2, "50000"), deposit(3, "1", currency="BTC"))
    log.when(trade(4, "sell", "1", "50000", "P"))
    assert price(log) is None


def test_a_short_share_by_what_borrowing_needs() -> None:
    """7 000 - 20 x = 0.2 x 20 x."""
    share = instrument(1, "S", kind="equity", base="S", quote="USDT", settle="USDT")
    log = given(share, mark(1, "100", "S"), opened(1), deposit(2, "5000"))
    log.when(collateral(1, asset="S", haircut="0.5", borrow_maintenance_rate="0.2"))
    log.when(trade(3, "sell", "20", "100", "S"))
    assert price(log, "S") == "291.666666666666666667"


@pytest.mark.parametrize("symbol", ["P", "I"])
@sampled(st.integers(0, 2**32))
def test_at_that_mark_collateral_is_the_maintenance_margin(symbol: str, seed: int) -> None:
    """Whatever secures the account: after a mark at the price nothing is left beyond margins."""
    random = Random(seed)
    home = random.choice(("USDT", "BTC") if symbol == "P" else ("USD", "BTC"))
    log = given(perp(), inverse(), opened(1, currency=home), mark(1, "50000", symbol))
    money, number = ("USDT" if symbol == "P" else "USD"), 2
    for asset in (money, "BTC"):
        terms = {"haircut": random.choice(("0", "0.3")), "borrow_maintenance_rate": "0.05"}
        log.when(collateral(1, asset=asset, **terms))
        size = random.choice(("1", "0.3")) if asset == "BTC" else random.choice(("9000", "40000"))
        move = deposit if asset == home or random.random() < 0.7 else withdrawal
        log.when(move(number, size, currency=asset))
        number += 1
    quantity = random.choice(("1", "0.4")) if symbol == "P" else random.choice(("100", "700"))
    log.when(trade(number, random.choice(("buy", "sell")), quantity, "48000", symbol))
    found = price(log, symbol)
    if found is None:
        return
    log.when(mark(2, found, symbol))
    value = log.account().value()
    assert value.margin_maintenance is not None
    left = Fraction(value.collateral) - Fraction(value.margin_maintenance)
    assert abs(left) < Fraction(1, 10**8)
