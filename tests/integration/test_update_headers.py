"""Subscribers of republished updates on a real broker: whole inputs, and every loss noticed.

The traffic has a secret in every field that may hold somebody's data: none is in an update, a log
line or a metric.
"""

from __future__ import annotations

import asyncio
import random
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from nats.aio.msg import Msg
from tests.integration.test_worker import free_port
from tests.support.planted import STREAMS, Planted
from tests.support.slots import slots_env
from tests.support.workbench import Bench, open_bench, until
from tests.support.worker_process import WorkerProcess

from psm.adapters.jetstream import last_for
from psm.contracts import subjects
from psm.contracts.feed import UpdateFeed

PARTITIONS = 2


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[Bench]:
    async with open_bench(nats_url, partitions=PARTITIONS) as opened:
        yield opened


class Follower:
    """A subscriber that loses some of what it is sent, and reads accounts again when it must."""

    def __init__(self, bench: Bench, loss: float) -> None:
        self.feed = UpdateFeed()
        self.states: dict[str, bytes] = {}
        self.bodies: list[bytes] = []
        self.lost = self.repairs = 0
        self._bench, self._loss = bench, loss
        self._dice = random.Random(1)

    async def start(self) -> None:
        await self._bench.nc.subscribe("psm.*.*", cb=self._heard)
        await self._bench.nc.flush()

    async def _heard(self, message: Msg) -> None:
        self.bodies.append(message.data)
        if self._dice.random() < self._loss:
            self.lost += 1
            return
        for found in self.feed.take(message.headers, message.data):
            for data in found.updates:
                if b'"StateUpdated"' in data:
                    self.states[found.account_id] = data

    async def repair(self) -> None:
        """Read the accounts that are not known from the stream PSM."""
        for account_id in self.feed.unknown():
            newest = await newest_state(self._bench, account_id)
            if newest is None:
                continue
            self.states[account_id] = newest
            self.repairs += 1
            at = msgspec.json.decode(newest)["payload"]["log_sequence"]
            for found in self.feed.repaired(account_id, at):
                for data in found.updates:
                    if b'"StateUpdated"' in data:
                        self.states[account_id] = data


async def newest_state(bench: Bench, account_id: str) -> bytes | None:
    place = subjects.partition_of(account_id, PARTITIONS)
    stored = await last_for(bench.nc, "PSM", subjects.update("state.updated", place, account_id))
    return stored.data if stored else None


def start(bench: Bench, folder: Path, port: int) -> WorkerProcess:
    """Start a worker that saves often and says all it can."""
    return WorkerProcess(
        bench.settings.nats_url,
        folder,
        PSM_PARTITIONS=PARTITIONS,
        **slots_env(bench.settings.valuation_slots),
        PSM_SNAPSHOT_EVENTS=5,
        PSM_SNAPSHOT_INTERVAL_S=1,
        PSM_LOG_LEVEL="debug",
        PSM_METRICS_PORT=port,
    )


async def test_a_lossy_subscriber_ends_with_the_state_of_the_log(
    bench: Bench, tmp_path: Path
) -> None:
    """One loses nothing and knows all; one loses a tenth, notices, and reads it again.

    The worker is killed between, and goes on from snapshots of unlike age.
    """
    planted = Planted(11)
    messages = list(planted.messages())
    whole, lossy = Follower(bench, 0.0), Follower(bench, 0.1)
    await whole.start()
    await lossy.start()
    texts, half = [], len(messages) // 2
    for part in (messages[:half], messages[half:]):
        port = free_port()
        async with start(bench, tmp_path, port) as worker:
            await worker.ready(PARTITIONS)
            await bench.publish(part)
            await bench.judge()
            await until(lambda: len(whole.bodies) == len(lossy.bodies), "both heard all of it")
            metrics = await asyncio.to_thread(_read, f"http://127.0.0.1:{port}/metrics")
            texts += [metrics, worker.text.encode()]
            worker.kill()
    assert len(whole.bodies) == (await bench.judge()).count
    assert whole.feed.unknown() == []
    for stream in STREAMS:
        assert whole.states[stream] == await newest_state(bench, stream)
    await lossy.repair()
    assert lossy.lost > 50
    assert lossy.repairs
    for stream in STREAMS:
        assert lossy.states[stream] == await newest_state(bench, stream)
    for text in (*texts, *whole.bodies):
        assert not planted.found_in(text)
    assert b"psm_" in texts[0]


def _read(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        body: bytes = answer.read()
        return body
