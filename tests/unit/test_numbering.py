"""Which number comes next, whatever lies on an account's subject."""

from __future__ import annotations

import json

import pytest
from tests.support.log import deposit

from psm.contracts.errors import ConflictError
from psm.contracts.producer.numbering import REMEMBERED, RisingNumbers, StreamNumbers
from psm.contracts.sequencing import OPERATOR_EVENTS, SEQUENCE_AHEAD_MAX


class Subject:
    """Feeds bodies as a subject of the log would hold them."""

    def __init__(self, numbers: RisingNumbers) -> None:
        self.numbers = numbers
        self.at = 0

    def put(self, event: dict[str, object] | bytes) -> bool:
        self.at += 7
        data = event if isinstance(event, bytes) else json.dumps(event).encode()
        operators = isinstance(event, dict) and event["event_type"] in OPERATOR_EVENTS
        return self.numbers.feed(self.at, data, "acc", "repair" if operators else "trades")


@pytest.fixture
def numbers() -> StreamNumbers:
    return StreamNumbers()


@pytest.fixture
def subject(numbers: StreamNumbers) -> Subject:
    return Subject(numbers)


def void(first: object, last: object, **fields: str) -> dict[str, object]:
    """An operator's declaration that numbers will never come."""
    payload = {"from": first, "to": last, "actor": "op", "reason": "lost", **fields}
    return deposit("acc", event_type="SequenceVoided", payload=payload)


def test_first_number_is_one(numbers: StreamNumbers) -> None:
    """An empty stream starts at 1."""
    assert numbers.next_number() == 1
    assert numbers.log_sequence == 0


def test_events_in_order_take_places(numbers: StreamNumbers, subject: Subject) -> None:
    """Each event in order is the next place."""
    for number in (1, 2, 3):
        assert subject.put(deposit("acc", number))
    assert numbers.next_number() == 4
    assert numbers.log_sequence == 21


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"junk",
        b"[1]",
        b"\xff\xfe",
        b'{"event_id": 1}',
        json.dumps(deposit("other", 2)).encode(),
        json.dumps(deposit("acc")).encode(),
        json.dumps(deposit("acc", 0)).encode(),
        json.dumps(deposit("acc", 2 + SEQUENCE_AHEAD_MAX)).encode(),
    ],
)
def test_junk_takes_no_place(numbers: StreamNumbers, subject: Subject, junk: bytes) -> None:
    """What the fold rejects has no number, but the next append must expect it."""
    subject.put(deposit("acc", 1))
    assert not subject.put(junk)
    assert numbers.next_number() == 2
    assert numbers.log_sequence == 14


def test_repeats_and_conflicts_take_no_place(numbers: StreamNumbers, subject: Subject) -> None:
    """The first in the log wins its number, and its event id."""
    first = deposit("acc", 1)
    subject.put(first)
    assert not subject.put(first)
    assert not subject.put(deposit("acc", 1))
    assert not subject.put({**first, "sequence_number": 2})
    assert numbers.next_number() == 2
    assert subject.put(deposit("acc", 2))


def test_forgotten_event_id_may_return(numbers: StreamNumbers, subject: Subject) -> None:
    """The fold remembers 256 places; an older id under a new number is a new event there."""
    first = deposit("acc", 1)
    subject.put(first)
    for number in range(2, REMEMBERED + 1):
        subject.put(deposit("acc", number))
    assert not subject.put({**first, "sequence_number": REMEMBERED + 1})
    subject.put(deposit("acc", REMEMBERED + 1))
    assert subject.put({**first, "sequence_number": REMEMBERED + 2})


def test_gap_is_not_filled(numbers: StreamNumbers, subject: Subject) -> None:
    """A missing event may only be late: what is assigned comes after all that was seen."""
    subject.put(deposit("acc", 1))
    subject.put(deposit("acc", 4))
    subject.put(deposit("acc", 3))
    assert (numbers.last, numbers.next_number(), numbers.complete) == (1, 5, False)
    subject.put(deposit("acc", 2))
    assert (numbers.last, numbers.next_number(), numbers.complete) == (4, 5, True)


def test_parked_number_and_id_are_taken(numbers: StreamNumbers, subject: Subject) -> None:
    """Parked events are known by number and by event id."""
    parked = deposit("acc", 3)
    subject.put(parked)
    assert not subject.put(deposit("acc", 3))
    assert not subject.put({**parked, "sequence_number": 1})
    place = numbers.find(str(parked["event_id"]))
    assert place is not None
    assert (place.number, place.log_sequence) == (3, 7)


def test_gap_too_wide_is_refused(numbers: StreamNumbers, subject: Subject) -> None:
    """A number that the fold would reject is not assigned."""
    subject.put(deposit("acc", SEQUENCE_AHEAD_MAX))
    with pytest.raises(ConflictError, match="number 1 is missing"):
        numbers.next_number()


def test_voided_numbers_are_places(numbers: StreamNumbers, subject: Subject) -> None:
    """An operator's void closes the gap; parked events follow it."""
    subject.put(deposit("acc", 1))
    subject.put(deposit("acc", 4))
    assert subject.put(void(2, 3))
    assert (numbers.last, numbers.complete) == (4, True)


@pytest.mark.parametrize(
    "wrong",
    [
        void(3, 3),
        void(1, 2),
        void(2, 4),
        void(2, 10_002),
        void("2", "3"),
        void(2, 1),
        void(2, 3, reason=""),
    ],
)
def test_invalid_void_changes_nothing(
    numbers: StreamNumbers, subject: Subject, wrong: dict[str, object]
) -> None:
    """A void that the fold refuses closes no gap."""
    subject.put(deposit("acc", 1))
    subject.put(deposit("acc", 4))
    subject.put(wrong)
    assert (numbers.last, numbers.next_number()) == (1, 5)


def test_operator_events_have_no_number(numbers: StreamNumbers, subject: Subject) -> None:
    """Other operator events only move the log position, and are known when repeated."""
    event = deposit("acc", event_type="EventDismissed", payload={"log_sequence": 7})
    assert subject.put(event)
    assert not subject.put(event)
    assert numbers.next_number() == 1
    place = numbers.find(str(event["event_id"]))
    assert place is not None
    assert place.number is None


def test_events_of_the_other_door_take_no_place(numbers: StreamNumbers) -> None:
    """An operator's event among the producers', and the reverse, is what the fold rejects."""
    numbers.feed(7, json.dumps(deposit("acc", 1)).encode(), "acc", "repair")
    numbers.feed(8, json.dumps(deposit("acc", 1)).encode(), "acc", "trades")
    numbers.feed(9, json.dumps(deposit("acc", 4)).encode(), "acc", "trades")
    assert not numbers.feed(10, json.dumps(void(2, 3)).encode(), "acc", "trades")
    assert (numbers.last, numbers.log_sequence) == (1, 10)
    assert numbers.feed(11, json.dumps(void(2, 3)).encode(), "acc", "repair")
    assert numbers.last == 4


def test_explicit_numbers_are_checked(numbers: StreamNumbers, subject: Subject) -> None:
    """A given number must be free, and next unless gaps are allowed."""
    subject.put(deposit("acc", 1))
    numbers.check(2, allow_gap=False)
    numbers.check(5, allow_gap=True)
    with pytest.raises(ConflictError, match="next is 2"):
        numbers.check(5, allow_gap=False)
    with pytest.raises(ConflictError, match="belongs to another event"):
        numbers.check(1, allow_gap=True)


def test_marks_only_rise() -> None:
    """On marks the next number follows the highest; junk does not count."""
    numbers = RisingNumbers()
    subject = Subject(numbers)
    for number in (5, 3, 900):
        subject.put(deposit("acc", number))
    subject.put(b"junk")
    assert numbers.next_number() == 901
    numbers.check(1, allow_gap=False)
