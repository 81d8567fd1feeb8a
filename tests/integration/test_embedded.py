"""The embedded servers: ready fast, keep their state, end with their parent, refuse clearly."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import nats
import pytest
from tests.support import servers as support

from psm.adapters.embedded import EmbeddedNats, EmbeddedPostgres, EmbeddedServers
from psm.adapters.embedded.memory import go_memory_limit
from psm.contracts.errors import ConfigError


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


async def _count(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS visits (n int)")
        await connection.execute("INSERT INTO visits VALUES (1)")
        return int(await connection.fetchval("SELECT count(*) FROM visits"))
    finally:
        await connection.close()


async def _append(url: str) -> int:
    client = await nats.connect(url)
    try:
        js = client.jetstream()
        await js.add_stream(name="VISITS", subjects=["visits"])
        return (await js.publish("visits", b"1")).seq
    finally:
        await client.close()


def _is_alive(pid: int) -> bool:
    """Whether the process is there and not merely waiting to be reaped."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_state_survives_a_restart(data_dir: Path) -> None:
    """What JetStream and PostgreSQL acknowledged is there after a clean stop and a new start."""
    for visit in (1, 2):
        async with EmbeddedServers(data_dir, permissions=False) as servers:
            assert await _append(servers.nats_url) == visit
            assert await _count(servers.postgres_dsn) == visit


async def test_state_survives_a_kill(data_dir: Path) -> None:
    """Both servers come back on the same address after SIGKILL, with their state."""
    async with EmbeddedServers(data_dir, permissions=False) as servers:
        addresses = servers.nats_url, servers.postgres_dsn
        await _append(servers.nats_url)
        await _count(servers.postgres_dsn)
        await asyncio.gather(servers.nats.kill(), servers.postgres.kill())
        assert not servers.nats.is_running
        assert not servers.postgres.is_running
        await asyncio.gather(servers.nats.start(), servers.postgres.start())
        assert (servers.nats_url, servers.postgres_dsn) == addresses
        assert await _append(servers.nats_url) == 2
        assert await _count(servers.postgres_dsn) == 2


async def test_both_listen_on_loopback_only(data_dir: Path) -> None:
    """Nothing listens on another address of the machine."""
    async with EmbeddedServers(data_dir) as servers:
        ports = {
            int(servers.nats_url.rpartition(":")[2]),
            int(servers.postgres_dsn.rpartition(":")[2].partition("/")[0]),
        }
        listening = {}
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, port = local.split(":")
            if state == "0A" and int(port, 16) in ports:
                listening[int(port, 16)] = address
        assert listening == dict.fromkeys(ports, "0100007F")
        six = Path("/proc/net/tcp6")
        assert not six.exists() or not any(
            f":{port:04X} " in line and " 0A " in line
            for line in six.read_text().splitlines()
            for port in ports
        )


@pytest.mark.parametrize("own", [None, "3GiB"])
async def test_broker_knows_how_much_memory_it_has(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, own: str | None
) -> None:
    """A share of the container's or the machine's, unless the variable says otherwise."""
    if own:
        monkeypatch.setenv("GOMEMLIMIT", own)
    else:
        monkeypatch.delenv("GOMEMLIMIT", raising=False)
    async with EmbeddedNats(data_dir) as server:
        environment = Path(f"/proc/{server.pid}/environ").read_text().split("\0")
        assert f"GOMEMLIMIT={own or go_memory_limit()}" in environment


async def test_password_is_kept_from_others(data_dir: Path) -> None:
    """The password is in a file that only its owner reads, and a wrong one is refused."""
    async with EmbeddedPostgres(data_dir, sync=False) as server:
        assert (data_dir / "password").stat().st_mode & 0o777 == 0o600
        password = (data_dir / "password").read_text()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.dsn.replace(password, "wrong"))


async def test_nobody_sees_an_update_before_its_commit(nats_server: EmbeddedNats) -> None:
    """The private entrance cannot be subscribed, not even through a wildcard."""
    refused: list[Exception] = []

    async def note(error: Exception) -> None:
        refused.append(error)

    client = await nats.connect(nats_server.url, error_cb=note)
    try:
        everything = await client.subscribe(">")
        await client.subscribe("_psm.>")
        await client.publish("_psm.position.updated.0.acc_001", b"1")
        await client.publish("other", b"2")
        assert (await everything.next_msg(timeout=5)).subject == "other"
        assert any("permissions violation" in str(error).lower() for error in refused)
    finally:
        await client.close()


async def test_children_end_with_a_killed_parent(data_dir: Path) -> None:
    """SIGKILL of the supervisor ends both servers, and the folder can be used again at once."""
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from psm.adapters.embedded import EmbeddedServers\n"
        "async def main():\n"
        "    async with EmbeddedServers(Path(sys.argv[1]), permissions=False) as s:\n"
        "        print(s.nats.pid, s.postgres.pid, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", script, str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(_is_alive(pid) for pid in pids)
        with pytest.raises(ConfigError, match=rf"in use by another psm \(process {parent.pid}\)"):
            await EmbeddedServers(data_dir, permissions=False).start()
        parent.send_signal(signal.SIGKILL)
    async with EmbeddedServers(data_dir, permissions=False) as servers:
        assert not any(_is_alive(pid) for pid in pids)
        assert await _count(servers.postgres_dsn) == 1


async def test_taken_nats_port_is_named(data_dir: Path) -> None:
    """A port that is taken is refused with its number and the flag to change."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} .* is taken .*--nats-port"):
            await EmbeddedServers(data_dir, nats_port=port).start()


async def test_taken_postgres_port_is_named(data_dir: Path) -> None:
    """The same for PostgreSQL; the folder is free again afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} .* is taken .*--postgres-port"):
            await EmbeddedServers(data_dir, postgres_port=port).start()
    async with EmbeddedServers(data_dir, postgres_port=port) as servers:
        assert f":{port}/" in servers.postgres_dsn


async def test_folder_serves_one_supervisor(data_dir: Path) -> None:
    """A second supervisor is told who has the folder."""
    async with EmbeddedServers(data_dir):
        with pytest.raises(ConfigError, match=rf"in use by another psm \(process {os.getpid()}\)"):
            await EmbeddedServers(data_dir).start()


async def test_file_is_no_data_folder(data_dir: Path) -> None:
    """A path that is a file, or goes through one, is refused."""
    data_dir.write_text("a file")
    for path in (data_dir, data_dir / "below"):
        with pytest.raises(ConfigError, match="is a file"):
            await EmbeddedServers(path).start()


async def test_folder_of_somebody_else_is_left_alone(data_dir: Path) -> None:
    """A folder with other files is refused and not changed."""
    data_dir.mkdir()
    (data_dir / "thesis.txt").write_text("do not touch")
    with pytest.raises(ConfigError, match="holds files that are not PSM's"):
        await EmbeddedServers(data_dir).start()
    assert [path.name for path in data_dir.iterdir()] == ["thesis.txt"]


async def test_unwritable_folder_is_named() -> None:
    """A folder that cannot be made is refused with its path and the reason."""
    with pytest.raises(ConfigError, match=r"data folder /proc/psm: .*--data-dir"):
        await EmbeddedServers(Path("/proc/psm")).start()


async def test_other_postgres_major_is_refused(data_dir: Path) -> None:
    """A cluster of another major version is not opened, and the way out is named."""
    async with EmbeddedPostgres(data_dir, sync=False):
        pass
    (data_dir / "cluster" / "PG_VERSION").write_text("17\n")
    with pytest.raises(ConfigError, match=r"made by PostgreSQL 17, this is 18.*pg_upgrade"):
        await EmbeddedPostgres(data_dir, sync=False).start()


async def test_closed_temporary_folder_does_not_matter(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's user need not be able to enter any folder of ours."""
    closed = tmp_path / "temporary"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr("tempfile.tempdir", str(closed))
    async with EmbeddedPostgres(data_dir, sync=False) as server:
        assert await _count(server.dsn) == 1
    assert list(closed.iterdir()) == []


async def test_lost_password_is_named(data_dir: Path) -> None:
    """A cluster whose password file is gone is refused with what to do."""
    async with EmbeddedPostgres(data_dir, sync=False):
        pass
    (data_dir / "password").unlink()
    with pytest.raises(ConfigError, match="password is missing"):
        await EmbeddedPostgres(data_dir, sync=False).start()


async def test_production_is_refused(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PSM_ENV is production nothing is started and no folder is made."""
    monkeypatch.setenv("PSM_ENV", "production")
    with pytest.raises(ConfigError, match="PSM_ENV is 'production'"):
        await EmbeddedServers(data_dir).start()
    assert not data_dir.exists()


async def test_shared_nats_is_clean(nats_url: str) -> None:
    """Each test gets the shared broker without streams, whatever ran before."""
    assert await _append(nats_url) == 1


async def test_shared_nats_is_clean_again(nats_url: str) -> None:
    """The stream of the test before is gone."""
    assert await _append(nats_url) == 1


async def test_databases_are_apart(postgres_dsn: str, empty_postgres_dsn: str) -> None:
    """A test's database is migrated, or empty where it asks for that, and never shared."""
    for dsn, migrated in ((postgres_dsn, True), (empty_postgres_dsn, False)):
        connection = await asyncpg.connect(dsn)
        try:
            found = await connection.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL")
            assert found is migrated
        finally:
            await connection.close()
        assert await _count(dsn) == 1


def test_looking_for_docker_is_quick() -> None:
    """Without a daemon the tests do not wait for one."""
    support.docker_answers.cache_clear()
    began = time.monotonic()
    support.docker_answers()
    assert time.monotonic() - began < 30  # where it does not answer the client would wait a minute
