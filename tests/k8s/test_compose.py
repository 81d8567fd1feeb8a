"""compose.yaml, its broker configuration and the Dockerfile, as far as they go without Docker."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import nats
import pytest
import yaml
from tests.k8s.tools import ROOT

from psm.workers.cli import build
from psm.workers.config import load_settings

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
    """Broker, database, the two one-shots, two workers, projector, archive, API; images pinned."""
    assert set(services) == {
        "nats",
        "postgres",
        "streams",
        "migrate",
        "worker-a",
        "worker-b",
        "projector",
        "archive",
        "api",
    }
    assert services["nats"]["image"].startswith("nats:2.15")
    assert services["postgres"]["image"].startswith("postgres:18")
    # PostgreSQL 18 images keep their data one level higher than older ones.
    assert "postgres-data:/var/lib/postgresql" in services["postgres"]["volumes"]


def test_every_process_starts_with_valid_settings(services: dict[str, dict[str, Any]]) -> None:
    """Settings accepts each environment, and each command parses."""
    for service in ours(services).values():
        settings = load_settings({k: str(v) for k, v in service["environment"].items()})
        assert settings.partitions == 16
        build().parse_args(service["command"])


def test_workers_are_a_fleet(services: dict[str, dict[str, Any]]) -> None:
    """None of them is told its partitions, so that either takes over from the other."""
    for name in ("worker-a", "worker-b"):
        env = {k: str(v) for k, v in services[name]["environment"].items()}
        assert load_settings(env).worker_partitions == ()


def test_processes_wait_for_what_they_need(services: dict[str, dict[str, Any]]) -> None:
    """One-shots wait for healthy servers, the others for the one-shots' success."""
    for name, service in ours(services).items():
        for needed, condition in service["depends_on"].items():
            one_shot = needed in {"streams", "migrate"}
            wanted = "service_completed_successfully" if one_shot else "service_healthy"
            assert condition == {"condition": wanted}, name
            assert one_shot or "healthcheck" in services[needed]
    assert set(services["projector"]["depends_on"]) == {"streams", "migrate"}
    assert set(services["worker-a"]["depends_on"]) == {"streams"}


def test_health_checks_ask_the_right_port(services: dict[str, dict[str, Any]]) -> None:
    """A long-running process has a check on the port that its settings open."""
    for name in ("worker-a", "worker-b", "projector", "archive", "api"):
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


def test_passwords_can_be_replaced() -> None:
    """Every password is a variable with a development default."""
    text = (ROOT / "compose.yaml").read_text()
    assert "psm-dev" in text
    assert re.sub(r"\$\{(NATS|POSTGRES)_PASSWORD:-psm-dev\}", "", text).count("psm-dev") == 0


async def test_broker_configuration_works(tmp_path: Path) -> None:
    """The real server takes nats.conf: syncs always, wants the password, hides the entrance."""
    server = Path(sys.executable).with_name("nats-server")
    text = (ROOT / "deploy" / "nats.conf").read_text()
    assert "sync_interval: always" in text
    config = tmp_path / "nats.conf"
    config.write_text(
        text.replace("/data", str(tmp_path / "data")).replace('http: "0.0.0.0:8222"', "")
    )
    ports = tmp_path / "ports"
    ports.mkdir()
    process = subprocess.Popen(
        [server, "-c", config, "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", ports],
        env={**os.environ, "NATS_PASSWORD": "secret-1", "NATS_REPLAY_PASSWORD": "secret-2"},
        stderr=subprocess.DEVNULL,
    )
    try:
        url = await _url(ports)
        assert b"Authorization Violation" in await _without_password(url)
        client = await nats.connect(url, user="psm", password="secret-1")
        everything = await client.subscribe(">")
        await client.publish("_psm.position.updated.1.acc_001", b"early")
        await client.publish("psm.position.updated", b"committed")
        assert (await everything.next_msg(timeout=5)).data == b"committed"
        account = await client.jetstream().account_info()
        assert account.limits is not None
        await client.close()
    finally:
        process.terminate()
        process.wait(timeout=10)


async def _without_password(url: str) -> bytes:
    # Spoken by hand: the client leaves its socket open when it is refused.
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(b'CONNECT {"verbose":false}\r\nPING\r\n')
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def _url(folder: Path) -> str:
    for _ in range(200):
        for file in folder.glob("*.ports"):
            if file.stat().st_size:
                return str(json.loads(file.read_text())["nats"][0])
        await asyncio.sleep(0.05)
    raise AssertionError("the server did not start")


def test_image_runs_without_root() -> None:
    """The last stage has a numeric user that is not root, and starts psm."""
    final = DOCKERFILE.split("\nFROM ")[-1]
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert 'ENTRYPOINT ["psm"]' in final
    assert not re.search(r"^(ENV|ARG) .*(PASSWORD|DSN|TOKEN|SECRET)", DOCKERFILE, re.MULTILINE)
    assert all("slim" in line for line in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))
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
