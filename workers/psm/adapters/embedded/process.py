"""One child process: started with a log file, ends with its parent, stops in bounded time.

Not bound to an event loop: a server may be started in one and stopped in another. It must be
started from a thread that lives on, because the kernel takes the end of that thread for the
parent's end.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from psm.contracts.errors import ConfigError, TransientError

_LAUNCHER = Path(__file__).with_name("launch.py")
_POLL_S = 0.01
_STDERR = 2
_LOG_MAX_BYTES = 16 * 1024 * 1024  # looked at when a process starts; one older file is kept


def refuse_in_production(env: str | None = None) -> None:
    """Raise if this is a production environment: embedded servers are one disk, no replica.

    Args:
        env: what the settings say; by default what the variable says.

    Raises:
        ConfigError: it is `production`.
    """
    if (env or os.environ.get("PSM_ENV", "")).strip().lower() == "production":
        raise ConfigError(
            "embedded servers are refused because PSM_ENV is 'production': they keep one copy on "
            "one disk. Run NATS and PostgreSQL of your own, set NATS_URL and POSTGRES_DSN, and "
            "start psm worker, psm projector and psm serve"
        )


class Child:
    """A process that this one started.

    Attributes:
        pid: its process id; stays after its end.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], name: str, log: Path | None, log_start: int
    ) -> None:
        self._process = process
        self._name = name
        self._log = log
        self._log_start = log_start
        self.pid = process.pid

    @classmethod
    def start(
        cls,
        command: Sequence[str | Path],
        *,
        name: str,
        log: Path | None = None,
        death_signal: signal.Signals = signal.SIGTERM,
        user: tuple[int, int] | None = None,
        keep_open: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        """Start `command` and return at once.

        Args:
            command: absolute path of the program, then its arguments.
            name: what error messages call it.
            log: file that its output is appended to; None leaves it on our stderr.
            death_signal: what the kernel sends it when this process ends in any way (Linux).
            user: user and group id to run as; None for our own.
            keep_open: file descriptors that it inherits.
            environment: all of its environment; None for a copy of ours.
        """
        user_id, group_id = user or (-1, -1)
        launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid())]
        rights = [str(int(death_signal)), str(user_id), str(group_id)]
        if log and log.exists() and log.stat().st_size > _LOG_MAX_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))
        stream = log.open("ab") if log else None
        log_start = stream.tell() if stream else 0
        try:
            process = subprocess.Popen(  # noqa: S603 - our own command
                [*launcher, *rights, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=stream or _STDERR,  # our stdout is for results
                stderr=stream or _STDERR,
                pass_fds=keep_open,
                env=environment,
                # Its own session: an interrupt typed at the terminal is for us, who stop the
                # children in order.
                start_new_session=True,
            )
        finally:
            if stream:
                stream.close()
        return cls(process, name, log, log_start)

    @property
    def returncode(self) -> int | None:
        """Exit status (negative: by which signal), or None while it runs."""
        return self._process.poll()

    def tail(self, lines: int = 8) -> str:
        """Return the last lines that this run wrote to its log."""
        return "\n".join(self.written().splitlines()[-lines:])

    def written(self) -> str:
        """Return what this run wrote to its log."""
        if self._log is None or not self._log.exists():
            return ""
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    async def wait(self, timeout_s: float | None = None) -> int | None:
        """Return its exit code once it has ended, or None after `timeout_s`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (code := self.returncode) is None:
            if deadline is not None and time.monotonic() > deadline:
                return None
            await asyncio.sleep(_POLL_S)
        return code

    async def stop(self, gentle: signal.Signals, timeout_s: float) -> None:
        """Ask it to end, and kill it if it has not after `timeout_s`.

        Raises:
            TransientError: it does not even end when killed.
        """
        if self.returncode is None:
            self._process.send_signal(gentle)
        if await self.wait(timeout_s) is None:
            await self.kill()

    async def kill(self) -> None:
        """End it at once, as a crash would, and wait until it has ended.

        Raises:
            TransientError: the operating system does not let go of it.
        """
        if self.returncode is None:
            self._process.kill()
        if await self.wait(10) is None:
            raise TransientError(f"{self._name} (pid {self.pid}) does not end, even when killed")
