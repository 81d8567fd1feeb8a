"""Runs the real `psm` command: once, as a long-running process, or everything with `psm up`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psm.workers.cli import main

PSM = [sys.executable, "-m", "psm.workers.cli"]
READY_S = 120.0
STOP_S = 60.0
SETTLE_S = 60.0


class Running:
    """A process of ours, with everything that it starts.

    Attributes:
        process: the process itself.
        log: what it and its children wrote to stderr.
        addresses: what it printed when it was ready, if it prints any.
    """

    def __init__(self, process: subprocess.Popen[str], log: Path, mark: str) -> None:
        self.process = process
        self.log = log
        self.addresses: dict[str, Any] = {}
        self._mark = mark

    @property
    def nats_url(self) -> str:
        return str(self.addresses["nats_url"])

    @property
    def http_url(self) -> str:
        return str(self.addresses["http_url"])

    @property
    def postgres_dsn(self) -> str:
        return str(self.addresses["postgres_dsn"])

    def await_addresses(self) -> None:
        """Wait for the line that says it is ready."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        self.addresses = json.loads(line)

    def get(self, path: str) -> tuple[int, Any]:
        """Return status and document of a GET on the read API."""
        return request(f"{self.http_url}{path}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it with a signal; return its exit code. Nothing of it may be left."""
        self.process.send_signal(number)
        code = self.process.wait(STOP_S)
        assert self.left_over() == [], self.log.read_text()
        return code

    def left_over(self) -> list[str]:
        """Return the command lines of processes that it or its children left behind."""
        return left_over(self._mark)


def left_over(mark: str) -> list[str]:
    """Return the command lines of processes with a variable `mark` in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if mark.encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # no process, or gone meanwhile, or not ours to look into
    return [line for line in found if line]


@contextmanager
def started(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Start `psm ARGUMENTS`; it is killed at the end if the test did not stop it."""
    mark = f"LEFT_OVER_{uuid.uuid4().hex}"
    log = folder / f"{arguments[0]}-{time.monotonic_ns()}.log"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [*PSM, *arguments],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, "PSM_LOG_FORMAT": "json", mark: "1", **(environment or {})},
        ) as process,
    ):
        running = Running(process, log, mark)
        try:
            yield running
        finally:
            if process.poll() is None:
                # Gently first: with `psm up` there are servers to stop, too.
                process.terminate()
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()


@contextmanager
def psm_up(folder: Path, *arguments: str, verbose: bool = True) -> Iterator[Running]:
    """Start `psm up` with its data in `folder`/data and wait until it is ready.

    Its parts log to `running.log`, or, where it is not `verbose`, to `folder`/data/logs. Commands
    find it by XDG_STATE_HOME=`folder`/state alone: it may run beside tests of something else.
    """
    found_in = {"XDG_STATE_HOME": str(folder / "state")}
    options = ["--data-dir", str(folder / "data"), "--port", "0", *["--verbose"][:verbose]]
    with started(folder, "up", *options, *arguments, environment=found_in) as running:
        running.await_addresses()
        yield running


def psm(
    *arguments: str,
    stdin: str | bytes = "",
    environment: Mapping[str, str] | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a `psm` command to its end."""
    return run([*PSM, *arguments], stdin=stdin, environment=environment, check=check)


async def psm_here(*arguments: str) -> int:
    """Run a `psm` command in this process, in a loop of its own; return its exit code."""
    return await asyncio.to_thread(main, arguments)


def run(
    command: Sequence[str],
    *,
    stdin: str | bytes = "",
    environment: Mapping[str, str] | None = None,
    check: bool = True,
    timeout_s: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its output is part of the failure if it fails."""
    done = subprocess.run(
        command,
        input=stdin.decode() if isinstance(stdin, bytes) else stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, **(environment or {})},
        check=False,
    )
    assert not check or done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done


def request(url: str, body: bytes | None = None) -> tuple[int, Any]:
    """Return status and JSON document of a GET, or of a POST with `body`."""
    headers = {"Content-Type": "application/json"} if body is not None else {}
    asked = urllib.request.Request(url, data=body, headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=SETTLE_S) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())
