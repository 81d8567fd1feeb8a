"""A snapshot with its record laid over is the account: whatever the market did in between."""

from __future__ import annotations

import random
from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from tests.support.domain import Log
from tests.support.shelf import Shelf, everything
from tests.support.strategies import Story, disturbed, stories

from psm.contracts import subjects
from psm.domain.market.slots import ValuationSlots

SLOTS = ValuationSlots(fast_ms=500, mid_ms=1_000, slow_ms=4_000)
_saved: Counter[str] = Counter()


@given(stories(accounts=3), st.integers(0, 2**32), st.sampled_from([1, 3, 10]))
def test_a_snapshot_and_its_record_are_the_account(story: Story, seed: int, every: int) -> None:
    """Saved at any places, now and then not to the end; recovered at any: the same bytes."""
    dice, straight = random.Random(seed), Log(slots=SLOTS)
    straight.when(*disturbed(story.messages(), seed))
    shelf, log = Shelf(16, SLOTS), Log(slots=SLOTS)
    for sequence, message in straight.messages.items():
        log.take(message)
        if dice.randrange(every):
            continue
        _saved.update(shelf.save(log.books, cut=dice.choice([None, None, None, 0, 1])))
        if dice.random() < 0.5:
            continue
        books = shelf.recovered()
        again = Log(books=books)
        again.messages = {s: m for s, m in log.messages.items() if s <= books.position}
        for place, earlier in log.messages.items():
            if place > books.position:
                again.take(earlier)
        assert everything(again.books) == everything(log.books), f"as of {sequence}"
        again.updates = log.updates
        log = again
    assert log.updates == straight.updates
    assert log.end() == straight.end()


def test_both_ways_of_saving_were_taken() -> None:
    """Stories without an account that only marks touched would show nothing."""
    assert min(_saved["whole"], _saved["records"]) >= 100, _saved


@given(stories(accounts=3), st.integers(0, 2**32), st.sampled_from([1, 2, 7]))
def test_partitions_do_not_matter(story: Story, seed: int, partitions: int) -> None:
    """Each partition saves and recovers by itself: together they publish what one long run does."""
    straight = Log(slots=SLOTS)
    straight.when(*disturbed(story.messages(), seed))
    published = {
        s: [(u.log_sequence, u.data) for u in straight.updates if u.stream_id == s]
        for s in straight.books.accounts
    }
    for stream, expected in published.items():
        number = subjects.partition_of(stream, partitions)
        shelf = Shelf(partitions, SLOTS, number)
        log = Log(partitions=partitions, partition=number, slots=SLOTS)
        for sequence, message in straight.messages.items():
            subject, concerns = message.subject, True
            if message.stream_id is not None:
                subject = subjects.stored(message.kind, message.token, partitions)
                concerns = subjects.partition_of(message.token, partitions) == number
            if concerns:
                log.take(msgspec.structs.replace(message, subject=subject))
            if sequence % 5 == 0:
                shelf.save(log.books)
                log.books = shelf.recovered()
        assert [(u.log_sequence, u.data) for u in log.updates if u.stream_id == stream] == expected
