"""Gaps: what is parked, what is held behind an overflow, and how both are released."""

from __future__ import annotations

import pytest
from tests.support.domain import Log, given
from tests.support.events import SECOND, START, Sent, deposit, raw, rules, trade, unknown

from psm.contracts.errors import InvariantError
from psm.contracts.subjects import stored_trades
from psm.domain.delivery.parked import PARKED_MAX
from psm.domain.fold import fold
from psm.domain.messages import NeedHistory, Outcome, UnknownRulesError
from psm.domain.snapshot import dump_account


def ledger_of(*sent: Sent) -> dict[str, str]:
    """Return the ledger hashes after these messages in a log of their own."""
    return given(*sent).hashes()


def test_gap_is_announced_once_and_closing_it_resumes() -> None:
    """The first parked event blocks the stream's subscribers, the missing number releases all."""
    log = given(deposit(1))
    seen = log.when(deposit(3, "30"))
    assert (seen.outcome, seen.reason) == (Outcome.PARKED, "sequence_gap")
    blocked = seen.payload("StreamBlocked")
    assert (blocked["reason"], blocked["expected_sequence"]) == ("sequence_gap", 2)
    assert log.state()["status"] == "gap"
    assert log.when(deposit(4, "40")).updates == []
    seen = log.when(deposit(2, "20"))
    assert seen.outcome is Outcome.APPLIED
    states = seen.payloads("StateUpdated")
    assert [s["sequence_number"] for s in states] == [2, 3, 4]
    assert seen.types[-1] == "StreamResumed"
    resumed = seen.payload("StreamResumed")
    assert (resumed["from_sequence"], resumed["to_sequence"]) == (2, 4)
    assert log.state()["cash"] == {"USDT": "1090"}


def test_released_events_belong_to_the_releasing_message() -> None:
    """Log sequence and time are the releasing message's; the original place is named."""
    log = given(deposit(1), deposit(3), deposit(4))
    seen = log.when(deposit(2))
    states = seen.payloads("StateUpdated")
    assert [s["log_sequence"] for s in states] == [4, 4, 4]
    assert [s.get("event_log_sequence") for s in states] == [None, 2, 3]
    causes = [u["causation_id"] for u in seen.updates if u["event_type"] == "StateUpdated"]
    assert len(dict.fromkeys(causes)) == 3
    assert len(dict.fromkeys(u["event_id"] for u in seen.updates)) == len(seen.updates)
    resumed = seen.updates[-1]
    assert (resumed["event_type"], resumed["causation_id"]) == ("StreamResumed", causes[0])


def test_ledger_after_a_release_is_that_of_a_stream_without_a_gap() -> None:
    """Each released place has the ledger hash it would have had in order."""
    events = [deposit(1), trade(2, "buy", "1", "10"), trade(3, "sell", "3", "12"), deposit(4)]
    in_order = [given(*events[:n]).state()["ledger_hash"] for n in range(2, 5)]
    log = given(events[0], events[3], events[2])
    states = log.when(events[1]).payloads("StateUpdated")
    assert [s["ledger_hash"] for s in states] == in_order


def test_parked_event_is_known() -> None:
    """A parked event repeated is a duplicate; another one in its place or with its id conflicts."""
    log = given(deposit(1), deposit(3))
    assert log.when(deposit(3)).outcome is Outcome.DUPLICATE
    assert log.when(deposit(3, salt="x")).reason == "sequence_conflict"
    same_id = deposit(4, event_id=deposit_id(3))
    assert log.when(same_id).reason == "event_id_conflict"
    log.when(deposit(2))
    assert log.account().delivery.version == 3


def deposit_id(number: int) -> str:
    """Return the event id of `deposit(number)`."""
    from tests.support.events import ACCOUNT, event_id

    return event_id("CashDeposited", ACCOUNT, number, "")


def test_first_event_may_be_parked() -> None:
    """A stream may start with a gap; the account exists without a currency."""
    log = given(deposit(2))
    assert (log.state()["status"], log.state()["currency"]) == ("gap", None)
    log.when(deposit(1))
    assert log.state()["cash"] == {"USDT": "2000"}


def test_gap_that_closes_in_part_stays_a_gap() -> None:
    """Numbers still missing keep the stream in a gap; nothing is announced twice."""
    log = given(deposit(1), deposit(3), deposit(5))
    seen = log.when(deposit(2))
    assert "StreamResumed" not in seen.types
    assert "StreamBlocked" not in seen.types
    assert (log.account().delivery.version, log.state()["status"]) == (3, "gap")
    assert log.when(deposit(4)).types[-1] == "StreamResumed"


def test_refused_in_the_middle_of_a_release_keeps_its_place() -> None:
    """A refused event among the released ones does not stop those behind it."""
    log = given(deposit(1), deposit(3, "-1"), deposit(4))
    seen = log.when(deposit(2))
    assert [s["sequence_number"] for s in seen.payloads("StateUpdated")] == [2, 3, 4]
    refused = seen.payload("EventRefused")
    assert (refused["sequence_number"], refused["event_log_sequence"]) == (3, 2)
    assert log.state()["cash"] == {"USDT": "3000"}


def test_release_that_hits_an_unknown_type_blocks_there() -> None:
    """What follows the unknown event stays parked; the stream is blocked, not resumed."""
    log = given(deposit(1), unknown(3), deposit(4))
    seen = log.when(deposit(2))
    assert seen.outcome is Outcome.APPLIED
    blocked = seen.payload("StreamBlocked")
    assert (blocked["reason"], blocked["expected_sequence"]) == ("unknown_event_type", 3)
    assert blocked["event_log_sequence"] == 2
    assert "StreamResumed" not in seen.types
    account = log.account()
    assert (account.delivery.version, list(account.delivery.parked)) == (2, [4])
    assert account.delivery.blocked is not None
    assert account.delivery.blocked.log_sequence == 2


def test_history_is_asked_for_before_anything_changes() -> None:
    """`NeedHistory` names the range, and the books are as they were."""
    log = given(deposit(1), deposit(3), deposit(4))
    before = dump_account(log.account(), 0, b"")
    message = log.message(deposit(2))
    need = fold(log.books, message)
    assert need == NeedHistory(stream_id="acc_001", from_log_sequence=2, to_log_sequence=3)
    assert dump_account(log.account(), 0, b"") == before


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_damaged_history_changes_nothing(damage: str) -> None:
    """A released message that is missing or has other bytes stops the partition, unchanged."""
    log = given(deposit(1), deposit(3), deposit(4))
    before = dump_account(log.account(), 0, b"")
    message = log.message(deposit(2))
    history = dict(log.messages)
    if damage == "missing":
        del history[3]
    else:
        history[3] = history[2]
    with pytest.raises(InvariantError, match="waiting message 3"):
        fold(log.books, message, history)
    assert dump_account(log.account(), 0, b"") == before


# --- overflow -----------------------------------------------------------------------------------


def full(first: int = 2) -> Log:
    """Return a log with one event applied, number `first` missing and the parked list full."""
    return given(deposit(1), *[deposit(first + n) for n in range(1, PARKED_MAX + 1)])


def test_the_thousandth_is_parked_and_the_next_blocks() -> None:
    """The limit is exact: 1 000 references, the 1 001st blocks the stream."""
    log = full()
    assert len(log.account().delivery.parked) == PARKED_MAX
    assert log.account().delivery.status == "gap"
    seen = log.when(deposit(PARKED_MAX + 3))
    assert (seen.outcome, seen.reason) == (Outcome.BLOCKED, "gap_overflow")
    assert seen.payload("StreamBlocked")["reason"] == "gap_overflow"
    assert len(log.account().delivery.parked) == PARKED_MAX
    assert log.when(deposit(PARKED_MAX + 4)).outcome is Outcome.HELD
    assert log.when(deposit(3)).outcome is Outcome.HELD


def test_missing_number_resumes_an_overflow() -> None:
    """Parked and held events are applied in order, as part of the releasing message."""
    log = full()
    last = PARKED_MAX + 12
    log.when(*[deposit(n) for n in range(PARKED_MAX + 3, last + 1)])
    seen = log.when(deposit(2))
    assert seen.outcome is Outcome.APPLIED
    assert seen.types[-1] == "StreamResumed"
    assert log.account().delivery.version == last
    assert log.hashes() == ledger_of(*[deposit(n) for n in range(1, last + 1)])


def test_held_events_are_judged_on_release() -> None:
    """Behind an overflow a conflict is found on release, a duplicate is quiet, a gap parks."""
    log = full()
    end = PARKED_MAX + 2
    log.when(deposit(end + 1))  # blocks
    log.when(deposit(end + 1), deposit(end + 1, salt="x"), raw(b"junk"), deposit(1))
    log.when(deposit(end + 200_000), deposit(end + 3))
    seen = log.when(deposit(2))
    assert log.account().delivery.version == end + 1
    assert list(log.account().delivery.parked) == [end + 3]
    (conflict,) = seen.payloads("EventRefused")
    assert (conflict["reason"], conflict["sequence_number"]) == ("sequence_conflict", end + 1)
    assert log.when(deposit(end + 2)).types[-1] == "StreamResumed"
    assert log.account().delivery.version == end + 3


def test_what_was_rejected_when_it_came_stays_rejected() -> None:
    """A number too far ahead then is not applied because the stream has moved on since."""
    log = full()
    end = PARKED_MAX + 2
    log.when(deposit(end + 1))  # blocks at version 1
    assert log.when(deposit(100_002)).reason == "sequence_too_far"
    log.when(deposit(2))
    assert log.account().delivery.version == end + 1
    assert log.account().delivery.parked == {}


def test_unknown_missing_number_keeps_what_is_held() -> None:
    """An unknown event in the gap blocks the stream, and the held ones are not forgotten."""
    log = full()
    log.when(deposit(PARKED_MAX + 3))
    held_from = log.books.position
    seen = log.when(unknown(2))
    assert (seen.outcome, seen.reason) == (Outcome.BLOCKED, "unknown_event_type")
    blocked = log.account().delivery.blocked
    assert blocked is not None
    assert (blocked.held_from, blocked.log_sequence) == (held_from, log.books.position)
    assert len(log.account().delivery.parked) == PARKED_MAX


def test_unknown_event_in_a_released_run_keeps_what_is_held() -> None:
    """A release that blocks half way leaves the held messages held."""
    log = given(deposit(1), unknown(3), *[deposit(n) for n in range(4, PARKED_MAX + 3)])
    log.when(deposit(PARKED_MAX + 3))
    held_from = log.books.position
    seen = log.when(deposit(2))
    assert seen.payload("StreamBlocked")["reason"] == "unknown_event_type"
    blocked = log.account().delivery.blocked
    assert blocked is not None
    assert blocked.held_from == held_from
    assert log.account().delivery.version == 2


def test_overflow_may_follow_an_overflow() -> None:
    """Held events may overflow again; each is judged by the version at which it came."""
    log = full()
    gap = PARKED_MAX + 4
    log.when(deposit(PARKED_MAX + 3))  # blocks
    rest = [deposit(n) for n in range(gap + 1, gap + PARKED_MAX + 6)]
    conflict = deposit(7, salt="x")
    log.when(*rest, conflict)
    seen = log.when(deposit(2))
    assert log.account().delivery.version == gap - 1
    assert seen.payloads("StreamBlocked")[-1]["reason"] == "gap_overflow"
    late = deposit(gap + PARKED_MAX)
    assert log.when(late).outcome is Outcome.HELD
    seen = log.when(deposit(gap))
    assert log.account().delivery.version == gap + PARKED_MAX + 5
    (refused,) = seen.payloads("EventRefused")
    assert (refused["sequence_number"], refused["outcome"]) == (7, "stale")
    everything = [deposit(n) for n in range(1, gap + PARKED_MAX + 6)]
    assert log.hashes() == ledger_of(*everything)


# --- the log itself ------------------------------------------------------------------------------


def test_messages_out_of_order_stop_the_partition() -> None:
    """The same log sequence twice is no duplicate but a broken reader."""
    log = given(deposit(1))
    with pytest.raises(InvariantError, match="out of order"):
        fold(log.books, next(iter(log.messages.values())))


def test_unknown_subject_stops_the_partition() -> None:
    """The reader's filters and the fold must agree."""
    log = Log()
    with pytest.raises(InvariantError, match="does not belong"):
        log.when(Sent(subject="orders.1", data=b"{}"))


def test_unknown_rules_stop_the_worker_and_change_nothing() -> None:
    """A worker that does not know the enabled rules does not start."""
    log = given(deposit(1))
    assert log.when(rules(1)).outcome is Outcome.APPLIED
    with pytest.raises(UnknownRulesError, match="enables rules 2"):
        log.when(rules(2))
    assert log.books.position == 2


def test_message_behind_a_snapshot_is_skipped() -> None:
    """Messages at or below an account's snapshot are not folded again."""
    log = given(deposit(1))
    log.account().delivery.as_of = 5
    message = log.message(Sent(subject="trades.acc_001", data=deposit(2).data, at=START + SECOND))
    assert message.subject == stored_trades("acc_001", 16)
    assert log.take(message).outcome is Outcome.SKIPPED
    assert log.account().delivery.version == 1
