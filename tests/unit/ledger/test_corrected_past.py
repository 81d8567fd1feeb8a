"""Corrections restore every figure: as if the fill had never been in the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.support.domain import Log, given
from tests.support.events import (
    SYMBOL,
    Sent,
    deposit,
    event,
    event_id,
    instrument,
    mark,
    opened,
    trade,
)

from psm.domain.folding import rebooking
from psm.domain.messages import LogMessage, Outcome

SHARE = {"kind": "equity", "base": "ABC", "quote": "USD", "settle": "USD"}
INVERSE = {"kind": "inverse_perp", "quote": "USD", "settle": "BTC"}
TIERS = [{"notional_floor": "0", "maintenance_rate": "0.1"}]


def bust(number: int, **named: str) -> Sent:
    return event("TradeBusted", {**named, "reason": "erroneous"}, number)


def amend(number: int, **named: str) -> Sent:
    return event("TradeAmended", {**named, "reason": "wrong"}, number)


def money(log: Log) -> dict[str, Any]:
    """Return the figures of an account that are money, and its warnings."""
    state = log.state()
    names = (
        "cash", "equity", "unrealized_pnl", "realized_pnl", "fees", "flows", "margin_initial",
        "margin_maintenance", "peak_equity", "drawdown", "max_drawdown", "nav", "nav_epoch",
        "open_positions", "positions", "orders",
    )  # fmt: skip
    of_the_log = ("mark_log_sequence", "mark_time", "cycle_opened_at")
    for position in state["positions"].values():
        for name in of_the_log:
            del position[name]
    return {**{n: state[n] for n in names}, "warned": log.account().valuation.warned}


def shares() -> Log:
    return given(instrument(1, "ABC", **SHARE), opened(1, currency="USD"), deposit(2, "10000"))


def test_a_busted_fill_leaves_no_peak_and_no_drawdown() -> None:
    """A buy at 10 of what is worth 100 made equity 19 000 for a minute: it never was."""
    log = shares()
    log.when(mark(1, "100", "ABC"), trade(3, "buy", "100", "10", "ABC", fill_id="f"))
    assert (log.state()["peak_equity"], log.state()["equity"]) == ("19000", "19000")
    seen = log.when(bust(4, fill_id="f"))
    assert seen.outcome == "applied"
    state = log.state()
    assert (state["equity"], state["peak_equity"], state["drawdown"]) == ("10000", "10000", "0")
    assert (state["nav"], state["max_drawdown"], state["flags"]) == ("1", "0", [])


@pytest.mark.parametrize(
    "between",
    [
        [mark(2, "150", "ABC"), mark(3, "90", "ABC")],
        [mark(2, "150", "ABC"), deposit(4, "5000"), mark(3, "20", "ABC")],
        [trade(4, "sell", "60", "130", "ABC"), mark(2, "300", "ABC")],
        [event("SplitApplied", {"symbol": "ABC", "ratio": "2"}, 4), mark(2, "70", "ABC")],
        [event("CashWithdrawn", {"amount": "9000"}, 4), mark(2, "400", "ABC")],
        [mark(2, "0", "ABC"), mark(3, "250", "ABC"), mark(4, "1", "ABC")],
    ],
)
def test_every_mark_and_event_since_is_looked_at_again(between: list[Sent]) -> None:
    """Peak, deepest fall, nav and flows are those of the log without the fill."""
    first = trade(3, "buy", "10", "100", "ABC", fill_id="keep")
    full, without = shares(), shares()
    full.when(mark(1, "100", "ABC"), trade(3, "buy", "50", "120", "ABC", fill_id="f"))
    number = 4
    for sent in between:
        full.when(sent)
        number += sent.subject.startswith("trades.")
    full.when(trade(number, "buy", "10", "100", "ABC", fill_id="keep"))
    full.when(bust(number + 1, fill_id="f"))
    without.when(mark(1, "100", "ABC"))
    place = 3
    for sent in between:
        if sent.subject.startswith("trades."):
            sent = renumbered(sent, place)
            place += 1
        without.when(sent)
    without.when(renumbered(first, place))
    assert money(full) == money(without)


def renumbered(sent: Sent, number: int) -> Sent:
    """Return the same event at another place."""
    body = msgspec.json.decode(sent.data)
    return event(body["event_type"], body["payload"], number)


def test_a_bust_is_not_refused_by_an_event_that_does_not_fit_any_more() -> None:
    """A split while flat was fine; in the corrected past an inverse position was open there."""
    log = given(instrument(1, "INV", **INVERSE), opened(1, currency="BTC"), deposit(2, "1"))
    log.when(trade(3, "buy", "10", "50000", "INV", fill_id="a"))
    log.when(trade(4, "sell", "10", "40000", "INV", fill_id="b"))
    log.when(event("SplitApplied", {"symbol": "INV", "ratio": "2"}, 5))
    seen = log.when(bust(6, fill_id="b"))
    assert seen.outcome == "applied"
    assert seen.payload("StateUpdated")["flags"] == ["void_in_correction"]
    assert (log.state()["cash"], log.state()["realized_pnl"]) == ({"BTC": "1"}, "0")
    assert log.position("INV")["size"] == "10"
    # It is decided anew: without the first fill too, the account is flat and the split applies.
    seen = log.when(bust(7, fill_id="a"))
    assert seen.payload("StateUpdated")["flags"] == []


def test_warnings_are_those_of_the_corrected_past() -> None:
    """A level that a busted fill crossed is armed again; one that it hid is warned of now."""
    log = given(instrument(margin_tiers=TIERS), opened(1), deposit(2))
    seen = log.when(trade(3, "buy", "60", "100", fill_id="f"))
    assert [w["level"] for w in seen.payloads("MarginWarning")] == ["0.5"]
    log.when(bust(4, fill_id="f"))
    assert log.account().valuation.warned == ()
    seen = log.when(trade(5, "buy", "60", "100", fill_id="g"))
    assert [w["level"] for w in seen.payloads("MarginWarning")] == ["0.5"]
    log.when(trade(6, "sell", "50", "100", fill_id="h"))
    assert log.account().valuation.warned == ()
    seen = log.when(bust(7, fill_id="h"))
    assert [w["level"] for w in seen.payloads("MarginWarning")] == ["0.5"]
    assert log.when(mark(1, "100")).payloads("MarginWarning") == []


def test_beyond_the_limit_of_marks_the_peak_stays_and_is_flagged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The ledger is corrected all the same."""
    log = shares()
    log.when(mark(1, "100", "ABC"), trade(3, "buy", "100", "10", "ABC", fill_id="f"))
    monkeypatch.setattr(rebooking, "MARKS_REFOLDED_MAX", 0)
    seen = log.when(bust(4, fill_id="f"))
    state = log.state()
    assert (state["equity"], state["peak_equity"]) == ("10000", "19000")
    assert seen.payload("StateUpdated")["flags"] == ["peak_not_restated"]
    monkeypatch.setattr(rebooking, "MARKS_REFOLDED_MAX", 1)
    log.when(trade(5, "buy", "1", "100", "ABC", fill_id="g"))
    assert log.when(bust(6, fill_id="g")).payload("StateUpdated")["flags"] == []
    assert log.state()["peak_equity"] == "10000"


def test_a_reset_peak_stays_reset() -> None:
    """In the corrected past it is at least the nav of then."""
    log = shares()
    log.when(mark(1, "100", "ABC"), trade(3, "buy", "10", "100", "ABC", fill_id="f"))
    log.when(mark(2, "900", "ABC"), mark(3, "100", "ABC"))
    said = {"peak_nav": "1.1", "max_drawdown": "0.2", "actor": "a", "reason": "r"}
    log.when(event("PeakReset", said, 4))
    assert (log.state()["peak_equity"], log.state()["max_drawdown"]) == ("11000", "0.2")
    log.when(bust(5, fill_id="f"))
    assert (log.state()["peak_equity"], log.state()["max_drawdown"]) == ("11000", "0.2")


def test_several_fills_of_one_id_are_told_apart() -> None:
    """By symbol, side or order; what is still ambiguous names the candidates."""
    log = given(opened(1), deposit(2))
    log.when(trade(3, "buy", "1", "10", fill_id="t", order_id="o1"))
    log.when(trade(4, "sell", "1", "11", fill_id="t", order_id="o2"))
    log.when(trade(5, "buy", "2", "12", fill_id="t", order_id="o3"))
    seen = log.when(bust(6, fill_id="t"))
    assert (seen.outcome, seen.reason) == ("refused", "ambiguous_target")
    detail = seen.payload("EventRefused")["detail"]
    assert all(event_id("TradeExecuted", "acc_001", n, "") in detail for n in (3, 4, 5))
    assert log.when(bust(7, fill_id="t", side="buy")).reason == "ambiguous_target"
    assert log.when(bust(8, fill_id="t", side="sell")).outcome == "applied"
    assert log.position()["size"] == "3"
    assert log.when(bust(9, fill_id="t", side="sell")).reason == "unknown_trade"
    assert log.when(bust(10, fill_id="t", order_id="o3")).outcome == "applied"
    assert log.position()["size"] == "1"
    # Of three fills two are busted: the name is not ambiguous any more.
    assert log.when(bust(11, fill_id="t", symbol=SYMBOL)).outcome == "applied"
    assert log.state()["open_positions"] == 0


def test_an_amendment_may_change_side_and_costs() -> None:
    """What was reported with the wrong side, fee or fee currency."""
    log = given(opened(1), deposit(2), trade(3, "buy", "2", "100", fill_id="f", commission="5"))
    log.when(amend(4, fill_id="f", side="sell", commission="1"))
    assert (log.position()["side"], log.state()["cash"]) == ("short", {"USDT": "999"})
    log.when(amend(5, fill_id="f", commission_currency="BNB", liquidation_fee="3"))
    state = log.state()
    assert state["cash"] == {"BNB": "-1", "USDT": "997"}
    assert (state["fees"], state["liquidation_fees"]) == ("0", "3")


def test_a_correction_of_the_first_event_keeps_the_stream_going() -> None:
    """The account is then opened by the event after it, in the currency that one names."""
    log = given(trade(1, "buy", "1", "100", fill_id="f"), deposit(2, "5", currency="EUR"))
    log.when(bust(3, fill_id="f"))
    assert (log.state()["currency"], log.state()["equity"]) == ("EUR", "5")
    assert log.when(deposit(4, "5")).outcome == "applied"


def test_a_symbol_that_was_never_held_is_known_in_the_corrected_past() -> None:
    """A dividend of shares that are gone is in their currency, whatever is corrected."""
    log = given(opened(1), deposit(2), trade(3, "buy", "1", "100", fill_id="f"))
    log.when(event("DividendPaid", {"symbol": "ABC", "amount": "3"}, 4))
    log.when(instrument(1, "ABC", **SHARE))
    log.when(event("DividendPaid", {"symbol": "ABC", "amount": "5"}, 5))
    log.when(bust(6, fill_id="f"))
    assert log.state()["cash"] == {"USD": "5", "USDT": "1003"}


def reverse(number: int, event_type: str, of: int) -> Sent:
    """Return the reversal of the event at a place."""
    named = event_id(event_type, "acc_001", of, "")
    said = {"event_id": named.upper(), "reason": "wrong", "actor": "ann"}
    return event("EventReversed", said, number)


@pytest.mark.parametrize(
    ("event_type", "payload"),
    [
        ("DividendPaid", {"symbol": "ABC", "amount": "500"}),
        ("FeeCharged", {"amount": "70", "symbol": "ABC"}),
        ("InterestAccrued", {"amount": "-5"}),
        ("TaxCharged", {"amount": "9", "kind": "x"}),
        ("CashAdjusted", {"amount": "9999", "reason": "r", "actor": "a"}),
        ("SplitApplied", {"symbol": "ABC", "numerator": "7", "denominator": "3"}),
        ("StockDividend", {"symbol": "ABC", "numerator": "1", "denominator": "3"}),
        ("ReturnOfCapital", {"symbol": "ABC", "amount": "40"}),
        ("PositionSettled", {"symbol": "ABC", "settlement_price": "130", "kind": "expiry"}),
        ("PositionAdjusted", {
            "symbol": "ABC", "quantity": "9", "price": "80", "reason": "r", "actor": "a",
        }),
    ],
)  # fmt: skip
def test_another_event_is_taken_back_as_if_it_had_never_been(
    event_type: str, payload: dict[str, str]
) -> None:
    """Every figure, at every mark since; twice is too often."""
    full, without = shares(), shares()
    for log, number in ((full, 4), (without, 3)):
        log.when(mark(1, "100", "ABC"), trade(3, "buy", "10", "100", "ABC", fill_id="f"))
        if log is full:
            log.when(event(event_type, payload, 4))
        log.when(mark(2, "170", "ABC"), trade(number + 1, "sell", "3", "90", "ABC"))
        log.when(mark(3, "120", "ABC"))
    seen = full.when(reverse(6, event_type, 4))
    assert (seen.outcome, seen.result.placements[-1].flags) == ("applied", ())
    assert money(full) == money(without)
    again = full.when(reverse(7, event_type, 4))
    assert (again.outcome, again.reason) == ("refused", "unknown_event")


def test_trades_and_flows_are_not_taken_back_by_it() -> None:
    """They have corrections of their own; an unknown id is no event."""
    log = shares()
    log.when(trade(3, "buy", "10", "100", "ABC", fill_id="f"))
    assert log.when(reverse(4, "TradeExecuted", 3)).reason == "invalid_payload"
    assert log.when(reverse(5, "CashDeposited", 2)).reason == "invalid_payload"
    assert log.when(reverse(6, "FeeCharged", 3)).reason == "unknown_event"


def test_the_quote_of_what_was_adjusted_is_rated_again() -> None:
    """Bitcoins were added at a price in euros, of which the account has none."""
    pairs = [
        instrument(1, f"{base}{quote}", kind="spot", base=base, quote=quote, settle=quote)
        for base, quote in (("BTC", "EUR"), ("EUR", "USDT"))
    ]
    log = given(*pairs, mark(1, "1.1", "EURUSDT"), opened(1), deposit(2))
    said = {"symbol": "BTCEUR", "quantity": "2", "price": "100", "reason": "r", "actor": "a"}
    log.when(event("PositionAdjusted", said, 3), trade(4, "buy", "1", "10", fill_id="f"))
    before = log.state()["assets"]["BTC"]
    assert before["cost"] == "220"
    assert log.when(bust(5, fill_id="f")).outcome == "applied"
    assert log.state()["assets"]["BTC"] == before
    assert log.state()["adjustments"] == "220"


def test_a_split_of_what_is_not_held_counts_after_a_correction_too() -> None:
    """Its mark is of old units until the next one, whoever buys then."""
    log = shares()
    log.when(instrument(1, "XYZ", **{**SHARE, "base": "XYZ"}), mark(1, "90", "XYZ"))
    log.when(trade(3, "buy", "1", "10", "ABC", fill_id="f"))
    log.when(event("SplitApplied", {"symbol": "XYZ", "numerator": "3", "denominator": "1"}, 4))
    log.when(bust(5, fill_id="f"), trade(6, "buy", "1", "30", "XYZ"))
    assert (log.position("XYZ")["mark_price"], log.state()["equity"]) == ("30", "10000")


@pytest.mark.parametrize("parked", [False, True])
def test_an_amendment_may_name_a_coin_that_the_account_never_had(parked: bool) -> None:
    """Its rate is that of then: the log is asked for it, also by a correction that waited."""
    bnb = instrument(1, "BNBUSDT", kind="spot", base="BNB", quote="USDT", settle="USDT")
    log = given(bnb, mark(1, "300", "BNBUSDT"), opened(1), deposit(2, "1000"))
    log.when(trade(3, "buy", "1", "100", fill_id="f", commission="1"), mark(2, "500", "BNBUSDT"))
    said = {"fill_id": "f", "reason": "r", "commission_currency": "BNB"}
    if parked:
        log.when(event("TradeAmended", said, 5))
    log.when(deposit(4, "1"))
    if not parked:
        log.when(event("TradeAmended", said, 5))
    state = log.state()
    assert (state["sequence_number"], state["cash"]) == (5, {"BNB": "-1", "USDT": "1001"})
    assert (state["fees"], state["assets"]["BNB"]["cost"]) == ("300", "-300")
    log.when(event("TradeBusted", {"fill_id": "f", "reason": "r"}, 6))
    assert (log.state()["fees"], log.state()["cash"]) == ("0", {"USDT": "1001"})


def test_a_rate_that_is_out_of_reach_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the marks that a correction reads a coin of then is worth nothing known."""
    bnb = instrument(1, "BNBUSDT", kind="spot", base="BNB", quote="USDT", settle="USDT")
    log = given(bnb, mark(1, "300", "BNBUSDT"), opened(1), deposit(2, "1000"))
    log.when(trade(3, "buy", "1", "100", fill_id="f", commission="1"))
    monkeypatch.setattr(rebooking, "MARKS_REFOLDED_MAX", 0)
    said = {"fill_id": "f", "reason": "r", "commission_currency": "BNB"}
    seen = log.when(event("TradeAmended", said, 4))
    assert seen.result.placements[-1].flags == ("peak_not_restated", "fill_out_of_reach")
    assert log.state()["fees"] == "0"


def test_cost_of_a_correction_follows_the_length_of_the_past(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each message of the stream is looked at so many times, not so many times for each other."""
    looked = 0
    stream_id: Callable[[LogMessage], str | None] = vars(LogMessage)["stream_id"].fget

    def counted(message: LogMessage) -> str | None:
        nonlocal looked
        looked += 1
        return stream_id(message)

    monkeypatch.setattr(LogMessage, "stream_id", property(counted))

    def looks(length: int) -> int:
        nonlocal looked
        log = Log()
        log.when(trade(1, "buy", "1", "100", fill_id="f"))
        log.when(*(deposit(number, "1") for number in range(2, length)))
        looked = 0
        assert log.when(bust(length, fill_id="f")).outcome is Outcome.APPLIED
        return looked

    assert looks(80) < 3 * looks(40)
