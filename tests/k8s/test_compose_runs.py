"""compose.yaml rehearsed without Docker: its commands, environments and health checks, for real."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import nats
import yaml
from nats.aio.client import Client
from tests.k8s.tools import ROOT
from tests.support.broker import compose_broker

from psm.adapters.jetstream.roles import ROLES, role

PASSWORD = "psm-dev"
HEALTHY_S = 120.0
STARTED = ("worker-a", "worker-b", "projector", "analytics", "archive", "api")
FIRST_TOKEN = (
    *("token", "create", "--as-owner", "--principal", "me", "--role", "admin"),
    *("--account", "*", "-o", "json"),
)
EVENT = {
    "event_id": "7b0e0c0e-8a57-4d8c-9c56-0b7f3f0f2a01",
    "event_type": "TradeExecuted",
    "stream_id": "acc_001",
    "sequence_number": 1,
    "timestamp": "2025-12-12T10:30:00Z",
    "schema_version": "1.0",
    "payload": {"symbol": "BTC-PERP", "side": "buy", "quantity": 0.5, "price": 42000.00},
}


class Rehearsal:
    """Runs compose's services as processes; hosts become loopback ports."""

    def __init__(self, nats_url: str, postgres_dsn: str, certs: Path) -> None:
        text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / "compose.yaml").read_text())
        self.services: dict[str, dict[str, Any]] = yaml.safe_load(text)["services"]
        self._ports = {name: str(_free_port()) for name in STARTED}
        self._nats_url, self._owner_dsn, self._certs = nats_url, postgres_dsn, certs

    def env(self, name: str) -> dict[str, str]:
        env = {k: str(v) for k, v in self.services[name].get("environment", {}).items()}
        env |= {k: self._there(v) for k, v in env.items() if k.endswith("_DSN")}
        env |= {"NATS_URL": self._nats_url} if "NATS_URL" in env else {}
        env.pop("PSM_NATS_MONITORING_URL", None)  # the test's broker has no such port
        if "PSM_REPLICAS" in env:  # of which there is one here
            env |= {"PSM_REPLICAS": "1", "PSM_NATS_CA_FILE": str(self._certs / "ca.crt")}
        env |= {k: "127.0.0.1" for k in env if k.endswith("_HOST")}
        env |= {k: self._ports[name] for k in env if k.endswith("_PORT")}
        if name == "api":  # which has two
            env["PSM_METRICS_PORT"] = str(_free_port())
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PSM_", "POSTGRES_"))}
        return clean | env

    def _there(self, dsn: str) -> str:
        """The address with the server of the test; the owner's password is that server's, too."""
        server, user = urlsplit(self._owner_dsn), urlsplit(dsn)
        if user.username == "psm":
            return self._owner_dsn
        where = f"{user.username}:{user.password}@{server.hostname}:{server.port}"
        return urlunsplit(server._replace(netloc=where))

    def command(self, name: str, *other: str) -> list[str]:
        arguments = [
            str(self._certs) if part == "/certs" else part
            for part in other or self.services[name]["command"]
        ]
        return [sys.executable, "-m", "psm.workers.cli", *arguments]

    def once(self, name: str, *other: str) -> str:
        done = subprocess.run(
            self.command(name, *other),
            env=self.env(name),
            capture_output=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    @contextmanager
    def running(self, name: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        with log.open("wb") as file:
            process = subprocess.Popen(self.command(name), env=self.env(name), stderr=file)
            try:
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                code = process.wait(timeout=60)
        assert code == 0, f"{name} stopped with {code}: {log.read_text()}"

    async def healthy(self, name: str) -> None:
        port = "8004" if name == "api" else "9090"
        check = self.services[name]["healthcheck"]["test"][3].replace(port, self._ports[name])
        deadline = time.monotonic() + HEALTHY_S
        while time.monotonic() < deadline:
            done = await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", check], capture_output=True, check=False
            )
            if done.returncode == 0:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{name} did not become healthy")

    def get(self, path: str, token: str) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self._ports['api']}{path}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            document: dict[str, Any] = json.load(answer)
        return document


@asynccontextmanager
async def broker(folder: Path, certs: Path) -> AsyncIterator[str]:
    """The broker of compose with its certificates, every password the default one."""
    folder.mkdir()
    passwords = {one.password_variable: PASSWORD for one in ROLES}
    async with compose_broker(folder, passwords, certs) as url:
        yield url


async def test_services_of_compose_book_an_event(empty_postgres_dsn: str, tmp_path: Path) -> None:
    """One-shots succeed, all become healthy, an event reaches the API, and all stop cleanly."""
    certs = tmp_path / "certs"
    Rehearsal("", "", certs).once("certs")
    async with broker(tmp_path / "nats", certs) as url:
        await book_an_event(Rehearsal(url, empty_postgres_dsn, certs), url, certs, tmp_path)


async def book_an_event(rehearsal: Rehearsal, url: str, certs: Path, tmp_path: Path) -> None:
    rehearsal.once("streams")
    rehearsal.once("migrate")
    rehearsal.once("migrate")  # as at every start
    with ExitStack() as stack:
        for name in STARTED:
            stack.enter_context(rehearsal.running(name, tmp_path / f"{name}.log"))
        await asyncio.gather(*map(rehearsal.healthy, STARTED))
        reader = await _client(url, "reader", certs)
        updates = await reader.subscribe("psm.position.updated")
        await reader.flush()
        publisher = await _client(url, "publisher", certs)
        await publisher.jetstream().publish("trades.acc_001", json.dumps(EVENT).encode())
        update = json.loads((await updates.next_msg(timeout=60)).data)
        await publisher.close()
        await reader.close()
        made = await asyncio.to_thread(rehearsal.once, "migrate", *FIRST_TOKEN)
        path = "/psm/state/acc_001?min_sequence=1"
        state = await asyncio.to_thread(rehearsal.get, path, json.loads(made)["token"])
        fleet = await asyncio.to_thread(rehearsal.once, "operator", "fleet", "-o", "json")
    assert update["payload"]["size"] == state["positions"]["BTC-PERP"]["size"] == "0.5"
    assert update["payload"]["chain_hash"] == state["chain_hash"]
    assert json.loads(fleet)
    for name in STARTED:
        assert "nats.permission_refused" not in (tmp_path / f"{name}.log").read_text()


async def _client(url: str, user: str, certs: Path) -> Client:
    return await nats.connect(
        url,
        user=user,
        password=PASSWORD,
        inbox_prefix=role(user).inbox_prefix,
        tls=ssl.create_default_context(cafile=str(certs / "ca.crt")),
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port
