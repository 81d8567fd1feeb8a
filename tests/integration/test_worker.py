"""The worker on real brokers that die, lose its consumer or forbid the start."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support import feed
from tests.support.events import deposit, rules
from tests.support.slots import slots_env
from tests.support.workbench import Bench, end, open_bench, until, until_answer
from tests.support.worker_process import WorkerProcess

from psm.adapters.embedded import EmbeddedNats
from psm.adapters.jetstream import last_for, stream_info
from psm.adapters.jetstream.api import call
from psm.adapters.jetstream.errors import ApiError
from psm.adapters.jetstream.pull import INACTIVE_THRESHOLD_S
from psm.workers.fleet import worker as worker_module
from psm.workers.log.cursor import load_cursor
from psm.workers.partition.jetstream import JetStreamLog
from psm.workers.partition.ports import Commit

PARTITIONS = 4
GRACE_S = 30.0  # Kubernetes kills what has not ended by then


@pytest.fixture
async def bench(nats_url: str) -> AsyncIterator[Bench]:
    async with open_bench(nats_url, partitions=PARTITIONS) as opened:
        yield opened


def start(bench: Bench, folder: Path, *arguments: str, **settings: object) -> WorkerProcess:
    """Start a worker process for the bench's log."""
    own = {
        "PSM_PARTITIONS": bench.settings.partitions,
        **slots_env(bench.settings.valuation_slots),
        "PSM_SNAPSHOT_INTERVAL_S": 1,
        **settings,
    }
    return WorkerProcess(bench.settings.nats_url, folder, *arguments, **own)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


async def health(port: int) -> tuple[int, dict[str, Any]]:
    """Return status and body of /health/ready."""

    def ask() -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready") as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    status, body = await asyncio.to_thread(ask)
    return status, msgspec.json.decode(body)


# --- faults of the broker -------------------------------------------------------------------


async def consumers(bench: Bench) -> list[str]:
    """Return the names of the consumers of the log."""
    return (await call(bench.nc, "CONSUMER.NAMES.TRADES")).get("consumers") or []


async def committed(bench: Bench, partition: int) -> int:
    """Return the log sequence up to which a partition is committed; 0 before its first commit."""
    stored = await last_for(bench.nc, "PSM", f"psm.cursor.{partition}")
    return load_cursor(stored.data).log_sequence if stored else 0


async def test_broker_killed_under_load(nats_server: EmbeddedNats) -> None:
    """The worker waits for the broker and goes on from its own position: nothing is lost."""
    messages = feed.traffic(30, accounts=10, events=250)
    async with (
        open_bench(nats_server.url, partitions=PARTITIONS) as bench,
        bench.worker(snapshot_interval_s=0.2) as worker,
    ):
        load = asyncio.create_task(feed.press(bench.nc, messages, pause_s=0.003))
        try:
            for _ in range(2):
                await asyncio.sleep(0.4)
                await nats_server.kill()
                await asyncio.sleep(0.3)
                await nats_server.start()
                await until(lambda: bench.nc.is_connected, "the connection is back")
            await load
        finally:
            await end(load)
        await bench.judge()
        await until(lambda: worker.readiness()[0], "the worker is ready again")
        assert worker.failed == {}


async def test_consumers_deleted_while_running(bench: Bench) -> None:
    """Somebody deletes the worker's consumers again and again: it opens others, no loss."""
    deleted = 0
    messages = feed.traffic(31, accounts=8, events=160)
    async with bench.worker():
        load = asyncio.create_task(feed.press(bench.nc, messages, pause_s=0.003))
        try:
            for _ in range(3):
                await asyncio.sleep(0.15)
                for name in await consumers(bench):
                    with contextlib.suppress(ApiError):  # the worker was faster
                        await call(bench.nc, f"CONSUMER.DELETE.TRADES.{name}")
                        deleted += 1
            await load
        finally:
            await end(load)
        await bench.judge()
    assert deleted >= PARTITIONS


async def test_stopped_worker_leaves_no_consumer(bench: Bench) -> None:
    """What it opened on the broker is gone when it ends cleanly."""
    async with bench.worker():
        wanted = "one for each partition"
        await until_answer(lambda: consumers(bench), lambda n: len(n) == PARTITIONS, wanted)
    # Deletions are not waited for. Without them the broker would keep the consumers for a minute.
    soon = INACTIVE_THRESHOLD_S / 2
    await until_answer(lambda: consumers(bench), lambda n: not n, "they are deleted", soon)


async def test_stop_while_the_broker_is_away_ends(
    nats_server: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be committed is left to the next owner; the process does not wait for ever."""
    monkeypatch.setattr(worker_module, "_DRAIN_S", 0.5)
    async with open_bench(nats_server.url) as bench:
        async with bench.worker() as worker:
            await bench.publish(deposit(1))
            await nats_server.kill()
            await until(lambda: not worker.readiness()[1]["connected"], "it has noticed")
            assert not worker.readiness()[0]
        await nats_server.start()
        await until(lambda: bench.nc.is_connected, "the connection is back")
        await bench.run_until(bench.partition(), 1)
        await bench.judge()


# --- partitions that must not go on -----------------------------------------------------------


async def test_defect_in_one_partition_is_shown_and_leaves_the_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken invariant stops its partition for good, visibly; the others run."""

    class Broken(JetStreamLog):
        async def commit(self, commit: Commit, expected: int) -> int:
            if self._partition == 1:
                raise AssertionError("the cursor went backwards")
            return await super().commit(commit, expected)

    monkeypatch.setattr(worker_module, "JetStreamLog", Broken)
    async with bench.worker() as worker:
        await bench.publish(deposit(1, stream=feed.account(n)) for n in range(20))
        await until(lambda: worker.failed, "the partition stopped")
        await until(lambda: worker.readiness()[1]["live"] == PARTITIONS - 1, "the others run")
        ready, detail = worker.readiness()
        assert not ready
        assert detail["stopped"] == {"1": "AssertionError: the cursor went backwards"}
        for number in (0, 2, 3):
            await until_answer(partial(committed, bench, number), bool, f"{number} commits")
        assert await committed(bench, 1) == 0


async def test_unknown_rules_stop_every_partition(bench: Bench, tmp_path: Path) -> None:
    """A log that enables newer rules is not guessed at: not ready, exit code 1 at the end."""
    port = free_port()
    async with start(bench, tmp_path, PSM_METRICS_PORT=port) as worker:
        await worker.ready(PARTITIONS)
        assert (await health(port))[0] == 200
        found = await until_answer(
            lambda: health(port), lambda a: a[1]["log"] == "writable", "the canary has asked"
        )
        assert found[1]["late"] == []
        await bench.publish(deposit(1), rules(99), deposit(2))
        status, detail = await until_answer(
            lambda: health(port), lambda a: len(a[1]["stopped"]) == PARTITIONS, "all have stopped"
        )
        assert status == 503
        await worker.logged("partition.stopped", PARTITIONS)
        assert "rules 99" in detail["stopped"]["0"]
        worker.terminate()
        assert await worker.ended() == 1


# --- the process --------------------------------------------------------------------------------


async def test_two_processes_share_the_log(bench: Bench, tmp_path: Path) -> None:
    """Each runs its partitions, without a word between them; together they publish everything."""
    async with (
        start(bench, tmp_path, "--partitions", "0-1") as first,
        start(bench, tmp_path, PSM_WORKER_PARTITIONS="2-3") as second,
    ):
        await bench.publish(feed.traffic(32, accounts=16, events=200))
        await bench.judge()
        for worker in (first, second):
            worker.terminate()
        for worker, own in ((first, {0, 1}), (second, {2, 3})):
            assert await worker.ended() == 0
            assert {e["partition"] for e in worker.events("partition.released")} == own
            assert worker.events("partition.fenced") == []


async def test_two_processes_on_the_same_partitions(bench: Bench, tmp_path: Path) -> None:
    """A doubled owner costs refused commits, never a wrong number."""
    every = ("--partitions", f"0-{PARTITIONS - 1}")
    async with start(bench, tmp_path, *every) as first, start(bench, tmp_path, *every) as second:
        await asyncio.gather(first.ready(PARTITIONS), second.ready(PARTITIONS))
        messages = feed.traffic(33, accounts=8, events=150)
        await feed.press(bench.nc, messages, pause_s=0.005)
        await bench.judge()
        await until(
            lambda: first.events("partition.fenced") + second.events("partition.fenced"),
            "one of them is refused",
        )
        first.kill()
        await first.ended()
        await bench.publish(deposit(n, stream="later") for n in range(1, 6))
        await bench.judge()


async def test_terminated_worker_stops_within_seconds(bench: Bench, tmp_path: Path) -> None:
    """SIGTERM under load: everything folded is committed and saved, exit code 0."""
    messages = feed.traffic(34, accounts=8, events=300)
    async with start(bench, tmp_path) as worker:
        await worker.ready(PARTITIONS)
        load = asyncio.create_task(feed.press(bench.nc, messages, pause_s=0.002))
        try:
            await asyncio.sleep(0.3)
            worker.terminate()
            assert await worker.ended(GRACE_S) == 0
            await load
        finally:
            await end(load)
        assert worker.events("worker.stopped")
        assert len(worker.events("partition.released")) == PARTITIONS
    async with start(bench, tmp_path):
        await bench.judge()


async def test_terminated_before_it_is_ready(bench: Bench, tmp_path: Path) -> None:
    """SIGTERM as soon as it lives is a clean stop as well."""
    async with start(bench, tmp_path) as worker:
        await worker.logged("worker.started")
        worker.terminate()
        assert await worker.ended(GRACE_S) == 0


@pytest.mark.parametrize("text", ["0-9", "x", "3-1", "-1", ""])
async def test_bad_partitions_are_refused(bench: Bench, tmp_path: Path, text: str) -> None:
    """One clear line and exit code 2."""
    async with start(bench, tmp_path, "--partitions", text) as worker:
        assert await worker.ended() == 2
        (line,) = worker.text.strip().splitlines()
        assert line.startswith(f"psm: --partitions {text}: ")


async def test_taken_metrics_port_is_refused(bench: Bench, tmp_path: Path) -> None:
    """Exit code 2, and the line names the setting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with start(bench, tmp_path, PSM_METRICS_PORT=port) as worker:
            assert await worker.ended() == 2
            assert f"cannot listen on 127.0.0.1:{port}" in worker.text
            assert "PSM_METRICS_PORT" in worker.text


async def test_other_number_of_partitions_is_refused(bench: Bench, tmp_path: Path) -> None:
    """Accounts would change places: the log's number is the only one."""
    async with start(bench, tmp_path, PSM_PARTITIONS=8) as worker:
        assert await worker.ended() == 2
        assert 'metadata.psm.partitions is "4", needed "8"' in worker.text
        assert "new generation" in worker.text


async def test_weaker_streams_are_refused(bench: Bench, tmp_path: Path) -> None:
    """A log whose messages may age out or be purged is not one to keep money on."""
    config = (await stream_info(bench.nc, "TRADES")).config
    await call(bench.nc, "STREAM.UPDATE.TRADES", {**config, "max_age": 3600 * 10**9})
    async with start(bench, tmp_path) as worker:
        assert await worker.ended() == 2
        assert "TRADES: max_age is 3600000000000, needed 0" in worker.text
        assert "psm streams apply --dry-run" in worker.text


async def test_missing_streams_are_named(nats_url: str, tmp_path: Path) -> None:
    """A broker without the streams is not silently filled with them."""
    async with WorkerProcess(nats_url, tmp_path) as worker:
        assert await worker.ended() == 2
        assert "TRADES: the stream does not exist" in worker.text


async def test_broker_that_is_not_there_is_named(tmp_path: Path) -> None:
    """An address where nobody answers ends the start within seconds."""
    url = f"nats://127.0.0.1:{free_port()}"
    async with WorkerProcess(url, tmp_path) as worker:
        assert await worker.ended(GRACE_S) == 2
        assert f"NATS at {url} does not answer" in worker.text
