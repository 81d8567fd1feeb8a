"""Fixtures of real servers. Servers start once per session, and only if a test asks for one."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings
from tests.support import servers

from psm.adapters.embedded import EmbeddedNats, EmbeddedPostgres

# No deadline, and slow examples are no failure: a busy machine is not a wrong result. The same
# commit gets the same examples each time; `make properties` draws others, and more of them. `brief`
# is for a further interpreter, which must only agree.
settings.register_profile(
    "thorough",
    deadline=None,
    max_examples=2_000,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "quick", settings.get_profile("thorough"), derandomize=True, max_examples=120
)
settings.register_profile("brief", settings.get_profile("quick"), max_examples=40)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(autouse=True)
def own_logs() -> Iterator[None]:
    """Undo what a command run inside the test process did to logging.

    Otherwise a later test would log into a stream that was closed with the test before it.
    """
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither find nor be found by a `psm up` of this machine's user, nor read a `.env`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.setenv("PSM_ENV_FILE", os.devnull)
        yield


@pytest.fixture(scope="session")
def shared_nats_url() -> Iterator[str]:
    """A NATS server for the whole session; use `nats_url`, which is clean."""
    with servers.server_folder("nats") as folder, servers.nats_server(folder) as url:
        yield url


@pytest.fixture
async def nats_url(shared_nats_url: str) -> str:
    """A running NATS server without any stream. Shared: restart `nats_server`, never this one."""
    await servers.delete_streams(shared_nats_url)
    return shared_nats_url


@pytest.fixture
async def nats_server() -> AsyncIterator[EmbeddedNats]:
    """A NATS server of the test's own, to kill and start again. Always an embedded one."""
    with servers.server_folder("nats") as folder:
        async with EmbeddedNats(folder) as server:
            yield server


@pytest.fixture(scope="session")
def shared_postgres_dsn() -> Iterator[str]:
    """A PostgreSQL for the whole session; use `postgres_dsn`, a database of the test's own."""
    with servers.server_folder("postgres") as folder, servers.postgres_server(folder) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def postgres_template(shared_postgres_dsn: str) -> Iterator[str]:
    """Name of a migrated database to copy from."""
    name = servers.run(servers.make_template(shared_postgres_dsn))
    yield name
    servers.run(servers.drop_database(shared_postgres_dsn, name))


@pytest.fixture
async def postgres_dsn(shared_postgres_dsn: str, postgres_template: str) -> AsyncIterator[str]:
    """A migrated database of the test's own."""
    async with servers.fresh_database(shared_postgres_dsn, postgres_template) as dsn:
        yield dsn


@pytest.fixture
async def empty_postgres_dsn(shared_postgres_dsn: str) -> AsyncIterator[str]:
    """An empty database of the test's own: no migration has run."""
    async with servers.fresh_database(shared_postgres_dsn, "template0") as dsn:
        yield dsn


@pytest.fixture
async def postgres_server() -> AsyncIterator[EmbeddedPostgres]:
    """A PostgreSQL of the test's own, to kill and start again. Always an embedded one."""
    with servers.server_folder("postgres") as folder:
        async with EmbeddedPostgres(folder, sync=False) as server:
            yield server
