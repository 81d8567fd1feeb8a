"""Real servers that speak TLS: NATS, and a PostgreSQL with OpenSSL."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg
from nats.aio.client import Client
from tests.support.servers import run

from psm.adapters.embedded import EmbeddedNats
from psm.adapters.embedded.binaries import server_user
from psm.adapters.house_certificates import Authority, House
from psm.adapters.jetstream.client import RobustClient

START_S = 60.0
PASSWORD = "secret-of-psm"

_NATS_TLS = """
tls {{
  cert_file: "{leaf}/tls.crt", key_file: "{leaf}/tls.key", ca_file: "{leaf}/ca.crt"
  verify: {verify}
  min_version: "1.3"
  timeout: 5
}}
{more}
"""


class TlsNats(EmbeddedNats):
    """A NATS server that takes TLS 1.3 only."""

    def __init__(
        self, folder: Path, leaf: Path, *, verify: bool = False, permissions: bool = False
    ) -> None:
        super().__init__(folder, sync=False, permissions=permissions)
        self.leaf, self.verify, self.more = leaf, verify, ""

    def _config(self) -> str:
        verify = str(self.verify).lower()
        return super()._config() + _NATS_TLS.format(leaf=self.leaf, verify=verify, more=self.more)

    def reload(self) -> None:
        """Let it read its configuration and certificates again."""
        os.kill(self.pid, 1)

    def write_config(self) -> None:
        """Write its configuration as it is now."""
        (self._folder / "nats.conf").write_text(self._config())


class TlsPostgres:
    """A PostgreSQL of the machine's own; its certificates are copied, as they must be its own.

    Attributes:
        port: on loopback.
    """

    def __init__(self, folder: Path, leaf: Path) -> None:
        self._folder, self._leaf = folder, leaf
        self._data = folder / "data"
        self._user = server_user()
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])

    def dsn(self, host: str = "localhost", **options: object) -> str:
        """Return the address of the superuser, with options of TLS."""
        asked = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgresql://psm:{PASSWORD}@{host}:{self.port}/postgres?{asked}"

    def start(self) -> None:
        """Make the cluster and start it; return when it answers."""
        self._own(self._folder)
        password = self._folder / "password"
        password.write_text(PASSWORD)
        self._own(password)
        self._run(
            "initdb",
            *("-D", self._data, "--username=psm", f"--pwfile={password}", "--auth=scram-sha-256"),
            *("--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"),
        )
        (self._data / "pg_hba.conf").write_text(
            "hostssl all by_certificate 127.0.0.0/8 scram-sha-256 clientcert=verify-full\n"
            "hostssl all all 127.0.0.0/8 scram-sha-256\n"
        )
        self.take_certificates()
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1,127.0.0.2",
            "unix_socket_directories": "",
            "ssl": "on",
            "ssl_cert_file": "tls.crt",
            "ssl_key_file": "tls.key",
            "ssl_ca_file": "ca.crt",
            "ssl_min_protocol_version": "TLSv1.3",
            "fsync": "off",
        }
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                [postgres_programs() / "postgres", "-D", self._data, *flags],
                stderr=log,
                **self._as_user(),
            )
        run(self._answers())

    def take_certificates(self) -> None:
        """Copy the certificates of the leaf, as the container of PostgreSQL does."""
        for name, mode in (("tls.crt", 0o644), ("tls.key", 0o600), ("ca.crt", 0o644)):
            shutil.copyfile(self._leaf / name, self._data / name)
            (self._data / name).chmod(mode)
            self._own(self._data / name)

    def stop(self) -> None:
        """End it; nothing of it is kept."""
        if self._process is not None:
            self._process.terminate()
            self._process.kill()
            self._process.wait(START_S)

    async def _answers(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                connection = await asyncpg.connect(self.dsn(sslmode="require"))
            except (OSError, asyncpg.CannotConnectNowError):
                log = (self._folder / "server.log").read_text()
                assert time.monotonic() < deadline, log
                await asyncio.sleep(0.05)
            else:
                await connection.close()
                return

    def _own(self, path: Path) -> None:
        if self._user is not None:
            os.chown(path, *self._user)

    def _as_user(self) -> dict[str, Any]:
        if self._user is None:
            return {}
        user, group = self._user
        return {"user": user, "group": group, "extra_groups": [], "cwd": "/"}

    def _run(self, program: str, *arguments: object) -> None:
        subprocess.run(
            [str(part) for part in (postgres_programs() / program, *arguments)],
            check=True,
            capture_output=True,
            **self._as_user(),
        )


@cache
def postgres_programs() -> Path:
    """Return the folder of a PostgreSQL with OpenSSL, which the embedded one has not."""
    said = os.environ.get("PSM_TEST_POSTGRES_BIN")
    found = [Path(said)] if said else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    assert found, "install PostgreSQL (Debian: postgresql), or set PSM_TEST_POSTGRES_BIN"
    return found[-1]


@contextmanager
def tls_postgres(folder: Path, leaf: Path) -> Iterator[TlsPostgres]:
    """Give a running PostgreSQL that takes nothing but TLS."""
    server = TlsPostgres(folder, leaf)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def shown_to(nc: Client, what: str) -> Any:
    """Return what the transport of a connection knows, such as `peercert`."""
    assert isinstance(nc, RobustClient)
    assert isinstance(nc.open_transport, asyncio.StreamWriter)
    return nc.open_transport.get_extra_info(what)


def certificates(folder: Path) -> House:
    """Return a house with certificates for both servers, made now."""
    house = House(folder)
    house.make({"nats": (), "postgres": (), "client": ()})
    return house


def leaf_of(
    folder: Path,
    *,
    names: tuple[str, ...] = ("localhost", "127.0.0.1"),
    days_ago: int = 0,
    days: int = 30,
    key_usage: bool = True,
) -> Path:
    """Return the folder of a leaf of a CA of its own, which may be wrong in some way.

    Args:
        folder: made.
        names: that it is good for.
        days_ago: when it was made; more than `days` and it has expired.
        days: how long it holds.
        key_usage: whether its CA says what its key is for.
    """
    then = datetime.now(UTC) - timedelta(days=days_ago)
    authority = Authority.new(then, key_usage=key_usage)
    folder.mkdir(parents=True)
    certificate, key = authority.leaf(folder.name, names, then, days=days)
    (folder / "ca.crt").write_bytes(authority.pem)
    (folder / "tls.crt").write_bytes(certificate)
    (folder / "tls.key").write_bytes(key)
    return folder
