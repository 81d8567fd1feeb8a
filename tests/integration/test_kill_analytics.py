"""A projector of analytics that is killed anywhere leaves what a fold of the log gives, to the bit.

Real workers write the log, which goes on until a minute of it is complete.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from tests.support import events
from tests.support.feed import SYMBOLS, traffic
from tests.support.log import LogSize, empty_log
from tests.support.running import READY_S, psm, started
from tests.support.slots import even_slots, slots_env
from tests.support.workbench import until_answer

from psm.adapters import postgres
from psm.adapters.jetstream import last_per_subject
from psm.projections.analytics import ANALYTICS
from psm.workers.log.cursor import load_cursor
from psm.workers.process.crash_points import CRASH_POINTS
from psm.workers.projector.lag import view_lag
from psm.workers.projector.rebuild import Rebuild, RebuildReport
from psm.workers.projector.retry import Retry

PARTITIONS = 2
SLOTS = even_slots(200)
POINTS = [point for point in CRASH_POINTS if point.startswith("projector.")]
PASSES = (1, 2)
MINUTE_S = 120.0
"""Bound within which a minute is over, and its closes told."""


@pytest.mark.timeout(900)
async def test_killed_at_every_crash_point(
    nats_url: str, postgres_dsn: str, tmp_path: Path
) -> None:
    """While buckets fill and minutes end; the rebuild compares every table, states included."""
    environment = {
        "NATS_URL": nats_url,
        "POSTGRES_DSN": postgres_dsn,
        "PSM_PARTITIONS": str(PARTITIONS),
        **slots_env(SLOTS),
    }
    size = LogSize(partitions=PARTITIONS, valuation_slots=SLOTS)
    async with empty_log(nats_url, size) as nc, opened(postgres_dsn) as pool:
        with started(tmp_path, "worker", environment=environment):
            async with loading(nc):
                for point, passes in itertools.product(POINTS, PASSES):
                    armed = {**environment, "PSM_CRASH_POINT": f"{point}:{passes}"}
                    with started(
                        tmp_path, "projector", "--only", "analytics", environment=armed
                    ) as projector:
                        code = await asyncio.to_thread(projector.process.wait, READY_S)
                        assert code == -signal.SIGKILL, projector.log.read_text()
                await minute_over(nc)
            with started(
                tmp_path, "projector", "--only", "analytics", environment=environment
            ) as projector:
                await settled(nc, pool)
                assert projector.stop() == 0
            before = await tables(pool)
            report = await rebuilt(nc, pool)
            assert (report.compared, report.rows_differ, report.swapped) == (True, 0, True), report
            assert await tables(pool) == before
            assert {row["timeframe"] for row in before["pnl_timeseries"]} >= {"1m", "1h", "1w"}
            assert before["trades"]
            # One account alone, folded anew.
            account = before["trades"][0]["account_id"]
            await execute(pool, f"UPDATE lots SET pnl = 0 WHERE account_id = '{account}'")
            retry = Retry(nc, pool, ANALYTICS, partitions=PARTITIONS, slots=SLOTS)
            assert (await retry.run(account)).stale == []
            assert await tables(pool) == before
            # What was written by hand is found.
            await execute(pool, "UPDATE pnl_timeseries SET realized = realized + 1")
            report = await rebuilt(nc, pool)
            assert not report.swapped
            assert {one.column for one in report.differences} == {"realized"}
            done = psm(
                "views", "rebuild", "analytics", "--accept-differences", environment=environment
            )
            assert "swapped" in done.stdout
            assert await tables(pool) == before


# --- the machinery --------------------------------------------------------------------------------


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[postgres.Pool]:
    pool = await postgres.open_pool(dsn, name="test")
    yield pool
    pool.terminate()


@asynccontextmanager
async def loading(nc: Client) -> AsyncIterator[None]:
    """Publish a handful of events and a mark again and again."""
    told = asyncio.Event()

    async def load() -> None:
        sent = iter(traffic(7, accounts=6, events=20_000, mark_every=20_000))
        for turn in itertools.count(1):
            for message in itertools.islice(sent, 2):
                await nc.publish(message.subject, message.data)
            mark = events.mark(100_000 + turn, str(90 + turn % 20), SYMBOLS[turn % len(SYMBOLS)])
            await nc.jetstream().publish(mark.subject, mark.data)
            if told.is_set():
                return
            await asyncio.sleep(0.2)

    task = asyncio.create_task(load())
    try:
        yield
    finally:
        told.set()
        await task


async def minute_over(nc: Client) -> None:
    """Wait until a minute of the log that trades were in is complete."""

    async def closed() -> list[str]:
        cursors = await last_per_subject(nc, "PSM", ["psm.cursor.*"])
        return [load_cursor(message.data).closed_through or "" for message in cursors]

    first = max(await closed())
    await until_answer(
        closed,
        lambda found: len(found) == PARTITIONS and min(found) > first,
        "a minute is complete",
        MINUTE_S,
    )


async def settled(nc: Client, pool: postgres.Pool) -> None:
    """Wait until everything was read and told."""

    async def behind() -> tuple[int, int]:
        lags = await view_lag(nc, pool, ANALYTICS)
        async with postgres.acquired(pool) as connection:
            untold = await connection.fetchval(
                "SELECT count(*) FROM analytics_progress "
                "WHERE reached IS DISTINCT FROM closed_through "
                "OR stated_through IS DISTINCT FROM date_trunc('day', reached, 'UTC')"
            )
        return sum(one.lag_events for one in lags), untold

    await until_answer(behind, lambda found: found == (0, 0), "the views are settled", MINUTE_S)


async def rebuilt(nc: Client, pool: postgres.Pool) -> RebuildReport:
    return await Rebuild(nc, pool, ANALYTICS, partitions=PARTITIONS, slots=SLOTS).run()


async def tables(pool: postgres.Pool) -> dict[str, list[dict[str, Any]]]:
    """Return all rows, in an order of their own."""
    async with postgres.acquired(pool) as connection:
        found = {
            name: [dict(row) for row in await connection.fetch(f"TABLE {name}")]
            for name in ANALYTICS.tables
        }
    return {
        name: sorted(rows, key=lambda row: [str(value) for value in row.values()])
        for name, rows in found.items()
    }


async def execute(pool: postgres.Pool, query: str) -> None:
    async with postgres.acquired(pool) as connection:
        await connection.execute(query)
