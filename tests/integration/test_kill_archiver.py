"""An archiver killed at any moment leaves every event archived, each once."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from nats.aio.client import Client
from tests.support import archiving as arch
from tests.support.archiving import event, value
from tests.support.log import deposit, empty_log
from tests.support.running import READY_S, Running, started

from psm.workers.process.crash_points import CRASH_POINTS

POINTS = [point for point in CRASH_POINTS if point.startswith("archiver.")]
PASS = 3
KILLS = 2
PACE_S = 0.02


async def test_killed_at_crash_points_and_at_random(
    nats_url: str, postgres_dsn: str, tmp_path: Path
) -> None:
    """SIGKILL between any two effects, and at any time: archive and chain equal the streams."""
    environment = {"NATS_URL": nats_url, "POSTGRES_DSN": postgres_dsn, "PSM_PARTITIONS": "4"}
    async with empty_log(nats_url) as nc:
        async with loaded(nc, tmp_path, environment):
            fired = []
            for point in POINTS:
                armed = {**environment, "PSM_CRASH_POINT": f"{point}:{PASS}"}
                with started(tmp_path, "archive", environment=armed) as archiver:
                    code = await asyncio.to_thread(archiver.process.wait, READY_S)
                    assert code == -signal.SIGKILL, archiver.log.read_text()
                    fired += _reached(archiver)
            assert fired == POINTS
            for _ in range(KILLS):
                await _killed_at_work(postgres_dsn, tmp_path, environment)
        with started(tmp_path, "archive", environment=environment) as archiver:
            assert await arch.assert_archive_equals_streams(nc, postgres_dsn) > 200
            assert await arch.assert_chain_equals_updates(nc, postgres_dsn) > 50
            assert archiver.stop() == 0
    assert await value(postgres_dsn, "SELECT count(*) FROM archive_incidents") == 0


async def _killed_at_work(dsn: str, tmp_path: Path, environment: dict[str, str]) -> None:
    """Kill an archiver at a random moment after it has written something."""
    head = "SELECT archive_sequence FROM archive_head"
    before = await value(dsn, head)
    with started(tmp_path, "archive", environment=environment) as archiver:
        await arch.at_least(dsn, head, before + 1)
        await asyncio.sleep(random.uniform(0, 0.2))
        archiver.process.send_signal(signal.SIGKILL)
        assert archiver.process.wait(READY_S) == -signal.SIGKILL


@asynccontextmanager
async def loaded(nc: Client, tmp_path: Path, environment: dict[str, str]) -> AsyncIterator[None]:
    """Events flow into several streams, and a worker folds the log."""
    told = asyncio.Event()

    async def flow() -> None:
        for number in itertools.count(1):
            for account in ("a", "b", "c"):
                data = json.dumps(deposit(f"acc_{account}", number)).encode()
                await nc.publish(f"trades.acc_{account}", data)
            for subject in ("signals.strategy.s.X", "risk.decision.a", "orders.command.a"):
                await nc.publish(subject, json.dumps(event("something")).encode())
            await nc.jetstream().publish("fills.internal.o", b"no json")
            if told.is_set():
                return
            await asyncio.sleep(PACE_S)

    with started(tmp_path, "worker", environment=environment) as worker:
        flowing = asyncio.create_task(flow())
        try:
            yield
        finally:
            told.set()
            await flowing
        # Let the worker say what it has to of all that was published.
        assert worker.stop() == 0


def _reached(archiver: Running) -> list[str]:
    lines = [json.loads(line) for line in archiver.log.read_text().splitlines()]
    return [line["point"] for line in lines if line["event"] == "crash_point.reached"]
