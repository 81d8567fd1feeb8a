"""The servers in memory, on which the simulator runs, do what the real ones do.

Each test runs twice: on NATS and PostgreSQL, and on their twins, through the same real adapters.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import operator
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Any, cast

import msgspec
import pytest
from nats.aio.client import Client
from tests.support import feed, views
from tests.support.events import Sent, deposit, mark, opened, trade
from tests.support.guarded import publish_guarded
from tests.support.log import LogSize, empty_log
from tests.support.psm_stream import OneWorker, read
from tests.support.simulator.broker import MemoryBroker
from tests.support.simulator.client import MemoryClient
from tests.support.simulator.database import MemoryDatabase, MemoryPool
from tests.support.simulator.faults import Swarm
from tests.support.workbench import until, until_answer

from psm.adapters import postgres
from psm.adapters.jetstream import (
    ApiConflictError,
    OrderedReader,
    Outgoing,
    StoredMessage,
    connect,
    get,
    last_for,
    last_per_subject,
    next_for,
    publish_expected,
    read_range,
    stream_info,
)
from psm.contracts.errors import FencedError, LogDamagedError
from psm.domain.messages import Update
from psm.projections import checkpoints
from psm.projections.checkpoints import ViewCheckpoint
from psm.projections.current_state import CURRENT_STATE
from psm.projections.witness import heads
from psm.workers.fleet import Member, MemberEntry, NatsMembers, NatsProber
from psm.workers.fleet.ports import ProbeAnswer
from psm.workers.log.cursor import Cursor
from psm.workers.partition.jetstream import JetStreamLog, JetStreamSnapshots
from psm.workers.partition.ports import Commit

SIZE = LogSize(partitions=2)
OWN, OTHER = "acc_001", "acc_002"  # in different partitions
Connect = Callable[[], Awaitable[Client]]


def calm() -> Swarm:
    """Return a swarm that harms nobody."""
    swarm = Swarm(0)
    swarm.calm, swarm.latency_s = True, 0.001
    return swarm


@pytest.fixture
async def memory() -> Connect:
    """Opens connections to the broker in memory."""
    broker = MemoryBroker(asyncio.get_running_loop(), calm(), SIZE)
    numbers = itertools.count()

    async def open_client() -> Client:
        return cast("Client", MemoryClient(broker, f"client{next(numbers)}"))

    return open_client


@pytest.fixture
async def nats(nats_url: str) -> AsyncIterator[Connect]:
    """Opens connections to the real broker."""
    clients: list[Client] = []

    async def open_client() -> Client:
        clients.append(await connect(nats_url, name="test"))
        return clients[-1]

    async with empty_log(nats_url, SIZE):
        yield open_client
        for client in clients:
            await client.close()


@pytest.fixture(params=["memory", "nats"])
def connected(request: pytest.FixtureRequest) -> Any:
    """Opens connections to one broker with all streams, empty."""
    return request.getfixturevalue(request.param)


@pytest.fixture
async def nc(connected: Connect) -> Client:
    return await connected()


async def publish(nc: Client, *messages: Sent) -> list[int]:
    acks = [
        await publish_expected(nc, "TRADES", m.subject, m.data, expected=None) for m in messages
    ]
    return [ack.sequence for ack in acks]


def update(number: int, stream: str = OWN) -> Update:
    return Update(
        kind="state.updated",
        stream_id=stream,
        partition=PARTITION,
        event_id=str(number),
        data=b'{"number":%d}' % number,
        log_sequence=number,
    )


PARTITION = 0
"""Of `OWN` where there are two partitions."""


def commit(log_sequence: int, *updates: Update) -> Commit:
    cursor = Cursor(log_sequence=log_sequence, updates=len(updates))
    return Commit(cursor=cursor, updates=updates, traceparents={})


async def fetch_all(log: JetStreamLog, count: int) -> list[Any]:
    found: list[Any] = []
    while len(found) < count:
        batch = await log.fetch(100, 5.0, 0.0)
        assert batch, f"{len(found)} of {count} messages"
        found += batch
    return found


# --- the log ------------------------------------------------------------------------------------


async def test_a_partition_reads_its_own_messages_in_order(nc: Client) -> None:
    """Subjects are stored with their partition; marks and instruments belong to all."""
    sent = [deposit(1), deposit(1, stream=OTHER), mark(1, "100"), deposit(2), deposit(3)]
    assert await publish(nc, *sent) == [1, 2, 3, 4, 5]
    log = JetStreamLog(nc, PARTITION)
    await log.start_at(1)
    found = await fetch_all(log, 4)
    assert [m.log_sequence for m in found] == [1, 3, 4, 5]
    assert [m.subject for m in found] == [
        f"trades.{PARTITION}.{OWN}",
        "marks.BTC-PERP",
        f"trades.{PARTITION}.{OWN}",
        f"trades.{PARTITION}.{OWN}",
    ]
    assert [m.data for m in found] == [sent[0].data, sent[2].data, sent[3].data, sent[4].data]
    assert sorted(m.time for m in found) == [m.time for m in found]
    assert await log.fetch(100, 0.05, 0.0) == []
    await publish(nc, deposit(4))
    assert [m.log_sequence for m in await fetch_all(log, 1)] == [6]
    await log.start_at(4)
    assert [m.log_sequence for m in await fetch_all(log, 3)] == [4, 5, 6]
    await log.close()


async def test_single_messages_are_read_from_the_leader(nc: Client) -> None:
    """By place, by stream from a place on, and the last of a partition."""
    log = JetStreamLog(nc, PARTITION)
    assert await log.last_sequence() == 0
    assert await log.message_at(1) is None
    await publish(nc, deposit(1), deposit(1, stream=OTHER), deposit(2), deposit(2, stream=OTHER))
    found = await log.message_at(2)
    assert found is not None
    assert (found.subject, found.data) == (f"trades.1.{OTHER}", deposit(1, stream=OTHER).data)
    following = await log.next_on(f"trades.{PARTITION}.{OWN}", 2)
    assert following is not None
    assert following.log_sequence == 3
    assert await log.next_on(f"trades.{PARTITION}.{OWN}", 4) is None
    assert list(await log.history(OWN, 1, 4)) == [1, 3]
    assert list(await log.history(OWN, 2, 2)) == []
    assert await log.last_sequence() == 3
    marked = await publish(nc, mark(1, "100"))
    assert await log.last_sequence() == marked[0]


async def test_the_broker_counts_what_it_has(nc: Client) -> None:
    """The check for holes reads first, last and number of messages."""
    empty = await stream_info(nc, "TRADES")
    assert (empty.first_sequence, empty.last_sequence, empty.messages) == (0, 0, 0)
    await publish(nc, deposit(1), deposit(2))
    info = await stream_info(nc, "TRADES")
    assert (info.first_sequence, info.last_sequence, info.messages) == (1, 2, 2)
    assert info.deleted == 0
    assert info.config["metadata"]["psm.partitions"] == "2"


async def test_a_message_id_is_stored_once(nc: Client) -> None:
    """A repeat within the window is acknowledged with the first one's place."""
    for number, duplicate in ((1, False), (1, True), (2, False)):
        ack = await publish_expected(
            nc,
            "TRADES",
            f"trades.{OWN}",
            b"{}",
            expected=None,
            headers={"Nats-Msg-Id": f"id{number}"},
        )
        assert (ack.sequence, ack.duplicate) == (number, duplicate)


# --- the commit ---------------------------------------------------------------------------------


async def test_a_commit_is_stored_whole_behind_its_predecessor(nc: Client) -> None:
    """Cursor first, updates behind it without a hole, under their public subjects."""
    log = JetStreamLog(nc, PARTITION)
    assert await log.cursor() is None
    assert not await log.ever_committed()
    first = await log.commit(commit(3, update(1), update(2)), 0)
    second = await log.commit(commit(4, update(4)), first)
    third = await log.commit(commit(9), second)
    assert (first, second, third) == (1, 4, 6)
    stored = await log.cursor()
    assert stored is not None
    assert (stored.sequence, stored.cursor.log_sequence) == (6, 9)
    assert await log.ever_committed()
    filters = [f"psm.*.*.{PARTITION}.*", f"psm.cursor.{PARTITION}"]
    found = [m async for batch in read_range(nc, "PSM", filters, 1, 100) for m in batch]
    assert [m.sequence for m in found] == [1, 2, 3, 4, 5, 6]
    assert [m.subject.split(".")[1] for m in found] == [
        "cursor",
        "state",
        "state",
        "cursor",
        "state",
        "cursor",
    ]
    expected = [m.header("Nats-Expected-Last-Subject-Sequence") for m in found]
    assert expected == ["0", None, None, "1", None, "4"]


async def test_of_two_owners_one_commits(connected: Connect) -> None:
    """A commit that expects an older cursor is refused and leaves nothing behind."""
    one = JetStreamLog(await connected(), PARTITION)
    other = JetStreamLog(await connected(), PARTITION)
    first = await one.commit(commit(3, update(1)), 0)
    with pytest.raises(FencedError):
        await other.commit(commit(3, update(1)), 0)
    assert await other.commit(commit(5, update(2), update(3)), first) == 3
    with pytest.raises(FencedError):
        await one.commit(commit(5, update(2)), first)
    with pytest.raises(LogDamagedError):
        await one.commit(commit(7), 99)


async def test_an_incomplete_batch_is_never_stored(nc: Client) -> None:
    """A message that is missing, or comes twice, costs the whole batch; another one may follow."""
    entrance = f"_psm.state.updated.{PARTITION}.{OWN}"
    for places in ((1, 3), (1, 1, 2), (2,)):
        *body, last = places
        batch_id = f"batch{places}".replace(" ", "")
        for place in body:
            headers = {"Nats-Batch-Id": batch_id, "Nats-Batch-Sequence": str(place)}
            await nc.publish(entrance, b"{}", headers=headers)
        headers = {"Nats-Batch-Id": batch_id, "Nats-Batch-Sequence": str(last)}
        answer = await nc.request(
            entrance, b"{}", timeout=10.0, headers={**headers, "Nats-Batch-Commit": "1"}
        )
        assert msgspec.json.decode(answer.data)["error"]["err_code"] == 10176, places
    assert (await stream_info(nc, "PSM")).messages == 0
    ack = await publish_guarded(
        nc, "PSM", [Outgoing(entrance, b"{}")] * 3, expected=0, batch_id="whole"
    )
    assert (ack.first, ack.last) == (1, 3)
    with pytest.raises(ApiConflictError) as refused:
        await publish_guarded(
            nc, "PSM", [Outgoing(entrance, b"{}")] * 3, expected=2, batch_id="late"
        )
    assert refused.value.err_code == 10071


# --- snapshots ----------------------------------------------------------------------------------


async def test_snapshots_keep_their_last_versions(nc: Client) -> None:
    """The newest of each subject at once, older ones one by one, five of them; large ones too."""
    store, subject = JetStreamSnapshots(nc, PARTITION), f"snapshots.{PARTITION}.{OWN}"
    assert await store.latest() == []
    last = 0
    sequences = []
    for number in range(6):
        last = await store.write(subject, b"version %d" % number, last)
        sequences.append(last)
    checkpoint = await store.write(f"snapshots.{PARTITION}", b"checkpoint", 0)
    latest = {saved.subject: saved for saved in await store.latest()}
    assert latest.keys() == {subject, f"snapshots.{PARTITION}"}
    assert (latest[subject].sequence, latest[subject].data) == (last, b"version 5")
    assert latest[f"snapshots.{PARTITION}"].sequence == checkpoint
    older = []
    at = last
    while (found := await store.older(subject, at)) is not None:
        older.append(found.data)
        at = found.sequence
    assert older == [b"version 4", b"version 3", b"version 2", b"version 1"]
    newest = await store.newest(subject)
    assert newest is not None
    assert newest.data == b"version 5"
    with pytest.raises(FencedError):
        await store.write(subject, b"late", sequences[0])
    large = bytes(range(256)) * 3000
    await store.write(subject, large, last)
    newest = await store.newest(subject)
    assert newest is not None
    assert newest.data == large


# --- consumers ----------------------------------------------------------------------------------


async def test_a_reader_goes_on_when_its_consumer_is_gone(nc: Client) -> None:
    """Nothing is missing and nothing comes twice; the reason is counted."""
    await publish(nc, *(deposit(n) for n in range(1, 6)))
    reader = OrderedReader(nc, "TRADES", ["trades.>"])
    first = await reader.fetch(2, 2.0)
    assert [m.sequence for m in first] == [1, 2]
    consumer = reader._consumer
    assert consumer is not None
    await nc.request(f"$JS.API.CONSUMER.DELETE.TRADES.{consumer._name}", b"", timeout=10.0)
    await publish(nc, deposit(6))
    found: list[StoredMessage] = []
    while len(found) < 4:
        found += await reader.fetch(100, 5.0)
    assert [m.sequence for m in found] == [3, 4, 5, 6]
    assert reader.resets["consumer_deleted"] == 1
    assert reader.caught_up()
    assert reader.pending == 0
    await reader.close()


async def test_the_last_of_every_subject(nc: Client) -> None:
    """One message per subject, by ascending place; single reads agree."""
    await publish(nc, deposit(1), mark(1, "1"), deposit(1, stream=OTHER), mark(2, "2"), deposit(2))
    found = await last_per_subject(nc, "TRADES", [f"trades.{PARTITION}.*", "marks.*"])
    assert [m.sequence for m in found] == [4, 5]
    last = await last_for(nc, "TRADES", "marks.*")
    following = await next_for(nc, "TRADES", "trades.>", 2)
    assert last is not None
    assert following is not None
    assert (last.sequence, following.sequence) == (4, 3)
    at = await get(nc, "TRADES", 4)
    assert at == last
    assert await get(nc, "TRADES", 77) is None
    assert await last_for(nc, "TRADES", "marks.nothing") is None


# --- the fleet ----------------------------------------------------------------------------------


def member(name: str, **more: Any) -> Member:
    return Member(id=name, host="h", pid=1, version="1", started_at="2025-01-01T00:00:00Z", **more)


async def test_keys_are_told_listed_and_deleted_as_of_a_revision(connected: Connect) -> None:
    """A deletion that is late changes nothing."""
    mine, theirs = NatsMembers(await connected()), NatsMembers(await connected())
    heard: list[MemberEntry] = []
    await theirs.listen(heard.append)
    assert await mine.entries() == []
    first = await mine.put(member("a"))
    second = await mine.put(member("a", leaving=True))
    await mine.put(member("b"))
    assert second > first
    found = {entry.id: entry for entry in await theirs.entries()}
    assert found.keys() == {"a", "b"}
    assert found["a"] == MemberEntry(id="a", revision=second, member=member("a", leaving=True))
    assert await theirs.delete("a", first) is None
    deleted = await theirs.delete("a", second)
    assert deleted is not None
    assert deleted > second
    gone = {entry.id: entry for entry in await mine.entries()}
    assert gone["a"] == MemberEntry(id="a", revision=deleted, member=None)
    await until(lambda: len(heard) == 4, "all is told")
    assert [(entry.id, entry.revision) for entry in heard][:2] == [("a", first), ("a", second)]
    assert heard[-1] == gone["a"]


async def test_a_probe_tells_who_is_gone(connected: Connect) -> None:
    """The broker answers at once for somebody who does not listen."""
    clock = asyncio.get_running_loop().time
    mine, theirs = NatsProber(await connected(), clock), NatsProber(await connected(), clock)
    await theirs.listen("them")
    # On a busy machine an answer may come too late to count.
    for member, wanted in (("them", ProbeAnswer.ALIVE), ("nobody", ProbeAnswer.GONE)):
        await until_answer(partial(mine.probe, member), partial(operator.is_, wanted), wanted.name)


# --- the database -------------------------------------------------------------------------------


class Database:
    """A pool, and how to see the views."""

    def __init__(self, pool: postgres.Pool, read: Callable[[], Awaitable[views.Views]]) -> None:
        self.pool = pool
        self.read = read


@pytest.fixture
async def memory_database() -> Database:
    twin = MemoryDatabase(asyncio.get_running_loop(), calm())

    async def read_twin() -> views.Views:
        return {table: _plain(twin.tables[table]) for table in views.KEYS}

    return Database(cast("postgres.Pool", MemoryPool(twin)), read_twin)


@pytest.fixture
async def real_database(postgres_dsn: str) -> AsyncIterator[Database]:
    pool = await postgres.open_pool(postgres_dsn, name="test")
    yield Database(pool, lambda: views.read_views(postgres_dsn))
    await pool.close()


@pytest.fixture(params=["memory_database", "real_database"])
def database(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def _plain(rows: Any) -> views.Rows:
    """Return rows as they stand in an update; a null is left out."""
    return {
        key: {
            name: datetime.fromisoformat(value) if name == "log_time" else value
            for name, value in row.items()
            if value is not None
        }
        for key, row in rows.items()
    }


def checkpoint(sequence: int) -> ViewCheckpoint:
    return ViewCheckpoint(
        partition=1, stream_sequence=sequence, event_hash=f"{sequence:064}", log_sequence=sequence
    )


async def stored(database: Database) -> int | None:
    async with postgres.acquired(database.pool) as connection:
        found = await checkpoints.read(connection, "p", 1)
    return found.stream_sequence if found else None


async def advance(database: Database, to: int, expected: int | None) -> None:
    async with postgres.transaction(database.pool) as connection:
        before = None if expected is None else checkpoint(expected)
        await checkpoints.advance(connection, "p", checkpoint(to), expected=before)


async def test_a_checkpoint_moves_from_where_it_is(database: Database) -> None:
    """Whoever believes it elsewhere is refused; nothing is visible before the commit."""
    assert await stored(database) is None
    await advance(database, 5, None)
    for wrong in (None, 4):
        with pytest.raises(FencedError):
            await advance(database, 6, wrong)
    assert await stored(database) == 5
    async with postgres.transaction(database.pool) as connection:
        await checkpoints.advance(connection, "p", checkpoint(9), expected=checkpoint(5))
        assert await stored(database) == 5
    assert await stored(database) == 9


async def test_what_fails_leaves_nothing(database: Database) -> None:
    """An error inside a transaction takes checkpoint and rows back."""

    async def fail() -> None:
        async with postgres.transaction(database.pool) as connection:
            await checkpoints.advance(connection, "p", checkpoint(5), expected=None)
            await CURRENT_STATE.writer().apply(connection, read(folded(5)))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert await stored(database) is None
    assert not any((await database.read()).values())


async def test_the_second_waits_for_the_first_and_is_refused(database: Database) -> None:
    """Two projectors with one checkpoint: the row is locked until the first has committed."""
    await advance(database, 5, None)
    async with postgres.transaction(database.pool) as connection:
        await checkpoints.advance(connection, "p", checkpoint(6), expected=checkpoint(5))
        second = asyncio.create_task(advance(database, 7, 5))
        await asyncio.sleep(0.2)
        assert not second.done()
    with pytest.raises(FencedError):
        await second
    assert await stored(database) == 6


def folded(events: int) -> list[Update]:
    """Return the updates of a small log with opened and closed positions."""
    worker = OneWorker()
    sent = [opened(1), *feed.traffic(3, accounts=3, events=events, trouble=False)]
    sent += [trade(1, side, "1", "5", stream="z", salt=side) for side in ("buy", "sell")]
    return [u for message in sent for u in worker.fold(message.subject, message.data)]


async def test_views_are_the_last_of_every_key(database: Database) -> None:
    """Batches of updates leave the rows that the updates, taken at once, describe."""
    updates = folded(60)
    for start in range(0, len(updates), 7):
        async with postgres.transaction(database.pool) as connection:
            await CURRENT_STATE.writer().apply(connection, read(updates[start : start + 7]))
    expected = views.views_of(msgspec.json.decode(u.data) for u in updates)
    found = await database.read()
    for table, rows in expected.items():
        assert found[table] == rows, table
    assert len(found["positions_view"]) > 3


async def test_heads_are_remembered_and_one_row_per_thousand_kept(database: Database) -> None:
    """Log heads move within their thousand; chain heads are those of the last events."""
    for sequence in (5, 999, 1000, 1001, 2500):
        async with postgres.transaction(database.pool) as connection:
            hashed = hashlib.sha256(b"%d" % sequence).hexdigest()
            await heads.record(
                connection, 1, log_sequence=sequence, event_hash=hashed, stream_sequence=sequence
            )
    async with postgres.transaction(database.pool) as connection:
        await CURRENT_STATE.writer().apply(connection, read(folded(20)))
    async with postgres.acquired(database.pool) as connection:
        newest = await heads.newest_log_head(connection, 1)
        kept = await heads.log_heads(connection, 1)
        chains = await heads.chain_heads(connection, 0)
        assert await heads.newest_log_head(connection, 2) is None
        assert await heads.chain_heads(connection, 7) == []
    assert newest is not None
    assert newest.log_sequence == 2500
    assert [head.log_sequence for head in kept] == [999, 1001, 2500]
    assert {head.stream_id for head in chains} >= {"acc_000", "acc_001", "acc_002"}
