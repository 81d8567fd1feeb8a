"""Golden logs with accounts saved by snapshots and records give what they give without."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.support.domain import Log
from tests.support.make_snapshots import SOURCES, folded, messages
from tests.support.shelf import Shelf, everything

from psm.domain.books import Books
from psm.domain.market.slots import ValuationSlots
from psm.workers.replay.lines import DEFAULT_PARTITIONS

EVERY = 40


@pytest.mark.parametrize("name", SOURCES)
def test_a_golden_log_with_records(name: str) -> None:
    """Save every few messages, recover every other time: the same accounts, the same updates."""
    slots, saved = ValuationSlots(), Counter[str]()
    shelf = Shelf(DEFAULT_PARTITIONS, slots)
    straight = folded(messages(name))
    log = Log(books=Books(partitions=DEFAULT_PARTITIONS))
    for count, message in enumerate(messages(name), start=1):
        log.take(message)
        if count % EVERY:
            continue
        saved.update(shelf.save(log.books))
        if count % (2 * EVERY):
            continue
        before, log.books = log.books, shelf.recovered()
        assert everything(log.books) == everything(before), message.log_sequence
    assert log.updates == straight.updates
    assert log.hashes() == straight.hashes()
    assert everything(log.books) == everything(straight.books)
    assert saved["whole"]
