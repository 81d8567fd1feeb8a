"""Real NATS and PostgreSQL for the tests, from the first provider that can give them.

1. The environment: `PSM_TEST_NATS_URL`, `PSM_TEST_POSTGRES_DSN` (a superuser's; databases are
   made and dropped on it). The NATS server must be one for tests only: its streams are deleted.
2. testcontainers, if a Docker daemon answers.
3. The embedded servers, from the binaries of the development dependencies.

Each server is chosen by itself, so that one may come from the environment and the other not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import nats

from psm.adapters.embedded import EmbeddedNats, EmbeddedPostgres

T = TypeVar("T")

NATS_IMAGE = "nats:2.15-alpine"
POSTGRES_IMAGE = "postgres:18-alpine"

_NATS_CONFIG = b"""\
server_name: psm-test
jetstream { store_dir: /data, sync_interval: always }
authorization {
  users: [ { user: "local", password: "", permissions: { subscribe: { deny: "_psm.>" } } } ]
}
no_auth_user: "local"
"""


def run(work: Coroutine[object, object, T]) -> T:
    """Run `work` in a loop of its own, leaving the test's current loop as it is."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(work)


@contextmanager
def nats_server(folder: Path) -> Iterator[str]:
    """Give the address of a running NATS server with JetStream."""
    if url := os.environ.get("PSM_TEST_NATS_URL"):
        yield url
    elif docker_answers():
        with _nats_container() as url:
            yield url
    else:
        server = EmbeddedNats(folder)
        run(server.start())
        try:
            yield server.url
        finally:
            run(server.stop())


@contextmanager
def postgres_server(folder: Path) -> Iterator[str]:
    """Give the DSN of a superuser on a running PostgreSQL."""
    if dsn := os.environ.get("PSM_TEST_POSTGRES_DSN"):
        yield dsn
    elif docker_answers():
        with _postgres_container() as dsn:
            yield dsn
    else:
        server = EmbeddedPostgres(folder, sync=False)
        run(server.start())
        try:
            yield server.dsn
        finally:
            run(server.stop())


@cache
def docker_answers() -> bool:
    """Whether a Docker daemon is there; asks at most one second, and only if there is a socket."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "/run/user/none")
    sockets = ("/var/run/docker.sock", f"{runtime}/docker.sock", "~/.docker/run/docker.sock")
    if "DOCKER_HOST" not in os.environ and not any(Path(s).expanduser().exists() for s in sockets):
        return False
    import docker

    try:
        with contextlib.closing(docker.from_env(timeout=1)) as client:
            return bool(client.ping())
    except (docker.errors.DockerException, OSError):
        return False


@contextmanager
def _nats_container() -> Iterator[str]:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    _without_side_image()
    container = (
        DockerContainer(NATS_IMAGE)
        .with_copy_into_container(_NATS_CONFIG, "/etc/nats/psm.conf")
        .with_command("-js -c /etc/nats/psm.conf")
        .with_exposed_ports(4222)
        .waiting_for(LogMessageWaitStrategy("Server is ready"))
    )
    with container:
        host = container.get_container_host_ip()
        yield f"nats://{host}:{container.get_exposed_port(4222)}"


@contextmanager
def _postgres_container() -> Iterator[str]:
    from testcontainers.community.postgres import PostgresContainer

    _without_side_image()
    container = PostgresContainer(
        POSTGRES_IMAGE, username="psm", password=secrets.token_urlsafe(16), dbname="psm"
    ).with_command("postgres -c fsync=off -c full_page_writes=off")
    with container:
        yield container.get_connection_url(driver=None)


def _without_side_image() -> None:
    """Do without the container that removes what is left: its image may not be here.

    The fixtures remove theirs; after a run that was killed, that is for the engine's owner.
    """
    from testcontainers.core.config import testcontainers_config

    testcontainers_config.ryuk_disabled = True


def database_dsn(server_dsn: str, database: str) -> str:
    """Return `server_dsn` with another database."""
    return urlunsplit(urlsplit(server_dsn)._replace(path=f"/{database}"))


async def make_template(server_dsn: str) -> str:
    """Make a migrated database to copy from; return its name."""
    from psm.projections.schema.migrate import migrate

    name = f"psm_template_{secrets.token_hex(4)}"
    await _execute(server_dsn, f"CREATE DATABASE {name} TEMPLATE template0")
    await migrate(database_dsn(server_dsn, name))
    return name


async def drop_database(server_dsn: str, name: str) -> None:
    """Drop a database, ending whatever session is left in it."""
    await _execute(server_dsn, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@asynccontextmanager
async def fresh_database(server_dsn: str, template: str) -> AsyncIterator[str]:
    """Give the DSN of a new copy of `template`, dropped afterwards."""
    name = f"psm_test_{secrets.token_hex(6)}"
    await _execute(server_dsn, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield database_dsn(server_dsn, name)
    finally:
        await drop_database(server_dsn, name)


async def delete_streams(url: str) -> None:
    """Delete every JetStream stream of the server, key-value buckets included."""
    client = await nats.connect(url)
    try:
        js = client.jetstream()
        for info in await js.streams_info():
            assert info.config.name is not None
            await js.delete_stream(info.config.name)
    finally:
        await client.close()


@contextmanager
def server_folder(name: str) -> Iterator[Path]:
    """Give a new folder for a server's data, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix=f"psm-test-{name}-") as folder:
        yield Path(folder)


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
