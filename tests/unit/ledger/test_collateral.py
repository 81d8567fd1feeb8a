"""Collateral: what secures margins, what is owed, and what both do to an account's figures."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given as sampled
from hypothesis import strategies as st
from tests.support.domain import Log, given
from tests.support.events import (
    Sent,
    collateral,
    deposit,
    event,
    instrument,
    mark,
    opened,
    trade,
    withdrawal,
)

from psm.domain.snapshot import dump_account, load_account

TIERS = [{"notional_floor": "0", "maintenance_rate": "0.1"}]


def spot(base: str = "BTC", quote: str = "USDT") -> Sent:
    """Return the definition of a spot instrument."""
    return instrument(1, f"{base}{quote}", kind="spot", base=base, quote=quote, settle=quote)


def perp(symbol: str = "P", *, settle: str = "USDT", **more: Any) -> Sent:
    """Return the definition of a contract on something else, with a tenth of margin."""
    return instrument(1, symbol, base="X", quote=settle, settle=settle, margin_tiers=TIERS, **more)


def share(**more: Any) -> Sent:
    """Return the definition of a share."""
    return instrument(1, "S", kind="equity", base="S", quote="USDT", settle="USDT", **more)


def figures(log: Log, *names: str) -> list[str]:
    """Return figures of the account's state."""
    state = log.state()
    return [state[name] for name in names]


def holding(amount: str = "1") -> Log:
    """Return an account with money and a coin that is worth 50 000."""
    log = given(spot(), mark(1, "50000", "BTCUSDT"), opened(1), deposit(2, "1000"))
    log.when(deposit(3, amount, currency="BTC"))
    return log


SECURED = ("equity", "margin_available", "withdrawable")


def test_a_coin_is_no_collateral_until_it_is_defined_as_one() -> None:
    """Equity has it, and no more than the money may leave."""
    log = holding()
    assert figures(log, *SECURED) == ["51000", "1000", "1000"]
    log.when(collateral(1, haircut="0.1"))
    assert figures(log, *SECURED) == ["51000", "46000", "1000"]
    log.when(collateral(2, haircut="0"))
    assert figures(log, *SECURED) == ["51000", "51000", "1000"]
    log.when(collateral(3, haircut="1"))
    assert figures(log, *SECURED) == ["51000", "1000", "1000"]


def test_a_coin_in_which_contracts_were_traded_is_collateral() -> None:
    """In full, until its terms are defined; of this account, also when it is flat again."""
    log = holding()
    log.when(perp(settle="BTC"), trade(4, "buy", "1", "0.01", "P"))
    assert figures(log, *SECURED)[:2] == ["51000", "50500"]
    log.when(trade(5, "sell", "1", "0.01", "P"))
    assert figures(log, *SECURED)[:2] == ["51000", "51000"]
    log.when(collateral(1, haircut="0.2"))
    assert figures(log, *SECURED)[:2] == ["51000", "41000"]


def test_money_of_the_account_is_never_discounted() -> None:
    """Whatever is defined for those of another currency."""
    log = given(opened(1), deposit(2, "1000"), collateral(1, asset="USDT", haircut="0.5"))
    assert figures(log, *SECURED) == ["1000", "1000", "1000"]


def test_what_is_owed_counts_in_full_and_needs_margin() -> None:
    """Initial by leverage, maintenance by its terms; a haircut does not touch it."""
    log = given(spot(), mark(1, "50000", "BTCUSDT"), opened(1), deposit(2, "100000"))
    log.when(collateral(1, haircut="0.9", borrow_maintenance_rate="0.05"))
    log.when(withdrawal(3, "1", currency="BTC"))
    names = ("equity", "margin_initial", "margin_maintenance", "margin_available")
    assert figures(log, *names) == ["50000", "50000", "2500", "0"]
    assert str(log.account().value().margin_ratio) == "0.05"
    log.when(event("LeverageChanged", {"leverage": "5"}, 4))
    assert figures(log, *names) == ["50000", "10000", "2500", "40000"]
    log.when(event("LeverageChanged", {"leverage": "10", "symbol": "BTC"}, 5))
    assert figures(log, *names)[1] == "5000"
    log.when(mark(2, "60000", "BTCUSDT"))
    assert figures(log, *names)[:3] == ["40000", "6000", "3000"]
    log.when(collateral(2, haircut="0.9"))
    assert figures(log, *names)[:3] == ["40000", "6000", "0"]


def test_money_that_is_owed_needs_maintenance_only() -> None:
    """By the terms of the account currency."""
    log = holding()
    log.when(collateral(1, haircut="0.1"), withdrawal(4, "1500"))
    names = ("equity", "margin_initial", "margin_maintenance", "margin_available", "withdrawable")
    assert figures(log, *names) == ["49500", "0", "0", "44500", "0"]
    log.when(collateral(1, asset="USDT", haircut="0", borrow_maintenance_rate="0.1"))
    assert figures(log, *names) == ["49500", "0", "50", "44500", "0"]
    log.when(deposit(5, "500"))
    assert figures(log, *names) == ["50000", "0", "0", "45000", "0"]


def test_a_share_may_be_collateral_and_a_short_one_needs_margin() -> None:
    """By its tiers, else by the terms of the asset; nothing else by default."""
    log = given(share(), mark(1, "100", "S"), opened(1), deposit(2, "5000"))
    log.when(trade(3, "buy", "10", "100", "S"))
    assert figures(log, *SECURED) == ["5000", "4000", "4000"]
    log.when(collateral(1, asset="S", haircut="0.3", borrow_maintenance_rate="0.2"))
    assert figures(log, *SECURED) == ["5000", "4700", "4000"]
    log.when(trade(4, "sell", "30", "100", "S"))
    names = ("equity", "margin_initial", "margin_maintenance")
    assert figures(log, *names) == ["5000", "2000", "400"]
    log.when(share(margin_tiers=TIERS))
    tiered = given(share(margin_tiers=TIERS), mark(1, "100", "S"), opened(1), deposit(2, "5000"))
    tiered.when(collateral(1, asset="S", haircut="0", borrow_maintenance_rate="0.2"))
    tiered.when(trade(3, "sell", "20", "100", "S"))
    assert figures(tiered, *names) == ["5000", "2000", "200"]


def test_a_definition_warns_at_once() -> None:
    """What secured a position secures it no more."""
    log = holding()
    log.when(collateral(1, haircut="0"), perp(), trade(4, "buy", "100", "100", "P"))
    seen = log.when(collateral(2, haircut="1"))
    assert [told["level"] for told in seen.payloads("MarginWarning")] == ["0.5", "0.8", "1.0"]
    assert "liquidatable" in log.state()["flags"]
    assert log.when(collateral(3, haircut="0")).payloads("MarginWarning") == []
    assert log.state()["flags"] == []


def test_a_corrected_past_knows_the_terms_of_its_time() -> None:
    """Warnings that came while a coin secured less are of the account without the fill, too."""
    told = [spot(), mark(1, "50000", "BTCUSDT"), perp(), opened(1), deposit(2, "1000")]
    coin = deposit(3, "1", currency="BTC")
    log = given(*told, coin, collateral(1, haircut="0"), trade(4, "buy", "100", "100", "P"))
    log.when(trade(5, "buy", "1", "100", "P", fill_id="wrong"))
    log.when(collateral(2, haircut="1"), collateral(3, haircut="0"))
    log.when(event("TradeBusted", {"fill_id": "wrong", "reason": "error"}, 6))
    again = given(*told, coin, collateral(1, haircut="0"), trade(4, "buy", "100", "100", "P"))
    again.when(collateral(2, haircut="1"), collateral(3, haircut="0"))
    assert log.account().valuation.warned == again.account().valuation.warned


@sampled(st.integers(0, 2**32))
def test_figures_are_those_of_an_account_that_was_just_loaded(seed: int) -> None:
    """After every definition, mark and movement, whatever is owed and secured."""
    random = Random(seed)
    log = given(spot(), spot("ETH"), spot("EUR"), share(), perp(), perp("Q", settle="BTC"))
    log.when(opened(1, currency=random.choice(("USDT", "EUR"))), deposit(2, "100"))
    assets, symbols, number = ("BTC", "ETH", "EUR", "USDT", "S"), ("S", "P", "Q"), 2
    for at in range(2, 30):
        act, size = random.random(), random.choice(("1", "3", "250"))
        if act < 0.3:
            symbol = random.choice(("BTCUSDT", "ETHUSDT", "EURUSDT", *symbols))
            log.when(mark(at, size, symbol))
        elif act < 0.5:
            terms = {"borrow_maintenance_rate": "0.1"} if random.random() < 0.5 else {}
            haircut = random.choice(("0", "0.25", "1"))
            log.when(collateral(at, random.choice(assets), haircut, **terms))
        elif act < 0.75:
            number += 1
            move = random.choice((deposit, withdrawal))
            log.when(move(number, size, currency=random.choice(assets[:4])))
        else:
            number += 1
            side = random.choice(("buy", "sell"))
            log.when(trade(number, side, size, "2", random.choice(symbols)))
        account = log.account()
        again, _ = load_account(dump_account(account, log.books.position, b""))
        again.enter(log.books.market)
        ours, theirs = account.value(), again.value()
        for name in ("equity", "margin_initial", "margin_maintenance", "margin_available"):
            assert getattr(ours, name) == getattr(theirs, name), name
        assert (ours.collateral, ours.withdrawable) == (theirs.collateral, theirs.withdrawable)
        assert ours.flags == theirs.flags
