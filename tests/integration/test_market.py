"""Order books on real servers: followed, killed, rebuilt, read over HTTP and by command."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from prometheus_client import generate_latest
from tests.integration.test_http import Api, serving
from tests.support.market_feed import CHECKED_BOOK, Feed, kraken_book
from tests.support.running import READY_S, started
from tests.support.workbench import until_answer

from psm.adapters import postgres, telemetry
from psm.adapters.jetstream import connect
from psm.adapters.jetstream.api import call
from psm.adapters.jetstream.streams_apply import apply
from psm.analytics.market_books import MarketBooks, MarketRules
from psm.contracts import subjects
from psm.domain.market.slots import ValuationSlots
from psm.projections.market import MARKET, update_of
from psm.workers.cli import main
from psm.workers.process.crash_points import CRASH_POINTS
from psm.workers.process.settings import Settings
from psm.workers.projector.follower import Projector
from psm.workers.projector.lag import view_lag
from psm.workers.projector.rebuild import Rebuild, RebuildReport
from psm.workers.projector.view_counts import ViewCounts

TABLES = tuple(view.table for view in MARKET.views)
POINTS = [point for point in CRASH_POINTS if point.startswith("projector.")]
RULES = MarketRules()


class World:
    """A broker with market data, a database."""

    def __init__(self, nc: Client, pool: postgres.Pool, nats_url: str, dsn: str) -> None:
        self.nc, self.pool, self.nats_url, self.dsn = nc, pool, nats_url, dsn

    async def publish(self, feed: Feed, start: int = 0, end: int | None = None) -> None:
        """Store messages of a feed, and ticks between them."""
        js = self.nc.jetstream()
        for place, one in enumerate(feed.messages[start:end]):
            await js.publish(one.subject, one.data, stream="MARKETDATA")
            if place % 7 == 0:
                await js.publish(subjects.ticker("A"), b"{}", stream="MARKETDATA")

    @asynccontextmanager
    async def projecting(self) -> AsyncIterator[Projector]:
        metrics = telemetry.quiet().metrics
        projector = Projector(self.nc, self.pool, [MARKET], [0], metrics, RULES)
        task = asyncio.create_task(projector.run())
        try:
            yield projector
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def caught_up(self) -> None:
        async def lags() -> list[int]:
            return [lag.lag_events for lag in await view_lag(self.nc, self.pool, MARKET)]

        await until_answer(lags, lambda found: found == [0], "the books have read everything")

    async def project(self) -> None:
        async with self.projecting():
            await self.caught_up()

    async def rebuild(self, **options: bool) -> RebuildReport:
        slots = ValuationSlots()
        rebuild = Rebuild(self.nc, self.pool, MARKET, partitions=1, slots=slots, market=RULES)
        return await rebuild.run(**options)

    async def rows(self, table: str = "orderbook_latest") -> list[dict[str, Any]]:
        async with postgres.acquired(self.pool) as connection:
            found = await connection.fetch(f"TABLE {table} ORDER BY 1, 2, 3")
        return [dict(row) for row in found]

    async def states(self) -> dict[str, str]:
        return {row["symbol"]: row["state"] for row in await self.rows()}

    async def expire(self, first: int) -> None:
        """Let everything in MARKETDATA before a sequence expire."""
        info = await call(self.nc, "STREAM.INFO.MARKETDATA", None)
        config = info["config"] | {"max_msgs": info["state"]["last_seq"] - first + 1}
        await call(self.nc, "STREAM.UPDATE.MARKETDATA", config)
        await call(self.nc, "STREAM.UPDATE.MARKETDATA", info["config"])


@pytest.fixture
async def world(nats_url: str, postgres_dsn: str) -> AsyncIterator[World]:
    nc = await connect(nats_url, name="test")
    await apply(nc, Settings(partitions=1))
    pool = await postgres.open_pool(postgres_dsn, name="test")
    yield World(nc, pool, nats_url, postgres_dsn)
    pool.terminate()
    await nc.close()


async def test_books_follow_the_stream_and_a_rebuild_gives_every_row_again(world: World) -> None:
    """Faults of two feeds are healed by the next snapshots; the rebuild is bit-equal."""
    feeds = [Feed("binance_futures", 1), Feed("kraken", 2)]
    for feed in feeds:
        feed.trade(150, faults=True)
        feed.snapshots()
        await world.publish(feed)
    await world.project()
    assert set((await world.states()).values()) == {"synced"}
    for feed in feeds:
        hashes = {row["top_hash"] for row in await world.rows()}
        assert set(feed.truth[-3:]) <= hashes
    report = await world.rebuild()
    assert (report.compared, report.rows_differ, report.swapped) == (True, 0, True)
    assert all([await world.rows(table) for table in ("orderbook_snapshot", "orderbook_latest")])


async def test_row_changed_by_hand_is_found(world: World) -> None:
    """The rebuild names table, key and column."""
    feed = Feed("generic")
    feed.snapshot("A", 1)
    await world.publish(feed)
    await world.project()
    async with postgres.acquired(world.pool) as connection:
        await connection.execute("UPDATE orderbook_latest SET mid = mid + 1")
    report = await world.rebuild()
    assert not report.swapped
    (found,) = report.differences
    assert (found.table, found.column, found.live) == ("orderbook_latest", "mid", "101")


async def test_projector_goes_on_where_it_stopped(world: World) -> None:
    """Restarted at any place, the books are those of one who never stopped."""
    feed = Feed("binance_spot", 5)
    feed.trade(200, faults=True)
    places = [0, *sorted(random.Random(5).sample(range(200), 3)), len(feed.messages)]
    for start, end in itertools.pairwise(places):
        await world.publish(feed, start, end)
        await world.project()
    report = await world.rebuild(dry_run=True)
    assert (report.compared, report.rows_differ) == (True, 0)


async def test_rebuild_while_the_projector_goes_on(world: World) -> None:
    """Whoever is earlier reads on, with the books that its own tables saved."""
    feed = Feed("kraken", 6)
    feed.trade(200, faults=True)
    await world.publish(feed, 0, 80)
    await world.project()
    await world.publish(feed, 80, 130)  # the live side is behind the shadow
    report = await world.rebuild(dry_run=True)
    assert (report.compared, report.rows_differ) == (True, 0)
    async with world.projecting():
        storing = asyncio.create_task(world.publish(feed, 130))
        report = await world.rebuild()
        await storing
        await world.caught_up()
    assert (report.compared, report.rows_differ, report.swapped) == (True, 0, True)
    report = await world.rebuild(dry_run=True)
    assert (report.compared, report.rows_differ) == (True, 0)


async def test_what_expired_unread_is_a_gap_that_heals(world: World) -> None:
    """The projector goes on with what there is; no book is shown that may lack a change."""
    feed = Feed("kraken")
    feed.snapshot("A", None)
    feed.snapshot("B", None)
    await world.publish(feed)
    await world.project()
    feed.delta("A", None, None, bids=[["98", "1"]])  # nobody reads it
    feed.snapshot("B", None)
    await world.publish(feed, 2)
    await world.expire(5)
    await world.project()
    assert await world.states() == {"A": "empty", "B": "synced"}
    feed.snapshot("A", None)
    await world.publish(feed, len(feed.messages) - 1)
    await world.project()
    assert await world.states() == {"A": "synced", "B": "synced"}
    report = await world.rebuild(accept_differences=True)
    assert report.swapped
    assert await world.states() == {"A": "synced", "B": "synced"}


async def test_value_that_no_column_holds_makes_one_key_stale(world: World) -> None:
    """As for every projection: the others go on, the key heals with its next row."""
    feed = Feed("generic")
    feed.snapshot("A", 1)
    feed.snapshot("B", 1)
    await world.publish(feed)
    async with postgres.acquired(world.pool) as connection:
        await connection.execute("ALTER TABLE orderbook_latest ALTER COLUMN symbol TYPE varchar(1)")
    feed.snapshot("LONG", 1)
    await world.publish(feed, 2)
    await world.project()
    (lag,) = await view_lag(world.nc, world.pool, MARKET)
    assert [(entry.view, entry.key) for entry in lag.stale] == [
        ("orderbook_latest", ["generic", "LONG"])
    ]
    assert set(await world.states()) == {"A", "B"}


async def test_killed_at_every_crash_point(world: World, tmp_path: Path) -> None:
    """Between two effects there is no moment at which a death would show in a row."""
    feed = Feed("binance_futures", 8)
    feed.trade(300, faults=True)
    environment = {
        "NATS_URL": world.nats_url, "POSTGRES_DSN": world.dsn, "PSM_PARTITIONS": "1"
    }  # fmt: skip
    at = 0
    for point, passes in itertools.product(POINTS, (1, 2)):
        armed = {**environment, "PSM_CRASH_POINT": f"{point}:{passes}"}
        with started(tmp_path, "projector", environment=armed) as projector:
            waiting = asyncio.create_task(asyncio.to_thread(projector.process.wait, READY_S))
            while not waiting.done():
                await world.publish(feed, at, at + 1)
                at += 1
                await asyncio.sleep(0.02)
                if at == len(feed.messages):
                    feed.trade(100, faults=True)
            assert waiting.result() == -signal.SIGKILL, projector.log.read_text()
    await world.project()
    report = await world.rebuild(dry_run=True)
    assert (report.compared, report.rows_differ) == (True, 0)


# --- doors ----------------------------------------------------------------------------------------


@pytest.fixture
async def api(nats_url: str, postgres_dsn: str) -> AsyncIterator[Api]:
    feed = Feed("kraken")
    kraken_book(feed, CHECKED_BOOK)
    feed.snapshot("BRK.B", None)
    feed.raw("BRK.B", b"?")
    books = MarketBooks(RULES)
    changes = [
        change
        for one in feed.messages
        for change in books.take(one.sequence, one.time, one.subject, one.data)
    ]
    async with serving(nats_url, postgres_dsn, ingest=False) as opened:
        async with postgres.transaction(opened.pool) as connection:
            await MARKET.writer().apply(
                connection, [update_of(one) for one in [*changes, *books.settle()]]
            )
        yield opened


async def test_book_over_http(api: Api) -> None:
    """Levels and figures of a synced book; the symbol is percent-encoded like any path."""
    for prefix in ("", "/api"):
        answer = await api.client.get(f"{prefix}/market/book/kraken/XBT%2FUSD")
        assert answer.status_code == 200, answer.text
        book = answer.json()
        assert (book["state"], book["mid"], book["spread"]) == ("synced", "0.050025", "0.00005")
        assert book["bids"][0] == ["0.05000", "0.00000500"]
        assert (book["bid_levels"], len(book["asks"])) == (10, 10)
        assert book["as_of"]["market_sequence"] == 1
        assert answer.headers["cache-control"] == "no-store"


async def test_book_that_is_not_synced_is_refused(api: Api) -> None:
    """409 with state and since; an unknown one is 404, a parameter too much 400."""
    answer = await api.client.get("/market/book/kraken/BRK.B")
    assert answer.status_code == 409
    problem = answer.json()
    assert (problem["type"], problem["state"]) == ("urn:psm:problem:book-not-synced", "gap")
    assert problem["since"].endswith("Z")
    answer = await api.client.get("/market/book/kraken/NONE")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:psm:problem:unknown-book")
    assert (await api.client.get("/market/book/kraken/BRK.B?x=1")).status_code == 400
    assert (await api.client.get("/market/book/kraken/%00")).status_code in (400, 404)


async def test_book_at_the_command_line(
    api: Api, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`psm book EXCHANGE SYMBOL` prints what HTTP answers, and says why it cannot."""
    monkeypatch.setenv("POSTGRES_DSN", postgres_dsn)
    assert await asyncio.to_thread(main, ["book", "kraken", "XBT/USD"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == (await api.client.get("/market/book/kraken/XBT%2FUSD")).json()
    assert await asyncio.to_thread(main, ["book", "kraken", "BRK.B"]) == 1
    assert "is gap since" in capsys.readouterr().err


async def test_books_are_counted_for_alarms(api: Api) -> None:
    """By state; how long a book is not synced counts while changes come."""
    instruments = telemetry.setup("test", level="error")
    try:
        counts = ViewCounts(api.pool, instruments)
        await counts.count()
        shown = generate_latest(instruments.registry).decode()
        assert 'psm_market_books{state="synced"} 1.0' in shown
        assert 'psm_market_books{state="gap"} 1.0' in shown
        assert "psm_market_unsynced_age_seconds 0.0" in shown  # its feed is silent for long
        async with postgres.acquired(api.pool) as connection:
            await connection.execute(
                "UPDATE orderbook_latest SET log_time = now(), since = now() - interval '1 hour'"
            )
        await counts.count()
        shown = generate_latest(instruments.registry).decode()
        (age,) = re.findall(r"psm_market_unsynced_age_seconds ([0-9.]+)", shown)
        assert 3600 <= float(age) < 4000
    finally:
        instruments.shutdown()
