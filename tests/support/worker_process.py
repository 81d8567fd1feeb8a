"""A real `psm worker` process: started, watched through its log lines, killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
from tests.support.workbench import until

START_S = 60.0


class WorkerProcess:
    """One worker process; its log lines go to a file."""

    def __init__(self, url: str, folder: Path, *arguments: str, **settings: object) -> None:
        """Start it.

        Args:
            url: of the broker.
            folder: where its log lines go.
            arguments: behind `psm worker`.
            settings: environment variables.
        """
        self._lines = folder / f"worker-{len(list(folder.glob('worker-*')))}.log"
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PSM_")}
        env = {
            **clean,
            "NATS_URL": url,
            "PSM_LOG_FORMAT": "json",
            **{name: str(value) for name, value in settings.items()},
        }
        with self._lines.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "psm.workers.cli", "worker", *arguments],
                env=env,
                stdout=output,
                stderr=output,
            )

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    @property
    def text(self) -> str:
        """Everything it wrote."""
        return self._lines.read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return its log lines of one event."""
        lines = [line for line in self.text.splitlines() if f'"{name}"' in line]
        return [fields for fields in map(_fields, lines) if fields.get("event") == name]

    async def logged(self, event: str, times: int = 1) -> None:
        """Wait until it logged an event so many times."""
        await until(
            lambda: self.returncode is not None or len(self.events(event)) >= times,
            f"the worker logs {event}",
            START_S,
        )
        assert self.returncode is None, f"the worker ended: {self.text}"

    async def ready(self, partitions: int) -> None:
        """Wait until so many partitions have recovered."""
        await self.logged("partition.recovered", partitions)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to stop."""
        self._process.send_signal(signal.SIGTERM)

    async def ended(self, timeout_s: float = 60.0) -> int:
        """Wait for its end; return the exit code."""
        await until(lambda: self.returncode is not None, "the worker ends", timeout_s)
        code = self.returncode
        assert code is not None
        return code

    async def __aenter__(self) -> WorkerProcess:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave nothing behind."""
        if self.returncode is None:
            self.kill()
        await asyncio.to_thread(self._process.wait)


def _fields(line: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}
