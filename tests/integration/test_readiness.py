"""Readiness tells the truth about what a process depends on, not only about itself."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from tests.support import feed
from tests.support.workbench import open_bench, until

from psm.adapters.embedded import EmbeddedNats
from psm.contracts.errors import TransientError
from psm.workers.partition import settings as partition_settings
from psm.workers.process import readiness as pulse
from psm.workers.process.readiness import Pulse

PARTITIONS = 2


async def test_worker_whose_broker_is_frozen_is_not_ready(
    nats_server: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is open, the partitions have folded everything, and nobody answers."""
    monkeypatch.setattr(partition_settings, "SILENCE_S", 1.5)
    async with (
        open_bench(nats_server.url, partitions=PARTITIONS) as bench,
        bench.worker() as worker,
    ):
        await bench.publish(feed.traffic(1, accounts=4, events=20))
        await until(lambda: worker.readiness()[0], "it is ready")
        os.kill(nats_server.pid, signal.SIGSTOP)
        try:
            # One partition may miss its answer a moment before the other.
            await until(lambda: worker.readiness()[1]["unanswered"] == [0, 1], "both are silent")
            ready, detail = worker.readiness()
            assert not ready
            assert detail["connected"], "only the answers are missing"
        finally:
            os.kill(nats_server.pid, signal.SIGCONT)
        await until(lambda: worker.readiness()[0], "it is ready again")
        await bench.judge()


async def test_pulse_names_what_is_away_and_since_when_it_is_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not asked yet, answers, fails, hangs, answers again."""
    monkeypatch.setattr(pulse, "EVERY_S", 0.01)
    monkeypatch.setattr(pulse, "ANSWER_S", 0.2)
    hangs = asyncio.Event()
    hangs.set()
    fails = False

    async def check() -> None:
        if fails:
            raise TransientError("it is away")
        await hangs.wait()

    taken = Pulse({"log": check})
    assert taken.problems == {"log": "not asked yet"}
    async with taken:
        await until(lambda: taken.problems == {}, "it answers")
        fails = True
        await until(lambda: taken.problems == {"log": "it is away"}, "it fails")
        fails = False
        await until(lambda: taken.problems == {}, "it answers again")
        hangs.clear()
        await until(lambda: "no answer" in taken.problems.get("log", ""), "it is late")
        hangs.set()
        await until(lambda: taken.problems == {}, "it answers at last")
