"""A broker that was killed in a commit and then lost its redo log keeps a part of that commit."""

from __future__ import annotations

import asyncio
import random
import re
import shutil
from pathlib import Path

import pytest
from nats.aio.client import Client
from tests.support.guarded import publish_guarded
from tests.support.workbench import until

from psm.adapters.embedded import EmbeddedNats
from psm.adapters.jetstream import Outgoing, connect, last_for
from psm.adapters.jetstream.streams_apply import apply
from psm.contracts.errors import LogDamagedError, PSMError
from psm.workers.log.cursor import Cursor, dump_cursor
from psm.workers.partition.jetstream import JetStreamLog
from psm.workers.process.settings import Settings

PARTITIONS = range(4)
UPDATES = 600
TURNS = 60  # one of five leaves a part behind


async def commit(nc: Client, partition: int, stored: asyncio.Event) -> None:
    """Commit one batch after the other, until the broker is gone."""
    cursor = dump_cursor(Cursor(log_sequence=1, updates=UPDATES))
    updates = [
        Outgoing(f"_psm.state.updated.{partition}.a{place}", b"x" * 1000)
        for place in range(UPDATES)
    ]
    batch = [Outgoing(f"_psm.cursor.{partition}", cursor), *updates]
    last = await last_for(nc, "PSM", f"psm.cursor.{partition}")
    expected = last.sequence if last else 0
    while True:
        ack = await publish_guarded(
            nc, "PSM", batch, expected=expected, batch_id=f"{partition}-{expected}", timeout_s=1.0
        )
        expected = ack.first
        stored.set()


async def kill_in_a_commit(server: EmbeddedNats, nc: Client, folder: Path) -> None:
    """Kill the broker while it stores batches, and empty their redo log."""
    stored = asyncio.Event()
    tasks = [asyncio.create_task(commit(nc, partition, stored)) for partition in PARTITIONS]
    await stored.wait()
    await asyncio.sleep(random.random() * 0.05)
    await server.kill()
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, (PSMError, asyncio.CancelledError)) for one in ended), ended
    for redo in folder.rglob("batches"):
        shutil.rmtree(redo)
        redo.mkdir()


async def test_torn_commit_is_told_by_broker_and_partition(tmp_path: Path) -> None:
    """The embedded broker does not start on it, once; then the partition names the place."""
    server = EmbeddedNats(tmp_path)
    await server.start()
    nc = await connect(server.url, name="test")
    await apply(nc, Settings(nats_url=server.url, partitions=len(PARTITIONS)))
    try:
        for _ in range(TURNS):
            await kill_in_a_commit(server, nc, tmp_path)
            try:
                await server.start()
            except LogDamagedError as error:
                told = str(error)
                break
            await until(lambda: nc.is_connected, "it is connected again")
        else:
            pytest.skip(f"{TURNS} kills left no part of a batch behind")
        assert re.search(r"in stream '\$G > PSM' at sequence \d+: .* run `psm audit`", told)
        assert not server.is_running
        await server.start()
        await until(lambda: nc.is_connected, "it is connected again")
        torn = []
        for partition in PARTITIONS:
            log = JetStreamLog(nc, partition)
            cursor = await log.cursor()
            torn.append(cursor is not None and await log.first_missing(cursor))
        assert any(torn), torn
    finally:
        await nc.close()
        await server.stop()
