"""The canary: one write an interval for a whole cluster, and the truth about the broker."""

from __future__ import annotations

import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.test_http import serving
from tests.support.events import deposit
from tests.support.feed import publish
from tests.support.nats_cluster import NatsCluster, make_streams
from tests.support.workbench import open_bench, until, until_answer

from psm.adapters import telemetry
from psm.adapters.embedded import EmbeddedNats
from psm.adapters.jetstream import connect, last_for, publish_expected, stream_info
from psm.adapters.jetstream.streams_apply import apply
from psm.contracts.subjects import partition_of
from psm.workers.api import health
from psm.workers.log.cursor import Cursor, dump_cursor
from psm.workers.process import canary as canaries
from psm.workers.process import lateness
from psm.workers.process.canary import Canary
from psm.workers.process.settings import Settings

_METRICS = telemetry.quiet().metrics


async def test_one_write_an_interval_however_many_ask(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six processes see a writable log by the writes of one of them at a time; one is kept."""
    monkeypatch.setattr(canaries, "EVERY_S", 0.5)
    async with open_bench(nats_url) as bench, AsyncExitStack() as stack:
        flock = [Canary(bench.nc, f"c{n}", _METRICS) for n in range(6)]
        for canary in flock:
            await stack.enter_async_context(canary)
        await until(lambda: all(canary.problem is None for canary in flock), "all see it")
        first = (await stream_info(bench.nc, "HEALTH")).last_sequence
        before = bench.nc.stats["in_msgs"]
        await until(lambda: bench.nc.stats["in_msgs"] - before > 6 * 2 * 10, "they asked ten times")
        info = await stream_info(bench.nc, "HEALTH")
        assert 5 <= info.last_sequence - first <= 25, "not sixty"
        assert info.messages == 1
        assert (await stream_info(bench.nc, "TRADES")).last_sequence == 0, "the ledger is untouched"
        assert all(canary.problem is None for canary in flock)


async def test_missing_stream_is_named(nats_url: str) -> None:
    """Streams of before, or none at all."""
    nc = await connect(nats_url, name="test")
    async with Canary(nc, "test", _METRICS) as canary:
        assert canary.problem == "not asked yet"
        await until(lambda: "stream not found" in (canary.problem or ""), "it is named")
    await nc.close()


async def test_frozen_broker_closes_ingest_and_not_reads(
    nats_server: EmbeddedNats, postgres_dsn: str
) -> None:
    """Reads need PostgreSQL alone and answer at once; nobody is restarted for the broker."""
    async with serving(nats_server.url, postgres_dsn, ingest=True) as api:

        async def status(path: str) -> int:
            return (await api.client.get(path)).status_code

        await until_answer(lambda: status("/health/ready"), lambda s: s == 200, "it is ready")
        os.kill(nats_server.pid, signal.SIGSTOP)
        try:
            await until_answer(lambda: status("/health/ready/ingest"), lambda s: s == 503, "shut")
            assert await status("/health/ready") == 503
            report = (await api.client.get("/health", timeout=2)).json()
            assert report["doors"]["reads"] == "ready"
            assert report["log"] == report["doors"]["ingest"] != "ready"
            answer: httpx.Response = await api.client.get("/health/ready/reads", timeout=2)
            assert answer.status_code == 200
            assert await status("/health/live") == 200
        finally:
            os.kill(nats_server.pid, signal.SIGCONT)
        await until_answer(lambda: status("/health/ready"), lambda s: s == 200, "open again")


async def test_replica_that_stays_behind_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server of three is gone: the log is writable, and health says what is missing."""
    monkeypatch.setattr(canaries, "REPLICA_BEHIND_S", 1.0)
    monkeypatch.setattr(canaries, "REPLICAS_EVERY_S", 0.2)
    cluster = NatsCluster(tmp_path)
    await cluster.start()
    try:
        nc = await connect(cluster.url, name="test")
        await make_streams(nc, lambda: apply(nc, Settings(replicas=3)))
        await cluster.heal(nc)
        async with Canary(nc, "test", _METRICS) as canary:
            await until(lambda: canary.problem is None, "it is writable")
            assert canary.report().replicas == {}
            leaders = [await cluster.leader(nc, name) for name in ("TRADES", "PSM", "HEALTH")]
            spare = next((node for node in cluster.nodes if node not in leaders), cluster.nodes[0])
            await spare.kill()
            await until(
                lambda: canary.report().replicas.get("TRADES") == [spare.server_name],
                "the server is named",
            )
            await until(lambda: canary.problem is None, "it is writable without it")
            await spare.start()
            await until(lambda: canary.report().replicas == {}, "it is current again")
        await nc.close()
    finally:
        await cluster.stop()


async def test_late_view_is_named_and_closes_no_door(
    nats_url: str, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody writes the views of a partition that committed; the idle ones are well."""
    monkeypatch.setattr(lateness, "LATE_S", 0.5)
    monkeypatch.setattr(health, "EVERY_S", 0.2)
    async with serving(nats_url, postgres_dsn, ingest=False) as api:
        cursor = dump_cursor(Cursor(log_sequence=1, event_hash="00" * 32))
        await publish_expected(api.nc, "PSM", "_psm.cursor.2", cursor, expected=0)

        async def report() -> tuple[int, dict[str, Any]]:
            answer = await api.client.get("/health/ready")
            return answer.status_code, answer.json()

        status, found = await until_answer(report, lambda r: r[1]["late"], "it is late")
        assert status == 200
        assert found["late"] == ["current_state/2"]
        assert found["doors"] == {"reads": "ready", "ingest": "off; PSM_INGEST turns it on"}


async def test_commits_that_nobody_makes_are_named(
    nats_url: str, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No worker lives: its metrics cannot say it, the leaders of log and cursors can."""
    monkeypatch.setattr(health, "COMMITS_LATE_S", 0.5)
    monkeypatch.setattr(health, "EVERY_S", 0.2)
    async with serving(nats_url, postgres_dsn, ingest=False) as api:
        await publish(api.nc, [deposit(1, stream="acc_001")])
        number = partition_of("acc_001", 4)

        async def late() -> list[str]:
            found: list[str] = (await api.client.get("/health")).json()["late"]
            return found

        await until_answer(late, lambda found: found == [f"commits/{number}"], "it is late")
        end = await last_for(api.nc, "TRADES", f"trades.{number}.*")
        assert end is not None
        cursor = dump_cursor(Cursor(log_sequence=end.sequence, event_hash="00" * 32))
        await publish_expected(api.nc, "PSM", f"_psm.cursor.{number}", cursor, expected=0)
        await until_answer(
            late, lambda found: f"commits/{number}" not in found, "it is not any more"
        )
