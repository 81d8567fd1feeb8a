"""All of PSM on one machine: embedded servers, and each part a process of its own.

A part that dies is started again after 1, 2, 4 … 30 seconds, a server too; a minute of steady
running forgets the earlier deaths. Nothing here knows what the parts do: they find each other
through the environment, as they do everywhere else.

    async with Supervisor(Plan(data_dir=Path("data"))) as running:
        print(running.addresses)
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path

from msgspec import Struct

from psm.adapters import logs
from psm.adapters.embedded import Child, EmbeddedNats, EmbeddedPostgres, EmbeddedServers
from psm.adapters.logs import get_logger
from psm.contracts.errors import ConfigError, PSMError, TransientError
from psm.workers.up.parts import Part, free_port, is_ready, parts_of, require_free

_PREPARE_S = 120.0
_READY_S = 120.0
_STOP_S = 30.0
_BACK_OFF_MAX_S = 30.0
_STEADY_S = 60.0
_POLL_S = 0.05
_STARTS_MAX = 3
_EXIT_USAGE = 2
_STOP_ORDER = ("marks", "serve", "archive", "projector", "worker")
# Of another NATS or PostgreSQL than the embedded ones; also the ports that each part gets anew.
_NOT_INHERITED = frozenset(
    {
        "PSM_NATS_CONTEXT",
        "PSM_NATS_CREDS_FILE",
        "PSM_NATS_NKEY_SEED_FILE",
        "PSM_NATS_PASSWORD",
        "PSM_NATS_PASSWORD_FILE",
        "PSM_NATS_TOKEN",
        "PSM_NATS_TOKEN_FILE",
        "PSM_NATS_USER",
        "PSM_INGEST",
        "PSM_REPLICAS",
        "PSM_WORKER_PARTITIONS",
        "POSTGRES_DSN_FILE",
    }
)


class Plan(Struct, frozen=True, kw_only=True):
    """What to run.

    Attributes:
        data_dir: folder of all state.
        workers: how many worker processes share the partitions.
        partitions: virtual partitions of the log; fixed once it exists.
        nats_port, postgres_port, http_port: on loopback; 0 chooses a free one.
        sync: write to disk before acknowledging.
        log_dir: folder for the output of the parts; None leaves it on our stderr.
        marks: sample ticks into marks, too.
    """

    data_dir: Path
    workers: int = 1
    partitions: int = 16
    nats_port: int = 0
    postgres_port: int = 0
    http_port: int = 0
    sync: bool = True
    log_dir: Path | None = None
    marks: bool = False


class Addresses(Struct, frozen=True, kw_only=True):
    """Where to reach what runs."""

    nats_url: str
    postgres_dsn: str
    http_url: str
    data_dir: str


class Supervisor:
    """Keeps everything of a plan running while the context is open."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._log = get_logger()
        self._servers = EmbeddedServers(
            plan.data_dir,
            nats_port=plan.nats_port,
            postgres_port=plan.postgres_port,
            sync=plan.sync,
        )
        self._children: dict[str, Child] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._http_port = plan.http_port

    @property
    def addresses(self) -> Addresses:
        """Where to reach what runs; known once started."""
        return Addresses(
            nats_url=self._servers.nats_url,
            postgres_dsn=self._servers.postgres_dsn,
            http_url=f"http://127.0.0.1:{self._http_port}",
            data_dir=str(self._plan.data_dir.expanduser().absolute()),
        )

    @property
    def pids(self) -> Mapping[str, int]:
        """Process id of each part and server, as of now."""
        servers = {"nats": self._servers.nats.pid, "postgres": self._servers.postgres.pid}
        return servers | {name: child.pid for name, child in self._children.items()}

    async def start(self) -> None:
        """Start everything and return when all of it is ready.

        Raises:
            ConfigError: a folder, port or setting is not as needed.
            TransientError: something does not get ready.
        """
        if not 1 <= self._plan.workers <= self._plan.partitions:
            raise ConfigError(
                f"--workers {self._plan.workers}: choose 1 to {self._plan.partitions}, the number "
                "of partitions"
            )
        self._http_port = self._plan.http_port or free_port()
        require_free(self._http_port, "--http-port")
        try:
            await self._servers.start()
            if self._plan.log_dir:  # after the data folder is ours: it may be in there
                self._plan.log_dir.mkdir(parents=True, exist_ok=True)
            for name, pid in self.pids.items():
                self._log.info(logs.CHILD_STARTED, child=name, pid=pid)
            await _together(self._prepare("streams", "apply"), self._prepare("migrate", "up"))
            parts = parts_of(self._plan.workers, self._http_port, marks=self._plan.marks)
            for part in parts:
                self._launch(part)
            await _together(*map(self._await_ready, parts))
        except BaseException:
            await self.stop()
            raise
        watched = (self._servers.nats, self._servers.postgres)
        self._keepers = [
            *(asyncio.create_task(self._keep(part)) for part in parts),
            *(asyncio.create_task(self._keep_server(server)) for server in watched),
        ]

    async def stop(self) -> None:
        """Stop the parts from the reads inwards, then the servers."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._keepers = []
        try:
            for kind in _STOP_ORDER:
                group = [c for name, c in self._children.items() if name.partition("-")[0] == kind]
                await asyncio.gather(*(child.stop(signal.SIGTERM, _STOP_S) for child in group))
        finally:
            await self._servers.stop()

    async def __aenter__(self) -> Supervisor:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # -- parts ---------------------------------------------------------------------------------

    async def _prepare(self, *command: str) -> None:
        """Run a command that must succeed before the parts can start."""
        child = self._spawn("-".join(command), command, {})
        try:
            code = await child.wait(_PREPARE_S)
        finally:
            await child.kill()
        if code != 0:
            raise ConfigError(f"psm {' '.join(command)} failed (exit {code}){_said(child)}")

    def _launch(self, part: Part) -> None:
        child = self._children[part.name] = self._spawn(part.name, part.command, part.environment)
        self._log.info(logs.CHILD_STARTED, child=part.name, pid=child.pid)

    def _spawn(self, name: str, command: tuple[str, ...], own: Mapping[str, str]) -> Child:
        inherited = {key: text for key, text in os.environ.items() if key not in _NOT_INHERITED}
        addresses = self.addresses
        environment = {
            **inherited,
            "NATS_URL": addresses.nats_url,
            "POSTGRES_DSN": addresses.postgres_dsn,
            "PSM_PARTITIONS": str(self._plan.partitions),
            **own,
        }
        log_dir = self._plan.log_dir
        return Child.start(
            [sys.executable, "-m", "psm.workers.cli", *command],
            name=f"psm {' '.join(command)}",
            log=log_dir / f"{name}.log" if log_dir else None,
            environment=environment,
        )

    async def _await_ready(self, part: Part) -> None:
        """Return when the part says it is ready; a wrong setting soon ends the wait.

        Its exit code says environment, too: a server that was slow to answer is one more try away.
        """
        deadline = time.monotonic() + _READY_S
        refused = 0
        while time.monotonic() < deadline:
            child = self._children[part.name]
            refused += child.returncode == _EXIT_USAGE
            if refused == _STARTS_MAX:
                raise ConfigError(f"psm {' '.join(part.command)} cannot start{_said(child)}")
            if child.returncode is not None:
                self._log.warning(logs.CHILD_EXITED, child=part.name, code=child.returncode)
                await asyncio.sleep(1)
                self._launch(part)
            elif await is_ready(part.health_port):
                return
            await asyncio.sleep(_POLL_S)
        raise TransientError(
            f"psm {' '.join(part.command)} did not get ready in {_READY_S:.0f} s"
            f"{_said(self._children[part.name])}"
        )

    # -- keeping them alive --------------------------------------------------------------------

    async def _keep(self, part: Part) -> None:
        """Start a part again whenever it ends."""

        async def ended() -> dict[str, object]:
            child = self._children[part.name]
            return {"child": part.name, "pid": child.pid, "code": await child.wait()}

        async def start() -> None:
            self._launch(part)

        await self._restart(ended, start)

    async def _keep_server(self, server: EmbeddedNats | EmbeddedPostgres) -> None:
        """Start a server again, on its old address, whenever it ends."""
        name = "nats" if isinstance(server, EmbeddedNats) else "postgres"

        async def ended() -> dict[str, object]:
            await server.wait()
            return {"child": name, "pid": server.pid}

        async def start() -> None:
            try:
                await server.start()
                self._log.info(logs.CHILD_STARTED, child=name, pid=server.pid)
            except PSMError as error:
                self._log.error(logs.CHILD_EXITED, child=name, error=str(error))

        await self._restart(ended, start)

    async def _restart(
        self,
        ended: Callable[[], Awaitable[dict[str, object]]],
        start: Callable[[], Awaitable[None]],
    ) -> None:
        """Wait for an end, back off, start again, for ever."""
        delay_s = 1.0
        while True:
            began = time.monotonic()
            facts = await ended()
            if time.monotonic() - began > _STEADY_S:
                delay_s = 1.0
            self._log.warning(logs.CHILD_EXITED, **facts, restart_delay_s=delay_s)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _BACK_OFF_MAX_S)
            await start()


async def _together(*works: Coroutine[object, object, None]) -> None:
    """Do all at once; the first failure ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


def _said(child: Child) -> str:
    """What the part wrote last, if that is in a file; else it stands on stderr already."""
    said = child.tail()
    return f". It said:\n{said}" if said else "; the reason stands above"
