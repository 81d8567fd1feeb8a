"""TLS to real servers: NATS and a PostgreSQL with OpenSSL; what is wrong is told at once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from tests.support import servers
from tests.support.secured import (
    TlsNats,
    TlsPostgres,
    certificates,
    leaf_of,
    shown_to,
    tls_postgres,
)
from tests.support.tcp_proxy import Direction, proxied
from tests.support.workbench import until

from psm.adapters import postgres
from psm.adapters.house_certificates import House
from psm.adapters.jetstream import ConnectionCounters, connect
from psm.adapters.secret_files import FileSecret
from psm.adapters.tls import ClientTls
from psm.contracts.errors import ConfigError
from psm.projections.schema.migrate import connected
from psm.workers.cli.shared.process import process
from psm.workers.process.settings import Settings

AT_ONCE_S = 4.5  # an outage is reported after five seconds
EXPIRY = r"expires \d{4}-\d\d-\d\d \d\d:\d\d UTC"


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with servers.server_folder("certs") as folder:
        yield certificates(folder)


@pytest.fixture(scope="module")
def secured_postgres(house: House) -> Iterator[TlsPostgres]:
    with (
        servers.server_folder("tls-postgres") as folder,
        tls_postgres(folder, house.folder / "postgres") as server,
    ):
        yield server


@pytest.fixture
async def broker(house: House, tmp_path: Path) -> AsyncIterator[TlsNats]:
    async with TlsNats(tmp_path / "nats", house.folder / "nats", verify=True) as server:
        assert isinstance(server, TlsNats)
        yield server


def trusting(house: House, own: str | None = "client") -> ClientTls:
    """What a client of the house connects with."""
    leaf = house.folder / own if own else None
    files = (str(leaf / "tls.crt"), str(leaf / "tls.key")) if leaf else (None, None)
    return ClientTls(str(house.folder / "ca.crt"), *files)


async def refused(url: str, tls: ClientTls | None, **options: Any) -> str:
    """Return what a client is told; it must not take as long as an outage."""
    began = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        await connect(url, name="test", tls=tls, **options)
    assert time.monotonic() - began < AT_ONCE_S
    return str(caught.value)


async def test_mutual_tls_and_when_it_ends(broker: TlsNats, house: House) -> None:
    """TLS 1.3 with certificates of both sides; the expiry of the server's is told."""
    ends: list[float] = []
    nc = await connect(broker.url, name="test", tls=trusting(house), on_certificate=ends.append)
    spoken = shown_to(nc, "ssl_object").version()
    await nc.close()
    assert spoken == "TLSv1.3"
    assert 364 * 86_400 < ends[0] - time.time() < 366 * 86_400


async def test_a_process_tells_when_its_own_certificate_ends(broker: TlsNats, house: House) -> None:
    """Beside that of the broker, which asks for it; by both the alert is raised."""
    own = house.folder / "client"
    settings = Settings(
        nats_url=broker.url,
        nats_ca_file=str(house.folder / "ca.crt"),
        nats_cert_file=str(own / "tls.crt"),
        nats_key_file=str(own / "tls.key"),
        log_level="error",
    )
    async with process(settings, "test") as running:
        told = generate_latest(running.instruments.registry).decode()
    for server in ("nats", "nats-client"):
        line = f'psm_certificate_expires_timestamp_seconds{{server="{server}"}}'
        (ends,) = [float(one.split()[-1]) for one in told.splitlines() if one.startswith(line)]
        assert 364 * 86_400 < ends - time.time() < 366 * 86_400


async def test_client_without_certificate_is_told(broker: TlsNats, house: House) -> None:
    said = await refused(broker.url, trusting(house, own=None))
    assert "the server refuses the client's certificate" in said
    assert "certificate required" in said


async def test_certificate_of_a_stranger_is_told(
    broker: TlsNats, house: House, tmp_path: Path
) -> None:
    """Ours is of another CA: the message names ours."""
    own = leaf_of(tmp_path / "stranger", names=("desk",))
    tls = ClientTls(str(house.folder / "ca.crt"), str(own / "tls.crt"), str(own / "tls.key"))
    said = await refused(broker.url, tls)
    assert "refuses the client's certificate" in said
    assert "CN=stranger, for desk, expires" in said


async def test_wrong_ca_is_told(broker: TlsNats, tmp_path: Path) -> None:
    other = leaf_of(tmp_path / "other")
    said = await refused(broker.url, ClientTls(str(other / "ca.crt")))
    assert "PSM_NATS_CA_FILE must hold the CA that signed it" in said
    assert "it is CN=nats, for nats, localhost, 127.0.0.1, expires" in said


@pytest.mark.parametrize(
    ("wrong", "options"),
    [
        ("NATS_URL must name the server", {"names": ("elsewhere.example",)}),
        ("certificate has expired; renew it", {"days_ago": 40}),
        ("not yet valid; is the clock right?", {"days_ago": -3}),
    ],
)
async def test_wrong_certificate_is_told(
    wrong: str, options: dict[str, Any], tmp_path: Path
) -> None:
    """Wrong name, too old, too new: what is wrong, and which certificate that is."""
    leaf = leaf_of(tmp_path / "wrong", **options)
    async with TlsNats(tmp_path / "nats", leaf) as server:
        said = await refused(server.url, ClientTls(str(leaf / "ca.crt")))
    assert wrong in said
    assert "(it is CN=wrong, for" in said
    assert "expires" in said


async def test_ca_without_key_usage_is_told(tmp_path: Path) -> None:
    """Python 3.13 and later refuse it; earlier ones do not ask."""
    leaf = leaf_of(tmp_path / "plain", key_usage=False)
    async with TlsNats(tmp_path / "nats", leaf) as server:
        tls = ClientTls(str(leaf / "ca.crt"))
        if sys.version_info < (3, 13):
            nc = await connect(server.url, name="test", tls=tls)
            await nc.close()
        strict = ClientTls(str(leaf / "ca.crt"))
        strict.context().verify_flags |= 0x20  # VERIFY_X509_STRICT, as 3.13 sets it
        said = await refused(server.url, strict)
    assert "its CA must have the extension keyUsage" in said


async def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"PSM_NATS_CA_FILE \(.*absent.*No such file"):
        ClientTls(str(tmp_path / "absent.crt"))
    (tmp_path / "empty.crt").write_text("nothing")
    with pytest.raises(ConfigError, match=r"PSM_NATS_CA_FILE \(.*empty.*NO_CERTIFICATE"):
        ClientTls(str(tmp_path / "empty.crt"))
    leaf, other = leaf_of(tmp_path / "one"), leaf_of(tmp_path / "two")
    with pytest.raises(ConfigError, match=r"PSM_NATS_CERT_FILE .*KEY_VALUES_MISMATCH"):
        ClientTls(str(leaf / "ca.crt"), str(leaf / "tls.crt"), str(other / "tls.key"))


async def test_plain_client_is_told(broker: TlsNats) -> None:
    """Nothing says whom to trust: the machine's own CAs do not know the house's."""
    said = await refused(broker.url, None)
    assert "certificate is refused" in said


async def test_nobody_talks_a_client_out_of_tls(broker: TlsNats, house: House) -> None:
    """Whoever stands between may greet in the server's place: he hears nothing, no password."""
    heard: list[bytes] = []

    def stripped(direction: Direction, data: bytes) -> list[bytes]:
        if direction == "up":
            heard.append(data)
        return [data.replace(b'"tls_required":true', b'"tls_required":false')]

    async with proxied(broker.url) as proxy:
        plain = f"nats://localhost:{proxy.port}"
        counters = ConnectionCounters()
        nc = await connect(plain, name="t", tls=trusting(house), counters=counters)
        proxy.change = stripped
        for url, tls in ((plain, trusting(house)), (plain.replace("nats", "tls"), None)):
            said = await refused(url, tls, user="worker", password="secret")
            assert "speaks no TLS, which tls:// in NATS_URL or PSM_NATS_CA_FILE asks for" in said
        proxy.cut()
        before = counters.errors
        await until(lambda: counters.errors > before + 1, "it tries again, and says why not")
        assert heard == []
        proxy.change = None
        await until(lambda: counters.reconnects == 1, "it is let in where TLS is there again")
        await nc.close()


async def test_new_ca_without_an_outage(tmp_path: Path) -> None:
    """Three steps; after each the server reads its files and every client has to come back."""
    house = certificates(tmp_path / "certs")
    async with TlsNats(tmp_path / "nats", house.folder / "nats", verify=True) as server:
        counters = ConnectionCounters()
        nc = await connect(server.url, name="test", tls=trusting(house), counters=counters)
        issuers = set()

        def is_back(times: int) -> bool:
            return counters.reconnects == times

        for number, step in enumerate(("trust", "leafs", "retire"), start=1):
            assert house.replace_authority() == step
            await server.stop()
            await server.start()
            await until(partial(is_back, number), f"it is back after {step}")
            issuers.add(str(shown_to(nc, "peercert")["issuer"]))
        await nc.close()
        assert len(issuers) == 2
        assert (house.folder / "ca.crt").read_bytes().count(b"BEGIN CERT") == 1


# --- PostgreSQL


async def told(dsn: str) -> str:
    """Return what the pool and the migrations say: the same, and at once."""
    began = time.monotonic()
    with pytest.raises(ConfigError) as by_pool:
        await postgres.open_pool(dsn, name="test")
    with pytest.raises(ConfigError) as by_migrate:
        async with connected(dsn):
            pass
    assert time.monotonic() - began < AT_ONCE_S
    assert str(by_pool.value) == str(by_migrate.value)
    return str(by_pool.value)


@pytest.mark.postgres_tls
async def test_verify_full(secured_postgres: TlsPostgres, house: House) -> None:
    """The pool and the migrations connect; the expiry of the certificate is told."""
    ends: list[float] = []
    dsn = secured_postgres.dsn(sslmode="verify-full", sslrootcert=house.folder / "ca.crt")
    pool = await postgres.open_pool(dsn, name="test", on_certificate=ends.append)
    spoken = await pool.fetchval("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    await pool.close()
    assert spoken == "TLSv1.3"
    assert ends[0] > time.time()
    async with connected(dsn) as connection:
        assert await connection.fetchval("SELECT 1") == 1


@pytest.mark.postgres_tls
async def test_wrong_ca_of_postgres_is_told(secured_postgres: TlsPostgres, tmp_path: Path) -> None:
    other = leaf_of(tmp_path / "other")
    said = await told(secured_postgres.dsn(sslmode="verify-full", sslrootcert=other / "ca.crt"))
    assert "sslrootcert of POSTGRES_DSN must hold the CA that signed it" in said
    assert "(it is CN=postgres, for postgres, localhost, 127.0.0.1, expires" in said


@pytest.mark.postgres_tls
async def test_missing_and_empty_ca_files_are_told(
    secured_postgres: TlsPostgres, tmp_path: Path
) -> None:
    """No outage: whoever set the address has to change it."""
    said = await told(secured_postgres.dsn(sslmode="verify-full", sslrootcert=tmp_path / "absent"))
    assert "sslrootcert" in said
    assert "No such file" in said
    (tmp_path / "empty").write_text("nothing")
    said = await told(secured_postgres.dsn(sslmode="verify-full", sslrootcert=tmp_path / "empty"))
    assert "nothing in it is PEM" in said


@pytest.mark.postgres_tls
async def test_wrong_host_name_of_postgres_is_told(
    secured_postgres: TlsPostgres, house: House
) -> None:
    """127.0.0.2 is the same server, of which its certificate does not speak."""
    dsn = secured_postgres.dsn(
        "127.0.0.2", sslmode="verify-full", sslrootcert=house.folder / "ca.crt"
    )
    said = await told(dsn)
    assert "POSTGRES_DSN must name the server as its certificate does" in said
    assert "CN=postgres" in said


async def test_mode_without_a_ca_and_mode_that_is_none_are_told(postgres_dsn: str) -> None:
    """What is missing in the address, and not the name of an exception."""
    said = await told(f"{postgres_dsn}?sslmode=verify-full")
    assert "sslmode=verify-full needs sslrootcert=FILE" in said
    assert "must be one of: disable, allow" in await told(f"{postgres_dsn}?sslmode=verify")


async def test_server_without_tls_is_told(postgres_dsn: str) -> None:
    """The embedded server speaks none."""
    said = await told(f"{postgres_dsn}?sslmode=require")
    assert "speaks no TLS, which POSTGRES_DSN asks for (sslmode=require)" in said


@pytest.mark.postgres_tls
def test_command_says_it(secured_postgres: TlsPostgres, tmp_path: Path) -> None:
    """`psm migrate status` ends with exit code 2 and one line, never `not reachable`."""
    other = leaf_of(tmp_path / "other")
    dsn = secured_postgres.dsn(sslmode="verify-full", sslrootcert=other / "ca.crt")
    done = subprocess.run(
        [sys.executable, "-m", "psm.workers.cli", "migrate", "status"],
        env={"POSTGRES_DSN": dsn, "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "the server's certificate is refused" in done.stderr
    assert "not reachable" not in done.stderr


@pytest.mark.postgres_tls
async def test_new_password_without_an_outage(
    secured_postgres: TlsPostgres, house: House, tmp_path: Path
) -> None:
    """The file first, then the server: each connection in between still works."""
    admin = await postgres.open_pool(
        secured_postgres.dsn(sslmode="verify-full", sslrootcert=house.folder / "ca.crt"),
        name="admin",
    )
    await admin.execute("CREATE ROLE part LOGIN PASSWORD 'old'")
    end = f"@localhost:{secured_postgres.port}/postgres?sslmode=require"
    file = tmp_path / "dsn"
    file.write_text(f"postgresql://part:old{end}\n")
    pool = await postgres.open_pool(
        FileSecret.of(file.read_text().strip(), file), name="part", size_max=1
    )
    try:
        file.write_text(f"postgresql://part:new{end}\n")
        for statement in ("SELECT 1", "ALTER ROLE part PASSWORD 'new'", "SELECT 1"):
            await admin.execute(statement)
            await pool.expire_connections()
            async with postgres.acquired(pool) as connection:
                assert await connection.fetchval("SELECT 1") == 1
    finally:
        pool.terminate()
        await admin.execute("DROP ROLE part")
        admin.terminate()
