"""CashReversed and TransferReversed: the opposite flow, at what the original was booked at."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.domain import Log, given
from tests.support.events import Sent, deposit, event, fee, instrument, mark, opened, trade
from tests.unit.ledger.actions import share

from psm.domain.snapshot import dump_account, load_account

BTC = instrument(1, "BTCUSDT", kind="spot", base="BTC", quote="USDT", settle="USDT")
EURUSD = instrument(1, "EURUSD", kind="spot", base="EUR", quote="USD", settle="USD")


def account(*sent: Sent) -> Log:
    """Return an account that knows BTC at 100."""
    return given(BTC, mark(1, "100", "BTCUSDT"), opened(1), *sent)


def coin(number: int, event_type: str, amount: str, **more: str) -> Sent:
    """Return a flow of BTC."""
    return event(event_type, {"amount": amount, "currency": "BTC", **more}, number)


def held(log: Log) -> tuple[str, str, str]:
    """Return quantity and cost of BTC, and all flows at cost."""
    state = log.state()
    btc = state["assets"].get("BTC", {"quantity": "0", "cost": "0"})
    return btc["quantity"], btc["cost"], state["flows_cost"]


def test_a_deposit_taken_back_takes_its_own_cost_along() -> None:
    """2 for 50 beside 2 for 500: one of the first two leaves with 25, not with its share of 550."""
    log = account(
        coin(2, "CashDeposited", "2", cost="50", reference="r"),
        coin(3, "CashDeposited", "2", cost="500", reference="s"),
        coin(4, "CashReversed", "1", reference="r", direction="in"),
    )
    assert held(log) == ("3", "525", "525")
    log.when(coin(5, "CashReversed", "1", reference="r", direction="in"))
    assert held(log) == ("2", "500", "500")
    assert (log.state()["deposits"], log.state()["realized_pnl"], log.state()["nav"]) == (
        "500",
        "0",
        "1",
    )


def test_a_withdrawal_taken_back_comes_at_the_cost_it_left_with() -> None:
    """Whatever the mark is by then."""
    log = account(
        coin(2, "CashDeposited", "4", cost="50", reference="r"),
        coin(3, "CashWithdrawn", "2", reference="w"),
        mark(2, "900", "BTCUSDT"),
        coin(4, "CashReversed", "1", reference="w", direction="out"),
    )
    assert held(log) == ("3", "37.5", "37.5")
    assert (log.state()["withdrawals"], log.state()["nav"]) == ("12.5", "9")


@pytest.mark.parametrize(
    ("first", "direction"), [("TransferredIn", "in"), ("TransferredOut", "out")]
)
def test_transfers_of_coins_are_undone(first: str, direction: str) -> None:
    """Both ways: costs and totals are those of before, at any rate of the day."""
    log = account(coin(2, "CashDeposited", "4", cost="50", reference="r"))
    before = held(log)
    log.when(coin(3, first, "2", transfer_id="t"), mark(2, "900", "BTCUSDT"))
    assert held(log) != before
    log.when(coin(4, "TransferReversed", "2", transfer_id="t", direction=direction))
    assert (held(log), log.state()["transfers"]) == (before, "0")


def test_a_stated_cost_is_over_what_is_remembered() -> None:
    """At most all that the holding cost leaves; all of it where nothing is left."""
    log = account(coin(2, "CashDeposited", "4", cost="50", reference="r"))
    log.when(coin(3, "CashReversed", "1", reference="r", direction="in", cost="9"))
    assert held(log) == ("3", "41", "41")
    log.when(coin(4, "CashReversed", "1", reference="r", direction="in", cost="60"))
    assert held(log) == ("2", "0", "0")
    log.when(coin(5, "CashDeposited", "1", cost="7", reference="s"))
    log.when(coin(6, "CashReversed", "3", reference="s", direction="in", cost="1"))
    assert held(log) == ("0", "0", "0")


def test_what_nobody_remembers_is_worth_its_rate() -> None:
    """A reversal of a flow that was never seen, or had no name."""
    log = account(coin(2, "CashReversed", "1", reference="x", direction="out"))
    assert held(log) == ("1", "100", "100")


def test_an_unknown_cost_comes_back_unknown() -> None:
    """No rate of today says what a coin of then cost."""
    log = given(opened(1), coin(2, "CashDeposited", "2", reference="r"))
    log.when(coin(3, "CashWithdrawn", "2", reference="w"), BTC, mark(1, "100", "BTCUSDT"))
    log.when(coin(4, "CashReversed", "2", reference="w", direction="out"))
    assert held(log) == ("2", "0", "0")
    assert log.state()["assets"]["BTC"]["unrealized_pnl"] is None


def shares(*sent: Sent) -> Log:
    """Return an account in euros with shares in dollars at 80, a dollar at half a euro."""
    known = (share("ABC"), EURUSD, mark(1, "80", "ABC"), mark(1, "2", "EURUSD"))
    return given(*known, opened(1, currency="EUR"), deposit(2, "10000"), *sent)


def moved(number: int, event_type: str, **more: str) -> Sent:
    """Return a move of ABC in kind."""
    return event(event_type, {"symbol": "ABC", "transfer_id": "t", **more}, number)


@pytest.mark.parametrize(
    ("way", "more", "direction"),
    [
        ("In", {"cost": "100"}, "in"),
        ("In", {}, "in"),
        ("Out", {}, "out"),
    ],
)
def test_shares_in_kind_are_undone(way: str, more: dict[str, str], direction: str) -> None:
    """In their quote and in the account currency, at another rate of the day."""
    log = shares(trade(3, "buy", "10", "50", "ABC"))
    before = log.account().ledger.positions["ABC"]
    log.when(moved(4, f"PositionTransferred{way}", quantity="4", **more))
    log.when(mark(2, "4", "EURUSD"), mark(2, "90", "ABC"))
    nav = log.state()["nav"]
    log.when(moved(5, "TransferReversed", quantity="4", direction=direction))
    after = log.account().ledger.positions["ABC"]
    assert (after.size, after.cost, after.home_cost) == (before.size, before.cost, before.home_cost)
    assert (log.state()["transfers"], log.state()["nav"]) == ("0", nav)


def test_shares_without_a_cost_cost_their_value() -> None:
    """A stated rate is over the mark, its multiplier included; null says that there is none."""
    log = shares(moved(3, "PositionTransferredIn", quantity="4"))
    assert (log.position("ABC")["entry_price"], log.state()["transfers"]) == ("80", "160")
    home = given(share("ABC"), mark(1, "80", "ABC"), opened(1, currency="USD"))
    rated = {"symbol": "ABC", "quantity": "4", "transfer_id": "t", "rates": {"ABC": "70"}}
    home.when(event("PositionTransferredIn", rated, 2))
    assert (home.position("ABC")["entry_price"], home.state()["transfers"]) == ("70", "280")
    unrated = {**rated, "transfer_id": "u", "rates": {"ABC": None}}
    seen = home.when(event("PositionTransferredIn", unrated, 3))
    assert (seen.reason, seen.payload("EventRefused")["field"]) == (
        "invalid_payload",
        "payload.cost",
    )


def test_a_contract_comes_back_at_the_entry_price_it_left_with() -> None:
    """Symbol and quantity name it; the wallet's price too."""
    perp = {"kind": "linear_perp", "base": "X", "quote": "USDT", "settle": "USDT"}
    log = given(instrument(1, "X-PERP", **perp), opened(1), deposit(2), mark(1, "120", "X-PERP"))
    log.when(trade(3, "buy", "4", "100", "X-PERP"))
    named: dict[str, Any] = {"symbol": "X-PERP", "quantity": "3", "transfer_id": "t"}
    log.when(event("PositionTransferredOut", named, 4), mark(2, "150", "X-PERP"))
    nav = log.state()["nav"]
    log.when(event("TransferReversed", {**named, "direction": "out"}, 5))
    assert (log.position("X-PERP")["size"], log.position("X-PERP")["entry_price"]) == ("4", "100")
    assert (log.state()["nav"], log.state()["realized_pnl"]) == (nav, "0")


def test_the_memory_is_as_long_as_that_of_identities() -> None:
    """256 flows in kind with a name, in the snapshot too; money is not remembered at all."""
    log = account(deposit(2, "5", reference="m"))
    for number in range(3, 262):
        log.when(coin(number, "CashDeposited", "1", cost=str(number), reference=f"r{number}"))
    account_ = log.account()
    assert len(account_.ledger.booked_flows) == 256
    again, _ = load_account(dump_account(account_, log.books.position, b"x" * 32))
    assert again.ledger.booked_flows == account_.ledger.booked_flows
    log.when(coin(262, "CashReversed", "1", reference="r261", direction="in"))
    state = log.state()
    assert state["assets"]["BTC"]["cost"] == str(sum(range(3, 261)))


@pytest.mark.parametrize("home", [True, False])
def test_corrections_book_moves_at_the_marks_of_then(home: bool) -> None:
    """A mark said what shares cost, or what covered a short brought: also in one currency."""
    log = given(share("ABC"), mark(1, "80", "ABC"), opened(1, currency="USD"), deposit(2, "10000"))
    log.when(trade(3, "buy", "1", "10", "X", fill_id="f"))
    if home:
        log.when(trade(4, "sell", "4", "90", "ABC"))
        log.when(moved(5, "PositionTransferredIn", quantity="4"))
    else:
        log.when(fee(4, "1"), moved(5, "PositionTransferredIn", quantity="4"))
    log.when(mark(2, "5", "ABC"))
    figures = ("transfers", "realized_pnl", "equity", "nav")
    before = [log.state()[name] for name in figures]
    seen = log.when(event("TradeBusted", {"fill_id": "f", "reason": "r"}, 6))
    assert (seen.outcome, [log.state()[name] for name in figures]) == ("applied", before)


def test_a_reversal_in_a_corrected_past_takes_what_was_booked_there() -> None:
    """A busted fill gives a withdrawal another cost; what comes back has that one."""
    log = account(
        deposit(2, "1000"),
        trade(3, "buy", "1", "100", "BTCUSDT", fill_id="f"),
        trade(4, "buy", "1", "300", "BTCUSDT"),
        coin(5, "CashWithdrawn", "1", reference="w"),
        coin(6, "CashReversed", "1", reference="w", direction="out"),
    )
    assert held(log) == ("2", "400", "1000")
    log.when(event("TradeBusted", {"fill_id": "f", "reason": "r"}, 7))
    assert held(log) == ("1", "300", "1000")
