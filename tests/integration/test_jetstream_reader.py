"""The ordered reader against a real broker that loses consumers, connections and itself."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client
from tests.support.log import empty_log
from tests.support.workbench import WAIT_S

from psm.adapters.embedded import EmbeddedNats
from psm.adapters.jetstream import (
    OrderedReader,
    StoredMessage,
    StreamNotFoundError,
    connect,
    last_per_subject,
    read_range,
    stream_info,
)
from psm.adapters.jetstream.api import call
from psm.adapters.jetstream.pull import PULL_BYTES

STREAM = "MARKETDATA"
FILTER = ["marketdata.>"]


@pytest.fixture
async def nc(nats_url: str) -> AsyncIterator[Client]:
    async with empty_log(nats_url) as connection:
        yield connection


async def publish(nc: Client, count: int, start: int = 1, size: int = 40) -> None:
    for number in range(start, start + count):
        body = str(number).encode().ljust(size)
        subject = f"marketdata.ticker.s{number % 7}"
        if number % 500 == 0 or number == start + count - 1:
            await nc.request(subject, body, timeout=10)  # acknowledged: what came before is stored
        else:
            await nc.publish(subject, body)


async def read(
    reader: OrderedReader, count: int, limit: int = 500, timeout_s: float = WAIT_S
) -> list[StoredMessage]:
    messages: list[StoredMessage] = []
    async with asyncio.timeout(timeout_s):
        while len(messages) < count:
            messages += await reader.fetch(limit, 1.0)
    return messages


def assert_contiguous(messages: list[StoredMessage], last: int, first: int = 1) -> None:
    assert [int(message.data) for message in messages] == list(range(first, last + 1))
    assert [message.sequence for message in messages] == list(range(first, last + 1))


async def consumers(nc: Client) -> list[str]:
    return (await call(nc, f"CONSUMER.NAMES.{STREAM}")).get("consumers") or []


async def test_every_message_is_read_once_in_order(nc: Client) -> None:
    """Many small fetches hand out the whole stream, then wait for what comes."""
    await publish(nc, 5000)
    reader = OrderedReader(nc, STREAM, FILTER, batch=300)
    messages = await read(reader, 5000, limit=77)
    assert_contiguous(messages, 5000)
    assert reader.caught_up()
    assert reader.pending == 0
    assert await reader.fetch(10, 0.1) == []
    await publish(nc, 1, start=5001)
    (message,) = await reader.fetch(10, 5)
    assert message.sequence == reader.position == 5001
    assert not reader.resets
    await reader.close()


async def test_stored_message_is_complete(nc: Client) -> None:
    """Subject, headers, time and body are what the leader stores."""
    await nc.publish("marketdata.ticker.x", b"body", headers={"A": "b"})
    reader = OrderedReader(nc, STREAM, FILTER)
    (message,) = await reader.fetch(10, 5)
    assert (message.subject, message.data, message.header("A")) == (
        "marketdata.ticker.x",
        b"body",
        "b",
    )
    assert abs(message.time_ns / 1e9 - time.time()) < 60
    await reader.close()


async def test_linger_collects_more(nc: Client) -> None:
    """With linger a fetch waits for a fuller batch, without it it does not."""
    reader = OrderedReader(nc, STREAM, FILTER)
    assert await reader.fetch(1, 0.05) == []

    async def slowly() -> None:
        for number in range(1, 4):
            await publish(nc, 1, start=number)
            await asyncio.sleep(0.02)

    task = asyncio.create_task(slowly())
    assert len(await reader.fetch(3, WAIT_S, linger_s=WAIT_S)) == 3
    await task
    await reader.close()


async def test_reader_survives_consumer_deletion(nc: Client) -> None:
    """A deleted consumer is replaced behind the position; nothing is lost or doubled."""
    await publish(nc, 3000)
    reader = OrderedReader(nc, STREAM, FILTER, batch=100)
    messages = await read(reader, 250, limit=50)
    for name in await consumers(nc):
        await call(nc, f"CONSUMER.DELETE.{STREAM}.{name}")
    messages += await read(reader, 3000 - len(messages))
    assert_contiguous(messages, 3000)
    assert reader.resets["consumer_deleted"] + reader.resets["no_responders"] == 1
    await reader.close()


async def test_idle_reader_hears_of_its_consumers_deletion(nc: Client) -> None:
    """A consumer that is deleted while nothing comes is replaced at once."""
    await publish(nc, 3)
    told: list[tuple[str, str]] = []
    reader = OrderedReader(
        nc, STREAM, FILTER, on_reset=lambda stream, reason: told.append((stream, reason))
    )
    await read(reader, 3)
    (name,) = await consumers(nc)
    await call(nc, f"CONSUMER.DELETE.{STREAM}.{name}")
    await publish(nc, 1, start=4)
    assert [m.sequence for m in await read(reader, 1)] == [4]
    assert reader.resets["consumer_deleted"] == 1
    assert told == [(STREAM, "consumer_deleted")]
    await reader.close()


async def test_slow_owner_loses_nothing(nc: Client) -> None:
    """An owner that computes long and reads rarely gets everything; memory stays bounded."""
    await publish(nc, 4000, size=2000)
    reader = OrderedReader(nc, STREAM, FILTER, batch=200)
    messages: list[StoredMessage] = []
    while len(messages) < 4000:
        messages += await reader.fetch(300, 5)
        assert reader._consumer is not None
        assert reader._consumer.arrived <= 400
        if len(messages) % 7 == 0:
            await asyncio.sleep(0.05)
    assert_contiguous(messages, 4000)
    assert not reader.resets
    await reader.close()


async def test_large_messages_do_not_pile_up(nc: Client) -> None:
    """What is here and not yet taken is bounded in bytes, and all of it comes, by one consumer."""
    count, size = 120, 500_000
    await publish(nc, count, size=size)
    reader = OrderedReader(nc, STREAM, FILTER)
    messages: list[StoredMessage] = []
    most = 0
    async with asyncio.timeout(WAIT_S):
        while len(messages) < count:
            messages += await reader.fetch(1, 5.0)
            for _ in range(5):  # let come what will
                await nc.flush()
            consumer = reader._consumer
            most = max(most, consumer.arrived * size if consumer else 0)
    assert_contiguous(messages, count)
    assert not reader.resets
    assert most <= 3 * PULL_BYTES + nc.max_payload
    await reader.close()


async def test_owner_silent_longer_than_heartbeats_is_not_reset(nc: Client) -> None:
    """Only the broker's silence counts: an owner that pauses keeps its consumer."""
    await publish(nc, 10)
    reader = OrderedReader(nc, STREAM, FILTER, heartbeat_s=0.5)
    await read(reader, 10)
    await asyncio.sleep(1.5)  # more than two heartbeats and a half
    time.sleep(1.5)
    await publish(nc, 1, start=11)
    (message,) = await reader.fetch(5, 5)
    assert message.sequence == 11
    assert not reader.resets
    await reader.close()


async def test_lost_message_in_transit_is_read_again(nc: Client) -> None:
    """A hole in the consumer's own numbers resets the reader to the last good position."""
    await publish(nc, 1000)
    reader = OrderedReader(nc, STREAM, FILTER, batch=100)
    messages = await read(reader, 100, limit=100)
    consumer = reader._consumer
    assert consumer is not None
    await consumer.wait(5, more_than=5)
    del consumer._arrived[3]
    messages += await read(reader, 1000 - len(messages))
    assert_contiguous(messages, 1000)
    assert reader.resets["gap"] == 1
    await reader.close()


async def test_lost_last_message_is_noticed_by_the_heartbeat(
    nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost tail leaves no hole; the broker's count in the heartbeat reveals it."""
    await publish(nc, 10)
    reader = OrderedReader(nc, STREAM, FILTER, heartbeat_s=0.5)
    messages = await read(reader, 10)
    consumer = reader._consumer
    assert consumer is not None
    original = consumer.receive
    dropped = 0

    def lossy(subject: str, reply: str, headers: dict[str, str] | None, data: bytes) -> None:
        nonlocal dropped
        if dropped:
            original(subject, reply, headers, data)
        else:
            dropped += 1

    monkeypatch.setattr(consumer, "receive", lossy)
    await publish(nc, 1, start=11)
    messages += await read(reader, 1)
    assert_contiguous(messages, 11)
    assert dropped == 1
    assert reader.resets["tail_gap"] == 1
    await reader.close()


async def test_restart_at_goes_back_and_forth(nc: Client) -> None:
    """The owner may go on anywhere."""
    await publish(nc, 50)
    reader = OrderedReader(nc, STREAM, FILTER)
    await read(reader, 50)
    await reader.restart_at(10)
    assert reader.position == 9
    assert (await reader.fetch(1, 5))[0].sequence == 10
    await reader.restart_at(50)
    assert (await reader.fetch(5, 5))[0].sequence == 50
    await reader.close()


async def test_watchdog_resets_a_reader_that_is_not_shown_a_message(nc: Client) -> None:
    """A message known to exist that does not come leads to a new consumer."""
    await publish(nc, 5)
    reader = OrderedReader(nc, STREAM, FILTER, watchdog_s=0.2)
    await read(reader, 5)
    assert not await reader.watch(5)
    assert not await reader.watch(6)
    await asyncio.sleep(0.3)
    assert await reader.watch(6)
    assert reader.resets["watchdog"] == 1
    await publish(nc, 1, start=6)
    await read(reader, 1)
    assert not await reader.watch(6)
    await reader.close()


async def test_missing_stream_is_told(nc: Client) -> None:
    """A stream that never was there is the operator's to create."""
    reader = OrderedReader(nc, "NOTHING", FILTER)
    with pytest.raises(StreamNotFoundError, match="stream not found"):
        await reader.fetch(1, 1)


async def test_last_per_subject_reads_one_of_each(nc: Client) -> None:
    """Each subject's newest message, by sequence."""
    await publish(nc, 3000)
    newest = await last_per_subject(nc, STREAM, FILTER)
    assert sorted(m.sequence for m in newest) == list(range(2994, 3001))
    assert [m.sequence for m in newest] == sorted(m.sequence for m in newest)
    assert await last_per_subject(nc, STREAM, ["marketdata.none.>"]) == []


async def test_read_range_is_bounded(nc: Client) -> None:
    """A range ends at its end, or where the stream ends, and leaves no consumer behind."""
    await publish(nc, 1000)
    assert_contiguous(
        [m async for batch in read_range(nc, STREAM, FILTER, 100, 300, batch=50) for m in batch],
        300,
        first=100,
    )
    rest = [m async for batch in read_range(nc, STREAM, FILTER, 990, 10**9) for m in batch]
    assert_contiguous(rest, 1000, first=990)
    assert [b async for b in read_range(nc, STREAM, ["marketdata.no"], 1, 10**9)] == []
    assert [b async for b in read_range(nc, STREAM, FILTER, 5, 4)] == []
    async with asyncio.timeout(WAIT_S / 2):  # less than unused ones are kept
        while await consumers(nc):  # noqa: ASYNC110 - the broker deletes in its own time
            await asyncio.sleep(0.02)


async def test_read_range_merges_several_filters_in_order(nc: Client) -> None:
    """Each filter is read by a consumer of its own; what is stored meanwhile is left out."""
    await publish(nc, 1000)
    several = [f"marketdata.ticker.s{number}" for number in range(6)]
    found: list[StoredMessage] = []
    async for batch in read_range(nc, STREAM, [*several, "marketdata.no"], 3, 10**9, batch=20):
        if not found:
            # The one whose filter matches nothing may have ended already.
            assert len(await consumers(nc)) in (len(several), len(several) + 1)
            await publish(nc, 50, start=1001)
        found += batch
    expected = [number for number in range(3, 1001) if number % 7 != 6]
    assert [message.sequence for message in found] == expected
    assert [int(message.data) for message in found] == expected
    some = [m async for b in read_range(nc, STREAM, several[:2], 8, 15) for m in b]
    assert [message.sequence for message in some] == [8, 14, 15]
    assert [b async for b in read_range(nc, STREAM, several[:2], 10**6, 10**9)] == []


async def _prepared(server: EmbeddedNats) -> Client:
    nc = await connect(server.url, name="test")
    config = {"name": STREAM, "subjects": FILTER, "storage": "file", "allow_direct": True}
    await call(nc, f"STREAM.CREATE.{STREAM}", config)
    return nc


async def test_reader_survives_a_killed_server(nats_server: EmbeddedNats) -> None:
    """The server is killed and comes back: the reader goes on where it was."""
    nc = await _prepared(nats_server)
    await publish(nc, 2000)
    reader = OrderedReader(nc, STREAM, FILTER, batch=100)
    messages = await read(reader, 500, limit=100)
    await nats_server.kill()
    while (found := await reader.fetch(100, 0.3)) != []:
        messages += found
    await asyncio.sleep(0.5)
    await nats_server.start()
    async with asyncio.timeout(WAIT_S):
        while not nc.is_connected:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.05)
    last = (await stream_info(nc, STREAM)).last_sequence
    await publish(nc, 100, start=last + 1)
    messages += await read(reader, last + 100 - len(messages))
    assert_contiguous(messages, last + 100)
    assert reader.resets["reconnect"] + reader.resets["connection"] >= 1
    await reader.close()
    await nc.close()


async def test_reader_notices_a_frozen_server(nats_server: EmbeddedNats) -> None:
    """Heartbeats that stay away reset the reader, long before TCP would notice."""
    nc = await _prepared(nats_server)
    await publish(nc, 100)
    reader = OrderedReader(nc, STREAM, FILTER, heartbeat_s=0.2)
    messages = await read(reader, 100)
    os.kill(nats_server.pid, signal.SIGSTOP)
    async with asyncio.timeout(WAIT_S):
        while not reader.resets["heartbeat_missed"]:
            assert await reader.fetch(1, 0.05) == []
    assert reader.resets["heartbeat_missed"] == 1
    os.kill(nats_server.pid, signal.SIGCONT)
    await publish(nc, 10, start=101)
    messages += await read(reader, 10)
    assert_contiguous(messages, 110)
    await reader.close()
    await nc.close()
