"""A full disk is named, told apart from an outage, and got over once there is room."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from tests.support import feed
from tests.support.log import deposit
from tests.support.running import Running, request, started
from tests.support.small_disk import filled, small_disk, write
from tests.support.workbench import open_bench, until, until_answer

from psm.adapters import telemetry
from psm.adapters.broker_monitor import look_at
from psm.adapters.embedded import EmbeddedNats
from psm.adapters.jetstream import connect, publish_expected
from psm.adapters.jetstream.errors import StoreFullError
from psm.workers.process.canary import Canary

_METRICS = telemetry.quiet().metrics


async def test_canary_names_the_full_disk_and_the_room_again(tmp_path: Path) -> None:
    """The broker answers with silence; its monitoring port has the word for it."""
    with small_disk(tmp_path / "disk", 64) as disk:
        async with EmbeddedNats(disk / "nats") as server, open_bench(server.url) as bench:
            canary = Canary(bench.nc, "test", _METRICS, server.monitoring_url)
            async with canary:
                await until(lambda: canary.problem is None, "it is writable")
                with filled(disk):
                    await until(lambda: "no space left" in (canary.problem or ""), "it is named")
                    await until(
                        lambda: "no answer" in (canary.problem or ""), "the write fails, too"
                    )
                (sight,) = await look_at(server.monitoring_url)
                assert sight.store_failed, "room alone heals nothing"
                await server.stop()
                await server.start()
                await until(lambda: canary.problem is None, "a new start does")


async def test_log_that_alone_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The canary's stream is well; the log's met the full disk between two of its writes."""
    with small_disk(tmp_path / "disk", 64) as disk:
        async with EmbeddedNats(disk / "nats") as server, open_bench(server.url) as bench:
            with filled(disk):
                await write(bench.nc)
            async with Canary(bench.nc, "test", _METRICS, server.monitoring_url) as canary:
                await until(
                    lambda: "the broker's store failed" in (canary.problem or ""), "it is known"
                )
                assert "TRADES" in (canary.problem or "")


def said(running: Running, event: str) -> bool:
    """Return whether a process has logged an event."""
    return f'"{event}"' in running.log.read_text()


async def test_up_names_a_full_disk_and_gets_over_it(tmp_path: Path) -> None:
    """Only appending is not ready meanwhile; nobody does anything but make room."""
    first, second = (json.dumps(deposit("acc_001", n)).encode() for n in (1, 2))
    with small_disk(tmp_path / "disk", 400) as disk:
        # The folder's own logs lie on the disk that fills up: listen to stderr instead.
        folder = ("--data-dir", str(disk / "data"), "--partitions", "2")
        arguments = ("up", *folder, "--port", "0", "--verbose")
        with started(tmp_path, *arguments) as running:
            await asyncio.to_thread(running.await_addresses)

            async def ask(path: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
                return await asyncio.to_thread(request, running.http_url + path, body)

            assert (await ask("/psm/events", first))[0] == 201
            with filled(disk):
                nc = await connect(running.nats_url, name="test")
                await write(nc)
                status, health = await until_answer(
                    lambda: ask("/health/ready/ingest"),
                    lambda found: "no space left" in found[1]["doors"]["ingest"],
                    "the disk is named",
                )
                assert status == 503
                assert health["status"] == "not ready"
                assert (await ask("/health/ready/reads"))[0] == 200
                assert (await ask("/health/live"))[0] == 200
                assert (await ask("/psm/state/acc_001?min_sequence=1"))[0] == 200
                for line in ("disk.low", "broker.store_failed", "log.not_writable"):
                    await until(partial(said, running, line), f"{line} is logged")
            await until_answer(
                lambda: ask("/psm/events", second), lambda f: f[0] in {200, 201}, "it goes"
            )
            await until_answer(lambda: ask("/health/ready"), lambda f: f[0] == 200, "it is ready")
            state = await ask("/psm/state/acc_001?min_sequence=2")
            assert state[1]["sequence_number"] == 2
            await nc.close()
            assert said(running, "broker.restarted_for_store")


class SmallStore(EmbeddedNats):
    """A server whose streams may have two megabytes, until it is told otherwise."""

    limit = "max_file_store: 2MB"

    def _config(self) -> str:
        return super()._config().replace("jetstream {", f"jetstream {{\n  {self.limit}")


async def test_reached_limit_is_waited_out(tmp_path: Path) -> None:
    """A store at its limit refuses in words; nothing stops for good, because room may come."""

    async def fill(nc: Client) -> None:
        for _ in range(100):
            await publish_expected(nc, "SIGNALS", "signals.x", bytes(30_000), expected=None)

    server = SmallStore(tmp_path)
    async with server, open_bench(server.url) as bench:
        sent = await bench.publish(feed.traffic(1, accounts=4, events=20))
        with pytest.raises(StoreFullError, match="make some"):
            await fill(bench.nc)
        async with bench.worker() as worker, Canary(bench.nc, "test", _METRICS) as canary:
            await until(lambda: "make some" in (canary.problem or ""), "the canary is refused")
            await until(lambda: worker.readiness()[1]["unanswered"] == [0], "the commit is, too")
            assert worker.readiness()[1]["stopped"] == {}
            server.limit = ""
            await server.stop()
            await server.start()
            await until(lambda: canary.problem is None, "it is writable")
            await until(lambda: worker.readiness()[0], "the worker is ready")
        assert (await bench.cursor()).log_sequence == sent
        await bench.judge()
