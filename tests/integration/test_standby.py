"""Projector and archive with a standby: one works, the other follows when it is gone."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest
from tests.support import archiving as arch
from tests.support.log import deposit, empty_log
from tests.support.running import READY_S, Running, started

from psm.adapters import postgres
from psm.workers.process import lease

TAKEOVER_S = 60.0


@pytest.mark.parametrize("command", ["projector", "archive"])
async def test_a_standby_takes_over_from_a_killed_one(
    command: str, nats_url: str, postgres_dsn: str, tmp_path: Path
) -> None:
    """SIGKILL of the active one: the other works on."""
    environment = {"NATS_URL": nats_url, "POSTGRES_DSN": postgres_dsn, "PSM_PARTITIONS": "4"}
    async with empty_log(nats_url) as nc:
        with ExitStack() as stack:

            def start() -> Running:
                return stack.enter_context(started(tmp_path, command, environment=environment))

            first = start()
            await _says(first, "lease.taken")
            second = start()
            await _stands_by(postgres_dsn)
            assert "lease.taken" not in _events(second)
            first.process.send_signal(signal.SIGKILL)
            assert first.process.wait(READY_S) == -signal.SIGKILL
            await _says(second, "lease.taken")
            if command == "archive":
                await arch.publish(nc, "trades.acc_a", json.dumps(deposit("acc_a", 1)).encode())
                await arch.archived(postgres_dsn, 1)
            assert second.stop() == 0


async def test_work_goes_on_without_a_rival_and_ends_with_one(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost session alone stops nothing; a lost session and another active one does."""
    monkeypatch.setattr(lease, "EVERY_S", 0.1)
    pools = [await postgres.open_pool(postgres_dsn, name=n, size_max=1) for n in ("l-one", "l-two")]
    one, two = (lease.Lease(pool, "sweeping") for pool in pools)

    async def work() -> None:
        await asyncio.Event().wait()

    working = asyncio.create_task(one.run(work))
    connection = await asyncpg.connect(postgres_dsn)
    try:
        await asyncio.wait_for(one.active.wait(), TAKEOVER_S)
        await connection.execute(_END, "l-one")
        await _holds(connection, "l-one")
        assert not working.done()
        waiting = asyncio.create_task(two.run(work))
        # Between its end and the next try of the first, the second one comes.
        while not two.active.is_set():
            await connection.execute(_END, "l-one")
            await asyncio.sleep(0.01)
        await asyncio.wait_for(working, TAKEOVER_S)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])
    finally:
        await connection.close()
        for pool in pools:
            pool.terminate()


async def test_a_frozen_process_loses_its_lease(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends a session that says nothing, though its connection is open."""
    monkeypatch.setattr(lease, "SILENT_S", 0.2)
    monkeypatch.setattr(lease, "EVERY_S", 3600.0)  # it takes the lock, and says no more
    pool = await postgres.open_pool(postgres_dsn, name="l-frozen", size_max=1)
    frozen = lease.Lease(pool, "sleeping")
    holding = asyncio.create_task(frozen.run(asyncio.Event().wait))  # type: ignore[arg-type]
    connection = await asyncpg.connect(postgres_dsn)
    try:
        await asyncio.wait_for(frozen.active.wait(), TAKEOVER_S)
        deadline = time.monotonic() + TAKEOVER_S
        while await connection.fetchval(_HOLDERS, "l-frozen"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
    finally:
        await connection.close()
        holding.cancel()
        await asyncio.wait([holding])
        pool.terminate()


_HOLDERS = (
    "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE locktype = 'advisory' AND application_name = $1"
)
_END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1"


async def _holds(connection: asyncpg.Connection[asyncpg.Record], name: str) -> None:
    deadline = time.monotonic() + TAKEOVER_S
    while not await connection.fetchval(_HOLDERS, name):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def _stands_by(dsn: str) -> None:
    """Wait until two processes have a session for the lease, and see who has it."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%-lease'"
    await arch.at_least(dsn, query, 2)
    locks = (
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE locktype = 'advisory' AND application_name LIKE '%-lease'"
    )
    assert await arch.value(dsn, locks) == 1


async def _says(process: Running, event: str) -> None:
    deadline = time.monotonic() + TAKEOVER_S
    while event not in _events(process):
        assert process.process.poll() is None, process.log.read_text()
        assert time.monotonic() < deadline, process.log.read_text()
        await asyncio.sleep(0.05)


def _events(process: Running) -> list[str]:
    lines = process.log.read_text().splitlines()
    return [json.loads(line)["event"] for line in lines if line.startswith("{")]
