"""What each event does to an account."""
# Decimals are compared with plain numbers:
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from typing import Any, get_args

import pytest
from tests.support.domain import given
from tests.support.events import (
    Sent,
    deposit,
    fee,
    funding,
    instrument,
    mark,
    opened,
    trade,
    withdrawal,
)

from psm.contracts.registry import ACCOUNT_EVENTS
from psm.domain.booking.evolve import _HANDLERS
from psm.domain.corrections import Correction
from psm.domain.messages import Outcome


def test_every_event_is_booked() -> None:
    """An event that the registry knows has a function, or is a correction."""
    assert {*_HANDLERS} == {*ACCOUNT_EVENTS} - {*get_args(Correction)}


@pytest.mark.parametrize(
    ("first", "currency"),
    [
        (opened(1, currency="EUR"), "EUR"),
        (deposit(1), "USDT"),
        (deposit(1, currency="USD"), "USD"),
        (withdrawal(1), "USDT"),
        (fee(1, "1", currency="JPY"), "JPY"),
        (funding(1, "1", currency="BTC"), "BTC"),
        (funding(1, "1", "BTC-USD"), "BTC"),
        (trade(1, "buy", "1", "100", "BTC-USD"), "BTC"),
        (trade(1, "buy", "1", "100", "NEW"), "USDT"),
    ],
)
def test_first_event_opens_the_account_in_its_currency(first: Sent, currency: str) -> None:
    """Named by the event, else of its instrument, else USDT."""
    log = given(instrument(1, "BTC-USD", kind="inverse_perp", quote="USD", settle="BTC"))
    assert log.when(first).outcome is Outcome.APPLIED
    assert log.state()["currency"] == currency


def test_refused_first_event_opens_nothing() -> None:
    """It keeps its place, and the next event decides about the currency."""
    log = given(deposit(1, "-1"))
    assert (log.state()["currency"], log.account().delivery.version) == (None, 1)
    log.when(deposit(2, "5", currency="EUR"))
    assert log.state()["currency"] == "EUR"


def test_account_is_opened_once() -> None:
    """A second opening contradicts the books."""
    seen = given(deposit(1)).when(opened(2, currency="EUR"))
    assert (seen.outcome, seen.reason) == (Outcome.REFUSED, "invalid_payload")


def test_deposits_and_withdrawals_move_cash() -> None:
    """Both are counted; only flows in the account's currency touch the peak."""
    log = given(opened(1), deposit(2, "100"), withdrawal(3, "30"), deposit(4, "1", currency="BTC"))
    state = log.state()
    assert state["cash"] == {"BTC": "1", "USDT": "70"}
    assert (state["deposits"], state["withdrawals"]) == ("100", "30")
    assert (state["equity"], state["peak_equity"], state["drawdown"]) == ("70", "70", "0")
    assert state["flags"] == ["rate_missing"]


def test_overdraft_is_booked_and_flagged() -> None:
    """Money that left has left."""
    log = given(deposit(1, "10"))
    seen = log.when(withdrawal(2, "25"))
    assert seen.outcome is Outcome.APPLIED
    assert seen.payload("StateUpdated")["flags"] == ["overdraft"]
    assert log.state()["cash"] == {"USDT": "-15"}


def test_flows_leave_drawdown_alone() -> None:
    """A loss of a tenth stays a tenth, whatever comes in or goes out."""
    log = given(deposit(1, "1000"), trade(2, "buy", "1", "1000"), mark(1, "900"))
    assert log.state()["drawdown"] == "0.1"
    for sent in (deposit(3, "777.77"), withdrawal(4, "1200")):
        log.when(sent)
        assert log.state()["drawdown"] == "0.1"


def test_trade_books_realized_less_commission() -> None:
    """Cash moves by what was realized and the commission, not by the notional."""
    log = given(deposit(1, "1000"))
    log.when(trade(2, "buy", "2", "100", commission="1"))
    assert log.state()["cash"] == {"USDT": "999"}
    seen = log.when(trade(3, "sell", "1", "110", commission="-0.5"))
    assert log.state()["cash"] == {"USDT": "1009.5"}
    position = seen.payload("PositionUpdated")
    assert (position["change"], position["realized_pnl"], position["fees"]) == (
        "reduced",
        "10",
        "0.5",
    )
    assert position["realized_pnl_net"] == "9.5"


def test_flip_publishes_closed_then_opened() -> None:
    """One input, two position updates, one state."""
    log = given(deposit(1, "1000"), trade(2, "buy", "1", "100"))
    seen = log.when(trade(3, "sell", "3", "90", commission="0.3"))
    assert seen.types == ["PositionUpdated", "PositionUpdated", "MarginUpdated", "StateUpdated"]
    closed, reopened = seen.payloads("PositionUpdated")
    assert (closed["change"], closed["side"], closed["size"]) == ("closed", "flat", "0")
    assert (closed["entry_price"], closed["mark_price"], closed["notional"]) == (None, None, "0")
    assert (closed["realized_pnl"], closed["fees"]) == ("-10", "0.1")
    assert (reopened["change"], reopened["side"], reopened["size"]) == ("opened", "short", "2")
    assert (reopened["fees"], reopened["cycle"], reopened["cycle_realized_pnl"]) == ("0.3", 2, "0")


def test_commission_in_a_third_currency() -> None:
    """It comes out of that currency's cash and not into the symbol's fees."""
    log = given(deposit(1, "1000"))
    log.when(trade(2, "buy", "1", "100", commission="0.01", commission_currency="BNB"))
    assert log.state()["cash"] == {"BNB": "-0.01", "USDT": "1000"}
    assert (log.state()["fees"], log.position()["fees"]) == ("0", "0")


def test_liquidation_fee_has_a_total_of_its_own() -> None:
    """It leaves cash beside the commission; the position counts both."""
    log = given(deposit(1, "1000"))
    log.when(trade(2, "buy", "1", "100", commission="1", liquidation_fee="2"))
    state = log.state()
    assert (state["fees"], state["liquidation_fees"]) == ("1", "2")
    assert (state["cash"], state["realized_pnl_net"]) == ({"USDT": "997"}, "-3")
    assert log.position()["fees"] == "3"


def test_spot_settles_the_full_notional() -> None:
    """Buying an equity moves its price out of cash and its value into equity."""
    log = given(instrument(1, "AAPL", kind="equity", base="AAPL", quote="USDT"), deposit(1, "1000"))
    log.when(trade(2, "buy", "3", "100", "AAPL", commission="1"))
    assert log.state()["cash"] == {"USDT": "699"}
    assert log.state()["equity"] == "999"
    log.when(mark(1, "110", "AAPL"), trade(3, "sell", "1", "120", "AAPL"))
    state = log.state()
    assert (state["cash"], state["equity"]) == ({"USDT": "819"}, "1039")
    assert (state["realized_pnl"], state["unrealized_pnl"]) == ("20", "20")


@pytest.mark.parametrize(("payment", "cash"), [("-2.1", "997.9"), ("0.042", "1000.042")])
def test_funding_is_signed_from_the_accounts_view(payment: str, cash: str) -> None:
    """Received is positive; size and entry stay."""
    log = given(deposit(1, "1000"), trade(2, "buy", "1", "100"))
    seen = log.when(funding(3, payment))
    assert log.state()["cash"] == {"USDT": cash}
    position = seen.payload("PositionUpdated")
    assert (position["change"], position["funding"]) == ("adjusted", payment)
    assert (position["size"], position["entry_price"]) == ("1", "100")


def test_funding_of_a_symbol_never_held_creates_no_position() -> None:
    """It is booked to the account; the position may have been closed before the snapshot."""
    log = given(deposit(1, "1000"))
    seen = log.when(funding(2, "-1", "ETH-PERP"))
    assert "PositionUpdated" not in seen.types
    assert log.state()["positions"] == {}
    assert log.state()["funding"] == "-1"


def test_funding_after_the_close_is_lifetime_only() -> None:
    """A flat position's cycle is over."""
    log = given(deposit(1), trade(2, "buy", "1", "100"), trade(3, "sell", "1", "100"))
    log.when(funding(4, "-1"))
    position = log.account().ledger.positions["BTC-PERP"]
    assert (position.funding, position.cycle_funding) == (-1, 0)


@pytest.mark.parametrize(
    ("fields", "cash", "fees"),
    [
        ({}, {"USDT": "990"}, "10"),
        ({"symbol": "BTC-PERP"}, {"USDT": "990"}, "10"),
        ({"currency": "BNB"}, {"BNB": "-10", "USDT": "1000"}, "0"),
    ],
)
def test_fee_outside_a_trade(fields: dict[str, Any], cash: dict[str, str], fees: str) -> None:
    """A cost is positive; tagged with a symbol it counts there too."""
    log = given(deposit(1, "1000"), trade(2, "buy", "1", "100"), fee(3, "10", **fields))
    assert (log.state()["cash"], log.state()["fees"]) == (cash, fees)
    assert log.position()["fees"] == ("10" if "symbol" in fields else "0")


def test_rebate_is_a_negative_fee() -> None:
    """No sign is dropped."""
    log = given(deposit(1, "1000"), fee(2, "-3"))
    assert (log.state()["cash"], log.state()["fees"]) == ({"USDT": "1003"}, "-3")


def test_inverse_position_settles_in_coin() -> None:
    """1000 contracts from 50 000 to 40 000 short: 1000 x (1/40000 - 1/50000) = 0.005."""
    log = given(instrument(1, kind="inverse_perp", quote="USD", settle="BTC"))
    log.when(deposit(1, "1", currency="BTC"), trade(2, "sell", "1000", "50000"))
    log.when(trade(3, "buy", "1000", "40000"))
    assert log.state()["cash"] == {"BTC": "1.005"}
