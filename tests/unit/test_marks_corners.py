"""What marks do at the corners: gaps, splits, corrections, nothing left, thousands of positions."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.domain import Log, given, restarted
from tests.support.events import (
    SECOND,
    START,
    Sent,
    deposit,
    event,
    event_id,
    instrument,
    mark,
    opened,
    trade,
    withdrawal,
)

from psm.contracts.limits import POSITIONS
from psm.domain.market.slots import MINUTE, phase_of
from psm.domain.publication.log_times import log_time

DAY = 86_400 * SECOND
LONG = "123456789012345678.123456789012345678"
"""Three such numbers have no exact product in 100 digits."""


def held(cash: str = "1000") -> Log:
    """Return a log where acc_001 is long one at 100, all of which is told."""
    log = given(instrument(), opened(1), deposit(2, cash), trade(3, "buy", "1", "100"))
    log.when(mark(1, "100"))
    log.let_pass(130)
    return log


def now(log: Log) -> int:
    return log.messages[log.books.position].time


def silence(log: Log, sent: Sent, step_s: int = 10) -> list[dict[str, Any]]:
    """Send a mark, and again as `psm marks` does until a slow and a middle period are over."""
    began, seen = now(log), log.when(sent.later(now(log) + SECOND)).updates
    for number in range(1, 8):
        seen += log.when(sent.later(began + SECOND + number * step_s * SECOND)).updates
    return seen


def told(updates: list[dict[str, Any]], event_type: str, figure: str) -> list[Any]:
    return [u["payload"][figure] for u in updates if u["event_type"] == event_type]


def test_weekend_moves_the_clock_by_one_middle_period() -> None:
    """Friday's close waits for the first mark of Monday, and is Friday's."""
    log = held()
    friday = now(log) + SECOND
    log.when(mark(2, "101", at=friday))
    clock = log.books.market.clock
    seen = log.when(mark(3, "109", at=friday + 2 * DAY))
    assert log.books.market.clock == clock + 10 * SECOND
    seen_later = silence(log, mark(4, "110"))
    end = log_time(friday // MINUTE * MINUTE + MINUTE)
    closes = [c for u in seen.updates + seen_later for c in u["payload"].get("closed", [])]
    ended = [c for c in closes if c["bucket_end"] == end]
    assert sorted(c.get("equity", c.get("mark_price")) for c in ended) == ["1001", "101"]
    assert log.books.market.closed_through == (friday + 2 * DAY) // MINUTE * MINUTE


def test_silence_closes_the_day() -> None:
    """The last mark before midnight: all that it changed is told, and the day is complete."""
    log = held()
    midnight = (START // DAY + 1) * DAY
    log.when(mark(2, "103", at=midnight - 3 * SECOND))
    seen: list[dict[str, Any]] = []
    for number in range(1, 9):
        at = midnight - 3 * SECOND + number * 10 * SECOND
        seen += log.when(mark(2, "103", at=at)).updates
    closes = [c for u in seen for c in u["payload"].get("closed", [])]
    assert {c["bucket_end"] for c in closes} == {log_time(midnight)}
    assert [c["equity"] for c in closes if "equity" in c] == ["1003"]
    through = log.books.market.closed_through
    assert through is not None
    assert through >= midnight
    assert not log.account().unpublished.anything


def test_leader_ahead_floods_nobody_and_back_stops_nobody() -> None:
    """Of a hundred accounts those of one middle period are published, and later the others."""
    names = [f"acc_{n:03d}" for n in range(100)]
    log = given(instrument(), mark(1, "100"))
    for name in names:
        log.when(opened(1, stream=name), deposit(2, "100000", stream=name))
        log.when(trade(3, "buy", "1", "100", stream=name))
    log.let_pass(130)
    at = now(log) + SECOND
    log.when(mark(2, "101", at=at))
    leap = log.when(mark(3, "102", at=at + 7_200 * SECOND))
    assert 0 < len(leap.payloads("StateUpdated")) < 40, "slots of ten seconds of sixty"
    rest = [log.when(mark(3 + n, "102.5", at=at + n * SECOND)) for n in range(1, 61)]
    found = [p["account_id"] for one in (leap, *rest) for p in one.payloads("StateUpdated")]
    assert sorted(dict.fromkeys(found)) == names
    assert max(len(one.payloads("StateUpdated")) for one in rest) < 12


def test_split_then_silence() -> None:
    """The newest mark sent again is of old units still, and stays corrected."""
    log = given(
        instrument(1, "ACME", kind="equity", base="ACME"), opened(1), deposit(2, "1000"),
        trade(3, "buy", "10", "50", "ACME"), mark(1, "60", "ACME"),
        event("SplitApplied", {"symbol": "ACME", "numerator": "2", "denominator": "1"}, 4),
    )  # fmt: skip
    state = log.state()
    assert (state["equity"], log.position("ACME")["mark_price"]) == ("1100", "30")
    for one in (log, restarted(log)):
        updates = silence(one, mark(1, "60", "ACME"))
        assert one.state()["equity"] == "1100"
        assert one.position("ACME")["mark_price"] == "30"
        assert told(updates, "PositionUpdated", "mark_price") in ([], ["30"])
        assert one.when(mark(2, "30", "ACME")).outcome == "applied"
        assert one.state()["equity"] == "1100", "the same price under a new number is of new units"


def test_bust_of_what_waits() -> None:
    """The position is gone with its last update; its slot finds nothing to tell."""
    log = held()
    log.when(mark(2, "100.5"))
    assert [*log.account().unpublished.positions] == ["BTC-PERP"]
    bust = {"event_id": event_id("TradeExecuted", "acc_001", 3, ""), "reason": "erroneous"}
    seen = log.when(event("TradeBusted", bust, 4))
    assert seen.outcome == "applied", seen.payloads("EventRefused")
    assert seen.payload("PositionUpdated")["side"] == "flat"
    later = log.let_pass(130)
    assert told(later, "PositionUpdated", "side") == []
    assert not log.account().unpublished.anything
    assert log.state()["equity"] == "1000"


@pytest.mark.parametrize(
    ("before", "after"), [("100", "0"), ("0", "100")], ids=["to nothing", "from nothing"]
)
def test_zero_equity_is_away_from_anything(before: str, after: str) -> None:
    """Equity becomes exactly nothing, or something again: told at the middle slot."""
    log = held("1000")
    log.when(withdrawal(4, "900" if before == "100" else "1000"))
    assert log.state()["equity"] == before
    price = {"0": "0", "100": "200"}[after]
    at = now(log) + 1
    seen = log.when(mark(2, price, at=at)).updates
    for n in range(1, 11):
        seen += log.when(mark(n, "1", "OTHER", at=at + n * SECOND)).updates
    assert told(seen, "StateUpdated", "equity")[-1:] == [after]


@pytest.mark.parametrize(
    ("price", "told_at_once"),
    [("110", True), ("109.99", False), ("90", True), ("90.01", False)],
)
def test_one_percent_is_of_the_published_equity(price: str, told_at_once: bool) -> None:
    """Whichever way; less waits for the slow slot."""
    log, count = held(), 0
    while (log.books.market.clock - phase_of("acc_001")) % MINUTE >= SECOND:
        count += 1
        log.when(mark(count, "1", "OTHER", at=now(log) + SECOND))
    at = now(log) + 1
    seen = log.when(mark(2, price, at=at)).updates
    for n in range(1, 11):  # a middle slot, and no slow one
        seen += log.when(mark(count + n, "1", "OTHER", at=at + n * SECOND)).updates
    assert bool(told(seen, "StateUpdated", "equity")) is told_at_once


def test_null_equity_that_becomes_and_ceases() -> None:
    """What does not compute is told within a middle period, and what computes again, too."""
    log = given(
        instrument(multiplier=LONG), opened(1), deposit(2), mark(1, "1"), trade(3, "buy", LONG, "1")
    )
    log.let_pass(130)
    for price, equity in ((LONG, None), ("1", "1000")):
        at, number = now(log), log.books.market.marks["BTC-PERP"].sequence_number + 1
        for one in (restarted(log), log):
            seen = one.when(mark(number, price, at=at + 1)).updates
            for n in range(1, 11):
                nobodys = mark(n + 100 * number, "1", "NOBODYS", at=at + 1 + n * SECOND)
                seen += one.when(nobodys).updates
            assert told(seen, "StateUpdated", "equity") == [equity]


def test_assets_whose_rates_move_are_told_at_the_slow_slot() -> None:
    """Each asset that a rate concerns, over a bridge too; at the middle slot the account alone."""
    log = given(
        instrument(1, "BTCUSDT", kind="spot", base="BTC"),
        instrument(1, "ETHBTC", kind="spot", base="ETH", quote="BTC", settle="BTC"),
        mark(1, "100", "BTCUSDT"), mark(1, "0.1", "ETHBTC"),
        opened(1), deposit(2, "5", currency="BTC"), deposit(3, "70", currency="ETH"),
    )  # fmt: skip
    log.let_pass(130)
    at = now(log)
    seen: list[dict[str, Any]] = []
    for second in range(1, 61):
        price = "110" if second % 2 else "110.01"
        seen += log.when(mark(1 + second, price, "BTCUSDT", at=at + second * SECOND)).updates
    states = [u for u in seen if u["event_type"] == "StateUpdated"]
    assert len(states) == 2, "at a middle slot, and at the slow one"
    assert sorted(told(seen, "PositionUpdated", "symbol")) == ["BTC", "ETH"]
    log.let_pass(130)
    seen = silence(log, mark(2, "0.2", "ETHBTC"))
    assert told(seen, "PositionUpdated", "symbol") == ["ETH"]


def test_lost_rate_is_told() -> None:
    """A price below zero is no rate: the asset and the contract in it are told without one."""
    log = given(
        instrument(1, "BTCUSDT", kind="spot", base="BTC", signed_price=True),
        instrument(1, "BTC-INV", kind="inverse_perp", quote="USD", settle="BTC"),
        mark(1, "100", "BTCUSDT"), mark(1, "100", "BTC-INV"),
        opened(1), deposit(2, "5", currency="BTC"), trade(3, "buy", "1000", "90", "BTC-INV"),
    )  # fmt: skip
    log.let_pass(130)
    for one in (log, restarted(log)):
        seen = silence(one, mark(2, "-1", "BTCUSDT"))
        assert sorted(told(seen, "PositionUpdated", "symbol")) == ["BTC", "BTC-INV"]
        assert told(seen, "PositionUpdated", "unrealized_pnl_account") == [None, None]
        assert "rate_missing" in one.state()["flags"]


def test_the_largest_account() -> None:
    """Its slow slot tells what changed and nothing else, whether it was restarted or not."""
    symbols = [f"S{n:04d}" for n in range(POSITIONS)]
    log = given(opened(1), deposit(2, "100000000"))
    for number, symbol in enumerate(symbols, 3):
        log.take(log.message(trade(number, "buy", "1", "10", symbol).later(START)), "nothing")
    log.let_pass(130)
    for one in (restarted(log), log):
        seen = silence(one, mark(1, "10.5", "S0007"))
        assert told(seen, "PositionUpdated", "symbol") == ["S0007"]
        one.updates.clear()
        for symbol in symbols:
            one.take(one.message(mark(2, "11", symbol, at=now(one))))
        assert one.updates == [], "the clock stood"
        seen = one.let_pass(70)
        assert told(seen, "PositionUpdated", "symbol") == symbols
        assert told(seen, "StateUpdated", "unrealized_pnl")[-1] == str(POSITIONS)
