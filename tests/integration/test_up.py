"""`psm up`: one command from nothing to answers, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import nats
import pytest

from psm.contracts.errors import ConfigError
from psm.workers.up.parts import Part, require_free
from psm.workers.up.supervisor import Plan, Supervisor

READY_S = 120
PSM = [sys.executable, "-m", "psm.workers.cli"]


class Up:
    """A running `psm up`."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log
        self.addresses: dict[str, str] = {}

    def await_ready(self) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self._log.read_text()
        self.addresses = json.loads(line)

    def lines(self, event: str) -> list[dict[str, Any]]:
        written = self._log.read_text().splitlines(keepends=True)
        # The last line may be in the middle of being written.
        found = [json.loads(line) for line in written if line[:1] == "{" and line[-1] == "\n"]
        return [line for line in found if line["event"] == event]

    def pids(self) -> dict[str, int]:
        """The process started last, per part."""
        return {line["child"]: line["pid"] for line in self.lines("child.started")}

    def state(self, account: str, at_least: int) -> dict[str, Any]:
        url = f"{self.addresses['http_url']}/psm/state/{account}"
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            try:
                answer = httpx.get(url, params={"min_sequence": at_least}, timeout=30)
            except httpx.TransportError:
                time.sleep(0.1)
                continue
            if answer.status_code == 200 and answer.json()["sequence_number"] >= at_least:
                return dict(answer.json())
            time.sleep(0.1)
        pytest.fail(f"{account} did not reach {at_least}:\n{self._log.read_text()[-5000:]}")


@contextmanager
def up(tmp_path: Path, *arguments: str) -> Iterator[Up]:
    """Start `psm up`; whatever happens, nothing of it is left behind."""
    log = tmp_path / f"up-{time.monotonic_ns()}.log"
    command = [*PSM, "up", "--data-dir", str(tmp_path / "data"), "--partitions", "4", *arguments]
    environment = {**os.environ, "PSM_LOG_FORMAT": "json"}
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment
        ) as process,
    ):
        try:
            yield Up(process, log)
        finally:
            process.kill()


def refusal(tmp_path: Path, *arguments: str, **environment: str) -> str:
    """Return what a `psm up` says that cannot start; nothing may be on its stdout."""
    command = [*PSM, "up", "--data-dir", str(tmp_path / "data"), *arguments]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=READY_S, env={**os.environ, **environment}
    )
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    return result.stderr.splitlines()[-1]


async def deposit(url: str, number: int) -> None:
    """Publish one deposit as a foreign service does."""
    event = {
        "event_id": f"7b0e0c0e-8a57-4d8c-9c56-{number:012x}",
        "event_type": "CashDeposited",
        "stream_id": "acc_001",
        "sequence_number": number,
        "timestamp": "2025-12-12T10:30:00Z",
        "schema_version": "1.0.0",
        "payload": {"amount": "100"},
    }
    client = await nats.connect(url)
    try:
        await client.jetstream().publish("trades.acc_001", json.dumps(event).encode())
    finally:
        await client.close()


def is_alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def await_gone(pids: list[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while left := [pid for pid in pids if is_alive(pid)]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_state_survives_a_stop(tmp_path: Path, number: signal.Signals) -> None:
    """A clean stop exits 0 and leaves no process; the next start knows everything."""
    for visit in (1, 2):
        with up(tmp_path, "--workers", "2") as running:
            running.await_ready()
            assert set(running.addresses) == {"nats_url", "postgres_dsn", "http_url", "data_dir"}
            assert running.addresses["data_dir"] == str(tmp_path / "data")
            asyncio.run(deposit(running.addresses["nats_url"], visit))
            assert running.state("acc_001", visit)["cash"] == {"USDT": str(100 * visit)}
            pids = running.pids()
            parts = {"worker-0", "worker-1", "projector", "archive", "serve"}
            assert set(pids) == {"nats", "postgres", *parts}
            assert all(map(is_alive, pids.values()))
            running.process.send_signal(number)
            assert running.process.wait(60) == 0
            assert running.process.stdout is not None
            assert running.process.stdout.read() == ""
            await_gone(list(pids.values()), 30)


def test_whatever_dies_comes_back(tmp_path: Path) -> None:
    """Parts and servers that are killed are started again, and the events go on."""
    with up(tmp_path) as running:
        running.await_ready()
        url = running.addresses["nats_url"]
        asyncio.run(deposit(url, 1))
        running.state("acc_001", 1)
        before = running.pids()
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        asyncio.run(deposit(url, 2))
        assert running.state("acc_001", 2)["cash"] == {"USDT": "200"}
        deadline = time.monotonic() + READY_S  # not all of them were needed for that
        while same := {name for name, pid in running.pids().items() if before[name] == pid}:
            assert time.monotonic() < deadline, f"not started again: {same}"
            time.sleep(0.1)
        exited = {line["child"] for line in running.lines("child.exited")}
        parts = {"worker-0", "projector", "archive", "serve"}
        assert exited == set(before) == {"nats", "postgres", *parts}


def test_nothing_survives_a_killed_supervisor(tmp_path: Path) -> None:
    """SIGKILL of `psm up` ends every part and both servers; its folder can be used again."""
    with up(tmp_path) as running:
        running.await_ready()
        pids = list(running.pids().values())
        running.process.kill()
        running.process.wait()
        await_gone(pids, 60)
    with up(tmp_path) as running:
        running.await_ready()


def test_second_up_on_a_folder_is_refused(tmp_path: Path) -> None:
    """The second one names the process that has the folder."""
    with up(tmp_path) as running:
        running.await_ready()
        assert f"in use by another psm (process {running.process.pid})" in refusal(tmp_path)


def test_signal_while_starting_is_a_clean_stop(tmp_path: Path) -> None:
    """Told to stop before it is ready, it leaves nothing behind and exits 0."""
    with up(tmp_path) as running:
        deadline = time.monotonic() + READY_S
        while not set(running.pids()) - {"nats", "postgres"} and time.monotonic() < deadline:
            time.sleep(0.02)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) == 0
        await_gone(list(running.pids().values()), 30)


def test_taken_http_port_is_named(tmp_path: Path) -> None:
    """The port and the flag are in the one line that is said."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal(tmp_path, "--http-port", str(port))
    assert f"port {port}" in said
    assert "--http-port" in said


@pytest.mark.parametrize("freed_at", [2, None], ids=["for a moment", "for good"])
async def test_part_that_finds_its_port_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, freed_at: int | None
) -> None:
    """What passes by the next start is no reason to give up; what does not is named."""
    launches: list[str] = []
    launch = Supervisor._launch
    with socket.socket() as taken:

        def watched(self: Supervisor, part: Part) -> None:
            if part.name == "projector":
                if not launches:
                    taken.bind(("127.0.0.1", part.health_port))
                    taken.listen()
                launches.append(part.name)
                if len(launches) == freed_at:
                    taken.close()
            launch(self, part)

        monkeypatch.setattr(Supervisor, "_launch", watched)
        supervisor = Supervisor(Plan(data_dir=tmp_path, sync=False))
        try:
            if freed_at is None:
                with pytest.raises(ConfigError, match="psm projector cannot start"):
                    await supervisor.start()
            else:
                await supervisor.start()
        finally:
            await supervisor.stop()
    assert len(launches) == (freed_at or 3)


def test_too_many_workers_are_refused(tmp_path: Path) -> None:
    """A worker without a partition would have nothing to do."""
    assert "--workers 5" in refusal(tmp_path, "--workers", "5", "--partitions", "4")


def test_production_is_refused(tmp_path: Path) -> None:
    """Embedded servers are no place for production."""
    assert "PSM_ENV is 'production'" in refusal(tmp_path, PSM_ENV="production")


def test_port_in_use_is_refused() -> None:
    """A port that is in use is refused before anything is started."""
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigError, match="is taken"),
    ):
        require_free(taken.getsockname()[1], "--http-port")
