"""Messages that no client library would send or read: they are handed on, and end nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from tests.support.events import deposit
from tests.support.raw_nats import pub, send_raw
from tests.support.workbench import open_bench, until, until_answer

from psm.adapters.jetstream import (
    ConnectionCounters,
    OrderedReader,
    StoredMessage,
    UnsendableError,
    connect,
    direct_get,
    get,
    last_for,
    last_per_subject,
    next_for,
    publish_expected,
    read_every,
    read_range,
    stream_info,
)
from psm.adapters.jetstream.streams_apply import apply
from psm.contracts.errors import ContractError
from psm.contracts.publisher import Publisher
from psm.contracts.subjects import partition_of
from psm.workers.process.settings import Settings

PARTITIONS = 4
SUBJECTS = (
    b"marks.\xff\xfe",
    b"marks.a\x0bb",
    b"marks.a\x0cb",
    b"marks.a\x00b",
    b"trades.\xff",
    b"trades.\xc3\xa9",
    b"instruments." + b"\xf0" * 100,
    b"marks." + b"x" * 4_060,
)
HEADERS = (
    b"abcd",
    b"NATS/1.0",
    b"NATS/1.0\xff\r\n\r\n",
    b"NATS/1.0 \xff\xfe\xff x\r\n\r\n",
    b"NATS/1.0 503\r\n\r\n",
    b"NATS/1.0 404 \xff\r\n\r\n",
    b"NATS/1.0\r\nStatus: 404\r\nNats-Sequence: 77\r\n\r\n",
    b"NATS/1.0\r\n\xff: x\r\nA: \xff\r\nNats-Subject: zzz\r\n",
)


def as_stored(subject: bytes) -> bytes:
    """Return the subject as the log keeps it: the broker puts an account's partition in."""
    head, _, token = subject.partition(b".")
    if head != b"trades":
        return subject
    number = partition_of(token.decode("utf-8", "surrogateescape"), PARTITIONS)
    return b"trades.%d.%b" % (number, token)


SENT = [pub(subject) for subject in SUBJECTS]
SENT += [pub(b"marks.h%d" % place, b"{}", block) for place, block in enumerate(HEADERS)]
STORED = [*map(as_stored, SUBJECTS), *(b"marks.h%d" % place for place in range(len(HEADERS)))]


@pytest.fixture
def counters() -> ConnectionCounters:
    return ConnectionCounters()


@pytest.fixture
async def nc(nats_url: str, counters: ConnectionCounters) -> AsyncIterator[Client]:
    """A connection to a broker whose log holds everything of `SENT`."""
    client = await connect(nats_url, name="test", counters=counters)
    await apply(client, Settings(nats_url=nats_url, partitions=PARTITIONS))
    await send_raw(nats_url, SENT)

    async def stored() -> int:
        return (await stream_info(client, "TRADES")).last_sequence

    await until_answer(stored, lambda last: last == len(SENT), "everything is stored")
    yield client
    assert client.is_connected
    assert (counters.disconnects, client.stats["reconnects"]) == (0, 0)
    await client.close()


def subjects(messages: list[StoredMessage]) -> list[bytes]:
    assert all(message.data == b"{}" for message in messages)
    return [message.subject_bytes for message in messages]


async def test_readers_get_them_byte_for_byte(nc: Client) -> None:
    """By consumers that follow, by ranges, with one filter and with several."""
    reader = OrderedReader(nc, "TRADES", [">"])
    found: list[StoredMessage] = []
    while len(found) < len(STORED):
        found += await reader.fetch(100, 5)
    await reader.close()
    assert subjects(found) == STORED
    filters = ["trades.*.*", "marks.*", "instruments.*"]
    ranged = [m async for batch in read_range(nc, "TRADES", filters, 1, 100) for m in batch]
    assert subjects(ranged) == STORED


async def test_single_reads_get_them_byte_for_byte(nc: Client) -> None:
    """From the leader, whose answers are JSON, and from any replica."""
    for place, subject in enumerate(STORED, start=1):
        leader, direct = await get(nc, "TRADES", place), await direct_get(nc, "TRADES", place)
        assert leader is not None
        assert direct is not None
        assert (leader.subject_bytes, direct.subject_bytes) == (subject, subject)
        assert leader.sequence == direct.sequence == place
    first = await next_for(nc, "TRADES", ">", 1)
    last = await last_for(nc, "TRADES", "instruments.*")
    assert first is not None
    assert last is not None
    assert (first.subject_bytes, last.subject_bytes) == (STORED[0], STORED[6])


async def test_every_sequence_is_shown(nc: Client) -> None:
    """An audit takes none of them for hidden, and none ends its batch."""
    reads = [one async for part in read_every(nc, "TRADES", 1, len(STORED)) for one in part]
    assert [one.message and one.message.subject_bytes for one in reads] == STORED
    assert not any(one.hidden for one in reads)


async def test_last_of_each_subject_is_found(nc: Client) -> None:
    """Two subjects that differ in bytes no text can show are two."""
    found = await last_per_subject(nc, "TRADES", ["marks.*"])
    assert subjects(found) == [subject for subject in STORED if subject.startswith(b"marks.")]


async def test_plain_subscriptions_live(nc: Client, nats_url: str) -> None:
    """Core NATS, too: each is given to the callback, whatever its subject and headers."""
    heard: list[Msg] = []

    async def take(message: Msg) -> None:
        heard.append(message)

    await nc.subscribe(">", cb=take)
    await nc.flush()
    await send_raw(nats_url, SENT)
    published = [*SUBJECTS, *STORED[len(SUBJECTS) :]]

    def taken() -> list[bytes]:
        names = [message.subject.encode("utf-8", "surrogateescape") for message in heard]
        return [name for name in names if not name.startswith(b"_INBOX")]

    await until(lambda: len(taken()) >= len(published), "all are heard")
    assert taken() == published


async def test_refused_publish_of_odd_bytes_is_only_reported(
    nc: Client, nats_url: str, counters: ConnectionCounters
) -> None:
    """What the broker says of bytes that are no text does not end the connection either."""
    before = counters.errors
    await nc._process_err("'Permissions Violation for Publish to \"marks.\udcff\"'")
    await nc._ps.parse(b"-ERR 'Permissions Violation for Publish to \"marks.\xff\"'\r\n")
    assert counters.errors == before + 2


@pytest.mark.parametrize("plain", [True, False], ids=["nats-py", "ours"])
async def test_headers_that_look_like_a_status_stop_no_producer(
    nc: Client, nats_url: str, plain: bool
) -> None:
    """Whoever publishes to an account cannot keep its producers from reading its end."""
    status = b"NATS/1.0\r\nStatus: 404\r\nNats-Sequence: 9\r\n\r\n"
    await send_raw(nats_url, [pub(b"trades.acc_001", b"junk", status)])
    client = await nats.connect(nats_url) if plain else nc
    publisher = Publisher(client, give_up_s=5)
    first, second = deposit(1), deposit(2)
    assert (await publisher.append(first.data)).sequence_number == 1
    await send_raw(nats_url, [pub(b"trades.acc_001", b"junk", status)])
    # Another one, that has to read what is there.
    late = Publisher(client, give_up_s=5)
    assert (await late.append(second.data)).sequence_number == 2
    if plain:
        await client.close()


async def test_too_long_an_address_is_refused_by_name(nc: Client, nats_url: str) -> None:
    """It is not sent: the broker would close the connection, and nats-py would never come back."""
    long = f"signals.strategy.{'a' * 4_060}.X"
    with pytest.raises(UnsendableError, match="has 4079 bytes"):
        await nc.publish(long, b"{}")
    with pytest.raises(UnsendableError, match="4079 bytes"):
        await publish_expected(nc, "SIGNALS", long, b"{}", expected=None)
    with pytest.raises(UnsendableError, match="is no text"):
        await nc.publish("marks.\udcff", b"{}")
    plain = await nats.connect(nats_url)
    with pytest.raises(ContractError, match="at most 512 bytes"):
        await Publisher(plain, validate=False, give_up_s=5).record(long, b"{}")
    headers = {"junk": "x" * 1_048_576}
    with pytest.raises(ContractError, match="the broker takes 1048576"):
        await Publisher(plain, give_up_s=5).append(deposit(1).data, headers=headers)
    await plain.flush()
    assert plain.is_connected
    await plain.close()


async def test_partition_judges_them_and_goes_on(nats_url: str) -> None:
    """Each is rejected at its log sequence; its neighbours are folded and committed."""
    async with open_bench(nats_url, partitions=1) as bench:
        await send_raw(nats_url, SENT)
        await until_answer(
            lambda: stream_info(bench.nc, "TRADES"),
            lambda info: info.last_sequence == len(SENT),
            "everything is stored",
        )
        last = await bench.publish(deposit(1))
        await bench.run_until(bench.partition(), last)
        assert (await bench.cursor()).log_sequence == last
        verdict = await bench.judge()
        assert verdict.outcomes == {"rejected": len(SENT), "applied": 1}
        refusals = await last_per_subject(bench.nc, "PSM", ["psm.event.refused.*.*"])
        assert all(len(message.subject) < 512 for message in refusals)
        assert bench.nc.stats["reconnects"] == 0
