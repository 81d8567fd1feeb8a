"""Exposure of options: by what they are on and their delta, as far as both are known."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.domain import Log, given, restarted
from tests.support.events import SECOND, Sent, deposit, event, instrument, mark, opened, trade

TERMS = {"underlying": "ABC", "strike": "50", "expiry": "2026-06-19T20:00:00Z"}
USD = {"quote": "USD", "settle": "USD", "base": "ABC"}


def option(symbol: str = "CALL", right: str = "call", **more: Any) -> Sent:
    """Return the definition of an option on 100 ABC at 50 USD."""
    terms = {**TERMS, "right": right}
    return instrument(
        1, symbol, **{**USD, "multiplier": "100", **more}, kind="option", option=terms
    )


def holding(*sent: Sent, currency: str = "USD", **more: Any) -> Log:
    """Return a log where 2 calls at 3 are held and 1 put at 2 is owed, and these messages."""
    return given(
        option(), option("PUT", "put"),
        opened(1, currency=currency, **more), deposit(2, "10000", currency=currency),
        trade(3, "buy", "2", "3", "CALL"), trade(4, "sell", "1", "2", "PUT"), *sent,
    )  # fmt: skip


def exposure(log: Log) -> tuple[Any, Any]:
    state = log.state()
    return state["exposure_gross"], state["exposure_net"]


def both(log: Log, *sent: Sent) -> None:
    """Take messages in with and without a restart before each; all that follows is the same."""
    again = restarted(log)
    for one in sent:
        message = log.message(one)
        assert again.take(message).updates == log.take(message).updates
        assert again.end() == log.end()
        again = restarted(again)


def test_without_a_mark_of_the_underlying_it_is_the_options_own_value() -> None:
    """2 x 100 x 3 held and 1 x 100 x 2 owed."""
    assert exposure(holding()) == ("800", "400")
    assert exposure(holding(mark(1, "4", "CALL", delta="0.5"))) == ("1000", "600")


def test_underlying_exposes_by_delta_or_in_full() -> None:
    """2 x 100 x 60 of the calls, and a put owed is long: -1 x 100 x 60 x -1; then by delta."""
    log = holding(mark(1, "60", "ABC"))
    assert exposure(log) == ("18000", "18000")
    log.when(mark(1, "3", "CALL", delta="0.6"))
    assert exposure(log) == ("13200", "13200")  # 7 200 + 6 000
    log.when(mark(1, "2", "PUT", delta="-0.25"))
    assert exposure(log) == ("8700", "8700")  # 7 200 + 1 500
    log.when(mark(2, "3", "CALL"))  # no delta of the current mark
    assert exposure(log) == ("13500", "13500")
    log.when(mark(2, "50", "ABC"))
    assert exposure(log) == ("11250", "11250")


def test_written_calls_are_short_exposure() -> None:
    """Gross is a magnitude, net follows delta and size."""
    log = given(
        option(), opened(1, currency="USD"), deposit(2, "10000", currency="USD"),
        trade(3, "sell", "1", "3", "CALL"), mark(1, "3", "CALL", delta="0.4"), mark(1, "60", "ABC"),
    )  # fmt: skip
    assert exposure(log) == ("2400", "-2400")


def test_equity_and_margins_are_as_without_the_underlying() -> None:
    """Only exposure and what follows from it are other figures."""
    apart = dict.fromkeys(("exposure_gross", "exposure_net", "leverage", "state_hash"))
    without, log = holding(), holding()
    log.when(mark(1, "60", "ABC"))
    was, now = without.state(), log.state()
    assert {name for name in was if was[name] != now[name]} >= set(apart)
    for name in ("equity", "margin_initial", "margin_maintenance", "unrealized_pnl", "nav"):
        assert was[name] == now[name]
    assert was["ledger_hash"] == now["ledger_hash"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([mark(1, "60", "ABC")], [mark(1, "61", "ABC")]),
        (
            [mark(1, "60", "ABC"), mark(1, "3", "CALL", delta="0.5")],
            [mark(1, "60", "ABC"), mark(1, "3", "CALL", delta="0.6")],
        ),
    ],
)
def test_state_hash_has_what_it_was_exposed_by(one: list[Sent], other: list[Sent]) -> None:
    """Another mark of the underlying, or another delta, is another valuation."""
    first, second = holding(*one), holding(*other)
    assert first.state()["state_hash"] != second.state()["state_hash"]


def test_leverage_limit_warns_by_the_mark_of_the_underlying() -> None:
    """Restarts do not matter, and closing the options ends what it concerns."""
    log = holding(leverage_limit="1")
    both(log, mark(1, "30", "ABC"))
    assert log.state()["flags"] == []
    both(log, mark(2, "60", "ABC"))
    assert log.state()["flags"] == ["leverage_limit_exceeded"]
    both(log, trade(5, "sell", "2", "3", "CALL"), mark(3, "61", "ABC"))
    assert exposure(log) == ("6100", "6100")
    both(log, trade(6, "buy", "1", "2", "PUT"))
    assert exposure(log) == ("0", "0")
    assert "acc_001" not in log.books.holders["ABC"]


def test_mark_of_the_underlying_is_published() -> None:
    """The account is due once its slot has come, although nothing that it holds was marked."""
    log = holding(mark(1, "60", "ABC"))
    log.let_pass(60)
    log.when(mark(2, "66", "ABC"))
    updates = log.let_pass(60)
    told = [u["payload"]["exposure_net"] for u in updates if u["event_type"] == "StateUpdated"]
    assert told == ["19800"]


def test_price_of_the_underlying_is_converted_from_its_own_quote() -> None:
    """ABC in EUR at 50 and 1.2 USD per EUR: 2 x 100 x 60 USD; unrated: the option's own value."""
    log = holding(instrument(1, "ABC", kind="equity", base="ABC", quote="EUR", settle="EUR"))
    both(log, mark(1, "50", "ABC"))
    assert exposure(log) == ("800", "400")
    pair = instrument(1, "EURUSD", kind="spot", base="EUR", quote="USD", settle="USD")
    both(log, pair, mark(1, "1.2", "EURUSD"))
    assert exposure(log) == ("18000", "18000")
    both(log, mark(2, "1.5", "EURUSD"))
    assert exposure(log) == ("22500", "22500")


def test_option_without_a_rate_is_in_no_figure() -> None:
    """An account in yen knows no dollar: nothing to add up."""
    log = holding(mark(1, "60", "ABC"), currency="JPY")
    assert exposure(log) == ("0", "0")
    assert "rate_missing" in log.state()["flags"]


def test_underlying_keeps_exposing_under_another_name() -> None:
    """Its last mark goes along, marks of the new symbol count, and of the old one none."""
    log = holding(mark(1, "60", "ABC"))
    both(log, event("SymbolChanged", {"symbol": "ABC", "new_symbol": "XYZ"}, 5))
    assert exposure(log) == ("18000", "18000")
    both(log, mark(1, "50", "XYZ"), mark(2, "70", "ABC"))
    assert exposure(log) == ("15000", "15000")
    both(log, event("SymbolChanged", {"symbol": "ABC", "new_symbol": "ABC"}, 6))
    assert exposure(log) == ("21000", "21000")


def test_split_of_the_underlying_divides_its_mark() -> None:
    """Two for one: the option's terms are the venue's to adjust, the mark is of old units."""
    log = holding(mark(1, "60", "ABC"))
    said = {"symbol": "ABC", "numerator": "2", "denominator": "1"}
    both(log, event("SplitApplied", said, 5))
    assert exposure(log) == ("9000", "9000")
    both(log, mark(2, "31", "ABC"))
    assert exposure(log) == ("9300", "9300")


def test_bust_is_as_without_the_fill() -> None:
    """Warnings by the leverage limit come of the marks of the underlying, read again."""
    marks = [mark(1, "30", "ABC"), mark(2, "66", "ABC"), mark(3, "3", "CALL", delta="0.5")]
    log = holding(leverage_limit="1")
    log.when(trade(5, "buy", "1", "3", "CALL", fill_id="f5"), *marks)
    log.when(event("TradeBusted", {"fill_id": "f5", "reason": "error"}, 6))
    without = holding(leverage_limit="1")
    without.when(*marks)
    assert exposure(log) == exposure(without)
    ours, theirs = log.account().valuation, without.account().valuation
    assert ours.warned == theirs.warned == ("leverage_limit",)
    assert ours.totals.marks_json() == theirs.totals.marks_json()
    both(log, mark(3, "40", "ABC", at=log.messages[max(log.messages)].time + SECOND))
