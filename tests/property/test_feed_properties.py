"""Headers of updates follow from the log alone, and a lossy feed never shows a wrong account."""

from __future__ import annotations

import random
from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from tests.support.domain import Log
from tests.support.domain import given as log_of
from tests.support.events import Sent
from tests.support.planted import Planted
from tests.support.strategies import Story, disturbed, stories

from psm.contracts.documents import AccountDocument
from psm.contracts.feed import FeedInput, UpdateFeed
from psm.domain.messages import Emit, Update
from psm.domain.snapshot import dump_account, load_account


def headers_of(updates: list[Update]) -> list[tuple[str, str, dict[str, str]]]:
    """Return what is compared, whatever the partition is."""
    return sorted((u.event_id, u.kind, u.headers) for u in updates)


def traffic(story: Story) -> list[Sent]:
    """Return a log in which numbers are missing, repeated and late."""
    return disturbed(story.messages(), story.seed)


@given(stories(), st.integers(1, 5), st.sampled_from(["updates", "nothing", "hashes", "payloads"]))
def test_headers_follow_from_the_log(story: Story, partitions: int, emit: Emit) -> None:
    """One partition or many, straight through or over snapshots of unlike age."""
    sent = traffic(story)
    expected = headers_of(log_of(*sent, partitions=1).updates)
    dice = random.Random(story.seed)
    again = Log(partitions=partitions)
    half = dice.randrange(len(sent) + 1)
    for one in sent[:half]:
        again.take(again.message(one), emit)
    known = len(again.updates)
    for one in sent[half:]:
        again.when(one)
        for stream_id in list(again.books.accounts):
            if dice.random() < 0.3:
                account = again.books.accounts[stream_id]
                saved = dump_account(account, again.books.position, b"x" * 32)
                again.books.restore(load_account(saved)[0])
    later = headers_of(again.updates[known:])
    assert later == [one for one in expected if one[0] in {found[0] for found in later}]
    straight = log_of(*sent[:half], partitions=partitions)
    assert len(straight.updates) + len(later) == len(expected)


@given(stories())
def test_positions_count_and_previous_chains(story: Story) -> None:
    """Of each account and input 1 to N, and each input names the account's one before."""
    last: dict[str, int] = {}
    log = Log()
    for one in traffic(story):
        seen = log.when(one)
        of_stream = Counter(update.stream_id for update in seen.result.updates)
        numbers: Counter[str] = Counter()
        for update in seen.result.updates:
            numbers[update.stream_id] += 1
            assert (update.number, update.count) == (
                numbers[update.stream_id],
                of_stream[update.stream_id],
            )
            account = log.books.accounts.get(update.stream_id)
            if account is None or (update.previous is None):
                assert update.kind == "event.refused"
                continue
            assert update.previous == last.get(update.stream_id, 0)
        for stream_id, account in log.books.accounts.items():
            if account.delivery.updated_at == log.books.position:
                assert of_stream[stream_id]
                last[stream_id] = log.books.position


class Lossy:
    """A log, and a subscriber to whom some of its updates do not come."""

    def __init__(self, seed: int, loss: float) -> None:
        self.log, self.feed = Log(), UpdateFeed()
        self.shown: dict[str, str] = {}
        self.truth: dict[str, str] = {}
        self._dice, self._loss = random.Random(seed), loss

    def publish(self, sent: Sent) -> None:
        """Fold a message; let the subscriber hear of most of it."""
        for update in self.log.when(sent).result.updates:
            if update.kind == "state.updated":
                self.truth[update.stream_id] = _state(update.data)
            if self._dice.random() >= self._loss:
                self._hear(update)

    def _hear(self, update: Update) -> None:
        headers = {**update.headers, "Nats-Subject": update.subject}
        for found in self.feed.take(headers, update.data):
            for data in found.updates:
                if b"StateUpdated" in data:
                    self.shown[found.account_id] = _state(data)

    def repair_some(self) -> None:
        """Read some accounts that are not known from elsewhere."""
        for account_id in self.feed.unknown():
            if self._dice.random() < 0.2:
                assert self.feed.repaired(account_id, self.newest(account_id)) == []
                self.shown[account_id] = self.truth.get(account_id, "")

    def newest(self, account_id: str) -> int:
        return self.log.account(account_id).delivery.updated_at


@given(st.integers(0, 2**32), st.floats(0, 0.3))
def test_a_lossy_feed_shows_no_wrong_account(seed: int, loss: float) -> None:
    """What it calls known is what the log says; a repair brings everything back."""
    lossy = Lossy(seed, loss)
    for one in traffic(Story(seed=seed, length=60)):
        lossy.publish(one)
        lossy.repair_some()
    for account_id, state in lossy.truth.items():
        if lossy.feed.last_input(account_id) == lossy.newest(account_id):
            assert lossy.shown[account_id] == state, account_id
    if not loss:
        assert lossy.feed.unknown() == []


class Tampered:
    """A subscriber that keeps documents, to whom updates are lost, doubled and swapped.

    `offered` counts the documents that were compared while the feed called their account known.
    """

    def __init__(self, seed: int, share: float) -> None:
        self.feed = UpdateFeed()
        self.offered = 0
        self._log = Log()
        self._dice, self._share = random.Random(seed), share
        self._stored: dict[str, list[tuple[int, list[Update]]]] = {}
        self._shown: dict[str, AccountDocument] = {}
        self._late: list[Update] = []

    def publish(self, sent: Sent) -> None:
        """Fold a message; let the subscriber hear of it, more or less."""
        for update in self._log.when(sent).result.updates:
            if update.previous is not None:
                inputs = self._stored.setdefault(update.stream_id, [])
                if not inputs or inputs[-1][0] != update.log_sequence:
                    inputs.append((update.log_sequence, []))
                inputs[-1][1].append(update)
            for one in self._disturbed(update):
                self._hear(one)
        self.compare()

    def _disturbed(self, update: Update) -> list[Update]:
        late, self._late = self._late, []
        if self._dice.random() >= self._share:
            return [update, *late]
        fault = self._dice.choice(["lost", "twice", "late", "again"])
        if fault == "late":
            self._late = [update]
            return late
        if fault == "again":
            _, old = self._dice.choice(self._stored.get(update.stream_id) or [(0, [update])])
            return [update, *old, *late]
        return late if fault == "lost" else [update, update, *late]

    def _hear(self, update: Update) -> None:
        headers = {**update.headers, "Nats-Subject": update.subject}
        self._apply(self.feed.take(headers, update.data))

    def _apply(self, found: list[FeedInput]) -> None:
        for one in found:
            if one.previous is not None:
                shown = self._shown.setdefault(one.account_id, AccountDocument(_NOTHING))
                shown.take(one.updates)

    def repair_some(self) -> None:
        """Read accounts that are not known: what is stored, or the whole as of some later place."""
        for account_id in self.feed.unknown():
            if self._dice.random() < 0.3:
                inputs = self._stored.get(account_id, [])
                known = self._dice.randrange(len(inputs) + 1)
                self._shown[account_id] = self._document(account_id, known)
                at = inputs[known - 1][0] if known else 0
                later = inputs[known][0] - 1 if known < len(inputs) else self._log.books.position
                self._apply(self.feed.repaired(account_id, self._dice.choice([at, later])))

    def compare(self) -> None:
        """Whoever is known is shown as the log has him at the place that he is known up to."""
        for account_id, inputs in self._stored.items():
            last = self.feed.last_input(account_id)
            if last is not None:
                known = sum(at <= last for at, _ in inputs)
                shown = self._shown.get(account_id, AccountDocument(_NOTHING))
                assert shown.state == self._document(account_id, known).state
                self.offered += 1

    def _document(self, account_id: str, known: int) -> AccountDocument:
        document = AccountDocument(_NOTHING)
        for _, updates in self._stored.get(account_id, [])[:known]:
            document.take(update.data for update in updates)
        return document


_NOTHING = b'{"assets":{},"positions":{},"orders":{},"currency":null,"cash":{}}'


@given(st.integers(0, 2**32), st.floats(0, 0.4))
def test_no_fault_and_no_repair_shows_a_wrong_account(seed: int, share: float) -> None:
    """Lost, doubled, swapped and old copies, repaired from any place that was not the newest."""
    one = Tampered(seed, share)
    for sent in traffic(Story(seed=seed, length=40)):
        one.publish(sent)
        one.repair_some()
        one.compare()
    assert one.offered or share


def test_the_planted_traffic_has_headers_too() -> None:
    """Refusals of every kind, also of what belongs to no account."""
    log = log_of(*Planted(3).messages())
    assert {update.previous is None for update in log.updates} == {True, False}
    assert all(update.headers for update in log.updates)


def _state(data: bytes) -> str:
    payload = msgspec.json.decode(data)["payload"]
    return f"{payload['log_sequence']} {payload['state_hash']}"
