"""What the views of analytics cost: beside a projector without them, at an hour's end, anew."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks import views
from benchmarks.figures import Figure, Size, beside
from benchmarks.rig import Rig, deposit, fill, fills, rig, running, until, update_count
from psm.adapters import postgres, telemetry
from psm.adapters.embedded import EmbeddedPostgres
from psm.adapters.jetstream import stream_info
from psm.contracts import subjects
from psm.contracts.updates_read import ReadUpdate
from psm.domain.books import Books
from psm.domain.fold import fold
from psm.domain.market.slots import ValuationSlots
from psm.domain.messages import Folded, LogMessage
from psm.projections.analytics import ANALYTICS
from psm.projections.closes import minutes_closed
from psm.projections.current_state import CURRENT_STATE
from psm.projections.projection import Projection
from psm.projections.schema.migrate import migrate
from psm.workers.projector.follower import Follower
from psm.workers.projector.rebuild import Rebuild

SHARE = 1 / 1.5
"""Of the rate without analytics, with them."""

HOUR_MAX = 1.2
REBUILD_MAX_S = 60.0
_EVENTS = 6_000
_EVENTS_PER_ACCOUNT = 20
_REBUILT = 100_000
_HOLDERS = 10_000
_HOUR_NS = 490_000 * 3_600_000_000_000
_MARK_EVERY_NS = 5_000_000_000
_MINUTE_NS = 60_000_000_000


async def measure(size: Size) -> list[Figure]:
    """Follow with and without; let an hour end; make the views anew."""
    return [
        await _beside_the_others(size),
        *await views.lag_of(size, "analytics lag", views.OF_ANALYTICS),
        await _hour(size),
        await _rebuild(size),
    ]


async def _beside_the_others(size: Size) -> Figure:
    """Return updates per second of a process that follows both, beside one without analytics."""
    events = size.of(_EVENTS)
    both: list[float] = []
    alone: list[float] = []
    async with _projected(events) as (broker, pool):
        updates = (await stream_info(broker.nc, "PSM")).last_sequence
        for _ in range(size.rounds):
            both.append(updates / await _follow(broker, pool, [CURRENT_STATE, ANALYTICS]))
            alone.append(updates / await _follow(broker, pool, [CURRENT_STATE]))
    return beside("projector with analytics", "updates/s", both, alone, target=SHARE)


@asynccontextmanager
async def _projected(events: int) -> AsyncIterator[tuple[Rig, postgres.Pool]]:
    """Give a log whose updates are committed, and an empty database."""
    async with rig() as broker, _database() as pool:
        accounts = max(1, events // _EVENTS_PER_ACCOUNT)
        await broker.fill(fills(events, accounts))
        partition, wanted = broker.partition(), update_count(events, accounts)
        async with running(partition):
            await until(lambda: partition.stats.updates >= wanted, "everything is committed")
        yield broker, pool


@asynccontextmanager
async def _database() -> AsyncIterator[postgres.Pool]:
    with TemporaryDirectory(prefix="psm-bench-") as folder:
        async with EmbeddedPostgres(Path(folder)) as server:
            await migrate(server.dsn)
            pool = await postgres.open_pool(server.dsn, name="benchmark")
            try:
                yield pool
            finally:
                await pool.close()


async def _follow(broker: Rig, pool: postgres.Pool, projections: Sequence[Projection]) -> float:
    """Follow PSM to its end into empty tables; return seconds."""
    tables = [name for projection in projections for name in projection.tables]
    async with postgres.acquired(pool) as connection:
        await connection.execute(
            f"TRUNCATE {', '.join((*tables, 'projection_checkpoints', 'log_heads'))}"
        )
    last = (await stream_info(broker.nc, "PSM")).last_sequence
    metrics = telemetry.quiet().metrics
    followers = [Follower(broker.nc, pool, one, 0, metrics) for one in projections]
    started = time.perf_counter()
    async with AsyncExitStack() as stack:
        for follower in followers:
            await stack.enter_async_context(running(follower))
        await until(
            lambda: all(one.status().stream_sequence >= last for one in followers),
            "all is projected",
        )
        return time.perf_counter() - started


async def _rebuild(size: Size) -> Figure:
    """Return seconds to fold a log again into the views of analytics, which are up to date."""
    events = size.of(_REBUILT)
    async with _projected(events) as (broker, pool):
        await _follow(broker, pool, [ANALYTICS])
        rebuild = Rebuild(broker.nc, pool, ANALYTICS, partitions=1, slots=ValuationSlots())
        started = time.perf_counter()
        await rebuild.run(accept_differences=True)
        seconds = time.perf_counter() - started
    return Figure(
        name=f"rebuild of {events:,} events",
        unit="s",
        value=seconds,
        better="at most",
        target=REBUILD_MAX_S,
    )


async def _hour(size: Size) -> Figure:
    """Return the writer's seconds in the minute that tells of an hour's end, beside others."""
    holders = size.of(_HOLDERS)
    spent: dict[int, float] = {}
    async with _database() as pool:
        writer = ANALYTICS.writer()
        for at, updates in _minutes(holders):
            started = time.perf_counter()
            async with postgres.transaction(pool) as connection:
                await writer.apply(connection, updates)
            minute = at // _MINUTE_NS
            spent[minute] = spent.get(minute, 0.0) + time.perf_counter() - started
    end = _HOUR_NS // _MINUTE_NS
    # The last minute of the hour is complete a slow period after its end.
    after, others = max(spent[end], spent[end + 1]), [spent[end - 2], spent[end - 1]]
    return beside(
        f"minute after an hour, {holders:,} holders",
        "s",
        [after],
        [sum(others) / len(others)],
        better="at most",
        target=HOUR_MAX,
    )


def _minutes(holders: int) -> list[tuple[int, list[ReadUpdate]]]:
    """Return times and updates of messages: positions, then marks over the end of an hour."""
    books = Books(partitions=1, partition=0, slots=ValuationSlots())
    found: list[tuple[int, list[ReadUpdate]]] = []
    start = _HOUR_NS - 5 * _MINUTE_NS
    messages = [deposit(f"acc_{number}") for number in range(holders)]
    messages += [fill(f"acc_{number}", 2, "BTC-PERP") for number in range(holders)]
    for number, message in enumerate(messages):
        kind, _, token = message.subject.partition(".")
        subject = subjects.stored(kind, token, 1)
        found.append(_folded(books, subject, message.data, start + number))
    for turn in range(8 * _MINUTE_NS // _MARK_EVERY_NS):
        token = subjects.encode_token("BTC-PERP")
        data = msgspec.json.encode(
            {
                "event_id": f"00000000-0000-4000-8000-{turn:012}",
                "event_type": "MarkPriceUpdated",
                "stream_id": token,
                "sequence_number": turn + 1,
                "timestamp": "2025-12-12T10:30:00Z",
                "schema_version": "1.0.0",
                "payload": {"symbol": "BTC-PERP", "price": f"{42_000 + turn % 7}"},
            }
        )
        at = start + _MINUTE_NS // 2 + turn * _MARK_EVERY_NS
        found.append(_folded(books, f"marks.{token}", data, at))
    return found


def _folded(books: Books, subject: str, data: bytes, at: int) -> tuple[int, list[ReadUpdate]]:
    message = LogMessage(log_sequence=books.position + 1, subject=subject, time=at, data=data)
    result = fold(books, message)
    assert isinstance(result, Folded)
    updates = [ReadUpdate(kind=update.kind, data=update.data) for update in result.updates]
    if books.market.closed_through is not None:
        updates.append(minutes_closed(0, books.market.closed_through))
    return at, updates
