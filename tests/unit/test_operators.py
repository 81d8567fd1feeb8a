"""Operator events: each repairs what it may, is refused when it may not, is quiet when repeated."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.support.domain import Log, given
from tests.support.events import (
    Sent,
    changed,
    deposit,
    dismissed,
    event,
    instrument,
    retried,
    rules,
    trade,
    unknown,
    voided,
)

from psm.contracts import registry
from psm.contracts.codec import decode_envelope, decode_untyped
from psm.contracts.envelope import chain_next, event_hash
from psm.domain.delivery.parked import PARKED_MAX
from psm.domain.folding import table_events as table_fold
from psm.domain.messages import Outcome, UnknownRulesError
from psm.domain.snapshot import dump_account, load_account
from psm.domain.windows import WINDOW

NEW = "InterestAccrued"
"""Stands for an event type that only rules 2 know."""


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a version whose rules 2 know one type more than rules 1."""
    monkeypatch.setattr(registry, "_account_codecs", {})  # what it found before
    monkeypatch.setitem(registry._FROM_RULES, (NEW, 1), 2)
    monkeypatch.setattr(table_fold, "RULES_VERSION", 2)


def interest(number: int, amount: str = "7", **more: object) -> Sent:
    """Return the event that only rules 2 know."""
    return event(NEW, {"amount": amount}, number, **more)  # type: ignore[arg-type]


def invalid(number: int) -> Sent:
    """Return an event that is refused in its place."""
    return deposit(number, "-1")


def ledgers(*sent: Sent) -> list[str]:
    """Return the ledger hash at each place of a stream of its own."""
    log = Log()
    seen = [log.when(one) for one in sent]
    return [s["ledger_hash"] for each in seen for s in each.payloads("StateUpdated")]


# --- EventDismissed -----------------------------------------------------------------------------


def test_dismissed_event_is_refused_in_its_place() -> None:
    """The blocking event takes its number without an effect, and what was held is folded."""
    log = given(deposit(1), unknown(2), deposit(3, "5"), deposit(4, "6"))
    seen = log.when(dismissed(2, actor="ann", reason="typo"))
    assert seen.outcome is Outcome.APPLIED
    refused = seen.payload("EventRefused")
    assert (refused["reason"], refused["outcome"]) == ("dismissed", "refused")
    by = decode_envelope(dismissed(2, actor="ann", reason="typo").data).event_id
    assert refused["detail"] == f"dismissed by operator event {by}"
    assert b"ann" not in b"".join(update.data for update in log.updates)
    assert (refused["event_type"], refused["sequence_number"]) == ("MoonPhaseChanged", 2)
    assert refused["event_log_sequence"] == 2
    states = seen.payloads("StateUpdated")
    assert [s["sequence_number"] for s in states] == [2, 3, 4]
    assert [s["event_log_sequence"] for s in states] == [2, 3, 4]
    assert {s["log_sequence"] for s in states} == {5}
    resumed = seen.payload("StreamResumed")
    assert (seen.types[-1], resumed["from_sequence"], resumed["to_sequence"]) == (
        "StreamResumed",
        2,
        4,
    )
    assert log.state()["cash"] == {"USDT": "1011"}
    assert log.state()["status"] == "open"


def test_ledger_after_a_dismissal_is_that_of_a_refused_event() -> None:
    """At each place the ledger hash is that of a twin in which the event was refused at once."""
    rest = [trade(3, "buy", "2", "10"), deposit(4), trade(5, "sell", "3", "12")]
    log = given(deposit(1), unknown(2), *rest)
    states = log.when(dismissed(2)).payloads("StateUpdated")
    assert [s["ledger_hash"] for s in states] == ledgers(deposit(1), invalid(2), *rest)[1:]


def test_dismissal_names_the_message_that_blocks() -> None:
    """Another message, or none that blocks, is refused, and the stream stays as it is."""
    log = given(deposit(1), unknown(2), deposit(3))
    seen = log.when(dismissed(3))
    assert (seen.outcome, seen.reason) == (Outcome.REFUSED, "not_blocking")
    assert "log sequence 2 blocks, not 3" in seen.payload("EventRefused")["detail"]
    assert seen.types == ["EventRefused", "StateUpdated"]
    assert log.account().delivery.status == "blocked"
    assert log.account().delivery.version == 1


@pytest.mark.parametrize("operate", [lambda: dismissed(1), retried], ids=["dismiss", "retry"])
def test_nothing_blocks(operate: Callable[[], Sent]) -> None:
    """On a stream that is open, in a gap or overflowing there is nothing to dismiss or retry."""
    for log in (given(deposit(1)), given(deposit(1), deposit(3)), full()):
        before = log.account().ledger_hash()
        assert log.when(operate()).reason == "not_blocking"
        assert log.account().ledger_hash() == before


def test_dismissal_releases_what_was_parked_behind() -> None:
    """Events parked before the stream was blocked follow the dismissed one."""
    log = given(deposit(1), unknown(3), deposit(4), deposit(2))
    assert log.account().delivery.status == "blocked"
    seen = log.when(dismissed(2))
    assert [s["sequence_number"] for s in seen.payloads("StateUpdated")] == [3, 4]
    assert log.account().delivery.status == "open"


def test_dismissal_may_leave_a_gap() -> None:
    """What still waits is announced as a gap, so nobody takes the stream for blocked."""
    log = given(deposit(1), deposit(4), unknown(2))
    seen = log.when(dismissed(3))
    assert "StreamResumed" not in seen.types
    blocked = seen.payload("StreamBlocked")
    assert (blocked["reason"], blocked["expected_sequence"]) == ("sequence_gap", 3)
    assert log.account().delivery.status == "gap"
    assert log.when(deposit(3)).types[-1] == "StreamResumed"


def test_held_event_may_block_again() -> None:
    """The next unknown one blocks there; the rest stays held, and a second dismissal goes on."""
    log = given(deposit(1), unknown(2), deposit(3), unknown(4), deposit(5))
    seen = log.when(dismissed(2))
    blocked = seen.payload("StreamBlocked")
    assert (blocked["expected_sequence"], blocked["event_log_sequence"]) == (4, 4)
    assert log.account().delivery.version == 3
    log.when(deposit(6))
    assert log.when(dismissed(4)).types[-1] == "StreamResumed"
    assert log.account().delivery.version == 6
    assert log.state()["cash"] == {"USDT": "4000"}


# --- SequenceVoided -----------------------------------------------------------------------------


def full() -> Log:
    """Return a log with number 2 missing and one event more behind it than may be parked."""
    return given(deposit(1), *[deposit(2 + n) for n in range(1, PARKED_MAX + 2)])


def test_voided_numbers_are_passed_over() -> None:
    """One message, one state: the account stands at the last voided number, then goes on."""
    log = given(deposit(1), deposit(5), deposit(6))
    seen = log.when(voided(2, 4))
    assert seen.outcome is Outcome.APPLIED
    assert [s["sequence_number"] for s in seen.payloads("StateUpdated")] == [4, 5, 6]
    resumed = seen.payload("StreamResumed")
    assert (resumed["from_sequence"], resumed["to_sequence"]) == (2, 6)
    assert log.state()["cash"] == {"USDT": "3000"}
    assert log.when(deposit(7)).outcome is Outcome.APPLIED


def test_ledger_after_a_void_is_that_of_refused_events() -> None:
    """At each place the ledger hash is that of a twin whose voided numbers were refused."""
    rest = [trade(4, "buy", "2", "10"), trade(5, "sell", "3", "12")]
    log = given(deposit(1), *rest)
    states = log.when(voided(2, 3)).payloads("StateUpdated")
    assert [s["ledger_hash"] for s in states] == ledgers(deposit(1), invalid(2), invalid(3), *rest)[
        2:
    ]


def test_void_in_parts() -> None:
    """A void below the lowest parked number may leave a gap; the next one closes it."""
    log = given(deposit(1), deposit(5))
    seen = log.when(voided(2, 2))
    assert seen.types == ["StateUpdated"]
    assert log.account().delivery.status == "gap"
    assert log.when(voided(3, 4)).types[-1] == "StreamResumed"
    assert log.account().delivery.version == 5


@pytest.mark.parametrize("before", [(), (deposit(1), deposit(2))], ids=["new", "open"])
def test_void_without_a_gap_is_refused(before: tuple[Sent, ...]) -> None:
    """Where nothing waits no number is missing: a producer may be about to give it to an event."""
    log = given(*before)
    number = len(before) + 1
    seen = log.when(voided(number, number))
    assert (seen.outcome, seen.reason) == (Outcome.REFUSED, "void_invalid")
    assert "nothing waits behind it" in seen.payload("EventRefused")["detail"]
    assert log.when(deposit(number)).outcome is Outcome.APPLIED


def test_what_comes_for_a_voided_number_is_a_conflict() -> None:
    """The event was only late: it is told, never applied; beyond the window it is stale."""
    log = given(deposit(1), deposit(4))
    log.when(voided(2, 3))
    seen = log.when(deposit(3))
    assert (seen.outcome, seen.reason) == (Outcome.CONFLICT, "sequence_voided")
    assert log.when(deposit(4)).outcome is Outcome.DUPLICATE
    log.when(deposit(5 + WINDOW), voided(5, 4 + WINDOW))
    assert log.when(deposit(6)).reason == "sequence_voided"
    assert log.when(deposit(4)).reason == "stale_unverified"


@pytest.mark.parametrize(
    ("first", "last", "detail"),
    [
        (3, 3, "the first number missing is 2, not 3"),
        (1, 2, "the first number missing is 2, not 1"),
        (2, 1, "`to` 1 is below `from` 2"),
        (2, 20_000, "number 20000 came and waits"),
        (2, 10_002, "at most 10000 numbers"),
    ],
)
def test_invalid_void_is_refused(first: int, last: int, detail: str) -> None:
    """A void declares exactly the numbers that are missing now, and not too many."""
    log = given(deposit(1), deposit(20_000))
    seen = log.when(voided(first, last))
    assert (seen.outcome, seen.reason) == (Outcome.REFUSED, "void_invalid")
    assert detail in seen.payload("EventRefused")["detail"]
    assert log.account().delivery.version == 1
    assert log.when(voided(2, 10_001)).outcome is Outcome.APPLIED


def test_number_that_came_cannot_be_voided() -> None:
    """The event that blocks has its number: it is dismissed or retried."""
    log = given(deposit(1), unknown(2))
    seen = log.when(voided(2, 2))
    assert seen.reason == "void_invalid"
    assert "log sequence 2: dismiss" in seen.payload("EventRefused")["detail"]


def test_void_resumes_an_overflow() -> None:
    """The missing number is given up; parked and held events are folded in order."""
    log = full()
    assert log.account().delivery.status == "blocked"
    end = PARKED_MAX + 10
    log.when(*[deposit(n) for n in range(PARKED_MAX + 4, end + 1)])
    seen = log.when(voided(2, 2))
    assert seen.types[-1] == "StreamResumed"
    assert log.account().delivery.version == end
    twin = given(deposit(1), invalid(2), *[deposit(n) for n in range(3, end + 1)])
    assert log.hashes() == twin.hashes()


# --- StreamRetried and RulesEnabled -------------------------------------------------------------


def test_retry_that_still_does_not_know_blocks_again(newer: None) -> None:
    """Nothing is guessed: the stream stays blocked and says so, for who waits for the answer."""
    log = given(deposit(1), interest(2), deposit(3))
    seen = log.when(retried())
    assert (seen.outcome, seen.reason) == (Outcome.BLOCKED, "unknown_event_type")
    assert seen.types == ["StateUpdated", "StreamBlocked"]
    blocked = seen.payload("StreamBlocked")
    assert (blocked["expected_sequence"], blocked["event_log_sequence"]) == (2, 2)
    assert "still not known by rules 1" in blocked["detail"]
    assert log.account().delivery.version == 1


def test_retry_after_an_upgrade(newer: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocking event is folded as any other, then what was held."""
    rest = [trade(3, "buy", "2", "10"), deposit(4)]
    log = given(deposit(1), interest(2), *rest)
    monkeypatch.delitem(registry._FROM_RULES, (NEW, 1))
    seen = log.when(retried())
    assert seen.outcome is Outcome.APPLIED
    states = seen.payloads("StateUpdated")
    assert [s["event_log_sequence"] for s in states] == [2, 3, 4]
    assert [s["ledger_hash"] for s in states] == ledgers(deposit(1), interest(2), *rest)[1:]
    assert seen.types[-1] == "StreamResumed"


def test_new_rules_resume_every_stream_they_help(newer: None) -> None:
    """Streams go on in ascending order; one that waits for something else is left alone."""
    log = given(
        deposit(1, stream="b"),
        interest(2, stream="b"),
        deposit(3, stream="b"),
        interest(1, stream="a"),
        unknown(1, stream="c"),
        deposit(2, stream="d"),
    )
    seen = log.when(rules(2))
    assert seen.outcome is Outcome.APPLIED
    states = [(s["account_id"], s["sequence_number"]) for s in seen.payloads("StateUpdated")]
    assert states == [("a", 1), ("b", 2), ("b", 3)]
    assert {s["log_sequence"] for s in seen.payloads("StateUpdated")} == {7}
    assert [r["account_id"] for r in seen.payloads("StreamResumed")] == ["a", "b"]
    assert [log.account(s).delivery.status for s in "abcd"] == ["open", "open", "blocked", "gap"]
    assert log.when(interest(2, stream="a")).outcome is Outcome.APPLIED


def test_ledger_after_new_rules_is_that_of_a_stream_that_knew_them(newer: None) -> None:
    """At each place the ledger hash is that of a twin whose rules were there from the start."""
    events = [deposit(1), interest(2), trade(3, "buy", "2", "10")]
    log = given(*events)
    states = log.when(rules(2)).payloads("StateUpdated")
    assert [s["ledger_hash"] for s in states] == ledgers(rules(2), *events)[1:]
    assert (
        log.account().delivery.chain_hash == given(rules(2), *events).account().delivery.chain_hash
    )


def test_same_rules_again_release_nothing() -> None:
    """Enabling what is enabled already is applied and changes nothing."""
    log = given(unknown(1))
    seen = log.when(rules(1))
    assert (seen.outcome, seen.updates) == (Outcome.APPLIED, [])
    assert log.account().delivery.status == "blocked"


def test_unknown_rules_leave_everything_blocked(newer: None) -> None:
    """A worker that does not know the enabled rules stops in front of them."""
    log = given(interest(1))
    with pytest.raises(UnknownRulesError, match="enables rules 3"):
        log.when(rules(3))
    assert (log.account().delivery.status, log.books.market.rules) == ("blocked", 1)


# --- what holds for all of them -----------------------------------------------------------------

CASES: dict[str, tuple[list[Sent], Sent]] = {
    "dismissed": ([deposit(1), unknown(2), deposit(3)], dismissed(2)),
    "voided": ([deposit(1), deposit(3)], voided(2, 2)),
    "retried": ([deposit(1), unknown(2), deposit(3)], retried()),
    "refused": ([deposit(1), deposit(3)], dismissed(9)),
}
each_case = pytest.mark.parametrize("case", CASES)


@each_case
def test_repeat_does_nothing(case: str) -> None:
    """The same event again is a duplicate, also where it could do something by then."""
    before, operate = CASES[case]
    log = given(*before)
    log.when(operate)
    state = log.state()
    again = log.when(operate)
    assert (again.outcome, again.updates) == (Outcome.DUPLICATE, [])
    assert log.state() == {**state, "log_sequence": log.books.position}


def test_refused_one_is_remembered() -> None:
    """A dismissal that came too early does not act later, when its message blocks."""
    log = given(deposit(1), deposit(3))
    early = dismissed(5)
    assert log.when(early).outcome is Outcome.REFUSED
    log.when(deposit(2), unknown(4))
    assert log.account().delivery.status == "blocked"
    assert log.when(early).outcome is Outcome.DUPLICATE
    assert log.account().delivery.status == "blocked"


@each_case
def test_event_id_with_other_bytes_is_a_conflict(case: str) -> None:
    """An operator's event_id returns with other bytes: loud, and nothing changes."""
    before, operate = CASES[case]
    log = given(*before)
    log.when(operate)
    state = log.state()
    seen = log.when(changed(operate, timestamp="2026-01-01T00:00:00Z"))
    assert (seen.outcome, seen.reason) == (Outcome.CONFLICT, "event_id_conflict")
    assert seen.types == ["EventRefused"]
    assert log.state() == {**state, "log_sequence": log.books.position}


@each_case
def test_its_hash_enters_the_chain_in_front_of_what_it_releases(case: str) -> None:
    """Every operator event is in the chain once; views see the chain they would compute."""
    before, operate = CASES[case]
    log = given(*before)
    chain = chain_next(log.account().delivery.chain_hash, event_hash(operate.data))
    released = {"dismissed": before[1:], "voided": before[1:]}.get(case, [])
    for sent in released:
        chain = chain_next(chain, event_hash(sent.data))
    seen = log.when(operate)
    assert log.account().delivery.chain_hash == chain
    assert seen.payloads("StateUpdated")[-1]["chain_hash"] == chain.hex()


@pytest.mark.parametrize("field", ["actor", "reason"])
@each_case
def test_actor_and_reason_are_required(case: str, field: str) -> None:
    """A repair without a name or a reason is refused, and the field is named."""
    before, operate = CASES[case]
    log = given(*before)
    status = log.account().delivery.status
    payload = decode_untyped(operate.data)["payload"]
    payload.pop(field)
    seen = log.when(changed(operate, payload=payload))
    assert (seen.outcome, seen.reason) == (Outcome.REFUSED, "invalid_payload")
    assert seen.payload("EventRefused")["field"] == f"payload.{field}"
    assert log.account().delivery.status == status


def test_it_has_no_number_and_takes_none() -> None:
    """A number given by mistake is ignored: the stream's own numbers go on."""
    log = given(deposit(1), unknown(2))
    assert log.when(changed(dismissed(2), sequence_number=77)).outcome is Outcome.APPLIED
    assert log.when(deposit(3)).outcome is Outcome.APPLIED


def test_unknown_major_version_is_refused() -> None:
    """An operator event of tomorrow blocks nothing: it has no place."""
    log = given(deposit(1), unknown(2))
    seen = log.when(changed(retried(), schema_version="2.0.0"))
    assert (seen.outcome, seen.reason) == (Outcome.REFUSED, "unknown_schema_version")


def test_it_is_judged_on_the_subject_of_its_stream() -> None:
    """Like every event; elsewhere it is rejected and creates no account."""
    log = Log()
    sent = Sent(subject="trades.other", data=retried().data)
    assert log.when(sent).reason == "stream_mismatch"
    assert log.books.accounts == {}


@each_case
def test_snapshot_remembers_operators(case: str) -> None:
    """What is restored knows repeats, and has the same chain."""
    before, operate = CASES[case]
    log = given(*before)
    log.when(operate)
    restored, _ = load_account(dump_account(log.account(), log.books.position, b"h" * 32))
    assert restored.delivery.chain_hash == log.account().delivery.chain_hash
    assert restored.delivery.operators is not None
    assert restored.delivery.operators.hash_of(decode_envelope(operate.data).identity) is not None
    assert restored.delivery.blocked == log.account().delivery.blocked


# --- corrections read the whole stream again ----------------------------------------------------


def bust(number: int, fill_id: str) -> Sent:
    """Return the bust of a fill."""
    return event("TradeBusted", {"fill_id": fill_id, "reason": "error"}, number)


def test_correction_among_what_is_released() -> None:
    """A held bust reads the stream again: voids, dismissals and retries are places of its chain."""
    log = given(
        instrument(),
        deposit(1),
        trade(2, "buy", "1", "100", fill_id="f1"),
        unknown(3),
        trade(4, "buy", "1", "120", fill_id="f2"),
        bust(5, "f1"),
        deposit(6),
    )
    log.when(retried())
    log.when(dismissed(4))
    assert log.account().delivery.version == 6
    assert log.position()["size"] == "1"
    assert log.position()["entry_price"] == "120"
    log.when(deposit(9), voided(7, 8), bust(10, "f2"))
    assert log.account().delivery.version == 10
    assert log.state()["open_positions"] == 0


def test_correction_after_rules_released_a_stream(newer: None) -> None:
    """What new rules released counts at the log sequence of the rules."""
    log = given(trade(1, "buy", "1", "100", fill_id="f1"), interest(2), bust(3, "f1"))
    log.when(rules(2))
    assert log.account().delivery.version == 3
    log.when(trade(4, "buy", "1", "90", fill_id="f2"), bust(5, "f2"))
    assert log.account().delivery.version == 5
    assert log.state()["open_positions"] == 0


def test_correction_held_behind_a_second_overflow() -> None:
    """That a bust is held is not forgotten when the stream overflows again on release."""
    log = given(trade(1, "buy", "1", "100", fill_id="f1"))
    log.when(*[deposit(n) for n in range(3, PARKED_MAX + 4)])  # 2 is missing; the last blocks
    gap = PARKED_MAX + 4
    log.when(*[deposit(n) for n in range(gap + 1, gap + PARKED_MAX + 3)])
    log.when(bust(gap + PARKED_MAX + 3, "f1"))
    log.when(deposit(2))
    assert log.account().delivery.status == "blocked"
    log.when(deposit(gap))
    assert log.account().delivery.version == gap + PARKED_MAX + 3
    assert log.state()["open_positions"] == 0
