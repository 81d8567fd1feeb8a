"""The reader that catches up by a consumer for each filter, and follows by one for all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client
from tests.support.workbench import WAIT_S

from psm.adapters.embedded import EmbeddedNats
from psm.adapters.jetstream import CatchUpReader, StoredMessage, connect
from psm.adapters.jetstream.api import call
from psm.adapters.jetstream.catch_up import FAR

STREAM = "TICKS"
FILTERS = ["ticks.a", "ticks.b", "ticks.c"]
STORED = FAR + 2_000


@pytest.fixture
async def nc(nats_url: str) -> AsyncIterator[Client]:
    connection = await connect(nats_url, name="test")
    await prepare(connection)
    yield connection
    await call(connection, f"STREAM.DELETE.{STREAM}")
    await connection.close()


async def prepare(nc: Client, count: int = STORED) -> None:
    config = {"name": STREAM, "subjects": ["ticks.>"], "storage": "file", "allow_direct": True}
    await call(nc, f"STREAM.CREATE.{STREAM}", config)
    await publish(nc, count)


async def publish(nc: Client, count: int) -> None:
    """Publish on a, b, c and, what nobody asks for, d; one in fifty on c."""
    for number in range(count):
        body, subject = str(number).encode(), f"ticks.{'abd'[number % 3] if number % 50 else 'c'}"
        if number % 500 == 499 or number == count - 1:
            await nc.request(subject, body, timeout=10)
        else:
            await nc.publish(subject, body)


def expected(count: int, first: int = 1) -> list[int]:
    return [n + 1 for n in range(first - 1, count) if not n % 50 or n % 3 != 2]


async def read(reader: CatchUpReader, count: int) -> list[StoredMessage]:
    found: list[StoredMessage] = []
    async with asyncio.timeout(WAIT_S):
        while len(found) < count:
            found += await reader.fetch(300, 1.0)
    return found


async def consumers(nc: Client) -> int:
    return len((await call(nc, f"CONSUMER.NAMES.{STREAM}")).get("consumers") or [])


async def test_what_is_stored_comes_in_order_and_then_what_follows(nc: Client) -> None:
    """Three consumers while it catches up, one afterwards; nothing twice, nothing left out."""
    reader = CatchUpReader(nc, STREAM, FILTERS)
    found = await reader.fetch(300, 1.0)
    assert (reader.catching_up, await consumers(nc)) == (True, 3)
    assert not await reader.watch(STORED), "what is on its way is not hidden"
    found += await read(reader, len(expected(STORED)) - len(found))
    assert await reader.fetch(300, 0.1) == []
    assert not reader.catching_up
    await publish(nc, 100)
    found += await read(reader, len(expected(100)))
    later = [STORED + sequence for sequence in expected(100)]
    assert [message.sequence for message in found] == expected(STORED) + later
    assert [int(message.data) + 1 for message in found[: -len(later)]] == expected(STORED)
    await reader.close()
    async with asyncio.timeout(WAIT_S / 2):
        while await consumers(nc):  # noqa: ASYNC110 - the broker deletes in its own time
            await asyncio.sleep(0.02)


async def test_little_is_read_by_one_consumer(nc: Client) -> None:
    """Near the end of the stream there is nothing to gain."""
    reader = CatchUpReader(nc, STREAM, FILTERS)
    await reader.restart_at(STORED - 1000)
    found = await reader.fetch(300, 1.0)
    assert (reader.catching_up, await consumers(nc)) == (False, 1)
    assert found[0].sequence == expected(STORED, STORED - 1000)[0]
    await reader.close()


async def test_cancelled_fetch_loses_nothing(nc: Client) -> None:
    """A worker that is told to stop, or to drain, cuts its fetch short at any moment."""
    reader = CatchUpReader(nc, STREAM, FILTERS)
    found: list[StoredMessage] = []
    began = time.monotonic()
    await reader.fetch(1, WAIT_S)
    whole_s = time.monotonic() - began  # here and now
    cut = 0
    for place in range(40):  # from the first question about the stream to the first messages
        await reader.restart_at(found[-1].sequence + 1 if found else 1)
        fetching = asyncio.ensure_future(reader.fetch(50, 1.0))
        await asyncio.wait([fetching], timeout=whole_s * place / 20)
        cut += fetching.cancel()
        await asyncio.wait([fetching])
        if not fetching.cancelled():
            found += fetching.result()
        if place % 2:
            found += await reader.fetch(50, 1.0)  # goes on without a restart, too
    assert cut >= 10
    found += await read(reader, len(expected(STORED)) - len(found))
    assert [message.sequence for message in found] == expected(STORED)
    await reader.close()


async def test_going_back_in_the_middle_starts_over(nc: Client) -> None:
    """What had arrived is forgotten."""
    reader = CatchUpReader(nc, STREAM, FILTERS)
    await read(reader, 4000)
    await reader.restart_at(101)
    found = await read(reader, len(expected(STORED, 101)))
    assert [message.sequence for message in found] == expected(STORED, 101)
    await reader.close()


async def test_broker_that_is_killed_in_the_middle_loses_nothing(
    nats_server: EmbeddedNats,
) -> None:
    """It goes on where it was, by whichever reader."""
    nc = await connect(nats_server.url, name="test")
    await prepare(nc)
    reader = CatchUpReader(nc, STREAM, FILTERS)
    found = await read(reader, 600)
    assert reader.catching_up
    await nats_server.kill()
    await nats_server.start()
    found += await read(reader, len(expected(STORED)) - len(found))
    assert [message.sequence for message in found] == expected(STORED)
    await reader.close()
    await nc.close()
