"""The views of analytics on real servers: what the timelines say, however updates were batched."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from nats.aio.client import Client
from tests.support.analytics_log import (
    Input,
    assert_same,
    commit,
    pieces,
    told,
    traded,
    written,
)
from tests.support.workbench import until_answer

from psm.adapters import postgres, telemetry
from psm.adapters.jetstream import connect
from psm.adapters.jetstream.streams_apply import apply
from psm.projections.analytics import ANALYTICS
from psm.workers.process.settings import Settings
from psm.workers.projector.follower import Projector
from psm.workers.projector.lag import view_lag


class Scene:
    """The stream PSM as a worker of one partition fills it, a database, and projectors."""

    def __init__(self, nc: Client, pool: postgres.Pool) -> None:
        self.nc, self.pool = nc, pool

    async def commit(self, inputs: Sequence[Input], dice: random.Random) -> None:
        for piece in pieces(inputs, dice):
            await commit(self.nc, piece)

    @asynccontextmanager
    async def projecting(self, count: int = 1) -> AsyncIterator[list[Projector]]:
        metrics = telemetry.quiet().metrics
        projectors = [
            Projector(self.nc, self.pool, [ANALYTICS], [0], metrics) for _ in range(count)
        ]
        tasks = [asyncio.create_task(projector.run()) for projector in projectors]
        try:
            yield projectors
        finally:
            broken = [task.exception() for task in tasks if task.done()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert not broken, broken

    async def settled(self) -> None:
        """Wait until everything was read and every account has told what is due."""

        async def behind() -> tuple[list[int], bool]:
            lags = [one.lag_events for one in await view_lag(self.nc, self.pool, ANALYTICS)]
            async with postgres.acquired(self.pool) as connection:
                untold = await connection.fetchval(
                    "SELECT count(*) FROM analytics_progress "
                    "WHERE reached IS DISTINCT FROM closed_through"
                )
            return lags, bool(untold)

        await until_answer(behind, lambda found: found == ([0], False), "the views are settled")

    async def table(self, name: str) -> list[dict[str, Any]]:
        async with postgres.acquired(self.pool) as connection:
            return [dict(row) for row in await connection.fetch(f"TABLE {name} ORDER BY 1, 2")]


@pytest.fixture
async def scene(nats_url: str, postgres_dsn: str) -> AsyncIterator[Scene]:
    nc = await connect(nats_url, name="test")
    await apply(nc, Settings(partitions=1))
    pool = await postgres.open_pool(postgres_dsn, name="test")
    yield Scene(nc, pool)
    pool.terminate()
    await nc.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_rows_are_what_the_timelines_say(scene: Scene, seed: int) -> None:
    """With restarts of the projector between, so that states come from their rows."""
    log, dice = traded(seed), random.Random(seed)
    log.quiet(180)
    half = len(log.inputs) // 2
    for part in (log.inputs[:half], log.inputs[half:]):
        async with scene.projecting():
            await scene.commit(part, dice)
            await scene.settled()
    wanted = told(log.inputs)
    assert_same(await written(scene.pool), wanted)
    assert {len(wanted[table]) > 9 for table in wanted} == {True}
