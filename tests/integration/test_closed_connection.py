"""A process whose connection is closed for good ends, so that its supervisor starts it again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support.slots import even_slots, slots_env
from tests.support.tcp_proxy import Direction, proxied
from tests.support.workbench import open_bench, until

from psm.workers.process.life import EXIT_STUCK, Life, ProcessFaultError

STARTED = {
    "worker": "partition.recovered",
    "projector": "projection.started",
    "archive": "archive.started",
    "serve": "http.started",
    "marks": "marks.started",
}


@asynccontextmanager
async def part(
    command: str, url: str, dsn: str, log: Path
) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Run a part of PSM until the block ends."""
    settings = {
        "NATS_URL": url,
        "POSTGRES_DSN": dsn,
        "PSM_LOG_FORMAT": "json",
        "PSM_PARTITIONS": "1",
        **slots_env(even_slots(20)),
        "PSM_HTTP_PORT": "0",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "psm.workers.cli", command],
            env={**os.environ, **settings},
            stderr=output,
        )
    try:
        await until(lambda: STARTED[command] in log.read_text(), f"{command} runs: {log}")
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.to_thread(process.wait)


@pytest.mark.parametrize("command", STARTED)
async def test_part_ends_when_its_connection_is_closed_for_good(
    command: str, nats_url: str, postgres_dsn: str, tmp_path: Path
) -> None:
    """The broker says that it takes no more of this client; it ends by itself, with a reason."""
    log = tmp_path / f"{command}.log"
    closing = False

    def refuse(direction: Direction, frame: bytes) -> list[bytes]:
        if closing and direction == "down":
            return [b"-ERR 'Maximum Control Line Exceeded'\r\n"]
        return [frame]

    async with open_bench(nats_url), proxied(nats_url, frames=True) as proxy:
        proxy.change = refuse
        url = f"nats://127.0.0.1:{proxy.port}"
        async with part(command, url, postgres_dsn, log) as process:
            closing = True
            await until(lambda: process.poll() is not None, f"{command} ends: {log.read_text()}")
            assert process.returncode == 1, log.read_text()
    said = [json.loads(line) for line in log.read_text().splitlines() if line[:1] == "{"]
    failed = [line for line in said if line["event"] == "process.failed"]
    assert len(failed) == 1
    assert "maximum control line exceeded" in failed[0]["detail"]
    assert "closed for good" in log.read_text().splitlines()[-1]


async def test_own_end_is_no_fault() -> None:
    """A connection that is closed because the process stops fails nothing."""
    with Life() as life:
        life.end()
        life.connection_closed("by its owner")
        life.end()
    assert life.fault is None


async def test_fault_before_there_is_anything_to_stop_is_kept() -> None:
    """What is set up after the connection closed is stopped at once."""
    stopped: list[bool] = []
    with Life() as life:
        life.connection_closed("a lie")
        life.on_fault(lambda: stopped.append(True))
        assert stopped == [True]
        with pytest.raises(ProcessFaultError, match="a lie"):
            life.end()
        life.fault = None  # this process goes on


@pytest.mark.parametrize("stuck", ["while True: pass", "time.sleep(3600)"])
def test_loop_that_does_not_turn_ends_the_process(stuck: str) -> None:
    """Nothing else could: the loop would have to answer the probe and to stop."""
    program = (
        "import asyncio, time\n"
        "from psm.workers.process import life\n"
        "life.STUCK_S, life._TICK_S = 3, 0.05\n"
        "async def run():\n"
        "    with life.Life():\n"
        "        await asyncio.sleep(0.5)\n"
        "        print('turned', flush=True)\n"
        f"        {stuck}\n"
        "asyncio.run(run())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert done.returncode == EXIT_STUCK
    assert b"turned" in done.stdout
    assert b"process.stuck" in done.stdout + done.stderr
    assert b"in run" in done.stderr, "it says where it is stuck"


def test_process_that_was_frozen_is_not_stuck() -> None:
    """Its loop had no chance to turn, and neither had who watches it."""
    program = (
        "import asyncio, os, signal\n"
        "from psm.workers.process import life\n"
        "life.STUCK_S, life._TICK_S = 5, 0.1\n"
        "async def run():\n"
        "    with life.Life():\n"
        "        print('turns', flush=True)\n"
        "        await asyncio.sleep(3)\n"
        "asyncio.run(run())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"turns\n"
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)  # three times as long as a loop may stand
        process.send_signal(signal.SIGCONT)
        assert process.wait(30) == 0
