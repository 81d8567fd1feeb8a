"""A partition's commits, read by two consumers on a real broker, come in the stream's order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client
from tests.support.psm_stream import commit

from psm.adapters.jetstream import StoredMessage, connect, read_range
from psm.adapters.jetstream.streams_apply import apply
from psm.contracts.errors import LogDamagedError
from psm.contracts.subjects import PSM
from psm.domain.messages import Update
from psm.workers.log.committed import BatchAssembler, CommittedReader
from psm.workers.process.settings import Settings

READ = 7
WAIT_S = 60.0


@pytest.fixture
async def nc(nats_url: str) -> AsyncIterator[Client]:
    nc = await connect(nats_url, name="test")
    await apply(nc, Settings(partitions=2))
    yield nc
    await nc.close()


def update(number: int, partition: int = 0) -> Update:
    return Update(
        kind=("state.updated", "position.updated")[number % 2],
        stream_id=f"acc_{number % 5}",
        partition=partition,
        event_id=f"id-{number}",
        data=b"{}",
        log_sequence=number,
    )


async def stored(nc: Client, filters: list[str]) -> list[StoredMessage]:
    return [m async for batch in read_range(nc, PSM, filters, 1, 10**6) for m in batch]


async def collect(reader: CommittedReader, count: int) -> list[StoredMessage]:
    """Fetch until `count` messages are here."""
    found: list[StoredMessage] = []
    async with asyncio.timeout(WAIT_S):
        while len(found) < count:
            found += await reader.fetch(READ, 0.2)
    return found


async def feed(assembler: BatchAssembler, reader: CommittedReader) -> None:
    """Read on until something is wrong."""
    async with asyncio.timeout(WAIT_S):
        while True:
            assembler.feed(await reader.fetch(READ, 0.2))


async def test_order_is_that_of_the_stream(nc: Client) -> None:
    """Commits of any size, empty ones too, among those of another partition; from any boundary."""
    dice = random.Random(4)
    number = 0
    for _ in range(40):
        partition = dice.choice((0, 0, 1))
        size = dice.choice((0, 0, 1, 3, READ, 30))
        updates = [update(number + place, partition) for place in range(size)]
        number += size
        await commit(nc, partition, updates, log_sequence=number)
    expected = [
        message
        for message in await stored(nc, [">"])
        if message.subject == "psm.cursor.0" or ".0." in message.subject
    ]
    cursors = [m for m in expected if m.subject == "psm.cursor.0"]
    for first in (cursors[0], cursors[len(cursors) // 2]):
        reader = CommittedReader(nc, 0, first.sequence)
        behind = expected[expected.index(first) :]
        assert await collect(reader, len(behind)) == behind
        assert reader.pending == 0
        assert await reader.fetch(READ, 0.0) == []
        await reader.close()


async def test_reader_that_waited_gets_what_is_committed(nc: Client) -> None:
    """A commit that arrives while nothing is there is handed out whole, and the next one too."""
    reader = CommittedReader(nc, 0, 1)
    for number in (1, 2, 3):
        waiting = asyncio.create_task(reader.fetch(READ, WAIT_S, linger_s=0.02))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await commit(nc, 0, [update(2), update(4)], log_sequence=number)
        found = await waiting
        found += await collect(reader, 3 - len(found))
        assert [m.subject.split(".")[1] for m in found] == ["cursor", "state", "state"]
    await reader.close()


@pytest.mark.parametrize("next_updates", [1, 4])
async def test_fewer_updates_than_announced_are_noticed(nc: Client, next_updates: int) -> None:
    """Updates of the next commit never take the place of those that are missing."""
    reader, assembler = CommittedReader(nc, 0, 1), BatchAssembler(0)
    await commit(nc, 0, [update(1)], log_sequence=1, announced=3)
    assert assembler.feed(await collect(reader, 2)) is None
    await commit(nc, 0, [update(2)] * next_updates, log_sequence=2)
    with pytest.raises(LogDamagedError, match="missing"):
        await feed(assembler, reader)
    await reader.close()


async def test_update_that_no_cursor_announced_is_noticed(nc: Client) -> None:
    """It is handed out before the next cursor, though its own never comes."""
    await commit(nc, 0, [update(1)], log_sequence=1, announced=0)
    reader, assembler = CommittedReader(nc, 0, 1), BatchAssembler(0)
    assert assembler.feed(await collect(reader, 1)) is not None
    await commit(nc, 0, [update(2)], log_sequence=2)
    with pytest.raises(LogDamagedError, match="no commit cursor announced it"):
        await feed(assembler, reader)
    await reader.close()
