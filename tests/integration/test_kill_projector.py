"""A projector killed at any moment leaves views that are exactly the fold of the log."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from nats.aio.client import Client
from tests.support import events
from tests.support.events import Sent
from tests.support.feed import SYMBOLS, traffic
from tests.support.log import LogSize, empty_log
from tests.support.running import READY_S, Running, started
from tests.support.views import assert_views_equal_fold, rows_written

from psm.workers.process.crash_points import CRASH_POINTS

PARTITIONS = 4
KILLS = 10
PACE_S = 0.05
POINTS = [point for point in CRASH_POINTS if point.startswith("projector.")]
PASSES = (1, 7)


async def test_killed_at_random_moments_under_load(
    nats_url: str, postgres_dsn: str, tmp_path: Path
) -> None:
    """SIGKILL ten times while events and marks flow: the views equal the fold, row by row."""
    dice = random.Random()
    environment = environment_of(nats_url, postgres_dsn)
    async with loaded(nats_url, tmp_path, environment) as load:
        killed = 0
        for _ in range(KILLS):
            before = await rows_written(postgres_dsn)
            with started(tmp_path, "projector", environment=environment) as projector:
                await progress(postgres_dsn, before, projector)
                await asyncio.sleep(dice.uniform(0, 0.3))
                projector.process.send_signal(signal.SIGKILL)
                killed += projector.process.wait(READY_S) == -signal.SIGKILL
        assert killed == KILLS
        await assert_caught_up(load, postgres_dsn, tmp_path, environment)


async def test_killed_at_every_crash_point(
    nats_url: str, postgres_dsn: str, tmp_path: Path
) -> None:
    """Between two effects there is no moment at which a death would show in the views."""
    environment = environment_of(nats_url, postgres_dsn)
    fired = []
    async with loaded(nats_url, tmp_path, environment) as load:
        for point, passes in itertools.product(POINTS, PASSES):
            armed = {**environment, "PSM_CRASH_POINT": f"{point}:{passes}"}
            with started(tmp_path, "projector", environment=armed) as projector:
                code = await asyncio.to_thread(projector.process.wait, READY_S)
                assert code == -signal.SIGKILL, projector.log.read_text()
                fired += points_reached(projector)
        assert fired == [point for point, _ in itertools.product(POINTS, PASSES)]
        await assert_caught_up(load, postgres_dsn, tmp_path, environment)


# --- the machinery --------------------------------------------------------------------------------


def environment_of(nats_url: str, postgres_dsn: str) -> dict[str, str]:
    return {
        "NATS_URL": nats_url,
        "POSTGRES_DSN": postgres_dsn,
        "PSM_PARTITIONS": str(PARTITIONS),
    }


@asynccontextmanager
async def loaded(nats_url: str, tmp_path: Path, environment: dict[str, str]) -> AsyncIterator[Load]:
    """A log with a worker on it, into which events and marks flow until the load is stopped."""
    async with empty_log(nats_url, LogSize(partitions=PARTITIONS)) as nc:
        with started(tmp_path, "worker", environment=environment):
            load = Load(nc)
            try:
                yield load
            finally:
                await load.stop()


class Load:
    """Publishes a handful of events and a mark, over and over."""

    def __init__(self, nc: Client) -> None:
        self.nc = nc
        self._told = asyncio.Event()
        self._flowing = asyncio.create_task(self._flow())

    async def stop(self) -> None:
        """Return when all that was published is stored."""
        self._told.set()
        await self._flowing

    async def _flow(self) -> None:
        sent = endless()
        for turn in itertools.count(1):
            for message in itertools.islice(sent, 10):
                await self.nc.publish(message.subject, message.data)
            mark = events.mark(100_000 + turn, str(90 + turn % 20), SYMBOLS[turn % len(SYMBOLS)])
            await self.nc.jetstream().publish(mark.subject, mark.data)
            if self._told.is_set():
                return
            await asyncio.sleep(PACE_S)


def endless() -> Iterator[Sent]:
    """Random traffic, with other accounts each time it starts over."""
    for seed in itertools.count(1):
        yield from traffic(seed, accounts=12, events=20_000, mark_every=20_000)


async def assert_caught_up(
    load: Load, dsn: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Stop the load, let an unharmed projector finish what is in the log, then compare."""
    await load.stop()
    with started(tmp_path, "projector", environment=environment) as projector:
        views = await assert_views_equal_fold(load.nc, dsn, PARTITIONS)
        assert projector.stop() == 0
    assert any(row["cycle"] > 2 for row in views["positions_view"].values()), "too small a load"


async def progress(dsn: str, before: int, projector: Running) -> None:
    """Wait until the projector has committed something: it is at work when it is killed."""
    deadline = time.monotonic() + READY_S
    while await rows_written(dsn) <= before:
        assert projector.process.poll() is None, projector.log.read_text()
        assert time.monotonic() < deadline, projector.log.read_text()
        await asyncio.sleep(0.05)


def points_reached(projector: Running) -> list[str]:
    lines = [json.loads(line) for line in projector.log.read_text().splitlines()]
    return [line["point"] for line in lines if line["event"] == "crash_point.reached"]
