"""The embedded PostgreSQL server: a real one, its cluster in a folder, on loopback only."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from psm.adapters.embedded.binaries import programs, server_user
from psm.adapters.embedded.process import Child, refuse_in_production
from psm.adapters.embedded.server import EmbeddedServer
from psm.contracts.errors import ConfigError, TransientError

MAJOR = "18"
_USER = "psm"
_DATABASE = "psm"
_HOST = "127.0.0.1"
_READY_S = 60.0  # crash recovery of a large cluster takes its time
_STOP_S = 30.0
# A postmaster that was killed leaves its backends a moment to notice; until then the next one
# refuses to start.
_LEFT_BEHIND = ("pre-existing shared memory block", 'lock file "postmaster.pid" already exists')
_SETTINGS = {
    "listen_addresses": _HOST,
    "unix_socket_directories": "",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "jit": "off",
    "TimeZone": "UTC",
    "log_timezone": "UTC",
}
_NO_SYNC = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgres(EmbeddedServer):
    """A PostgreSQL server that this process supervises.

    Its port stays the same over `stop`, `kill` and `start` of one object.
    """

    name = "embedded PostgreSQL"
    stop_signal = signal.SIGINT  # ends its sessions too
    stop_s = _STOP_S

    def __init__(
        self, folder: Path, *, port: int = 0, sync: bool = True, lease: int | None = None
    ) -> None:
        """Describe a server; nothing is started yet.

        Args:
            folder: where it keeps cluster, password and log; made when missing.
            port: port on loopback; 0 chooses a free one.
            sync: wait for the disk at every commit; False risks the cluster at a power cut.
            lease: file descriptor that the server keeps open (see `DataFolder`).
        """
        self._folder = folder.absolute()
        self._cluster = self._folder / "cluster"
        self._port = port
        self._chosen_here = port == 0
        self._sync = sync
        self._keep_open = () if lease is None else (lease,)
        self._password = ""

    @property
    def dsn(self) -> str:
        """Address and credentials of database `psm`. Known once started."""
        return self.dsn_of(_DATABASE)

    def dsn_of(self, database: str) -> str:
        """Return address and credentials of another database of this server."""
        if not self._password:
            raise ConfigError("the embedded PostgreSQL has no address before it is started")
        return f"postgresql://{_USER}:{self._password}@{_HOST}:{self._port}/{database}"

    async def start(self) -> None:
        """Start the server, making the cluster the first time; return when it answers.

        Raises:
            ConfigError: production, no programs, port taken, folder not usable, other version.
            TransientError: it started but does not answer.
        """
        refuse_in_production()
        if self.is_running:
            return
        user = server_user()
        bin_folder = programs(user)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not (self._cluster / "PG_VERSION").exists():
                await self._make_cluster(bin_folder, user)
            self._check_version()
            self._password = self._read_password()
        except OSError as error:
            raise ConfigError(
                f"embedded PostgreSQL: cannot use {error.filename}: {error.strerror}"
            ) from error
        await self._start_server(bin_folder, user)
        try:
            await self._ensure_database()
        except BaseException:
            await self.kill()
            raise

    async def __aenter__(self) -> EmbeddedPostgres:
        await self.start()
        return self

    # -- cluster -------------------------------------------------------------------------------

    async def _make_cluster(self, bin_folder: Path, user: tuple[int, int] | None) -> None:
        """Run initdb; an interrupted earlier attempt is removed first."""
        self._remove_unfinished()
        self._cluster.mkdir(mode=0o700)
        password = secrets.token_urlsafe(24)
        password_file = self._folder / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(password)
        if user:
            os.chown(self._cluster, *user)
        # Another user may enter neither our folder nor, perhaps, the one for temporary files: it
        # gets the open file.
        with tempfile.NamedTemporaryFile(suffix=".pw") as handed, self._opened() as (data, keep):
            handed.write(password.encode())
            handed.flush()
            handed_name = handed.name
            if user:
                os.chown(handed.name, *user)
                handed_name = f"/proc/self/fd/{handed.fileno()}"
                keep = (*keep, handed.fileno())
            command: list[str | Path] = [
                bin_folder / "initdb",
                f"--pgdata={data}",
                f"--username={_USER}",
                "--encoding=UTF8",
                "--locale-provider=builtin",
                "--locale=C.UTF-8",
                "--auth=scram-sha-256",
                f"--pwfile={handed_name}",
                "--data-checksums",
                *([] if self._sync else ["--no-sync"]),
            ]
            log = self._folder / "initdb.log"
            child = _spawn(command, "initdb", log, user, keep, self._environment())
            if await child.wait(_READY_S) != 0:
                await child.kill()
                raise ConfigError(f"embedded PostgreSQL: initdb failed:\n{child.tail()}")

    def _remove_unfinished(self) -> None:
        """Remove what an interrupted initdb left: a cluster without PG_VERSION holds no data."""
        if not self._cluster.is_dir():
            return
        if any(self._cluster.iterdir()) and not (self._folder / "initdb.log").exists():
            raise ConfigError(
                f"embedded PostgreSQL: {self._cluster} holds files but no PG_VERSION. Move it away"
            )
        for path in sorted(self._cluster.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        self._cluster.rmdir()

    def _check_version(self) -> None:
        found = (self._cluster / "PG_VERSION").read_text().strip()
        if found != MAJOR:
            raise ConfigError(
                f"embedded PostgreSQL: {self._cluster} was made by PostgreSQL {found}, this is "
                f"{MAJOR}. Upgrade it with pg_upgrade, or name a new --data-dir and let the views "
                "be rebuilt from the log"
            )

    def _read_password(self) -> str:
        file = self._folder / "password"
        if not file.exists():
            raise ConfigError(
                f"embedded PostgreSQL: {file} is missing, so nobody can log in. Bring it back, or "
                f"move {self._cluster} away and let the views be rebuilt from the log"
            )
        return file.read_text().strip()

    @contextmanager
    def _opened(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Give the cluster's folder open, and a path through which the server reaches it.

        The folders above it may be closed to the server's user. Through its own descriptor a
        process enters the folder all the same (Linux).
        """
        if server_user() is None:
            yield str(self._cluster), self._keep_open
            return
        descriptor = os.open(self._cluster, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield f"/proc/self/fd/{descriptor}", (descriptor, *self._keep_open)
        finally:
            os.close(descriptor)

    def _environment(self) -> dict[str, str]:
        """Nothing of ours: no secret, no PG* variable, no locale."""
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}

    # -- server --------------------------------------------------------------------------------

    async def _start_server(self, bin_folder: Path, user: tuple[int, int] | None) -> None:
        """Start it and wait; try again while a killed predecessor's backends are still there."""
        deadline = time.monotonic() + _READY_S
        while True:
            if not self._port:
                self._port = _free_port()
            elif not _is_free(self._port):
                raise self._port_taken()
            child = self._launch(bin_folder, user)
            try:
                answers = await self._answers(child, deadline)
            except BaseException:
                await child.kill()
                raise
            if answers:
                self._child = child
                return
            said = child.tail()
            if "Address already in use" in said and self._chosen_here:
                self._port = 0  # another process was faster; choose another
            elif not any(text in said for text in _LEFT_BEHIND) or time.monotonic() > deadline:
                raise self._refusal(child, said)
            await asyncio.sleep(0.1)

    def _launch(self, bin_folder: Path, user: tuple[int, int] | None) -> Child:
        settings = {**_SETTINGS, **({} if self._sync else _NO_SYNC), "port": str(self._port)}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        with self._opened() as (data, keep):
            command: list[str | Path] = [bin_folder / "postgres", "-D", data, *options]
            log = self._folder / "postgres.log"
            return _spawn(command, "embedded PostgreSQL", log, user, keep, self._environment())

    async def _answers(self, child: Child, deadline: float) -> bool:
        """Return True once the server answers, False if it ended instead."""
        while time.monotonic() < deadline:
            if child.returncode is not None:
                return False
            try:
                connection = await asyncpg.connect(self.dsn_of("postgres"), timeout=5)
            except (OSError, asyncpg.CannotConnectNowError, TimeoutError):
                await asyncio.sleep(0.02)
                continue
            except asyncpg.InvalidPasswordError as error:
                raise ConfigError(
                    f"embedded PostgreSQL: {self._folder / 'password'} is not the password of its "
                    "cluster, or another server answers on its port"
                ) from error
            await connection.close()
            if child.returncode is None:
                return True
        raise TransientError(
            f"embedded PostgreSQL did not get ready in {_READY_S:.0f} s; "
            f"see {self._folder / 'postgres.log'}"
        )

    def _refusal(self, child: Child, said: str) -> ConfigError:
        if "Address already in use" in said:
            return self._port_taken()
        return ConfigError(
            f"embedded PostgreSQL ended at its start (exit {child.returncode}). It said:\n{said}"
        )

    def _port_taken(self) -> ConfigError:
        return ConfigError(
            f"embedded PostgreSQL: port {self._port} on {_HOST} is taken by another program. "
            "Stop it, or choose another with --postgres-port (0 takes a free one)"
        )

    async def _ensure_database(self) -> None:
        connection = await asyncpg.connect(self.dsn_of("postgres"), timeout=10)
        try:
            known = "SELECT 1 FROM pg_database WHERE datname = $1"
            if not await connection.fetchval(known, _DATABASE):
                await connection.execute(f"CREATE DATABASE {_DATABASE}")
        finally:
            await connection.close()


def _spawn(
    command: list[str | Path],
    name: str,
    log: Path,
    user: tuple[int, int] | None,
    keep_open: tuple[int, ...],
    environment: dict[str, str],
) -> Child:
    return Child.start(
        command,
        name=name,
        log=log,
        death_signal=signal.SIGINT,  # PostgreSQL's fast shutdown
        user=user,
        keep_open=keep_open,
        environment=environment,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    """Ask before the server does: what listens there might never answer our greeting."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except PermissionError as error:
            raise ConfigError(
                f"embedded PostgreSQL: this user may not open port {port} on {_HOST}. Choose "
                "another with --postgres-port (0 takes a free one)"
            ) from error
        except OSError:
            return False
    return True
