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

from psm.adapters.embedded import Child, EmbeddedNats, EmbeddedPostgres, EmbeddedServers
from psm.adapters.logs import get_logger
from psm.adapters.tasks import BackOff, end_all
from psm.contracts.errors import ConfigError, LogDamagedError, PSMError, TransientError
from psm.workers.access.first import local_admin, local_signer
from psm.workers.local.parts import Part, free_port, is_ready, parts_of, require_free
from psm.workers.local.store_watch import StoreWatch
from psm.workers.process.env_file import ENV_FILE, NO_FILE, read_env_file

_PREPARE_S = 120.0
_READY_S = 120.0
_STOP_S = 30.0
_BACK_OFF_MAX_S = 30.0
_STEADY_S = 60.0
_POLL_S = 0.05
_STARTS_MAX = 3
_EXIT_USAGE = 2
_STOP_ORDER = ("marks", "serve", "risk", "archive", "analytics", "projector", "worker")
_USERS = {
    "worker": "worker",
    "projector": "projector",
    "archive": "archiver",
    "marks": "marks",
    "risk": "risk",
    "serve": "ingest",
    "streams": "streams",
    "migrate": "streams",
}
"""User of the broker by command; each may do what its part needs, as where PSM is deployed."""

# Of another NATS or PostgreSQL than the embedded ones; also the ports that each part gets anew.
_NOT_INHERITED = frozenset(
    {
        "PSM_NATS_CONTEXT",
        "PSM_NATS_CREDS_FILE",
        "PSM_NATS_INBOX_PREFIX",
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


class LocalPlan(Struct, frozen=True, kw_only=True):
    """What to run.

    Attributes:
        data_dir: folder of all state.
        workers: how many worker processes share the partitions.
        partitions: virtual partitions of the log; fixed once it exists.
        nats_port, postgres_port, http_port: on loopback; 0 chooses a free one.
        sync: write to disk before acknowledging.
        log_dir: folder for the output of the parts; None leaves it on our stderr.
        marks: sample ticks into marks, too.
        risk: decide on orders, too.
        analytics: keep the views of analytics, by a projector of their own.
        auth: ask callers for tokens, and make one for the administrator.
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
    risk: bool = False
    analytics: bool = True
    auth: bool = False


class Addresses(Struct, frozen=True, kw_only=True):
    """Where to reach what runs."""

    nats_url: str
    postgres_dsn: str
    http_url: str
    data_dir: str
    nats_monitoring_url: str
    metrics: dict[str, str]
    """Address of the metrics of each part; known once started."""

    admin_token: str | None
    """With which a caller may do everything; None where callers need none."""

    operator: dict[str, str]
    """Variables with which a command connects to NATS as `owner`, who may do what operators may."""


class Supervisor:
    """Keeps everything of a plan running while the context is open."""

    def __init__(self, plan: LocalPlan) -> None:
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
        self._admin_token: str | None = None
        self._metrics: dict[str, str] = {}
        self._damaged: asyncio.Future[None]

    @property
    def addresses(self) -> Addresses:
        """Where to reach what runs; known once started."""
        return Addresses(
            nats_url=self._servers.nats_url,
            postgres_dsn=self._servers.postgres_dsn,
            http_url=f"http://127.0.0.1:{self._http_port}",
            data_dir=str(self._plan.data_dir.expanduser().absolute()),
            nats_monitoring_url=self._servers.nats.monitoring_url,
            metrics=self._metrics,
            admin_token=self._admin_token,
            operator=self._servers.nats.settings_of("owner"),
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
        self._damaged = asyncio.get_running_loop().create_future()
        if not 1 <= self._plan.workers <= self._plan.partitions:
            raise ConfigError(
                f"--workers {self._plan.workers}: choose 1 to {self._plan.partitions}, the number "
                "of partitions"
            )
        plan = self._plan
        ports = {"nats": plan.nats_port, "postgres": plan.postgres_port, "http": plan.http_port}
        for name, port in ports.items():
            if port:
                require_free(port, f"--{name}-port")
        self._http_port = plan.http_port or free_port()
        try:
            await self._servers.start()
            if self._plan.log_dir:  # after the data folder is ours: it may be in there
                self._plan.log_dir.mkdir(parents=True, exist_ok=True)
            for name, pid in self.pids.items():
                self._log.info("child.started", child=name, pid=pid)
            await _together(self._prepare("streams", "apply"), self._prepare("migrate", "up"))
            parts = await self._parts()
            self._metrics = {part.name: part.metrics_url for part in parts}
            for part in parts:
                self._launch(part)
            await _together(*map(self._await_ready, parts))
        except BaseException:
            await self.stop()
            raise
        watched = (self._servers.nats, self._servers.postgres)
        store = StoreWatch(self._plan.data_dir.expanduser(), self._servers.nats)
        self._keepers = [
            *(asyncio.create_task(self._keep(part)) for part in parts),
            *(asyncio.create_task(self._keep_server(server)) for server in watched),
            asyncio.create_task(store.run()),
        ]

    async def _parts(self) -> list[Part]:
        plan = self._plan
        access = {"PSM_HTTP_AUTH": "off"}
        if plan.auth:
            folder = plan.data_dir.expanduser()
            self._admin_token = await local_admin(self._servers.postgres_dsn, folder)
            access = {"PSM_HTTP_AUTH": "on", **local_signer(folder)}
        return parts_of(
            plan.workers,
            self._http_port,
            marks=plan.marks,
            risk=plan.risk,
            analytics=plan.analytics,
            access=access,
        )

    async def wait(self) -> None:
        """Wait for what ends all of it.

        Raises:
            LogDamagedError: a server that was started again lost what it had acknowledged.
        """
        await self._damaged

    async def stop(self) -> None:
        """Stop the parts from the reads inwards, then the servers."""
        await end_all(self._keepers)
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
        self._log.info("child.started", child=part.name, pid=child.pid)

    def _spawn(self, name: str, command: tuple[str, ...], own: Mapping[str, str]) -> Child:
        given = {**read_env_file(os.environ)[1], **os.environ}
        inherited = {key: text for key, text in given.items() if key not in _NOT_INHERITED}
        addresses = self.addresses
        environment = {
            **inherited,
            ENV_FILE: NO_FILE,
            "NATS_URL": addresses.nats_url,
            "PSM_NATS_MONITORING_URL": self._servers.nats.monitoring_url,
            "POSTGRES_DSN": addresses.postgres_dsn,
            "PSM_PARTITIONS": str(self._plan.partitions),
            **self._servers.nats.settings_of(_USERS[command[0]]),
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
                self._log.warning("child.exited", child=part.name, code=child.returncode)
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
                self._log.info("child.started", child=name, pid=server.pid)
            except LogDamagedError as error:
                await server.stop()
                if not self._damaged.done():
                    self._damaged.set_exception(error)
            except PSMError as error:
                self._log.error("child.exited", child=name, error=str(error))

        await self._restart(ended, start)

    async def _restart(
        self,
        ended: Callable[[], Awaitable[dict[str, object]]],
        start: Callable[[], Awaitable[None]],
    ) -> None:
        """Wait for an end, back off, start again, for ever."""
        back_off = BackOff(1.0, _BACK_OFF_MAX_S, stable_s=_STEADY_S)
        while True:
            began = time.monotonic()
            facts = await ended()
            delay_s = round(back_off.next_s(time.monotonic() - began), 3)
            self._log.warning("child.exited", **facts, restart_delay_s=delay_s)
            await asyncio.sleep(delay_s)
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
