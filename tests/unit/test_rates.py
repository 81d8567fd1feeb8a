"""Rates of exchange: by every kind, one step or two, and by the account's own last fill."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest
from tests.support.domain import Log, given
from tests.support.events import Sent, deposit, event, instrument, mark, opened, trade

from psm.domain.market.rates import market_rate, market_steps, rate_path
from psm.domain.snapshot import dump_account, load_account


def spot(base: str, quote: str, symbol: str = "", **more: object) -> Sent:
    """Return the definition of a spot instrument."""
    return defined("spot", base, quote, symbol or f"{base}{quote}", **more)


def defined(kind: str, base: str, quote: str, symbol: str, **more: object) -> Sent:
    """Return the definition of an instrument of any kind."""
    return instrument(1, symbol, kind=kind, base=base, quote=quote, settle=quote, **more)


def rate(log: Log, currency: str, home: str) -> str | None:
    """Return a rate of the market as text."""
    found = market_rate(log.books.market, currency, home)
    return None if found is None else str(found)


def path(log: Log, currency: str, home: str) -> str:
    """Return the steps of a rate of the market in words."""
    return rate_path(market_steps(log.books.market, currency, home))


def own(log: Log, asset: str) -> tuple[str | None, str]:
    """Return a rate as the account sees it, and what it is made of."""
    prices = log.account().prices
    found = prices.rate(asset)
    return None if found is None else str(found), rate_path(prices.rate_steps(asset))


# --- one step -------------------------------------------------------------------------------------


def test_one_step_is_a_mark_or_the_inverse_of_one() -> None:
    """Named as it likes: base and quote count, not the symbol."""
    log = given(spot("BTC", "USDT", "XBT-T"), mark(1, "50000", "XBT-T"))
    assert (rate(log, "BTC", "USDT"), rate(log, "USDT", "BTC")) == ("50000", "0.00002")
    assert path(log, "USDT", "BTC") == "1 / XBT-T (spot)"


KINDS = [
    ("spot", "A", "C", "8", "8", "P (spot)"),
    ("spot", "C", "A", "8", "0.125", "1 / P (spot)"),
    ("equity", "A", "C", "8", "8", "P (equity)"),
    ("linear_perp", "A", "C", "8", "8", "P (linear_perp)"),
    ("inverse_perp", "A", "C", "8", "8", "P (inverse_perp)"),
    ("linear_perp", "C", "A", "8", "0.125", "1 / P (linear_perp)"),
    ("inverse_perp", "C", "A", "8", "0.125", "1 / P (inverse_perp)"),
    ("equity", "C", "A", "8", None, ""),
    ("linear_future", "A", "C", "8", None, ""),
    ("inverse_future", "A", "C", "8", None, ""),
]


@pytest.mark.parametrize(("kind", "base", "quote", "price", "found", "named"), KINDS)
def test_kinds_that_convert(
    kind: str, base: str, quote: str, price: str, found: str | None, named: str
) -> None:
    """Spot and perpetuals both ways, an equity one way, futures never."""
    log = given(defined(kind, base, quote, "P"), mark(1, price, "P"))
    assert (rate(log, "A", "C"), path(log, "A", "C")) == (found, named)


@pytest.mark.parametrize(("better", "worse"), [*pairwise(KINDS[:4])])
def test_a_kind_goes_before_the_next(better: tuple[str, ...], worse: tuple[str, ...]) -> None:
    """However late it is defined and marked."""
    log = given(defined(worse[0], worse[1], worse[2], "W"), mark(1, "3", "W"))
    log.when(defined(better[0], better[1], better[2], "P"))
    assert "W" in path(log, "A", "C")
    log.when(mark(1, better[3], "P"))
    assert rate(log, "A", "C") == better[4]


def test_linear_and_inverse_perpetuals_are_one_kind() -> None:
    """The one defined first that has a usable mark counts; so it is among inverses of such."""
    log = given(defined("inverse_perp", "A", "C", "I"), defined("linear_perp", "A", "C", "L"))
    log.when(mark(1, "5", "L"))
    assert path(log, "A", "C") == "L (linear_perp)"
    log.when(mark(1, "4", "I"))
    assert path(log, "A", "C") == "I (inverse_perp)"
    assert (rate(log, "C", "A"), path(log, "C", "A")) == ("0.25", "1 / I (inverse_perp)")


@pytest.mark.parametrize(("multiplier", "found"), [("1", "8"), ("10", None), ("0.1", None)])
def test_a_linear_perpetual_converts_at_multiplier_one_only(
    multiplier: str, found: str | None
) -> None:
    """Of another size its price may be of thousand coins."""
    log = given(defined("linear_perp", "A", "C", "P", multiplier=multiplier), mark(1, "8", "P"))
    assert rate(log, "A", "C") == found


def test_the_size_of_an_inverse_contract_is_no_matter() -> None:
    """Its price is of its base, whatever a contract is worth; of a share the multiplier counts."""
    log = given(defined("inverse_perp", "A", "C", "P", multiplier="100"), mark(1, "8", "P"))
    log.when(defined("equity", "S", "C", "S", multiplier="100"), mark(1, "8", "S"))
    assert (rate(log, "A", "C"), rate(log, "S", "C")) == ("8", "800")


def test_a_perpetual_says_its_index_where_it_names_one() -> None:
    """A negative index is no rate; a spot instrument has none."""
    log = given(defined("linear_perp", "A", "C", "P"), mark(1, "8", "P", index_price="7.5"))
    assert rate(log, "A", "C") == "7.5"
    log.when(mark(2, "8", "P", index_price="7.6"))
    assert rate(log, "A", "C") == "7.6"
    log.when(mark(3, "8", "P", index_price="-1"))
    assert rate(log, "A", "C") is None
    log.when(mark(4, "8", "P"), spot("B", "C"), mark(1, "2", "BC", index_price="9"))
    assert (rate(log, "A", "C"), rate(log, "B", "C")) == ("8", "2")


def test_the_instrument_defined_first_that_has_a_usable_mark_counts() -> None:
    """Direct ones before inverse ones; zero is a rate only as it stands."""
    log = given(spot("A", "C", "A1"), spot("A", "C", "A2"), spot("C", "A", "C1"))
    log.when(mark(1, "4", "C1"))
    assert rate(log, "A", "C") == "0.25"
    log.when(mark(1, "7", "A2"))
    assert rate(log, "A", "C") == "7"
    log.when(mark(1, "0", "A1"))
    assert (rate(log, "A", "C"), rate(log, "C", "A")) == ("0", "4")


def test_a_rate_has_34_digits() -> None:
    """A mark may have 36; both sides use the rounded value."""
    log = given(spot("A", "C"), mark(1, "123456789012345678.123456789012345678", "AC"))
    assert rate(log, "A", "C") == "123456789012345678.1234567890123457"


# --- two steps ------------------------------------------------------------------------------------


def test_two_steps_meet_in_a_bridge() -> None:
    """Rounded once; the first bridge that gives both counts."""
    log = given(spot("SOL", "USDT"), spot("EUR", "USDT"), spot("SOL", "BTC"), spot("EUR", "BTC"))
    log.when(mark(1, "2", "SOLBTC"), mark(1, "1", "EURBTC"))
    assert rate(log, "SOL", "EUR") == "2"
    log.when(mark(1, "100", "SOLUSDT"), mark(1, "3", "EURUSDT"))
    assert rate(log, "SOL", "EUR") == "33.33333333333333333333333333333333"
    assert path(log, "SOL", "EUR") == "SOLUSDT (spot) x 1 / EURUSDT (spot)"
    assert rate(log, "SOL", "XRP") is None


@pytest.mark.parametrize("absent", range(3))
def test_bridges_are_asked_in_their_order(absent: int) -> None:
    """USDT, USD, BTC: whatever is marked first."""
    log = Log()
    for number, bridge in enumerate(("BTC", "USD", "USDT")):
        log.when(spot("A", bridge), spot(bridge, "C"))
        if 2 - number >= absent:
            log.when(mark(1, str(number + 2), f"A{bridge}"), mark(1, "10", f"{bridge}C"))
    assert rate(log, "A", "C") == ["40", "30", "20"][absent]


def test_each_step_may_be_of_any_kind() -> None:
    """A share in dollars, and euros by a perpetual."""
    log = given(defined("equity", "S", "USD", "S"), defined("inverse_perp", "EUR", "USD", "E"))
    log.when(mark(1, "30", "S"), mark(1, "1.3", "E", index_price="1.2"))
    assert (rate(log, "S", "EUR"), path(log, "S", "EUR")) == (
        "25",
        "S (equity) x 1 / E (inverse_perp)",
    )


def test_one_step_of_any_kind_goes_before_two() -> None:
    """Be it the inverse of a perpetual."""
    log = given(spot("A", "USDT"), spot("USDT", "C"), mark(1, "2", "AUSDT"), mark(1, "3", "USDTC"))
    assert rate(log, "A", "C") == "6"
    log.when(defined("linear_perp", "C", "A", "P"), mark(1, "4", "P"))
    assert rate(log, "A", "C") == "0.25"


@pytest.mark.parametrize("price", ["0", "-3"])
def test_marks_of_zero_and_below_convert_nothing_else(price: str) -> None:
    """Not inverted, and in no path."""
    log = given(spot("A", "USDT", "A1", signed_price=True), spot("C", "USDT"))
    log.when(mark(1, price, "A1"), mark(1, "2", "CUSDT"))
    assert (rate(log, "USDT", "A"), rate(log, "A", "C")) == (None, None)
    assert rate(log, "A", "USDT") == ("0" if price == "0" else None)


@pytest.mark.parametrize("price", ["0", "-3"])
def test_an_unusable_mark_leaves_its_place_to_the_next(price: str) -> None:
    """To the next instrument of its kind, then to the next kind, in a path as in one step."""
    log = given(spot("A", "USDT", "A1", signed_price=True), spot("C", "USDT"), mark(1, price, "A1"))
    log.when(spot("A", "USDT", "A2"), mark(1, "6", "A2"), mark(1, "2", "CUSDT"))
    assert rate(log, "A", "C") == "3"
    assert rate(log, "USDT", "A") == "0.1666666666666666666666666666666667"
    assert rate(log, "A", "USDT") == ("0" if price == "0" else "6")


# --- the account's own last fill ------------------------------------------------------------------


def test_an_own_fill_is_a_rate_where_no_mark_is() -> None:
    """Directly and inverted, of the latest fill, for this account only; a mark goes before."""
    log = given(spot("A", "USDT"), opened(1), deposit(2), trade(3, "buy", "10", "2", "AUSDT"))
    assert own(log, "A") == ("2", "AUSDT (fill)")
    log.when(trade(4, "sell", "1", "4", "AUSDT"))
    assert own(log, "A") == ("4", "AUSDT (fill)")
    assert market_rate(log.books.market, "A", "USDT") is None
    log.when(opened(1, stream="other"), deposit(2, stream="other", currency="A"))
    assert log.state("other")["flags"] == ["rate_missing"]
    log.when(mark(1, "9", "AUSDT"))
    assert own(log, "A") == ("9", "AUSDT (spot)")


def test_an_own_fill_is_inverted_where_the_asset_is_the_quote() -> None:
    """An account in A learns what a dollar is worth."""
    log = given(spot("A", "USDT"), opened(1, currency="A"), deposit(2), deposit(3, currency="USDT"))
    assert log.state()["flags"] == ["rate_missing"]
    log.when(trade(4, "sell", "10", "4", "AUSDT"))
    assert own(log, "USDT") == ("0.25", "1 / AUSDT (fill)")


def test_own_fills_against_the_account_currency_go_first() -> None:
    """Then those against what the market rates, then those against what an own fill rates."""
    log = given(
        spot("A", "B"), spot("B", "EUR"), spot("A", "X"), spot("X", "EUR"), spot("A", "EUR")
    )
    log.when(opened(1, currency="EUR"), trade(2, "buy", "9", "3", "BEUR"))
    log.when(trade(3, "buy", "1", "2", "AB"))
    assert own(log, "A") == ("6", "AB (fill) x BEUR (fill)")
    log.when(trade(4, "buy", "1", "5", "AX"))
    assert own(log, "A") == ("6", "AB (fill) x BEUR (fill)")
    log.when(mark(1, "7", "XEUR"))
    assert own(log, "A") == ("35", "AX (fill) x XEUR (spot)")
    log.when(trade(5, "buy", "1", "4", "AB"))
    assert own(log, "A") == ("35", "AX (fill) x XEUR (spot)")
    log.when(mark(1, "2", "BEUR"))
    assert own(log, "A") == ("8", "AB (fill) x BEUR (spot)")
    log.when(trade(6, "buy", "1", "11", "AEUR"), trade(7, "buy", "1", "5", "AB"))
    assert own(log, "A") == ("11", "AEUR (fill)")


@pytest.mark.parametrize("price", ["0", "-3"])
def test_an_own_fill_of_nothing_counts_only_as_it_stands(price: str) -> None:
    """One of zero is a rate as it stands; else the fill before it counts."""
    log = given(spot("A", "USDT", "P", signed_price=True), spot("A", "USDT", "Q"), opened(1))
    log.when(trade(2, "buy", "1", "5", "Q"), trade(3, "buy", "1", price, "P"))
    assert own(log, "A")[0] == ("0" if price == "0" else "5")
    log = given(spot("USDT", "A", "P", signed_price=True), spot("A", "USDT", "Q"), opened(1))
    log.when(trade(2, "buy", "1", "5", "Q"), trade(3, "buy", "1", price, "P"))
    assert own(log, "A")[0] == "5"


def test_own_fills_are_of_the_ledger() -> None:
    """In its hash, its snapshot, and there when nothing of the pair is held any more."""
    made = [spot("A", "USDT"), spot("B", "USDT"), opened(1), deposit(2)]
    fills = [trade(3, "buy", "1", "2", "AUSDT"), trade(4, "buy", "1", "3", "BUSDT")]
    log = given(*made, *fills, trade(5, "sell", "1", "4", "AUSDT"))
    again, _ = load_account(dump_account(log.account(), log.books.position, b""))
    again.enter(log.books.market)
    assert [*again.ledger.own_fills] == ["BUSDT", "AUSDT"]
    assert again.ledger.own_fills == log.account().ledger.own_fills
    assert [str(again.prices.rate(asset)) for asset in "AB"] == ["4", "3"]
    other = given(*made, *fills, trade(5, "sell", "1", "4", "AUSDT"))
    assert other.hashes() == log.hashes()
    other.account().ledger.split_own_fill("AUSDT", Decimal(2), Decimal(1))
    assert other.hashes() != log.hashes()


def test_a_busted_fill_is_no_rate() -> None:
    """The one before it counts again."""
    log = given(spot("A", "USDT"), opened(1), deposit(2), trade(3, "buy", "1", "2", "AUSDT"))
    hashes = log.hashes()
    log.when(trade(4, "buy", "1", "5", "AUSDT", fill_id="wrong"))
    assert own(log, "A")[0] == "5"
    log.when(event("TradeBusted", {"fill_id": "wrong", "reason": "error"}, 5))
    assert own(log, "A")[0] == "2"
    assert log.hashes() != hashes, "the version is another one"


# --- splits ---------------------------------------------------------------------------------------


def test_a_split_of_an_asset_divides_every_rate_of_older_marks() -> None:
    """Of every pair of it, for this account; own fills are divided always."""
    log = given(spot("A", "USDT"), spot("A", "BTC"), spot("BTC", "A", "BTCA"), opened(1))
    log.when(mark(1, "40", "AUSDT"), mark(1, "0.5", "BTCA"), trade(2, "buy", "1", "40", "AUSDT"))
    log.when(trade(3, "buy", "1", "2", "ABTC"))
    terms = {"symbol": "AUSDT", "numerator": "4", "denominator": "1"}
    log.when(event("SplitApplied", terms, 4))
    prices, fills = log.account().prices, log.account().ledger.own_fills
    assert prices.rate("A") == 10
    assert prices.mark("BTCA") == 2
    assert (fills["AUSDT"].price, fills["ABTC"].price) == (Decimal(10), Decimal("0.5"))
    assert market_rate(log.books.market, "A", "USDT") == 40
    log.when(mark(2, "11", "AUSDT"))
    assert prices.rate("A") == 11


def test_a_split_whose_mark_is_of_new_units_divides_own_fills_only() -> None:
    """The mark says what a new unit is worth already."""
    log = given(spot("A", "USDT"), opened(1), mark(1, "10", "AUSDT"))
    log.when(trade(2, "buy", "1", "40", "AUSDT"))
    terms = {"symbol": "AUSDT", "ratio": "4", "mark_adjusted": True}
    log.when(event("SplitApplied", terms, 3))
    assert log.account().prices.rate("A") == 10
    assert log.account().ledger.own_fills["AUSDT"].price == 10


def test_a_split_contract_is_no_rate_until_its_next_mark() -> None:
    """The mark is corrected for the position only."""
    log = given(defined("linear_perp", "A", "USDT", "P"), opened(1), mark(1, "40", "P"))
    log.when(deposit(2, currency="A"), trade(3, "buy", "1", "40", "P"))
    assert own(log, "A") == ("40", "P (linear_perp)")
    log.when(event("SplitApplied", {"symbol": "P", "ratio": "4"}, 4))
    assert (own(log, "A")[0], log.position("P")["mark_price"]) == (None, "10")
    log.when(mark(2, "40", "P"))
    assert (own(log, "A")[0], log.state()["flags"]) == ("40", ["rate_from_derivative"])


# --- what an account's figures depend on ----------------------------------------------------------


def test_an_account_follows_every_step_of_its_rates() -> None:
    """Marks of both steps value it, and definitions that come later are found."""
    log = given(opened(1, currency="EUR"), deposit(2, "3", currency="SOL"), deposit(3, "5"))
    assert (log.state()["equity"], log.state()["flags"]) == ("5", ["rate_missing"])
    log.when(spot("SOL", "USDT"), spot("EUR", "USDT"), mark(1, "100", "SOLUSDT"))
    assert log.state()["equity"] == "5"
    log.when(mark(1, "2", "EURUSDT"))
    assert (log.state()["equity"], log.state()["flags"]) == ("155", [])
    log.when(mark(2, "4", "EURUSDT"))
    assert log.state()["equity"] == "80"
    log.when(mark(2, "200", "SOLUSDT"))
    assert log.state()["equity"] == "155"
    log.when(spot("SOL", "EUR"), mark(1, "1", "SOLEUR"))
    assert log.state()["equity"] == "8"


@pytest.mark.parametrize("kind", ["equity", "linear_perp", "inverse_perp"])
def test_an_account_follows_rates_of_every_kind(kind: str) -> None:
    """A definition that comes later, its marks, and an index that moves while the mark stands."""
    log = given(opened(1), deposit(2, "3", currency="A"), defined(kind, "A", "USDT", "P"))
    log.when(mark(1, "2", "P"))
    flags = [] if kind == "equity" else ["rate_from_derivative"]
    assert (log.state()["equity"], log.state()["flags"]) == ("6", flags)
    log.when(mark(2, "2", "P", index_price="4"))
    assert log.state()["equity"] == ("6" if kind == "equity" else "12")


def test_an_account_follows_the_rates_behind_its_own_fills() -> None:
    """What an asset was exchanged for has a rate that may move, or appear."""
    log = given(spot("A", "X"), spot("X", "EUR"), opened(1, currency="EUR"))
    log.when(deposit(2, "3", currency="A"), trade(3, "buy", "1", "2", "AX"))
    assert log.state()["equity"] == "0"
    log.when(mark(1, "5", "XEUR"))
    assert log.state()["equity"] == "30", "3 A at 10; X was paid for what is one A more"
    log.when(mark(2, "6", "XEUR"))
    assert log.state()["equity"] == "36"


def test_a_restored_market_knows_its_pairs_in_order() -> None:
    """Whatever a checkpoint sorted."""
    log = given(spot("A", "C", "Z"), spot("A", "C", "B"), mark(1, "1", "B"), mark(1, "2", "Z"))
    log.when(defined("linear_perp", "D", "C", "P"), mark(1, "8", "P", index_price="7"))
    tables = log.books.market.tables()
    log.books.market.restore(tables)
    assert market_rate(log.books.market, "A", "C") == Decimal(2)
    assert market_rate(log.books.market, "D", "C") == Decimal(7)
