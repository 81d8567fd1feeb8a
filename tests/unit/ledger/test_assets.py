"""Assets: one holding each, whatever moves it, with a cost at the rates of its trades."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.domain import Log, given
from tests.support.events import (
    Sent,
    deposit,
    envelope,
    event,
    fee,
    instrument,
    mark,
    opened,
    trade,
    withdrawal,
)

from psm.contracts import codec


def pair(base: str, quote: str = "USDT") -> Sent:
    """Return the definition of a spot instrument."""
    return instrument(1, f"{base}{quote}", kind="spot", base=base, quote=quote, settle=quote)


def account(*sent: Sent, currency: str = "USDT") -> Log:
    """Return an account that knows BTC at 50 000 and BNB at 300, in dollars."""
    known = (pair("BTC"), pair("BNB"), mark(1, "50000", "BTCUSDT"), mark(1, "300", "BNBUSDT"))
    return given(*known, opened(1, currency=currency), *sent)


def asset(log: Log, name: str) -> tuple[Any, ...]:
    """Return quantity, cost, value and unrealized PnL of an asset."""
    found = log.state()["assets"][name]
    return tuple(found[field] for field in ("quantity", "cost", "value", "unrealized_pnl"))


def figures(log: Log, *names: str) -> tuple[Any, ...]:
    """Return figures of the account."""
    return tuple(log.state()[name] for name in names)


# --- a deposited coin is the coin that is sold ----------------------------------------------------


def test_a_deposited_coin_is_sold() -> None:
    """Nothing of it is left: no position, no exposure, no margin, and all may be withdrawn."""
    log = account(deposit(2, "1", currency="BTC"), trade(3, "sell", "1", "50000", "BTCUSDT"))
    state = log.state()
    assert state["cash"] == {"BTC": "0", "USDT": "50000"}
    assert (state["positions"], state["open_positions"], state["flags"]) == ({}, 0, [])
    assert figures(log, "equity", "flows_cost", "realized_pnl") == ("50000", "50000", "0")
    assert figures(log, "exposure_gross", "margin_initial", "leverage") == ("0", "0", "0")
    assert figures(log, "margin_available", "withdrawable") == ("50000", "50000")


def test_a_coin_deposited_at_a_stated_cost_realizes_against_it() -> None:
    """It cost 40 000, whatever it is worth; net asset value knows the market alone."""
    put = event("CashDeposited", {"amount": "1", "currency": "BTC", "cost": "40000"}, 2)
    log = account(put)
    assert asset(log, "BTC") == ("1", "40000", "50000", "10000")
    assert figures(log, "deposits", "flows", "nav") == ("40000", "50000", "1")
    log.when(trade(3, "sell", "1", "50000", "BTCUSDT"))
    assert figures(log, "equity", "realized_pnl", "nav") == ("50000", "10000", "1")


def test_selling_more_than_there_is_closes_and_opens_below_zero() -> None:
    """+1 at 40 000, sell 2 at 50 000: 10 000 realized, then -1 that cost -50 000."""
    put = event("CashDeposited", {"amount": "1", "currency": "BTC", "cost": "40000"}, 2)
    log = account(put, trade(3, "sell", "2", "50000", "BTCUSDT"))
    assert asset(log, "BTC") == ("-1", "-50000", "-50000", "0")
    assert figures(log, "realized_pnl", "equity", "exposure_gross") == ("10000", "50000", "50000")
    assert figures(log, "margin_initial", "withdrawable") == ("50000", "0")


def test_a_withdrawal_leaves_at_cost_and_realizes_nothing() -> None:
    """A quarter of what cost 40 000 leaves; its market value is the flow."""
    put = event("CashDeposited", {"amount": "4", "currency": "BTC", "cost": "40000"}, 2)
    log = account(put, withdrawal(3, "1", currency="BTC"))
    assert asset(log, "BTC") == ("3", "30000", "150000", "120000")
    assert figures(log, "withdrawals", "flows", "realized_pnl") == ("10000", "150000", "0")
    assert figures(log, "nav", "drawdown") == ("1", "0")


def test_a_deposit_that_covers_is_a_trade_at_its_value() -> None:
    """Short 1 at 50 000; 3 come at 45 000: 5 000 realized, 2 at their part of the stated cost."""
    log = account(trade(2, "sell", "1", "50000", "BTCUSDT"), mark(2, "45000", "BTCUSDT"))
    log.when(event("CashDeposited", {"amount": "3", "currency": "BTC", "cost": "60000"}, 3))
    assert asset(log, "BTC") == ("2", "40000", "90000", "50000")
    assert figures(log, "realized_pnl", "deposits", "flows") == ("5000", "85000", "135000")
    assert figures(log, "equity") == ("140000",)


def test_the_account_currency_has_no_cost_of_its_own() -> None:
    """It costs its amount: another one is refused."""
    log = account()
    seen = log.when(event("CashDeposited", {"amount": "1", "cost": "1"}, 2))
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
    assert seen.payload("EventRefused")["field"] == "payload.cost"


# --- a coin pays fees -----------------------------------------------------------------------------


def test_a_fee_in_a_held_coin_comes_out_of_the_holding() -> None:
    """2 BNB at 300; 0.01 of them, worth 3, pay for a trade: what is left is sold, none remains."""
    log = account(deposit(2, "10000"), trade(3, "buy", "2", "300", "BNBUSDT"))
    bnb = {"commission": "0.01", "commission_currency": "BNB"}
    log.when(trade(4, "buy", "0.1", "50000", "BTCUSDT", **bnb))
    assert asset(log, "BNB") == ("1.99", "597", "597", "0")
    log.when(trade(5, "sell", "1.99", "300", "BNBUSDT"))
    assert log.state()["cash"] == {"BNB": "0", "BTC": "0.1", "USDT": "4997"}
    assert figures(log, "equity", "fees", "realized_pnl", "flags") == ("9997", "3", "0", [])


def test_a_fee_in_a_coin_that_rose_realizes_what_it_gained() -> None:
    """0.5 BNB that cost 150 pay at 400: the fee is 200, 50 of it was gained before."""
    log = account(deposit(2, "10000"), trade(3, "buy", "1", "300", "BNBUSDT"))
    log.when(mark(2, "400", "BNBUSDT"), fee(4, "0.5", currency="BNB"))
    assert asset(log, "BNB") == ("0.5", "150", "200", "50")
    assert figures(log, "fees", "realized_pnl", "equity") == ("200", "50", "9900")


def test_a_fee_in_the_base_is_worth_what_the_trade_says() -> None:
    """The trade is booked first: at its price, not at the mark of 50 000."""
    btc = {"commission": "0.1", "commission_currency": "BTC"}
    log = account(deposit(2, "100000"), trade(3, "buy", "1", "48000", "BTCUSDT", **btc))
    assert asset(log, "BTC") == ("0.9", "43200", "45000", "1800")
    assert figures(log, "fees", "realized_pnl", "equity") == ("4800", "0", "97000")


def test_a_rebate_in_a_coin_is_acquired_at_its_value() -> None:
    """It lowers the fees, and costs what it is worth."""
    bnb = {"commission": "-0.1", "commission_currency": "BNB"}
    log = account(deposit(2, "100000"), trade(3, "buy", "1", "50000", "BTCUSDT", **bnb))
    assert asset(log, "BNB") == ("0.1", "30", "30", "0")
    assert figures(log, "fees", "equity") == ("-30", "100030")


def test_a_fee_in_a_coin_without_a_rate_counts_its_cost() -> None:
    """Bought with a stated rate: its cost leaves with it, into the fees."""
    put = {"amount": "4", "currency": "XYZ", "rates": {"XYZ": "10"}}
    log = account(event("CashDeposited", put, 2), fee(3, "1", currency="XYZ"))
    assert asset(log, "XYZ") == ("3", "30", None, None)
    assert figures(log, "fees", "unrated_cost", "equity") == ("10", "30", "0")
    assert figures(log, "flows_cost", "flows", "flags") == ("40", "0", ["rate_missing"])


def test_interest_paid_in_a_coin_that_is_not_there_is_a_debt() -> None:
    """Below zero at what it is worth; it needs margin and is exposure."""
    log = account(
        deposit(2, "1000"), event("InterestAccrued", {"amount": "-2", "currency": "BNB"}, 3)
    )
    assert asset(log, "BNB") == ("-2", "-600", "-600", "0")
    assert figures(log, "interest", "equity", "margin_initial") == ("-600", "400", "600")


# --- what comes for nothing -----------------------------------------------------------------------


@pytest.mark.parametrize(("symbol", "name"), [("AIRUSDT", "AIR"), ("AIR", "AIR")])
def test_an_airdrop_costs_nothing(symbol: str, name: str) -> None:
    """By its pair or by its own name; a price of zero needs no rate."""
    told = {"symbol": symbol, "quantity": "10", "price": "0", "reason": "airdrop", "actor": "ops"}
    log = account(pair("AIR"), deposit(2, "100"), event("PositionAdjusted", told, 3))
    assert asset(log, name) == ("10", "0", None, None)
    assert figures(log, "equity", "adjustments", "positions") == ("100", "0", {})
    log.when(mark(1, "3", "AIRUSDT"))
    assert asset(log, name) == ("10", "0", "30", "30")
    assert figures(log, "equity", "flows", "nav", "drawdown") == ("130", "130", "1", "0")


def test_what_is_taken_away_by_hand_leaves_at_its_cost() -> None:
    """Adjustments fall by it; the price of the event counts for what is added alone."""
    put = event("CashDeposited", {"amount": "2", "currency": "BTC", "cost": "60000"}, 2)
    told = {"symbol": "BTCUSDT", "quantity": "-1", "price": "1", "reason": "lost", "actor": "ops"}
    log = account(put, event("PositionAdjusted", told, 3))
    assert asset(log, "BTC") == ("1", "30000", "50000", "20000")
    assert figures(log, "adjustments", "realized_pnl") == ("-30000", "0")


def test_a_split_of_a_coin_keeps_its_cost() -> None:
    """One for four: the mark is of old units until the next one."""
    log = account(deposit(2, "8", currency="BNB"))
    log.when(event("SplitApplied", {"symbol": "BNB", "numerator": "1", "denominator": "4"}, 3))
    assert asset(log, "BNB") == ("2", "2400", "2400", "0")
    assert log.state()["assets"]["BNB"]["mark_price"] == "1200"


# --- one holding through many pairs ---------------------------------------------------------------


def test_two_pairs_move_one_holding() -> None:
    """Bought for dollars, sold for euros: the euros come at the value of the trade."""
    log = account(pair("BTC", "EUR"), pair("EUR"), mark(1, "1.25", "EURUSDT"), deposit(2, "60000"))
    log.when(trade(3, "buy", "1", "50000", "BTCUSDT"), trade(4, "sell", "0.5", "40000", "BTCEUR"))
    assert asset(log, "BTC") == ("0.5", "25000", "25000", "0")
    assert asset(log, "EUR") == ("20000", "25000", "25000", "0")
    assert figures(log, "equity", "realized_pnl", "open_positions") == ("60000", "0", 0)


def test_the_account_leg_says_what_a_trade_is_worth() -> None:
    """A BTC account sells 1 BTC for 50 000 USDT while the mark is 50 500: USDT cost 1 BTC."""
    log = given(
        pair("BTC"), mark(1, "50500", "BTCUSDT"), opened(1, currency="BTC"), deposit(2, "2")
    )
    log.when(trade(3, "sell", "1", "50000", "BTCUSDT"))
    found = log.state()["assets"]["USDT"]
    assert (found["quantity"], found["cost"]) == ("50000", "1")
    assert figures(log, "realized_pnl") == ("0",)
    log.when(trade(4, "buy", "1", "50000", "BTCUSDT"))
    assert figures(log, "realized_pnl", "equity") == ("0", "2")


def test_a_trade_without_any_rate_carries_the_cost_over() -> None:
    """Two unknown coins: what one cost the other costs; a stated rate came before."""
    put = {"amount": "4", "currency": "AAA", "rates": {"AAA": "10"}}
    log = account(instrument(1, "AAABBB", kind="spot", base="AAA", quote="BBB", settle="BBB"))
    log.when(event("CashDeposited", put, 2), trade(3, "sell", "1", "7", "AAABBB"))
    assert asset(log, "AAA") == ("3", "30", None, None)
    assert asset(log, "BBB") == ("7", "10", None, None)
    assert figures(log, "equity", "unrated_cost", "flows_cost") == ("0", "40", "40")


def test_a_coin_of_unknown_cost_is_sold_as_a_flow() -> None:
    """The account's own fill rates it: no drawdown, no gain out of nothing."""
    log = given(pair("BTC"), opened(1), deposit(2, "1", currency="BTC"))
    assert figures(log, "equity", "flags") == ("0", ["rate_missing"])
    log.when(trade(3, "sell", "1", "50000", "BTCUSDT"))
    assert figures(log, "equity", "realized_pnl", "flows", "flows_cost") == (
        "50000", "0", "50000", "50000",
    )  # fmt: skip
    assert figures(log, "nav", "max_drawdown", "flags") == ("1", "0", [])


def test_a_first_mark_makes_what_was_unrated_a_flow() -> None:
    """A holding that a mark rates is worth it from then on: net asset value does not jump."""
    log = given(pair("BTC"), opened(1), deposit(2, "1000"), deposit(3, "1", currency="BTC"))
    log.when(mark(1, "9000", "BTCUSDT"))
    assert figures(log, "equity", "flows", "nav", "drawdown") == ("10000", "10000", "1", "0")
    log.when(mark(2, "8000", "BTCUSDT"))
    assert figures(log, "nav", "drawdown") == ("0.9", "0.1")


def test_shares_quoted_elsewhere_have_a_cost_at_the_rate_of_then() -> None:
    """10 at 20 euros when one is 1.25, worth 10 x 22 at 1.5: 250 paid, 330 there, 80 gained."""
    share = instrument(1, "SAP", kind="equity", base="SAP", quote="EUR", settle="EUR")
    log = given(share, pair("EUR"), mark(1, "1.25", "EURUSDT"), opened(1), deposit(2, "1000"))
    log.when(trade(3, "buy", "200", "1.25", "EURUSDT"), trade(4, "buy", "10", "20", "SAP"))
    log.when(mark(2, "1.5", "EURUSDT"), mark(1, "22", "SAP"))
    assert figures(log, "equity", "unrealized_pnl", "realized_pnl") == ("1080", "80", "0")
    log.when(trade(5, "sell", "10", "22", "SAP"))
    assert asset(log, "EUR") == ("220", "330", "330", "0")
    assert figures(log, "equity", "unrealized_pnl", "realized_pnl") == ("1080", "0", "80")


# --- collateral -----------------------------------------------------------------------------------


def secured(name: str, haircut: str, rate: str | None = None) -> Sent:
    """Return the terms of an asset as collateral."""
    told = {"asset": name, "haircut": haircut}
    told |= {} if rate is None else {"borrow_maintenance_rate": rate}
    body = envelope("CollateralDefined", told, 1, stream=name)
    return Sent(subject=f"collateral.{name}", data=codec.encode(body))


def test_a_coin_secures_nothing_until_its_terms_are_defined() -> None:
    """Or until a contract was traded that settles in it: then all of it."""
    log = account(deposit(2, "1", currency="BTC"), deposit(3, "100"))
    assert figures(log, "equity", "margin_available", "withdrawable") == ("50100", "100", "100")
    log.when(secured("BTC", "0.1"))
    assert figures(log, "equity", "margin_available", "withdrawable") == ("50100", "45100", "100")
    inverse = instrument(1, "INV", kind="inverse_perp", quote="USD", settle="BTC")
    other = account(inverse, deposit(2, "1", currency="BTC"), trade(3, "buy", "10", "50000", "INV"))
    assert figures(other, "margin_available", "leverage") == ("49990", "1.0002")


def test_what_is_borrowed_needs_maintenance() -> None:
    """Of coins and of money at the rates of their terms; money needs no initial margin."""
    log = account(secured("BNB", "0", "0.1"), secured("USDT", "0", "0.05"), deposit(2, "1000"))
    log.when(trade(3, "sell", "2", "300", "BNBUSDT"))
    assert figures(log, "margin_maintenance", "margin_initial", "equity") == ("60", "600", "1000")
    log.when(withdrawal(4, "1700"), deposit(5, "10", currency="BNB"))
    assert figures(log, "margin_maintenance", "margin_initial", "equity") == ("5", "0", "2300")


# --- in kind --------------------------------------------------------------------------------------


def test_a_coin_moves_in_kind_by_its_own_name() -> None:
    """At market for net asset value, at cost for the ledger."""
    put = {"symbol": "BTC", "quantity": "2", "cost": "60000", "transfer_id": "t1"}
    log = account(event("PositionTransferredIn", put, 2))
    assert asset(log, "BTC") == ("2", "60000", "100000", "40000")
    gone = {"symbol": "BTCUSDT", "quantity": "1", "transfer_id": "t2"}
    log.when(event("PositionTransferredOut", gone, 3))
    assert asset(log, "BTC") == ("1", "30000", "50000", "20000")
    assert figures(log, "transfers", "flows", "nav", "realized_pnl") == ("30000", "50000", "1", "0")


# --- names ----------------------------------------------------------------------------------------


def test_a_late_definition_turns_a_contract_into_what_it_is() -> None:
    """At the account's next event: the size is held at its cost, and the cash is paid."""
    log = given(opened(1), deposit(2, "1000"), trade(3, "buy", "2", "100", "GOLDUSDT"))
    assert (log.position("GOLDUSDT")["size"], log.state()["cash"]) == ("2", {"USDT": "1000"})
    log.when(pair("GOLD"), mark(1, "110", "GOLDUSDT"))
    seen = log.when(deposit(4, "1"))
    assert "defined_late" in seen.payload("StateUpdated")["flags"]
    assert log.state()["cash"] == {"GOLD": "2", "USDT": "801"}
    assert asset(log, "GOLD") == ("2", "200", "220", "20")
    assert figures(log, "equity", "open_positions") == ("1021", 0)


def test_a_late_definition_as_a_share_pays_for_it() -> None:
    """The position stays, and is paid."""
    log = given(opened(1), deposit(2, "1000"), trade(3, "buy", "2", "100", "ABC"))
    log.when(instrument(1, "ABC", kind="equity", base="ABC"), deposit(4, "1"))
    assert (log.position("ABC")["class"], log.state()["cash"]) == ("share", {"USDT": "801"})
    assert figures(log, "equity") == ("1001",)


def test_capital_that_is_paid_back_in_the_asset_itself_is_more_of_it() -> None:
    """What came costs what it is worth, and the cost falls by as much."""
    log = account(deposit(2, "1", currency="BTC"))
    log.when(event("ReturnOfCapital", {"symbol": "BTC", "amount": "0.1", "currency": "BTC"}, 3))
    assert asset(log, "BTC") == ("1.1", "50000", "55000", "5000")
    assert figures(log, "equity", "flows_cost", "realized_pnl") == ("55000", "50000", "0")


def test_a_pair_is_of_two_assets() -> None:
    """Nothing is exchanged for itself: such a definition is refused, and names the field."""
    log = account()
    seen = log.when(instrument(1, "ODD", kind="spot", base="USDT", quote="USDT"))
    assert (seen.outcome, seen.reason) == ("refused", "invalid_payload")
    assert seen.payload("EventRefused")["field"] == "payload.quote"
    assert "ODD" not in log.books.market.instruments


@pytest.mark.parametrize("kind", ["equity", "spot"])
@pytest.mark.parametrize("quote", ["USDT", "EUR"])
def test_legs_of_a_late_definition_are_one_holding(kind: str, quote: str) -> None:
    """Shares and coins always net: 5 at 10 and 2 sold at 14 are 3 at 10, and 8 realized."""
    log = given(opened(1), deposit(2, "1000"), event("PositionModeChanged", {"mode": "hedge"}, 3))
    for number, side, quantity, price in ((4, "buy", "5", "10"), (5, "sell", "2", "14")):
        leg = "long" if side == "buy" else "short"
        fill = {"side": side, "quantity": quantity, "price": price, "position_side": leg}
        log.when(event("TradeExecuted", {"symbol": "ABC", "commission": "1", **fill}, number))
    log.when(instrument(1, "ABC", kind=kind, base="GOLD", quote=quote, settle=quote))
    log.when(deposit(6, "1"))
    assert figures(log, "realized_pnl", "fees", "flows_cost") == ("8", "2", "1001")
    assert log.state()["cash"]["USDT"] == "977"
    ledger = log.account().ledger
    if kind == "spot":
        assert (log.state()["cash"]["GOLD"], str(ledger.costs["GOLD"].amount)) == ("3", "30")
        return
    (key,) = ledger.positions
    share = ledger.positions[key]
    assert (key, *map(str, (share.size, share.cost, share.fees))) == ("ABC", "3", "30", "2")
    assert str(share.home_cost.amount) == ("0" if quote == "USDT" else "30")
    log.when(trade(7, "sell", "1", "20", "ABC"))
    assert [*log.account().ledger.positions] == ["ABC"]
