"""compose.yaml, its broker configuration and the Dockerfile, as far as they go without Docker."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import socket
import ssl
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from tests.k8s.tools import ROOT
from tests.support.broker import DEPLOY, compose_broker, compose_cluster, connect_as
from tests.support.nats_cluster import make_streams
from tests.support.small_disk import filled, small_disk, write
from tests.support.workbench import open_bench

from psm.adapters.embedded import EmbeddedNats
from psm.adapters.embedded import nats as broker_log
from psm.adapters.house_certificates import House
from psm.adapters.jetstream.api import call
from psm.adapters.jetstream.roles import ROLES, role
from psm.adapters.jetstream.roles_text import render_config, render_table
from psm.adapters.jetstream.streams_apply import apply
from psm.adapters.tls import ClientTls
from psm.projections.schema.roles import LOGINS, login_of
from psm.workers.cli import build
from psm.workers.process.config import load_settings
from psm.workers.process.settings import Settings

NODES = ("nats-1", "nats-2", "nats-3")
ONE_SHOTS = ("certs", "streams", "migrate")
WATCHERS = ("prometheus", "alertmanager", "collector")
DOCKERFILE = (ROOT / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    """The services, variables replaced by their defaults as compose does it."""
    text = (ROOT / "compose.yaml").read_text()
    document = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))
    assert set(document) == {"name", "services", "volumes"} | {k for k in document if k[:2] == "x-"}
    found: dict[str, dict[str, Any]] = document["services"]
    for service in found.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in document["volumes"] or (ROOT / source).is_file()
    return found


def ours(services: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: s for name, s in services.items() if "build" in s}


def test_all_processes_are_there(services: dict[str, dict[str, Any]]) -> None:
    """Brokers, database, the one-shots, two workers, projector, archive, API; images pinned."""
    assert set(services) == {
        "certs",
        *NODES,
        "postgres",
        "streams",
        "migrate",
        "worker-a",
        "worker-b",
        "projector",
        "analytics",
        "archive",
        "risk",
        "api",
        "operator",
        "importer",
        *WATCHERS,
    }
    for name in WATCHERS:
        assert services[name]["profiles"] == ["observability"]
    for name in ("operator", "importer"):
        assert services[name]["profiles"] == ["tools"]  # not started, but run when asked
    for node in NODES:
        assert services[node]["image"].startswith("nats:2.15")
    assert services["postgres"]["image"].startswith("postgres:18")
    # PostgreSQL 18 images keep their data one level higher than older ones.
    assert "postgres-data:/var/lib/postgresql" in services["postgres"]["volumes"]


def test_every_process_starts_with_valid_settings(services: dict[str, dict[str, Any]]) -> None:
    """Settings accepts each environment, and each command parses."""
    for service in ours(services).values():
        environment = {k: str(v) for k, v in service.get("environment", {}).items()}
        assert load_settings(environment).partitions == 16
        build().parse_args(service["command"])


def test_workers_are_a_fleet(services: dict[str, dict[str, Any]]) -> None:
    """None of them is told its partitions, so that either takes over from the other."""
    for name in ("worker-a", "worker-b"):
        env = {k: str(v) for k, v in services[name]["environment"].items()}
        assert load_settings(env).worker_partitions == ()


def test_processes_wait_for_what_they_need(services: dict[str, dict[str, Any]]) -> None:
    """One-shots wait for healthy servers, the others for the one-shots' success."""
    for name, service in services.items():
        for needed, condition in service.get("depends_on", {}).items():
            one_shot = needed in ONE_SHOTS
            wanted = "service_completed_successfully" if one_shot else "service_healthy"
            assert condition == {"condition": wanted}, name
            assert one_shot or "healthcheck" in services[needed]
    assert set(services["projector"]["depends_on"]) == {"streams", "migrate"}
    # A worker compares the log with the heads in PostgreSQL.
    assert set(services["worker-a"]["depends_on"]) == {"streams", "migrate"}
    # Servers need their certificates; three replicas need three servers.
    for server in (*NODES, "postgres"):
        assert set(services[server]["depends_on"]) == {"certs"}
    assert set(services["streams"]["depends_on"]) == set(NODES)


def test_everything_has_bounds(services: dict[str, dict[str, Any]]) -> None:
    """Memory, processes, logs, time to stop; what runs long comes back, what ends does not loop."""
    for name, service in services.items():
        assert {"mem_limit", "pids_limit", "logging"} <= set(service), name
        assert service["stop_grace_period"] == "60s"
        ends = service.get("profiles") == ["tools"] or name in ONE_SHOTS
        assert service["restart"] == ("unless-stopped" if not ends else service["restart"])
        assert not ends or service["restart"] in {"on-failure", "no"}


def test_all_connections_are_private(services: dict[str, dict[str, Any]]) -> None:
    """TLS with a checked certificate to both servers, whose keys none of ours can read."""
    for name, service in ours(services).items():
        env = service.get("environment", {})
        for url in env.get("NATS_URL", "tls://").split(","):
            assert url.startswith("tls://")
        for variable in (v for v in env if v.endswith("_DSN")):
            assert env[variable].endswith("?sslmode=verify-full&sslrootcert=/certs/ca.crt")
        assert service["volumes"] == (["certs:/certs"] if name == "certs" else ["certs:/certs:ro"])
        assert service.get("user") == ("0:0" if name == "certs" else None)
    leafs = services["certs"]["command"][4::2]
    assert leafs == [*NODES, "postgres"]
    hba = (DEPLOY / "pg_hba.conf").read_text()
    assert {line.split()[0] for line in hba.splitlines() if line[0] != "#"} == {"local", "hostssl"}


def test_one_broker_is_enough(services: dict[str, dict[str, Any]]) -> None:
    """The second file names every process of ours that connects, and leaves two servers out."""
    text = (ROOT / "compose.single.yaml").read_text().replace("!override", "")
    single = yaml.safe_load(text)["services"]
    connecting = {name for name, s in services.items() if "NATS_URL" in s.get("environment", {})}
    assert set(single) == {*connecting, *NODES}
    for name in connecting:
        assert single[name]["environment"] == {
            "NATS_URL": "tls://nats-1:4222",
            "PSM_NATS_MONITORING_URL": "http://nats-1:8222",
            "PSM_REPLICAS": 1,
        }
    three, one = ((DEPLOY / name).read_text() for name in ("nats.conf", "nats-single.conf"))
    without = re.sub(r"^cluster \{.*?^\}\n\n", "", three, flags=re.MULTILINE | re.DOTALL)
    assert without.partition("\n\n")[2].replace("disks", "disk") == one.partition("\n\n")[2]


async def test_three_brokers_are_a_cluster(tmp_path: Path) -> None:
    """With compose's configuration: TLS on every line, three copies, and no stranger joins."""
    certs = tmp_path / "certs"
    House(certs).make(dict.fromkeys(NODES, ()))
    tls = ClientTls(str(certs / "ca.crt"))
    async with compose_cluster(tmp_path, certs) as (urls, routes):
        nc = await connect_as("streams", ",".join(urls), tls=tls)
        settings = Settings(replicas=3)
        await make_streams(nc, partial(apply, nc, settings))
        reader = await connect_as("auditor", urls[2], tls=tls)
        info = await call(reader, "STREAM.INFO.TRADES")
        assert {r["name"] for r in info["cluster"]["replicas"]} | {info["cluster"]["leader"]} == {
            *NODES
        }
        await asyncio.gather(nc.close(), reader.close())
        assert "certificate required" in await asyncio.to_thread(_joins, routes[0], tls.context())


def _joins(port: int, context: ssl.SSLContext) -> str:
    """Return what a route says to one who has no certificate."""
    with socket.create_connection(("127.0.0.1", port)) as plain:
        plain.settimeout(10)  # a route says nothing before TLS
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as spoken:
                return spoken.recv(100).decode()
        except ssl.SSLError as error:
            return str(error).replace("_", " ").lower()


def test_health_checks_ask_the_right_port(services: dict[str, dict[str, Any]]) -> None:
    """A long-running process has a check on the port that its settings open."""
    for name in ("worker-a", "worker-b", "projector", "analytics", "archive", "api"):
        env = services[name]["environment"]
        port = env["PSM_HTTP_PORT"] if name == "api" else env["PSM_METRICS_PORT"]
        test = services[name]["healthcheck"]["test"]
        assert test[:3] == ["CMD", "python", "-c"]
        assert f"http://127.0.0.1:{port}/health/ready" in test[3]
        compile(test[3], "healthcheck", "exec")


def test_nothing_is_exposed_or_privileged(services: dict[str, dict[str, Any]]) -> None:
    """Ports are bound to loopback, and our containers can neither write nor gain rights."""
    for service in services.values():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")
        assert not {"privileged", "network_mode", "pid"} & set(service)
    for service in ours(services).values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_broker_knows_how_much_memory_it_has(services: dict[str, dict[str, Any]]) -> None:
    """It collects its memory before the container's limit ends it."""
    for broker in (services[node] for node in NODES):
        limit = int(broker["mem_limit"].removesuffix("g")) * 1024
        told = int(broker["environment"]["GOMEMLIMIT"].removesuffix("MiB"))
        assert 0.8 * limit <= told <= 0.9 * limit


def test_log_of_the_broker_is_watched_for_half_a_batch() -> None:
    """The alert looks for what the server says, and is no other than what we look for ourselves."""
    ((rule,),) = [
        group["rules"]
        for group in yaml.safe_load((ROOT / "deploy/loki-rules.yaml").read_text())["groups"]
    ]
    assert rule["labels"] == {"severity": "critical"}
    (text,) = re.findall(r'\|= "([^"]+)"', rule["expr"])
    line = f"[WRN] {text} for stream '$G > PSM' at sequence 7"
    assert broker_log.TORN_BATCH.findall(line) == ["stream '$G > PSM' at sequence 7"]
    assert text in (ROOT / "docs/runbook.md").read_text()


def test_passwords_can_be_replaced() -> None:
    """Every password is a variable with a development default."""
    text = (ROOT / "compose.yaml").read_text()
    assert "psm-dev" in text
    settings = text[text.index("\nname:") :]
    assert "psm-dev" not in re.sub(
        r"\$\{(NATS|POSTGRES)_([A-Z]+_)?PASSWORD:-psm-dev\}", "", settings
    )


async def test_broker_configuration_works(tmp_path: Path) -> None:
    """The real server takes nats.conf: syncs always, wants the password, hides the entrance."""
    assert "sync_interval: always" in (DEPLOY / "nats.conf").read_text()
    async with compose_broker(tmp_path) as url:
        assert b"Authorization Violation" in await _without_password(url)
        client = await connect_as("admin", url)
        account = await client.jetstream().account_info()
        assert account.limits is not None
        await client.close()


def test_users_of_the_broker_are_those_of_the_code() -> None:
    """nats-users.conf and the table in the documentation are what `psm config` prints today."""
    assert (DEPLOY / "nats-users.conf").read_text() == render_config()
    assert render_table() in (ROOT / "docs" / "security.md").read_text()


def test_each_process_is_a_user_of_its_own(services: dict[str, dict[str, Any]]) -> None:
    """NATS knows the user and the inbox; nobody but the migration has the owner's password."""
    users = {}
    for name, service in ours(services).items():
        env = service.get("environment", {})
        users[name] = (env.get("PSM_NATS_USER"), urlsplit(env.get("POSTGRES_DSN", "")).username)
        if "NATS_URL" in env:
            user = role(env["PSM_NATS_USER"])
            assert env["PSM_NATS_INBOX_PREFIX"] == user.inbox_prefix
            assert user.password_variable in services["nats-1"]["environment"]
    assert users.pop("certs") == (None, None)
    assert users == {
        "streams": ("streams", None),
        "migrate": (None, "psm"),
        "worker-a": ("worker", "psm_worker"),
        "worker-b": ("worker", "psm_worker"),
        "projector": ("projector", "psm_projector"),
        "analytics": ("projector", "psm_projector"),
        "archive": ("archiver", "psm_archiver"),
        "risk": ("risk", None),
        "api": ("ingest", "psm_api"),
        "operator": ("operator", "psm_operator"),
        "importer": ("importer", "psm_importer"),
    }
    given = services["migrate"]["environment"]
    for part in LOGINS:
        login = login_of(part, given[f"POSTGRES_{part.upper()}_DSN"])
        assert login.user == f"psm_{part}"
    passwords = {one.password_variable for one in ROLES}
    own = {"GOMEMLIMIT", "NATS_SERVER_NAME", "NATS_CERT_FILE", "NATS_KEY_FILE"}
    for node in NODES:
        assert set(services[node]["environment"]) == {*passwords, *own}


async def _without_password(url: str) -> bytes:
    # Spoken by hand: the client leaves its socket open when it is refused.
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(b'CONNECT {"verbose":false}\r\nPING\r\n')
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def test_image_runs_without_root() -> None:
    """The last stage has a numeric user that is not root, and starts psm."""
    final = DOCKERFILE.split("\nFROM ")[-1]
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert 'ENTRYPOINT ["psm"]' in final
    assert not re.search(r"^(ENV|ARG) .*(PASSWORD|DSN|TOKEN|SECRET)", DOCKERFILE, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {"${IMAGE_PYTHON}"}
    assert "\nARG IMAGE_PYTHON=python:3.13-slim\n" in DOCKERFILE
    assert re.search(r"^ADD ", DOCKERFILE, re.MULTILINE) is None


def test_image_installs_only_hashed_libraries() -> None:
    """Each `pip install` is hash-checked, or installs our wheel without any index."""
    commands = re.findall(r"pip install ([^\n\\]+)", DOCKERFILE)
    assert len(commands) == 3
    for command in commands:
        arguments = shlex.split(command)
        assert "--require-hashes" in arguments or {"--no-deps", "--no-index"} <= set(arguments)
    for lock in re.findall(r"-r (\S+)", DOCKERFILE):
        text = (ROOT / lock).read_text()
        pinned = re.findall(r"^(\S+)==\S+", text, re.MULTILINE)
        assert pinned
        assert text.count("--hash=sha256:") >= len(pinned)
        assert "//" not in text, "a lock names no address"


def test_lock_holds_what_the_project_needs() -> None:
    """Every dependency of the project is in the lock of the image."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=!~\[ ;]", line)[0].lower() for line in project["dependencies"]}
    lock = (ROOT / "requirements" / "runtime.txt").read_text()
    locked = set(re.findall(r"^([a-z0-9._-]+)==", lock, re.MULTILINE))
    assert names <= locked


def test_image_is_built_from_files_that_exist() -> None:
    """Every COPY source exists and .dockerignore lets it through."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line[1:].rstrip("/") for line in ignored if line.startswith("!")]
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(fnmatch(source, pattern) for pattern in allowed), source


async def test_broker_that_met_a_full_disk_is_ended_once_there_is_room(
    services: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    """The health check of the broker itself, on a real one: well, full, and full before."""
    kind, script = services["nats-1"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    assert services["nats-1"]["restart"] == "unless-stopped", "its clean end is restarted, too"
    # Of the image; the same exchange.
    (tmp_path / "nc").write_text(
        f"#!{sys.executable}\nimport socket, sys\n"
        "with socket.create_connection((sys.argv[-2], int(sys.argv[-1]))) as there:\n"
        "    there.sendall(sys.stdin.buffer.read())\n"
        "    while piece := there.recv(4096):\n"
        "        sys.stdout.buffer.write(piece)\n"
    )
    (tmp_path / "nc").chmod(0o755)

    async def check(disk: Path, url: str) -> tuple[int, bool]:
        """Return its exit code, and whether it ended the broker."""
        here = script.replace("$$", "$").replace("kill 1", "echo ended").replace("/data", str(disk))
        done = await asyncio.to_thread(
            subprocess.run,
            ["sh", "-c", here.replace("8222", str(urlsplit(url).port))],
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, "ended" in done.stdout

    with small_disk(tmp_path / "disk", 128) as disk:
        async with EmbeddedNats(disk / "nats") as server, open_bench(server.url) as bench:
            assert await check(disk, server.monitoring_url) == (0, False)
            with filled(disk):
                await write(bench.nc)
                assert await check(disk, server.monitoring_url) == (1, False)
            assert await check(disk, server.monitoring_url) == (1, True)
