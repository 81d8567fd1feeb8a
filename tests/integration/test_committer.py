"""One commit for all partitions of a worker, against a real broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client
from tests.support.log import empty_log
from tests.support.workbench import until

from psm.adapters.jetstream import UnknownOutcomeError, UnsendableError, get, stream_info
from psm.adapters.jetstream import publish_atomic as publish_atomic_really
from psm.contracts.errors import FencedError
from psm.domain.messages import Update
from psm.workers.log.cursor import BATCH_ID_HEADER, Cursor, load_cursor
from psm.workers.partition import committer as shared
from psm.workers.partition.committer import Committer
from psm.workers.partition.jetstream import JetStreamLog
from psm.workers.partition.ports import Commit

PARTITIONS = 6


class Batches:
    """What is sent; each batch fails as the next of `failures` says, before or after it is sent.

    Attributes:
        sent: how many cursors each batch had.
        waits: how long each was waited for, in seconds.
        gate: batches wait for it.
    """

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.waits: list[float] = []
        self.failures: list[tuple[str, Exception] | None] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def publish(self, nc: Client, stream: str, messages: Any, **more: Any) -> Any:
        """Stand in the way of `publish_atomic`."""
        self.sent.append(sum(m.subject.startswith("_psm.cursor.") for m in messages))
        self.waits.append(more["timeout_s"])
        failure = self.failures.pop(0) if self.failures else None
        await self.gate.wait()
        if failure is not None and failure[0] == "before":
            raise failure[1]
        ack = await publish_atomic_really(nc, stream, messages, **more)
        if failure is not None:
            raise failure[1]
        return ack


@pytest.fixture
async def nc(nats_url: str) -> AsyncIterator[Client]:
    async with empty_log(nats_url) as connection:
        yield connection


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> Batches:
    found = Batches()
    monkeypatch.setattr(shared, "publish_atomic", found.publish)
    return found


def logs(nc: Client) -> list[JetStreamLog]:
    """Return the logs of a worker's partitions, which commit together."""
    together = Committer(nc)
    return [JetStreamLog(nc, partition, None, together) for partition in range(PARTITIONS)]


def part(partition: int, count: int, log_sequence: int = 1) -> Commit:
    """Return a commit of `count` updates."""
    updates = tuple(
        Update(
            kind="position.updated",
            stream_id=f"a{place}",
            partition=partition,
            event_id=f"{partition}-{log_sequence}-{place}",
            data=b"%d.%d" % (log_sequence, place),
            log_sequence=log_sequence,
        )
        for place in range(count)
    )
    cursor = Cursor(log_sequence=log_sequence, updates=count)
    return Commit(cursor=cursor, updates=updates, traceparents={})


async def check_whole(nc: Client, partition: int, sequence: int, commit: Commit) -> None:
    """Assert that a part stands where it was told to stand, with nothing in between."""
    cursor = await get(nc, "PSM", sequence)
    assert cursor is not None
    assert cursor.subject == f"psm.cursor.{partition}"
    assert load_cursor(cursor.data) == commit.cursor
    for place, update in enumerate(commit.updates, start=1):
        stored = await get(nc, "PSM", sequence + place)
        assert stored is not None
        assert (stored.subject, stored.data) == (update.subject, update.data)


async def test_who_hands_in_during_one_turn_shares_a_batch(nc: Client, batches: Batches) -> None:
    """Six partitions, one batch; each is told where its own cursor stands."""
    parts = [part(partition, partition) for partition in range(PARTITIONS)]
    places = await asyncio.gather(
        *(log.commit(commit, 0) for log, commit in zip(logs(nc), parts, strict=True))
    )
    assert batches.sent == [PARTITIONS]
    assert places == [1, 2, 4, 7, 11, 16]
    for partition, (place, commit) in enumerate(zip(places, parts, strict=True)):
        await check_whole(nc, partition, place, commit)


async def test_next_batch_leaves_with_the_answer(nc: Client, batches: Batches) -> None:
    """What is handed in while a batch is in flight waits for its answer, and goes together."""
    first, *others = logs(nc)
    batches.gate.clear()
    ahead = asyncio.create_task(first.commit(part(0, 1), 0))
    await until(lambda: batches.sent, "the first batch is on its way")
    behind = [
        asyncio.create_task(log.commit(part(n, 1), 0)) for n, log in enumerate(others, start=1)
    ]
    await asyncio.sleep(0)
    assert batches.sent == [1]
    batches.gate.set()
    assert await ahead == 1
    assert await asyncio.gather(*behind) == [3, 5, 7, 9, 11]
    assert batches.sent == [1, PARTITIONS - 1]


async def test_parts_stay_whole_and_in_order(nc: Client, batches: Batches) -> None:
    """The broker takes 1 000 messages: who does not fit waits, and nobody overtakes."""
    sizes = [600, 398, 1, 999, 0, 0]
    parts = [part(partition, size) for partition, size in enumerate(sizes)]
    places = await asyncio.gather(
        *(log.commit(commit, 0) for log, commit in zip(logs(nc), parts, strict=True))
    )
    assert batches.sent == [2, 1, 1, 2]
    assert places == sorted(places)
    for partition, (place, commit) in enumerate(zip(places, parts, strict=True)):
        await check_whole(nc, partition, place, commit)


async def test_one_fenced_partition_stops_itself_alone(nc: Client, batches: Batches) -> None:
    """The batch is refused for all; the others find their cursors unmoved, and commit."""
    await JetStreamLog(nc, 2).commit(part(2, 1), 0)
    results = await asyncio.gather(
        *(log.commit(part(n, 2), 0) for n, log in enumerate(logs(nc))), return_exceptions=True
    )
    assert batches.sent == [1, PARTITIONS]
    assert isinstance(results[2], FencedError)
    places = [place for place in results if isinstance(place, int)]
    assert len(places) == PARTITIONS - 1
    for partition, place in enumerate(results):
        if isinstance(place, int):
            await check_whole(nc, partition, place, part(partition, 2))
    assert (await stream_info(nc, "PSM")).last_sequence == 2 + 3 * (PARTITIONS - 1)


@pytest.mark.parametrize(
    "error",
    [
        UnknownOutcomeError("the answer is lost"),
        UnsendableError("one of them is too long"),
        ValueError("a defect"),
    ],
    ids=["lost", "unsendable", "defect"],
)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_failed_batch_is_settled_by_each_cursor(
    nc: Client, batches: Batches, when: str, error: Exception
) -> None:
    """Stored or not, whatever the reason: everything is there once, under the same batch id."""
    batches.failures = [(when, error)]
    parts = [part(partition, 3) for partition in range(PARTITIONS)]
    together = logs(nc)
    places = await asyncio.gather(
        *(log.commit(commit, 0) for log, commit in zip(together, parts, strict=True))
    )
    for partition, (place, commit) in enumerate(zip(places, parts, strict=True)):
        await check_whole(nc, partition, place, commit)
    assert (await stream_info(nc, "PSM")).last_sequence == 4 * PARTITIONS
    assert batches.sent == [PARTITIONS]
    again = [part(partition, 1, 2) for partition in range(PARTITIONS)]
    await asyncio.gather(
        *(log.commit(c, at) for log, c, at in zip(together, again, places, strict=True))
    )
    assert batches.sent == [PARTITIONS, PARTITIONS], "then they share again"


async def test_broker_without_answers_is_waited_for_longer(nc: Client, batches: Batches) -> None:
    """A slow one would only get slower by parts that are sent one by one; a quick answer heals."""
    first, *_ = logs(nc)
    lost = ("after", UnknownOutcomeError("the answer is lost"))
    batches.failures = [lost] * 5
    place = 0
    took = 0.0
    for log_sequence in range(1, 8):
        began, last_took = time.monotonic(), took
        place = await first.commit(part(0, 1, log_sequence), place)
        took = time.monotonic() - began
    assert batches.waits[:6] == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert shared.ANSWER_S <= batches.waits[6] <= max(shared.ANSWER_S, 4 * last_took)


async def test_batch_stored_late_is_recognised(nc: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was given up, is sent alone, and arrives all the same: one of the two is refused."""
    late: list[asyncio.Task[Any]] = []

    async def publish(*args: Any, **more: Any) -> Any:
        late.append(asyncio.create_task(publish_atomic_really(*args, **more)))
        raise UnknownOutcomeError("the answer is late")

    monkeypatch.setattr(shared, "publish_atomic", publish)
    parts = [part(partition, 2) for partition in range(PARTITIONS)]
    places = await asyncio.gather(
        *(log.commit(commit, 0) for log, commit in zip(logs(nc), parts, strict=True))
    )
    await asyncio.gather(*late, return_exceptions=True)
    for partition, (place, commit) in enumerate(zip(places, parts, strict=True)):
        await check_whole(nc, partition, place, commit)
    assert (await stream_info(nc, "PSM")).last_sequence == 3 * PARTITIONS


async def test_cancelled_partition_takes_back_what_was_not_sent(
    nc: Client, batches: Batches
) -> None:
    """A part that waits is withdrawn; one in flight is stored, and its partition waits for it."""
    first, second, *_ = logs(nc)
    batches.gate.clear()
    in_flight = asyncio.create_task(first.commit(part(0, 1), 0))
    await until(lambda: batches.sent, "it is on its way")
    waiting = asyncio.create_task(second.commit(part(1, 1), 0))
    await asyncio.sleep(0)
    for task in (in_flight, waiting):
        task.cancel()
    await asyncio.gather(in_flight, waiting, return_exceptions=True)
    starting = asyncio.create_task(first.cursor())
    await asyncio.sleep(0)
    assert await second.cursor() is None, "nothing of it is in flight"
    assert not starting.done()
    batches.gate.set()
    found = await starting
    assert found is not None
    assert found.sequence == 1
    assert batches.sent == [1]
    assert (await stream_info(nc, "PSM")).last_sequence == 2


async def test_batch_id_of_a_partition_is_its_own(nc: Client, batches: Batches) -> None:
    """Each part has one, by which its partition knows it again."""
    together = logs(nc)
    places = await asyncio.gather(*(log.commit(part(n, 0), 0) for n, log in enumerate(together)))
    stored = [await get(nc, "PSM", place) for place in places]
    assert len({m.header(BATCH_ID_HEADER) for m in stored if m}) == PARTITIONS
    assert len({m.header("Nats-Batch-Id") for m in stored if m}) == 1
