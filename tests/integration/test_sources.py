"""A projection that follows another stream, beside the one that follows PSM.

The second source is an artificial one: plain messages of MARKETDATA, each complete by itself. Its
reader stands here; follower, lag and rebuild take it as they are.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest
from nats.aio.client import Client
from tests.support.psm_stream import Account, OneWorker, commit

from psm.adapters import postgres, telemetry
from psm.adapters.jetstream import OrderedReader, StoredMessage, connect, stream_info
from psm.adapters.jetstream.streams_apply import apply
from psm.contracts.errors import ConfigError
from psm.contracts.updates_read import ReadUpdate
from psm.domain.market.slots import ValuationSlots
from psm.projections import checkpoints
from psm.projections.checkpoints import ViewCheckpoint
from psm.projections.current_state import CURRENT_STATE
from psm.projections.projection import Projection
from psm.projections.registry import PROJECTIONS
from psm.projections.rows import PLACE, Row
from psm.projections.source import ProjectionSource
from psm.projections.sql import Connection
from psm.projections.statements import upsert
from psm.workers.cli.run.projector import readiness
from psm.workers.process.lease import Lease
from psm.workers.process.readiness import Pulse
from psm.workers.process.settings import Settings
from psm.workers.projector import follower, lag, sources
from psm.workers.projector.batches import BatchReader, OnReset, ReadyBatch
from psm.workers.projector.follower import Projector
from psm.workers.projector.lag import view_lag
from psm.workers.projector.rebuild import Rebuild
from psm.workers.projector.sources import reader_of

WAIT_S = 60.0


class Quote(msgspec.Struct):
    """What the artificial source carries."""

    symbol: str
    price: str


class QuotesView:
    """The last price per symbol."""

    def __init__(self) -> None:
        self.table = "quotes_view"
        self.kinds = frozenset({"quote"})
        self.key: tuple[str, ...] = ("symbol",)
        self.adds_up = False
        self.place = PLACE
        self.statements = {"upsert": upsert(self.table, Quote.__struct_fields__, self.key)}

    def reduce(self, updates: Sequence[ReadUpdate]) -> Mapping[str, list[Row]]:
        quotes = (msgspec.json.decode(update.data, type=Quote) for update in updates)
        rows = {quote.symbol: msgspec.structs.asdict(quote) for quote in quotes}
        return {"upsert": list(rows.values())}


class PlainMessages:
    """Reader of a stream that has no partitions: the projector of partition 0 follows it."""

    probe = ">"

    def __init__(self, source: ProjectionSource) -> None:
        self._js_stream = source.js_stream

    def partitions(self, own: Sequence[int]) -> Sequence[int]:
        return [number for number in own if number == 0]

    def filters(self, partition: int) -> list[str]:
        return [">"]

    def open(
        self, nc: Client, partition: int, start_sequence: int, on_reset: OnReset
    ) -> BatchReader:
        return PlainBatches(
            OrderedReader(nc, self._js_stream, [">"], start_sequence, on_reset=on_reset)
        )

    async def ends(self, nc: Client) -> dict[int, int]:
        last = (await stream_info(nc, self._js_stream)).last_sequence
        return {0: last} if last else {}


class PlainBatches:
    """Whatever was fetched is a batch."""

    def __init__(self, reader: OrderedReader) -> None:
        self._reader = reader

    @property
    def pending(self) -> int:
        return self._reader.pending or 0

    async def restore(self, connection: Connection) -> None:
        pass

    async def fetch(self) -> Sequence[StoredMessage]:
        return await self._reader.fetch(100, 1.0)

    def assemble(self, messages: Iterable[StoredMessage]) -> ReadyBatch | None:
        found = list(messages)
        if not found:
            return None
        checkpoint = ViewCheckpoint(
            partition=0,
            stream_sequence=found[-1].sequence,
            event_hash=hashlib.sha256(found[-1].data).hexdigest(),
            log_sequence=0,
        )
        updates = [ReadUpdate(kind="quote", data=message.data) for message in found]
        return ReadyBatch(updates=updates, checkpoint=checkpoint)

    async def close(self) -> None:
        await self._reader.close()


QUOTES = Projection(
    name="quotes",
    version=1,
    source=ProjectionSource(js_stream="MARKETDATA", reader="plain"),
    views=(QuotesView(),),
)


class World:
    """A broker and a database."""

    def __init__(self, nc: Client, dsn: str, pool: postgres.Pool) -> None:
        self.nc = nc
        self.dsn = dsn
        self.pool = pool

    async def quote(self, symbol: str, price: str) -> None:
        quote = msgspec.json.encode(Quote(symbol=symbol, price=price))
        await self.nc.request(f"marketdata.{symbol}", quote, timeout=10)

    async def prices(self) -> dict[str, str]:
        async with postgres.acquired(self.pool) as connection:
            rows = await connection.fetch("SELECT symbol, price::text FROM quotes_view")
        return {row["symbol"]: row["price"] for row in rows}

    async def price_is(self, symbol: str, price: str) -> None:
        async with asyncio.timeout(WAIT_S):
            while (await self.prices()).get(symbol) != price:  # noqa: ASYNC110 - another task
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def projecting(self, *projections: Projection) -> AsyncIterator[Projector]:
        metrics = telemetry.quiet().metrics
        projector = Projector(self.nc, self.pool, projections, [0], metrics)
        task = asyncio.create_task(projector.run())
        try:
            yield projector
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()


@pytest.fixture(autouse=True)
def plain_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sources.READERS, "plain", lambda source, _: PlainMessages(source))


@pytest.fixture
async def world(nats_url: str, postgres_dsn: str) -> AsyncIterator[World]:
    nc = await connect(nats_url, name="test")
    await apply(nc, Settings(partitions=1))
    pool = await postgres.open_pool(postgres_dsn, name="test")
    async with postgres.acquired(pool) as connection:
        await connection.execute(
            "CREATE TABLE quotes_view (symbol text PRIMARY KEY, price numeric NOT NULL);"
            "CREATE TABLE quotes_quarantine (LIKE current_state_quarantine INCLUDING ALL)"
        )
    yield World(nc, postgres_dsn, pool)
    pool.terminate()
    await nc.close()


async def test_two_projections_follow_two_streams(world: World) -> None:
    """One projector feeds both, each from its own stream, each with its own checkpoint."""
    worker, account = OneWorker(), Account("acc_001")
    async with world.projecting(CURRENT_STATE, QUOTES) as projector:
        await world.quote("BTC", "1")
        await world.quote("BTC", "42000.10")
        updates = worker.fold(*account.deposit())
        await commit(world.nc, 0, updates, log_sequence=1, event_hash=worker.event_hash)
        await world.price_is("BTC", "42000.10")
        expected = {"current_state": 1 + len(updates), "quotes": 2}
        at: dict[str, int] = {}
        async with asyncio.timeout(WAIT_S):
            while at != expected:
                at = {status.projection: status.stream_sequence for status in projector.statuses()}
                await asyncio.sleep(0.02)
    async with postgres.acquired(world.pool) as connection:
        assert await connection.fetchval("SELECT account_id FROM balances_view") == "acc_001"
        for name, position in at.items():
            checkpoint = await checkpoints.read(connection, name, 0)
            assert checkpoint is not None
            assert checkpoint.stream_sequence == position


async def test_restart_goes_on_in_the_other_stream(world: World) -> None:
    """What was read before the restart is not read again."""
    await world.quote("BTC", "1")
    async with world.projecting(QUOTES):
        await world.price_is("BTC", "1")
    async with postgres.acquired(world.pool) as connection:
        await connection.execute("DELETE FROM quotes_view")
    async with world.projecting(QUOTES):
        await world.quote("ETH", "2")
        await world.price_is("ETH", "2")
    assert await world.prices() == {"ETH": "2"}


async def test_lag_is_that_of_the_own_stream(world: World) -> None:
    """Messages of another stream do not count."""
    assert await view_lag(world.nc, world.pool, QUOTES) == []
    for price in ("1", "2", "3"):
        await world.quote("BTC", price)
    (late,) = await view_lag(world.nc, world.pool, QUOTES)
    assert (late.checkpoint, late.last_sequence, late.lag_events) == (0, 3, 3)
    assert await view_lag(world.nc, world.pool, CURRENT_STATE) == []


async def test_stream_that_was_replaced_stops_that_projection_alone(world: World) -> None:
    """A view is compared with its own stream; the other projection goes on."""
    await world.quote("BTC", "1")
    async with world.projecting(QUOTES):
        await world.price_is("BTC", "1")
    async with postgres.acquired(world.pool) as connection:
        await connection.execute("UPDATE projection_checkpoints SET event_hash = 'x'")
    async with world.projecting(CURRENT_STATE, QUOTES) as projector:
        states: dict[str, str] = {}
        async with asyncio.timeout(WAIT_S):
            while states != {"current_state": "running", "quotes": "stopped"}:
                states = {status.projection: status.state for status in projector.statuses()}
                await asyncio.sleep(0.02)
        lease = Lease(world.pool, "test")
        lease.active.set()
        ready, report = readiness(projector, Pulse({}), lease)
        assert not ready
        assert "message 1 of MARKETDATA" in report["waiting"]["quotes/0"]


async def test_rebuild_of_what_the_log_does_not_give_is_refused(world: World) -> None:
    """No fold of the log makes messages of another stream again."""
    with pytest.raises(ConfigError, match="MARKETDATA is given again neither"):
        Rebuild(world.nc, world.pool, QUOTES, partitions=1, slots=ValuationSlots())


def test_reader_says_which_partitions_are_followed() -> None:
    """A stream without partitions is followed once, however many processes share the others."""
    assert list(reader_of(QUOTES.source).partitions([0, 1])) == [0]
    assert list(reader_of(QUOTES.source).partitions([2, 3])) == []
    assert list(reader_of(CURRENT_STATE.source).partitions([2, 3])) == [2, 3]


@pytest.mark.parametrize("name", PROJECTIONS)
def test_every_projection_has_a_reader(name: str) -> None:
    """A source that no process can read would be noticed at the start of a projector only."""
    assert PROJECTIONS[name].source.reader in sources.READERS


@pytest.mark.parametrize("module", [follower, lag])
def test_followers_know_no_stream(module: object) -> None:
    """They take what a source says: no name of a stream, no pattern of its batches."""
    text = inspect.getsource(module)  # type: ignore[arg-type]
    assert "log.committed" not in text
    assert '"PSM"' not in text
    assert "subjects" not in text
