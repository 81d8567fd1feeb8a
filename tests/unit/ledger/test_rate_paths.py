"""Sums per path of a rate stay those of a fold from the start, whatever the path is made of."""

from __future__ import annotations

from typing import Any

from tests.support.domain import Log, given
from tests.support.events import Sent, deposit, event, instrument, mark, opened, trade

from psm.domain.books import Books
from psm.domain.publication.figures import state_document
from psm.domain.snapshot import dump_account, dump_checkpoint, load_account, load_checkpoint


def pair(base: str, quote: str) -> Sent:
    """Return the definition of a spot instrument."""
    return instrument(1, f"{base}{quote}", kind="spot", base=base, quote=quote, settle=quote)


def again(log: Log) -> dict[str, Any]:
    """Return the account's document by books that were restored just now."""
    books = Books(partitions=log.books.partitions)
    tables = load_checkpoint(dump_checkpoint(log.books, log.books.position, b"hash")).tables
    books.market.restore(tables)
    saved = dump_account(log.account(), log.books.position, b"hash")
    books.restore(load_account(saved)[0])
    books.position = log.books.position
    return state_document(books, books.accounts["acc_001"])


def test_an_index_of_zero_ends_the_rate_of_a_perpetual() -> None:
    """The mark that says so is applied, and the coin is unrated."""
    log = given(instrument(1, "BTC-PERP"), instrument(1, "ETH-PERP", base="ETH", quote="BTC"))
    log.when(mark(1, "100"), mark(1, "0.1", "ETH-PERP"), opened(1))
    log.when(deposit(2, "1", currency="ETH"))
    assert log.state()["equity"] == "10"
    seen = log.when(mark(2, "101", index_price="0"))
    assert (seen.outcome, log.state()["equity"]) == ("applied", "0")
    assert "rate_missing" in log.state()["flags"]
    assert log.state() == again(log)
    log.when(mark(3, "102", index_price="103"))
    assert log.state()["equity"] == "10.3"


def test_every_step_of_a_rate_moves_what_it_rates() -> None:
    """An own fill, then two marks: euros for dollars, dollars for tethers, those for bitcoin."""
    log = given(instrument(1, "BTC-PERP"), pair("EUR", "USD"), pair("USD", "USDT"))
    log.when(opened(1, currency="BTC"), mark(1, "1"), mark(1, "1", "USDUSDT"))
    log.when(trade(2, "buy", "1", "1", "EURUSD"))
    log.when(mark(2, "2", "USDUSDT"))
    assert log.state()["assets"]["EUR"]["value"] == "2"
    assert log.state()["equity"] == "0"
    assert log.state() == again(log)


def test_a_mark_of_zero_and_an_own_fill_of_its_symbol_are_two_paths() -> None:
    """The coin is worth nothing by the mark; what it was paid for in euros is rated by the fill."""
    log = given(pair("BTC", "USDT"), pair("BTC", "EUR"), opened(1), mark(1, "0", "BTCUSDT"))
    log.when(trade(2, "buy", "1", "1", "BTCEUR"), trade(3, "buy", "1", "1", "BTCUSDT"))
    assets = log.state()["assets"]
    assert (assets["BTC"]["value"], assets["EUR"]["value"]) == ("0", "-1")
    assert log.state() == again(log)


def test_figures_of_assets_do_not_depend_on_when_the_account_last_computed() -> None:
    """Where the account does not compute, no asset but its own currency has a value."""
    largest = "9" * 18 + "." + "9" * 18
    option = {"kind": "option", "base": "X", "quote": "USD", "settle": "USD", "option": {
        "underlying": "X", "right": "put", "strike": "1", "expiry": "2026-06-19T20:00:00Z",
    }}  # fmt: skip
    log = given(instrument(1, "BTC-PERP"), pair("USD", "USDT"), instrument(1, "X-P", **option))
    log.when(opened(1, currency="BTC"), mark(1, "88.2157"), mark(1, "1", "USDUSDT"))
    log.when(trade(2, "buy", largest, "1", "X-P"), trade(3, "sell", "2", largest, "X-P"))
    assert "valuation_failed" in log.state()["flags"]
    assert log.state()["assets"]["USD"]["value"] is None
    assert log.state() == again(log)


def test_the_greatest_equity_is_compared_with_the_published_one() -> None:
    """A slot is reached with equities of a hundred digits: nothing is raised."""
    largest = "9" * 18 + "." + "9" * 18
    coin = {"quote": "USD", "settle": "BTC", "kind": "inverse_perp"}
    log = given(instrument(1, "BTC-INV", **coin), opened(1, currency="USD"))
    log.when(mark(1, "106.99043333333333", "BTC-INV"), deposit(2, largest, currency="BTC"))
    log.when(event("FundingApplied", {"symbol": "BTC-INV", "funding_payment": "0." + "3" * 18}, 3))
    log.when(mark(2, "107.00000000000001", "BTC-INV"))
    log.let_pass(120)
    assert log.state()["equity"] is not None
