"""compose.yaml, running: its containers, and a caller of its API."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.containers.engine import Engine, said

BOUND_S = 120.0
PARTS = ("worker-a", "worker-b", "projector", "analytics", "archive", "risk", "api")
NODES = ("nats-1", "nats-2", "nats-3")
LASTING = (*NODES, "postgres", *PARTS)
"""Everything that runs for long."""

_FIRST_TOKEN = (
    *("run", "--rm", "-T", "--no-deps", "migrate", "token", "create", "--as-owner", "-o", "json"),
    *("--principal", "me", "--role", "admin", "--account", "*"),
)


class Stack:
    """The services of compose.yaml, in an engine."""

    def __init__(self, engine: Engine, compose: Path, folder: Path, *files: str) -> None:
        self.engine = engine
        self.ca = folder / "ca.crt"
        self._settings: dict[str, str] = {}
        self._env_file = folder / "env"
        named = [part for file in files for part in ("--file", file)]
        self._command = [str(compose), *named, "--env-file", str(self._env_file)]
        self._token = ""

    def set(self, **settings: str) -> None:
        """Write settings into what stands for `.env`."""
        self._settings |= settings
        self._env_file.write_text("".join(f"{k}={v}\n" for k, v in self._settings.items()))

    def compose(self, *arguments: str, timeout: float = 300.0) -> str:
        """Run compose; return what it prints."""
        return said([*self._command, *arguments], self.engine.env, timeout)

    def up(self, *arguments: str, profile: str = "") -> float:
        """Bring everything up, or what is named; return the seconds until it is healthy."""
        start = time.monotonic()
        also = ("--profile", profile) if profile else ()
        try:
            self.compose(*also, "up", "--detach", "--no-build", "--wait", *arguments)
        except AssertionError as error:
            error.add_note(self.compose("logs", "--no-color", "--tail=15"))
            raise
        return time.monotonic() - start

    def enter(self) -> None:
        """Take the certificate and the first token, as a person does."""
        self.compose("cp", "nats-1:/certs/ca.crt", str(self.ca))
        self._token = json.loads(self.compose(*_FIRST_TOKEN))["token"]

    def inside(self, service: str, *command: str) -> str:
        """Run a command in a container."""
        return self.engine.docker("exec", f"psm-{service}-1", *command)

    def state(self, service: str) -> dict[str, Any]:
        """Return what the engine says of a container."""
        (found,) = json.loads(self.engine.docker("inspect", f"psm-{service}-1"))
        state: dict[str, Any] = found["State"]
        return state

    def is_healthy(self, service: str) -> bool:
        """Return whether it runs and its health check says so."""
        state = self.state(service)
        return bool(state["Running"] and state["Health"]["Status"] == "healthy")

    def kill(self, service: str) -> float:
        """Kill its process from outside, not by the engine, which would not start it again.

        Returns the seconds until it is healthy again.
        """
        before = self.state(service)
        start = time.monotonic()
        os.kill(before["Pid"], signal.SIGKILL)
        until(
            lambda: self.state(service)["StartedAt"] != before["StartedAt"], f"{service} restarts"
        )
        until(lambda: self.is_healthy(service), f"{service} is healthy")
        return time.monotonic() - start

    def freeze(self, service: str) -> None:
        """Let a container stand still."""
        until(lambda: self._is_paused(service), f"{service} stands still")

    def thaw(self, service: str) -> None:
        """Let it go on."""
        self.engine.docker("unpause", f"psm-{service}-1")

    def _is_paused(self, service: str) -> bool:
        # A process that is being made, as for a health check, may keep the kernel from freezing it.
        with contextlib.suppress(AssertionError):
            self.engine.docker("pause", f"psm-{service}-1")
        return bool(self.state(service)["Paused"])

    def ask(self, path: str, body: object = None) -> Any:
        """Return what the API answers; None while it does not."""
        request = urllib.request.Request(
            f"http://127.0.0.1:8004{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self._token}",
                "Content-Type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)
        except (OSError, ValueError, urllib.error.HTTPError):
            return None


def until(condition: Callable[[], object], what: str, bound_s: float = BOUND_S) -> None:
    """Wait for a condition, at most `bound_s` seconds."""
    deadline = time.monotonic() + bound_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {bound_s:g} s"
        time.sleep(0.1)
