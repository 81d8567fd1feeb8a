"""What producers number by is what the fold counts by: the sequence rules agree on both sides."""

from __future__ import annotations

import random
from collections import Counter
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from tests.support.domain import Log
from tests.support.events import Sent, changed, deposit, voided
from tests.support.simulator.operators import Operators
from tests.support.strategies import Story, disturbed, stories

from psm.contracts.envelope import event_hash
from psm.contracts.heads import HASH_DIGITS
from psm.contracts.producer import numbering
from psm.contracts.producer.numbering import REMEMBERED, StreamNumbers
from psm.domain import windows
from psm.domain.books import Books
from psm.domain.delivery.delivery import Delivery
from psm.domain.messages import LogMessage
from psm.domain.windows import WINDOW
from psm.workers.partition.live import stream_head

_met: Counter[str] = Counter()


class Twice:
    """A log folded, and each account's subject counted as a producer counts it."""

    def __init__(self) -> None:
        self.log = Log()
        self.numbers: dict[str, StreamNumbers] = {}
        self.from_heads: FromHeads | None = None

    def take(self, sent: Sent) -> None:
        """Append a message; both sides must agree on its stream afterwards."""
        message = self.log.message(sent)
        outcome = self.log.take(message).outcome
        stream = message.stream_id
        if stream is None:
            return
        _met[outcome] += 1
        counted = self.numbers.setdefault(stream, StreamNumbers())
        counted.feed(message.log_sequence, message.data, stream, message.kind)
        account = self.log.books.accounts.get(stream)
        version = account.delivery.version if account else 0
        parked = {n: p.event_hash for n, p in account.delivery.parked.items()} if account else {}
        if self.from_heads is not None:
            self.from_heads.take(message)
        assert counted.last == version
        assert {n: place.event_hash for n, place in counted.parked.items()} == parked


class FromHeads:
    """A producer of each account that starts anew, now and then, from the head its owner gives."""

    def __init__(self, log: Log, dice: random.Random) -> None:
        self._log = log
        self._dice = dice
        self._messages: dict[str, list[LogMessage]] = {}
        self._numbers: dict[str, StreamNumbers] = {}

    def take(self, message: LogMessage) -> None:
        """Follow a message that was folded; what is taken and parked must be as in the books."""
        stream = message.token
        messages = self._messages.setdefault(stream, [])
        messages.append(message)
        if stream not in self._numbers or self._dice.random() < 0.2:
            self._numbers[stream] = self._started(stream, messages)
        else:
            numbers = self._numbers[stream]
            numbers.feed(message.log_sequence, message.data, stream, message.kind)
        account = self._log.books.accounts.get(stream)
        delivery = account.delivery if account else Delivery(stream)
        if delivery.blocked is None:  # what a blocked stream holds is numbered after, not before
            numbers = self._numbers[stream]
            assert (numbers.last, sorted(numbers.parked)) == (
                delivery.version,
                sorted(delivery.parked),
            )

    def _started(self, stream: str, messages: list[LogMessage]) -> StreamNumbers:
        account = self._log.books.accounts.get(stream)
        delivery = account.delivery if account else None
        head = stream_head(delivery, f"trades.{stream}", self._log.books.position)
        numbers = StreamNumbers()
        hashes = {event.event_hash for event in head.events}
        if delivery is not None:
            hashes |= {one.event_hash.hex()[:HASH_DIGITS] for one in delivery.parked.values()}
        known = (event_hash(one.data).hex()[:HASH_DIGITS] in hashes for one in messages)
        first = next((n for n, is_known in enumerate(known) if is_known), len(messages))
        window = messages[self._dice.randint(0, first) :]  # a publisher reads as far back, or more
        before = [one for one in window if one.log_sequence <= head.log_sequence]
        for one in before:
            numbers.feed(one.log_sequence, one.data, stream, one.kind)
        numbers.adopt(head)
        for one in messages:
            if one.log_sequence > head.log_sequence:
                numbers.feed(one.log_sequence, one.data, stream, one.kind)
        return numbers


def test_both_sides_remember_as_far_back() -> None:
    """A repeat must be known, or forgotten, on both sides."""
    assert REMEMBERED == WINDOW


@given(stories(), st.integers(0, 2**32), st.sampled_from([4, WINDOW]))
def test_producers_count_as_the_fold_does(story: Story, seed: int, window: int) -> None:
    """After every message: repeats, gaps, other bytes under a known id, junk, operators' events."""
    with patch.object(windows, "WINDOW", window), patch.object(numbering, "REMEMBERED", window):
        _take_all(story, random.Random(seed), seed)


def _take_all(story: Story, dice: random.Random, seed: int) -> None:
    twice = Twice()
    twice.from_heads = FromHeads(twice.log, random.Random(seed))
    operators = Operators(dice)
    for sent in disturbed(story.messages(), seed):
        if sent.subject.startswith("trades.") and dice.random() < 0.05:
            continue  # lost: only an operator closes the gap
        twice.take(sent)
        if dice.random() < 0.1:
            repair = operators.attempt([twice.log.books])
            if repair is not None and repair.subject != "control.rules":
                twice.take(repair)
        if dice.random() < 0.05:
            twice.take(_other_bytes(dice, twice.log.books, sent))


def _other_bytes(dice: random.Random, books: Books, sent: Sent) -> Sent:
    """Return another event under an id or a number that was used before."""
    stream = sent.subject.rpartition(".")[2]
    number = dice.randint(1, 30)
    if sent.data.startswith(b'{"event_id"') and dice.random() < 0.5:
        return changed(sent, sequence_number=number)
    account = books.accounts.get(stream)
    if account is not None and dice.random() < 0.5:
        missing = account.delivery.version + 1
        lowest = min(account.delivery.parked, default=missing)
        last = lowest + dice.randint(-2, 1)
        return voided(missing, last, stream=stream, salt=f"{number}/{dice.random()}")
    return deposit(number, str(dice.randint(1, 9)), stream=stream)


def test_every_kind_of_message_was_met() -> None:
    """Logs in which nothing is late, repeated or in conflict would show nothing."""
    wanted = ("applied", "refused", "duplicate", "conflict", "parked", "rejected")
    assert all(_met[outcome] >= 20 for outcome in wanted), _met
