"""A replay cannot touch the world: its NATS user may publish nothing, its pool write nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator

import asyncpg
import pytest
from nats.aio.client import Client
from tests.support.broker import compose_broker, connect_as
from tests.support.log import LogSize, deposit
from tests.support.servers import server_folder
from tests.support.workbench import until

from psm.adapters import postgres
from psm.adapters.jetstream import ConnectionCounters, OrderedReader, get, stream_info
from psm.adapters.jetstream.errors import PermissionRefusedError
from psm.adapters.jetstream.streams_apply import apply
from psm.contracts.publisher import Publisher
from psm.contracts.replay import ReplayMode

STREAMS = ("TRADES", "PSM", "SNAPSHOTS", "MARKETDATA", "SIGNALS", "ORDERS", "FILLS", "RISK")
FORBIDDEN = (
    "trades.acc",
    "marks.BTC",
    "instruments.BTC",
    "collateral.BTC",
    "control.rules",
    "_psm.state.updated.0.acc",
    "psm.state.updated",
    "snapshots.0.acc",
    "marketdata.ticker.BTC",
    "signals.strategy.s.BTC",
    "risk.decision.acc",
    "orders.command.acc",
    "orders.status.1",
    "fills.internal.1",
    "$KV.psm-fleet.member",
    "$JS.API.STREAM.CREATE.OTHER",
    "$JS.API.STREAM.UPDATE.TRADES",
    "$JS.API.STREAM.PURGE.RISK",
    "$JS.API.STREAM.DELETE.TRADES",
    "$JS.API.STREAM.MSG.DELETE.TRADES",
    "$JS.API.STREAM.RESTORE.TRADES",
)


@pytest.fixture
async def broker() -> AsyncIterator[str]:
    """The broker of compose.yaml."""
    with server_folder("nats") as folder:
        async with compose_broker(folder) as url:
            yield url


async def sizes(nc: Client) -> dict[str, tuple[int, int]]:
    found = {}
    for name in STREAMS:
        info = await stream_info(nc, name)
        found[name] = (info.messages, info.last_sequence)
    return found


async def _refused(counters: ConnectionCounters, count: int, subject: str) -> None:
    """The broker's answer is there, the client's callback may need a moment."""
    await until(lambda: counters.permission_errors >= count, f"{subject} is refused")
    assert counters.permission_errors == count, subject


async def test_replay_user_reads_everything_and_publishes_nothing(broker: str) -> None:
    """Every write that would have an effect is refused by the broker; the streams stay."""
    owner = await connect_as("admin", broker)
    counters = ConnectionCounters()
    replay = await connect_as("replay", broker, counters)
    try:
        await apply(owner, LogSize())
        await Publisher(owner, assume_new=True).append(deposit("acc"))
        before = await sizes(owner)

        reader = OrderedReader(replay, "TRADES", ["trades.*.acc"])
        (message,) = await reader.fetch(10, 10)
        await reader.close()
        assert (await get(replay, "TRADES", 1)) == message
        assert await sizes(replay) == before
        assert counters.permission_errors == 0

        for count, subject in enumerate(FORBIDDEN, start=1):
            await replay.publish(subject, b"{}")
            await replay.flush()
            await _refused(counters, count, subject)
        with pytest.raises(PermissionRefusedError):
            await Publisher(replay, request_timeout_s=0.2, give_up_s=0.3).append(deposit("acc"))
        assert counters.permission_errors > len(FORBIDDEN)
        await replay.subscribe("trades.>")  # live events are not a replay's business either
        await replay.flush()
        assert await sizes(owner) == before
    finally:
        await replay.close()
        await owner.close()


async def test_replay_pool_cannot_write(postgres_dsn: str) -> None:
    """A pool opened in replay mode is read-only on the server's side; another one is not."""
    with ReplayMode():
        pool = await postgres.open_pool(postgres_dsn, name="replay")
    try:
        assert await pool.fetchval("SELECT 1") == 1
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await pool.execute("CREATE TABLE x (y int)")
    finally:
        await pool.close()
    pool = await postgres.open_pool(postgres_dsn, name="live")
    try:
        await pool.execute("CREATE TABLE x (y int)")
    finally:
        await pool.close()


def test_replay_process_refuses_by_type() -> None:
    """A process started in replay mode raises the type that says so, before any connection."""
    code = (
        "import asyncio\n"
        "from psm.contracts import EventFactory, Publisher\n"
        "from psm.contracts.errors import ReplayModeError\n"
        "factory = EventFactory('s', '1', publisher=Publisher('nats://127.0.0.1:1'))\n"
        "event = factory.create_alert(severity='info', message='x')\n"
        "try:\n"
        "    asyncio.run(factory.publish(event))\n"
        "except ReplayModeError:\n"
        "    print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PSM_REPLAY_MODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "refused\n"
