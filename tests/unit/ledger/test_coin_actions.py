"""SpinOff and Merged of coins: forks, migrations, redemptions; the cost goes with the units."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import pytest
from tests.support.domain import Log, given
from tests.support.events import Sent, deposit, event, instrument, mark, opened, trade
from tests.unit.ledger.actions import act, share

ZERO = Fraction(0)


def pair(base: str) -> Sent:
    """Return the definition of a coin's pair with the dollar."""
    return instrument(1, f"{base}USDT", kind="spot", base=base, quote="USDT", settle="USDT")


def holder(*sent: Sent, quantity: str = "2", cost: str = "50") -> Log:
    """Return an account that got BTC, worth 100 each."""
    payload = {"amount": quantity, "currency": "BTC", "cost": cost}
    came = event("CashDeposited", payload, 2)
    return given(pair("BTC"), mark(1, "100", "BTCUSDT"), opened(1), came, *sent)


def costs(log: Log) -> dict[str, tuple[str, str]]:
    """Return (quantity, cost) of every asset that is held."""
    assets = log.state()["assets"].items()
    return {asset: (of["quantity"], of["cost"]) for asset, of in assets if asset != "USDT"}


def figures(log: Log) -> tuple[str, ...]:
    """Return what no relabelling changes."""
    state = log.state()
    return state["realized_pnl"], state["flows_cost"], state["drawdown"]


def fork(number: int = 3, **terms: Any) -> Sent:
    said = {"symbol": "BTC", "new_symbol": "BCH", "numerator": "1", "denominator": "1"}
    return act("SpinOff", number, **{**said, **terms})


def migrate(number: int = 3, **terms: Any) -> Sent:
    said = {"symbol": "BTC", "new_symbol": "XBT", "numerator": "10", "denominator": "1"}
    return act("Merged", number, **{**said, **terms})


@pytest.mark.parametrize(
    ("terms", "stays", "comes"),
    [
        ({"cost_share": "0.1"}, "45", "5"),
        ({"cost": "20"}, "30", "20"),
        ({"cost": "80"}, "0", "50"),
        ({"cost": "0"}, "50", "0"),
        ({"cost_share": "0.1", "symbol": "BTCUSDT", "new_symbol": "BCHUSDT"}, "45", "5"),
    ],
)
def test_a_fork_takes_a_part_of_the_cost_along(
    terms: dict[str, Any], stays: str, comes: str
) -> None:
    """By share or amount, at most all of it; a pair's name means its base."""
    log = holder(pair("BCH"))
    assert log.when(fork(**terms)).outcome == "applied"
    assert costs(log) == {"BCH": ("2", comes), "BTC": ("2", stays)}
    assert figures(log) == ("0", "50", "0")


def test_a_migration_takes_all_of_it() -> None:
    """What nobody rates afterwards left as a flow, and comes back as one: no loss, no gain."""
    log = holder()
    log.when(migrate())
    assert (costs(log), figures(log)[:2]) == ({"XBT": ("20", "50")}, ("0", "50"))
    log.when(pair("XBT"), mark(1, "12", "XBTUSDT"))
    assert (log.state()["equity"], log.state()["nav"], log.state()["drawdown"]) == (
        "240",
        "1",
        "0",
    )


@pytest.mark.parametrize(
    ("terms", "left", "realized", "cash"),
    [
        ({"cash": "30"}, "20", "0", "30"),
        ({"cash": "70"}, "0", "20", "70"),
        ({"quantity_after": "15", "cash_in_lieu": "9"}, "37.5", "-3.5", "9"),
    ],
)
def test_cash_lowers_the_cost_that_goes_over(
    terms: dict[str, Any], left: str, realized: str, cash: str
) -> None:
    """As of shares: what is beyond it is realized, a missing part against the cash for it."""
    log = holder(pair("XBT"), mark(1, "12", "XBTUSDT"))
    log.when(migrate(**terms))
    assert costs(log)["XBT"][1] == left
    assert (log.state()["realized_pnl"], log.state()["cash"]["USDT"]) == (realized, cash)
    assert log.state()["drawdown"] == "0" or Fraction(log.state()["equity"]) < 200


def test_redeemed_for_cash_alone_realizes() -> None:
    """No unit carries the cost on."""
    log = holder()
    log.when(act("Merged", 3, symbol="BTC", cash="190"))
    assert (costs(log), log.state()["realized_pnl"]) == ({}, "140")
    assert log.state()["equity"] == "190"


def test_who_owes_coins_owes_the_new_ones() -> None:
    """Mirrored: quantity and cost below zero."""
    log = given(pair("BTC"), mark(1, "100", "BTCUSDT"), opened(1), deposit(2, "1000"))
    log.when(trade(3, "sell", "2", "100", "BTCUSDT"), fork(4, cost_share="0.25"))
    assert costs(log) == {"BCH": ("-2", "-50"), "BTC": ("-2", "-150")}
    log.when(migrate(5, cash="-40"))
    assert costs(log) == {"BCH": ("-2", "-50"), "XBT": ("-20", "-110")}


def test_units_cover_what_is_owed_of_the_new_coin() -> None:
    """A trade at the cost that they bring."""
    log = holder(pair("XBT"), mark(1, "12", "XBTUSDT"), trade(3, "sell", "30", "12", "XBTUSDT"))
    log.when(migrate(4))
    assert (costs(log)["XBT"], log.state()["realized_pnl"]) == (("-10", "-120"), "190")


def test_into_the_account_currency_costs_its_amount() -> None:
    """It has no other cost: the rest is realized."""
    log = holder()
    log.when(migrate(new_symbol="USDT", numerator="95"))
    assert (log.state()["cash"]["USDT"], log.state()["realized_pnl"]) == ("190", "140")


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (fork(), "invalid_payload"),
        (fork(cost="1", cost_share="0.1"), "invalid_payload"),
        (migrate(new_symbol="ABC"), "instrument_conflict"),
        (migrate(cash="1", currency="BTC"), "invalid_payload"),
    ],
)
def test_what_is_no_such_thing_is_refused(sent: Sent, reason: str) -> None:
    """A fork says its cost, and coins do not become shares."""
    assert holder(share("ABC")).when(sent).reason == reason


def test_the_account_currency_neither_merges_nor_gives_a_cost() -> None:
    """Its cost is its quantity; what comes beside it for nothing comes."""
    log = given(opened(1, currency="BTC"), deposit(2, "2"))
    assert log.when(migrate(3)).reason == "invalid_payload"
    assert log.when(fork(4, cost_share="0.1")).reason == "invalid_payload"
    log.when(fork(5, cost_share="0"))
    assert log.state()["cash"] == {"BCH": "2", "BTC": "2"}


def test_of_nothing_comes_a_dividend() -> None:
    """Cash for an account that holds none of it."""
    log = given(pair("BTC"), opened(1), deposit(2, "5"))
    log.when(act("Merged", 3, symbol="BTC", cash="3", currency="USDT"))
    assert (log.state()["dividends"], log.state()["cash"]["USDT"]) == ("3", "8")


def test_a_coin_with_another_name_is_no_loss() -> None:
    """Nobody rates the new name yet: what left is a flow."""
    log = holder()
    log.when(act("SymbolChanged", 3, symbol="BTC", new_symbol="XBT"))
    assert (costs(log)["XBT"], log.state()["drawdown"]) == (("2", "50"), None)
    log.when(pair("XBT"), mark(1, "110", "XBTUSDT"))
    assert (log.state()["nav"], log.state()["drawdown"]) == ("1", "0")


@pytest.mark.parametrize("seed", range(40))
def test_fractions_agree(seed: int) -> None:
    """Costs and realized PnL of forks and migrations by their definition, in exact fractions."""
    rng = random.Random(seed)
    log = given(pair("BTC"), mark(1, "100", "BTCUSDT"), opened(1), deposit(2, "100000"))
    held: dict[str, tuple[Fraction, Fraction]] = {}
    realized, number, names = ZERO, 2, ["BTC", "BCH", "XBT"]

    def move(asset: str, units: Fraction, value: Fraction) -> None:
        nonlocal realized
        size, cost = held.get(asset, (ZERO, ZERO))
        closing = min(abs(units), abs(size)) if size * units < 0 else ZERO
        if closing:
            part, leaving = value * closing / abs(units), cost * closing / abs(size)
            realized -= part + leaving
            value, cost = value - part, cost - leaving
        after = size + units
        held[asset] = (after, cost + value if after else ZERO)

    for name in names[1:]:
        log.when(pair(name))
    for _ in range(12):
        number += 1
        asset, other = rng.sample(names, 2)
        size, cost = held.get(asset, (ZERO, ZERO))
        draw, terms = rng.randrange(3), (rng.randint(1, 9), rng.randint(1, 9))
        if draw == 0 or not size:
            quantity, price = rng.randint(1, 9), rng.randint(1, 99)
            side = rng.choice(["buy", "sell"])
            log.when(trade(number, side, str(quantity), str(price), f"{asset}USDT"))
            signed = Fraction(quantity if side == "buy" else -quantity)
            move(asset, signed, signed * price)
            continue
        said: dict[str, Any] = {"symbol": asset, "new_symbol": other}
        said |= {"numerator": str(terms[0]), "denominator": str(terms[1])}
        units = abs(size) * terms[0] / terms[1]
        cut = Fraction(int(units * 10**18), 10**18) * (1 if size > 0 else -1)
        if draw == 1:
            log.when(act("SpinOff", number, **said, cost_share="0.3"))
            held[asset] = (size, cost * Fraction(7, 10))
            move(other, cut, cost * Fraction(3, 10))
        else:
            log.when(act("Merged", number, **said))
            held[asset] = (ZERO, ZERO)
            move(other, cut, cost)
    ledger = log.account().ledger
    for asset, (size, cost) in held.items():
        assert abs(Fraction(ledger.cash.get(asset, 0)) - size) < Fraction(1, 10**12), asset
        assert abs(Fraction(ledger.holding(asset).cost.amount) - cost) < Fraction(1, 10**12), asset
    assert abs(Fraction(ledger.total("realized_pnl")) - realized) < Fraction(1, 10**12)
