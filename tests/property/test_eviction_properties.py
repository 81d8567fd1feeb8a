"""Accounts that left memory and came back are the same accounts: nobody can tell from outside."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from tests.support.domain import Log
from tests.support.domain import given as log_of
from tests.support.strategies import Story, disturbed, stories

from psm.domain.books import is_idle
from psm.domain.messages import LogMessage
from psm.domain.snapshot import dump_account, load_account

_moved: Counter[str] = Counter()


class EvictingLog(Log):
    """A log whose idle accounts are evicted at random, and restored before their next message."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._dice = random.Random(seed)
        self._shelf: dict[str, bytes] = {}

    def pass_on(self, message: LogMessage) -> None:
        """Bring back whom the message concerns, fold it, let others go."""
        books = self.books
        stream_id = message.subject.rpartition(".")[2]
        if message.subject.startswith("trades.") and stream_id in self._shelf:
            self.bring_back(stream_id)
        self.take(message)
        for name, account in list(books.accounts.items()):
            if is_idle(account) and self._dice.random() < 0.5:
                self._shelf[name] = dump_account(account, books.position, b"h" * 32)
                books.saved(name)
                books.evict(name)
                _moved["evicted"] += 1

    def bring_back(self, stream_id: str) -> None:
        """Restore an account as it was saved."""
        self.books.restore(load_account(self._shelf.pop(stream_id))[0])
        _moved["returned"] += 1

    def bring_all_back(self) -> None:
        """Restore every account that is not there."""
        for stream_id in sorted(self._shelf):
            self.bring_back(stream_id)


@given(stories(), st.integers(0, 2**32))
def test_eviction_changes_nothing(story: Story, seed: int) -> None:
    """With and without eviction the same bytes are published, and the same accounts are left."""
    stayed = log_of(*disturbed(story.messages(), seed))
    moved = EvictingLog(seed)
    for message in stayed.messages.values():
        moved.pass_on(message)
    assert moved.updates == stayed.updates
    moved.bring_all_back()
    assert moved.end() == stayed.end()
    assert _snapshots(moved) == _snapshots(stayed)


def test_accounts_really_moved() -> None:
    """Stories in which nobody is ever idle would show nothing."""
    assert min(_moved["evicted"], _moved["returned"]) >= 20, _moved


def _snapshots(log: Log) -> dict[str, bytes]:
    accounts = sorted(log.books.accounts.items())
    return {name: dump_account(account, 1, b"h" * 32) for name, account in accounts}
