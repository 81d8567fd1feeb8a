"""Accounts in memory: who may leave, who comes back, and what stops it."""

from __future__ import annotations

import pytest
from opentelemetry.metrics import NoOpMeter
from tests.support.domain import Log, given
from tests.support.events import Sent, deposit, event, fee, mark, trade

from psm.adapters.metrics import Metrics
from psm.contracts import subjects
from psm.contracts.errors import FencedError, LogDamagedError
from psm.domain.books import is_idle
from psm.domain.messages import LogMessage
from psm.domain.snapshot import dump_account
from psm.workers.partition.eviction import BadSnapshotError, Census, Residents
from psm.workers.partition.ports import Saved

NAMES = [f"acc_{n}" for n in range(4)]


class Shelf:
    """The newest snapshots, by subject."""

    def __init__(self) -> None:
        self.saved: dict[str, Saved] = {}
        self.asked: list[str] = []

    async def latest(self) -> list[Saved]:
        return list(self.saved.values())

    async def newest(self, subject: str) -> Saved | None:
        self.asked.append(subject)
        return self.saved.get(subject)

    async def older(self, subject: str, before: int) -> Saved | None:
        raise AssertionError("not asked here")

    async def write(self, subject: str, data: bytes, expected: int) -> int:
        raise AssertionError("not asked here")


class Scene:
    """Four accounts with a deposit each, all saved; the last one has a position."""

    def __init__(self, limit: int = 0) -> None:
        held = trade(2, "buy", "1", "100", stream=NAMES[3])
        self.log: Log = given(*(deposit(1, stream=name) for name in NAMES), held, partitions=1)
        self.books = self.log.books
        self.store = Shelf()
        self.sequences: dict[str, int] = {}
        for sequence, (name, account) in enumerate(self.books.accounts.items(), 1):
            subject, data = subject_of(name), dump_account(account, 5, b"h" * 32)
            self.store.saved[subject] = Saved(subject=subject, sequence=sequence, data=data)
            self.sequences[subject] = sequence
        self.books.dirty = {}
        self.census = Census(limit)
        metrics = Metrics(NoOpMeter("test"))
        self.residents = Residents(0, self.store, self.books, self.census, metrics, self.sequences)

    def sweep(self, now: float = 0.0, checkpoints: int = 1) -> list[str]:
        """Let go; return who is left."""
        self.residents.sweep(now, checkpoints)
        return list(self.books.accounts)

    async def bring_back(self, *sent: Sent) -> None:
        """Bring back whom these messages concern."""
        await self.residents.bring_back([self.message(one) for one in sent])

    def message(self, sent: Sent) -> LogMessage:
        """Return a message of the log."""
        return self.log.message(sent)


def subject_of(stream_id: str) -> str:
    return subjects.snapshot(0, stream_id)


def test_idle_accounts_leave_and_others_stay() -> None:
    """Without room everybody goes whom no mark concerns."""
    assert Scene().sweep() == [NAMES[3]]


def test_no_more_leave_than_there_is_room_for() -> None:
    """The oldest comers leave first, and only as many as are too many."""
    assert Scene(limit=3).sweep() == NAMES[1:]
    assert Scene(limit=4).sweep() == NAMES


def test_room_is_that_of_all_partitions() -> None:
    """Another partition's accounts count, until it ends."""
    scene = Scene(limit=5)
    scene.census.count(7, 3)
    assert scene.sweep() == NAMES[2:]
    scene.census.count(7, 0)
    assert scene.census.excess == 2 - 5
    scene.residents.leave()
    assert scene.census.excess == -5


def test_changed_account_stays_until_it_is_saved() -> None:
    """What is newer than its snapshot would be lost."""
    scene = Scene()
    scene.books.dirty = {NAMES[1]: 6}
    assert scene.sweep() == [NAMES[1], NAMES[3]]
    scene.books.dirty = {}
    assert scene.sweep() == [NAMES[1], NAMES[3]], "a round a checkpoint"
    assert scene.sweep(checkpoints=2) == [NAMES[3]]


@pytest.mark.parametrize(
    "last",
    [
        fee(4, "1", stream=NAMES[0]),  # a gap
        event("Unheard", {}, 2, stream=NAMES[0]),  # blocked
        trade(2, "buy", "1", "100", stream=NAMES[0]),
        event(
            "OrderSubmitted",
            {"order_id": "o", "symbol": "X", "side": "buy", "type": "limit", "quantity": "1",
             "price": "5"},
            2,
            stream=NAMES[0],
        ),
        event("CashDeposited", {"amount": "5", "currency": "EUR"}, 2, stream=NAMES[0]),
    ],
    ids=["gap", "blocked", "position", "order", "foreign cash"],
)  # fmt: skip
def test_account_that_others_may_change_is_not_idle(last: Sent) -> None:
    """Marks, rules and missing numbers reach accounts that have sent nothing themselves."""
    log = given(deposit(1, stream=NAMES[0]))
    assert is_idle(log.account(NAMES[0]))
    log.when(last)
    assert not is_idle(log.account(NAMES[0]))


def test_closed_position_lets_an_account_go() -> None:
    """A flat position has a history but no price."""
    log = given(deposit(1), trade(2, "buy", "1", "100"), mark(1, "90"), trade(3, "sell", "1", "95"))
    assert is_idle(log.account())


async def test_evicted_account_comes_back_once() -> None:
    """One read for all messages of one fetch; a stream without a snapshot is new."""
    scene = Scene()
    before = scene.log.end()
    scene.sweep()
    twice = [fee(2, "1", stream=NAMES[0]), fee(3, "1", stream=NAMES[0]), deposit(1, stream="new")]
    await scene.bring_back(*twice, mark(1, "5"), fee(2, "1", stream=NAMES[2]))
    assert scene.store.asked == [subject_of(NAMES[0]), subject_of(NAMES[2])]
    await scene.bring_back(*twice)
    assert list(scene.books.accounts) == [NAMES[3], NAMES[0], NAMES[2]]
    await scene.bring_back(fee(2, "1", stream=NAMES[1]))
    assert scene.log.end() == before


async def test_stream_without_readable_snapshot_is_new() -> None:
    """Recovery found no version to start from, so its log is folded from the beginning."""
    scene = Scene()
    scene.sweep()
    scene.residents.have_no_snapshot([NAMES[0]])
    await scene.bring_back(deposit(1, stream=NAMES[0]))
    assert scene.store.asked == []


@pytest.mark.parametrize(
    ("sequence", "data", "error"),
    [
        (1, b"garbage", BadSnapshotError),
        (9, b"garbage", FencedError),
        (0, b"", LogDamagedError),
    ],
)
async def test_snapshot_that_is_not_the_one_saved(
    sequence: int, data: bytes, error: type[Exception]
) -> None:
    """Unreadable, written by another, or gone: each has its own consequence."""
    scene = Scene()
    scene.sweep()
    subject = subject_of(NAMES[0])
    del scene.store.saved[subject]
    if sequence:
        scene.store.saved[subject] = Saved(subject=subject, sequence=sequence, data=data)
    with pytest.raises(error, match=NAMES[0]):
        await scene.bring_back(fee(2, "1", stream=NAMES[0]))
    assert NAMES[0] not in scene.books.accounts
