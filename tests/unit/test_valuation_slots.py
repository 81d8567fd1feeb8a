"""Slots of the valuation clock: what of an account is published when, and which minutes end."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from tests.support.domain import Log, given
from tests.support.events import (
    SECOND,
    START,
    deposit,
    instrument,
    mark,
    opened,
    trade,
    withdrawal,
)

from psm.contracts.errors import ConfigError
from psm.contracts.subjects import fnv1a
from psm.domain.market.slots import Agenda, ValuationSlots, slots_of
from psm.domain.publication.log_times import log_time

TIER = [{"notional_floor": "0", "maintenance_rate": "0.25"}]
MINUTE_S = 60


def held(cash: str = "1000") -> Log:
    """Return a log where acc_001 is long one at 100, and its first mark came."""
    return given(
        instrument(margin_tiers=TIER), opened(1), deposit(2, cash), trade(3, "buy", "1", "100"),
        mark(1, "100", at=START),
    )  # fmt: skip


def run(log: Log, price: str, seconds: int, first: int = 2) -> list[dict[str, Any]]:
    """Send marks at one price, then another, a second apart; return updates by a mark."""
    seen: list[dict[str, Any]] = []
    for second in range(1, seconds + 1):
        wiggled = f"{price}.{second % 2}" if second % 2 else price
        sent = mark(first + second - 1, wiggled, at=START + second * SECOND)
        seen += [{**u, "second": second} for u in log.when(sent).updates]
    return seen


def seconds_of(updates: list[dict[str, Any]], event_type: str) -> list[int]:
    return [u["second"] for u in updates if u["event_type"] == event_type]


def test_small_changes_come_once_a_minute_of_the_clock() -> None:
    """Below one percent of the equity the slow slot alone publishes, positions too."""
    updates = run(held(), "101", 180)
    states = seconds_of(updates, "StateUpdated")
    assert len(states) == 3
    assert [b - a for a, b in pairwise(states)] == [60, 60]
    assert seconds_of(updates, "PositionUpdated") == states
    phase = fnv1a("slot.acc_001") % 60_000 / 1000
    assert states[0] - 1 < phase <= states[0]


def test_large_change_comes_at_the_middle_slot_without_positions() -> None:
    """One percent of the published equity is enough; the position keeps its slow slot."""
    updates = run(held(), "115", 20)
    states = seconds_of(updates, "StateUpdated")
    assert len(states) == 1, "and once published it is not away any more"
    assert states[0] <= 10
    assert len(seconds_of(updates, "MarginUpdated")) == 1


def test_near_account_comes_each_second() -> None:
    """Between half way and liquidation each change is at most one second old."""
    log = held("60")
    updates = run(log, "75", 30)  # 18.75 of 35
    assert log.state()["flags"] == []
    assert seconds_of(updates, "StateUpdated") == [*range(1, 31)]
    assert len(seconds_of(updates, "PositionUpdated")) <= 1


@pytest.mark.parametrize(("cash", "price"), [("0.1", "100"), ("100", "0.1")])
def test_equity_that_becomes_nothing_or_something(cash: str, price: str) -> None:
    """Of a published equity of zero any change is far; from one to nothing it is, too."""
    log = given(instrument(), opened(1), deposit(2, cash), trade(3, "buy", "1", "100"))
    log.when(withdrawal(4, cash), mark(1, "100", at=START))
    assert log.state()["equity"] == "0"
    assert len(seconds_of(run(log, price, 11), "StateUpdated")) >= 1


def test_leader_two_hours_ahead_and_back() -> None:
    """A leap moves the clock by one middle period, and the way back does not stop it."""
    log = held()
    market = log.books.market
    log.when(mark(2, "101", at=START + 7200 * SECOND))
    assert market.clock == 10 * SECOND
    log.when(mark(3, "102", at=START + SECOND))
    assert market.clock == 10 * SECOND
    log.when(mark(4, "103", at=START + 2 * SECOND))
    assert market.clock == 11 * SECOND


def test_stale_mark_moves_the_clock_alone() -> None:
    """Silence is filled with the newest mark again: everything that waits is published."""
    log = held()
    log.when(mark(2, "104", at=START + SECOND))
    seen = [log.when(mark(2, "104", at=START + n * 10 * SECOND)) for n in range(1, 8)]
    assert {one.outcome.value for one in seen} == {"stale"}
    states = [p for one in seen for p in one.payloads("StateUpdated")]
    assert [p["equity"] for p in states] == ["1004"]
    assert [p["mark_price"] for one in seen for p in one.payloads("PositionUpdated")] == ["104"]


def test_warning_publishes_margin_and_state_at_once() -> None:
    """Whatever the clock says."""
    seen = held("60").when(mark(2, "75", at=START + 1))
    assert seen.types == ["MarginUpdated", "MarginWarning", "StateUpdated"]
    assert seen.payload("StateUpdated")["cause"] == "mark"


# --- closes --------------------------------------------------------------------------------------


def closes(updates: list[dict[str, Any]], event_type: str) -> list[tuple[str, Any]]:
    """Return (end, figure) of the minutes that updates tell."""
    figure = "equity" if event_type == "StateUpdated" else "mark_price"
    told = [u["payload"].get("closed", ()) for u in updates if u["event_type"] == event_type]
    return [(close["bucket_end"], close[figure]) for one in told for close in one]


def test_minute_closes_with_its_last_mark() -> None:
    """The next touch notes it, the next publication tells it, the position's with its own."""
    log = held()
    first = START // (MINUTE_S * SECOND) + 1
    updates = run(log, "103", 59 + 120)
    ends = [log_time((first + n) * MINUTE_S * SECOND) for n in range(3)]
    account, position = closes(updates, "StateUpdated"), closes(updates, "PositionUpdated")
    assert account[:2] == [(ends[0], "1003.1"), (ends[1], "1003.1")]
    assert position[:2] == [(ends[0], "103.1"), (ends[1], "103.1")]


def test_silence_closes_the_minute() -> None:
    """An account that nothing touches any more tells its close at its slot."""
    log = held()
    log.when(mark(2, "104", at=START + SECOND))
    updates = log.let_pass(130)
    ((end, equity),) = closes(updates, "StateUpdated")
    assert (end, equity) == (log_time(START // (60 * SECOND) * 60 * SECOND + 60 * SECOND), "1004")
    assert closes(updates, "PositionUpdated") == [(end, "104")]
    assert not log.account().unpublished.anything
    assert log.let_pass(300) == [], "and no more"
    log.when(mark(3, "104", at=None))
    assert log.let_pass(130) == [], "the same price is no change"


def test_account_without_positions_tells_its_close_with_its_event() -> None:
    """Only an own event may change it: it waits for no mark, and a later event counts."""
    log = given(opened(1))
    seen = log.when(deposit(2, "10")), log.when(deposit(3, "5"))
    ends = [one.payload("StateUpdated")["closed"][0] for one in seen]
    assert ends[0]["bucket_end"] == ends[1]["bucket_end"]
    assert [end["equity"] for end in ends] == ["10", "15"]
    assert ends[1] == {
        "bucket_end": ends[0]["bucket_end"],
        "equity": "15",
        "nav": "1",
        "flows": "15",
        "max_drawdown": "0",
    }


def test_event_past_the_minute_tells_the_close_before_it() -> None:
    """The close is what the account was before the event."""
    log = held()
    seen = log.when(deposit(4, "7").later(START + 61 * SECOND))
    (close,) = seen.payload("StateUpdated")["closed"]
    assert (close["equity"], seen.payload("StateUpdated")["equity"]) == ("1000", "1007")


def test_minutes_are_complete_one_slow_period_after_the_first_mark_past_them() -> None:
    """The end of a long silence completes all minutes in it at once."""
    log = held()
    market = log.books.market
    assert market.closed_through is None
    log.let_pass(60)
    assert market.closed_through == START // (60 * SECOND) * 60 * SECOND
    gap = START + 3600 * SECOND
    log.when(mark(2, "101", at=gap))
    log.when(*(mark(2, "101", at=gap + n * 10 * SECOND) for n in range(1, 6)))
    assert market.closed_through < gap
    log.when(mark(2, "101", at=gap + 60 * SECOND))
    assert market.closed_through == gap // (60 * SECOND) * 60 * SECOND


# --- the slots themselves ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "1,2,3", "1000,1500,60000,100", "1000,10000,15000,1", "0,1,1,1", "1,1,1,-1", "a,b,c,d"],
)
def test_slots_that_are_none(text: str) -> None:
    """Each period divides the next; the error shows what is right."""
    with pytest.raises(ConfigError, match="valuation"):
        slots_of(text)


def test_slots_come_back_from_their_text() -> None:
    """As a bundle's manifest and the command line have them."""
    slots = ValuationSlots(fast_ms=5, mid_ms=10, slow_ms=40, move_bps=3)
    assert slots_of(str(slots)) == slots
    assert str(ValuationSlots()) == "1000,10000,60000,100"


def test_agenda_gives_and_counts_what_is_due() -> None:
    """In the order of the slots; what waits for later ones is not looked at."""
    agenda = Agenda()
    for slot in (30, 10, 20, 10, 99):
        agenda.put(slot, f"at_{slot}")
    assert [agenda.count(clock) for clock in (9, 10, 20, 98, 99)] == [0, 2, 3, 4, 5]
    assert agenda.take(20) == [(10, "at_10"), (10, "at_10"), (20, "at_20")]
    assert (agenda.size, agenda.count(99), agenda.take(29)) == (2, 2, [])
