"""A snapshot with its record laid over is the account: whatever the market did in between."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from tests.support.domain import Log
from tests.support.shelf import Shelf, everything
from tests.support.strategies import Story, disturbed, stories

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
