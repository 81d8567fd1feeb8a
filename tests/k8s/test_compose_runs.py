"""compose.yaml rehearsed without Docker: its commands, environments and health checks, for real."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
import yaml
from tests.k8s.tools import ROOT

PASSWORD = "psm-dev"
STARTED = ("worker-a", "worker-b", "projector", "archive", "api")
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

    def __init__(self, nats_url: str, postgres_dsn: str) -> None:
        text = (ROOT / "compose.yaml").read_text().replace("${NATS_PASSWORD:-psm-dev}", PASSWORD)
        self.services: dict[str, dict[str, Any]] = yaml.safe_load(text)["services"]
        self._ports = {name: str(_free_port()) for name in STARTED}
        self._addresses = {"NATS_URL": nats_url, "POSTGRES_DSN": postgres_dsn}

    def env(self, name: str) -> dict[str, str]:
        env = {k: str(v) for k, v in self.services[name]["environment"].items()}
        env |= {k: v for k, v in self._addresses.items() if k in env}
        env |= {k: "127.0.0.1" for k in env if k.endswith("_HOST")}
        env |= {k: self._ports[name] for k in env if k.endswith("_PORT")}
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PSM_", "POSTGRES_"))}
        return clean | env

    def command(self, name: str) -> list[str]:
        return [sys.executable, "-m", "psm.workers.cli", *self.services[name]["command"]]

    def once(self, name: str) -> None:
        done = subprocess.run(
            self.command(name), env=self.env(name), capture_output=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode()

    @contextmanager
    def running(self, name: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        with log.open("wb") as file:
            process = subprocess.Popen(self.command(name), env=self.env(name), stderr=file)
            try:
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                code = process.wait(timeout=30)
        assert code == 0, f"{name} stopped with {code}: {log.read_text()}"

    async def healthy(self, name: str) -> None:
        port = "8004" if name == "api" else "9090"
        check = self.services[name]["healthcheck"]["test"][3].replace(port, self._ports[name])
        for _ in range(100):
            done = await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", check], capture_output=True, check=False
            )
            if done.returncode == 0:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{name} did not become healthy")

    def get(self, path: str) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self._ports['api']}{path}"
        with urllib.request.urlopen(url, timeout=15) as answer:
            document: dict[str, Any] = json.load(answer)
        return document


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[str]:
    """A server with deploy/nats.conf, its data elsewhere and no monitoring port."""
    text = (ROOT / "deploy" / "nats.conf").read_text().replace("/data", str(tmp_path / "data"))
    config = tmp_path / "nats.conf"
    config.write_text(text.replace('http: "0.0.0.0:8222"', ""))
    port = _free_port()
    server = Path(sys.executable).with_name("nats-server")
    process = subprocess.Popen(
        [server, "-c", config, "-a", "127.0.0.1", "-p", str(port)],
        env={**os.environ, "NATS_PASSWORD": PASSWORD, "NATS_REPLAY_PASSWORD": PASSWORD},
        stderr=subprocess.DEVNULL,
    )
    yield f"nats://127.0.0.1:{port}"
    process.terminate()
    process.wait(timeout=10)


async def test_services_of_compose_book_an_event(
    broker: str, empty_postgres_dsn: str, tmp_path: Path
) -> None:
    """One-shots succeed, all become healthy, an event reaches the API, and all stop cleanly."""
    rehearsal = Rehearsal(broker, empty_postgres_dsn)
    rehearsal.once("streams")
    rehearsal.once("migrate")
    with ExitStack() as stack:
        for name in STARTED:
            stack.enter_context(rehearsal.running(name, tmp_path / f"{name}.log"))
        await asyncio.gather(*map(rehearsal.healthy, STARTED))
        client = await nats.connect(broker, user="psm", password=PASSWORD)
        updates = await client.subscribe("psm.position.updated")
        await client.jetstream().publish("trades.acc_001", json.dumps(EVENT).encode())
        update = json.loads((await updates.next_msg(timeout=10)).data)
        await client.close()
        state = await asyncio.to_thread(rehearsal.get, "/psm/state/acc_001?min_sequence=1")
    assert update["payload"]["size"] == state["positions"]["BTC-PERP"]["size"] == "0.5"
    assert update["payload"]["chain_hash"] == state["chain_hash"]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port
