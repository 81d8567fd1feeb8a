"""The connection to NATS gives up a broker that takes nothing, however much is on its way there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import nats.errors
import pytest
from nats.aio.client import Client
from tests.support.tcp_proxy import TcpProxy, proxied
from tests.support.workbench import WAIT_S, until

from psm.adapters.embedded import EmbeddedNats
from psm.adapters.jetstream import ConnectionCounters, connect, connection

FLOOD = b"x" * 500_000
OPEN_FILES = Path("/proc/self/fd")


@pytest.fixture
async def proxy(nats_url: str) -> AsyncIterator[TcpProxy]:
    async with proxied(nats_url) as opened:
        yield opened


async def flooded(proxy: TcpProxy) -> Client:
    """Return a connection that fell silent and has more to send than its socket holds."""
    client = await connect(f"nats://127.0.0.1:{proxy.port}", name="test")
    await client.flush()
    assert proxy.silence() == 1
    with contextlib.suppress(TimeoutError, nats.errors.OutboundBufferLimitError):
        for _ in range(40):
            await asyncio.wait_for(client.publish("flood", FLOOD), 0.5)
    return client


async def test_reconnects_although_the_old_socket_is_full(
    proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is buffered is not waited for: the new connection is used."""
    monkeypatch.setattr(connection, "PING_INTERVAL_S", 1)
    client = await flooded(proxy)
    try:
        await until(lambda: client.stats["reconnects"] == 1, "it has reconnected")
        await client.flush()
    finally:
        await client.close()


async def test_closes_although_the_socket_is_full(proxy: TcpProxy) -> None:
    """A process whose broker is frozen can still end."""
    client = await flooded(proxy)
    await asyncio.wait_for(client.close(), WAIT_S)
    assert client.is_closed


async def test_attempts_that_fail_leave_no_socket_open(
    nats_server: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen broker accepts connections and greets nobody: each attempt is closed."""
    monkeypatch.setattr(connection, "PING_INTERVAL_S", 1)
    counters = ConnectionCounters()
    client = await connect(nats_server.url, name="test", counters=counters)
    os.kill(nats_server.pid, signal.SIGSTOP)
    try:
        await until(lambda: counters.errors >= 2, "two attempts failed")
        left = len(list(OPEN_FILES.iterdir()))
        await until(lambda: counters.errors >= 4, "two more attempts failed")
        # One more may be at it right now.
        await until(lambda: len(list(OPEN_FILES.iterdir())) <= left, "none is left open")
    finally:
        os.kill(nats_server.pid, signal.SIGCONT)
        await client.close()
