"""The broker of compose.yaml, with its users: a real NATS server on deploy/nats.conf."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from nats.aio.client import Client
from tests.support.nats_cluster import free_ports

from psm.adapters.embedded.nats import _binary
from psm.adapters.jetstream import ConnectionCounters, connect
from psm.adapters.jetstream.roles import ROLES, role
from psm.adapters.tls import ClientTls

DEPLOY = Path(__file__).parents[2] / "deploy"
START_S = 60.0


def password_of(user: str) -> str:
    """Return the password that a user of `compose_broker` has: each has another one."""
    return f"secret-of-{user}"


def settings_of(user: str) -> dict[str, str]:
    """Return the variables with which a process of ours connects as a user."""
    return {
        "PSM_NATS_USER": user,
        "PSM_NATS_PASSWORD": password_of(user),
        "PSM_NATS_INBOX_PREFIX": role(user).inbox_prefix,
    }


@asynccontextmanager
async def compose_broker(
    folder: Path, passwords: Mapping[str, str] | None = None, certs: Path | None = None
) -> AsyncIterator[str]:
    """Give the address of a server with compose's configuration, its data in `folder`.

    Without monitoring, which has a fixed port there.

    Args:
        folder: empty.
        passwords: by variable; by default those of `password_of`.
        certs: folder of `psm certs init`, with a leaf nats-1; without it the server is plain.
    """
    async with _server(folder, "nats-single.conf", {}, passwords, certs, "nats-1") as url:
        yield url


@asynccontextmanager
async def compose_cluster(folder: Path, certs: Path) -> AsyncIterator[tuple[list[str], list[int]]]:
    """Give the addresses and the route ports of three servers with compose's configuration."""
    ports = free_ports(3)
    routes = {f"nats-{number}:6222": f"127.0.0.1:{port}" for number, port in enumerate(ports, 1)}
    async with AsyncExitStack() as stack:
        opening = []
        for number, port in enumerate(ports, 1):
            own = folder / f"nats-{number}"
            own.mkdir()
            changes = {**routes, "port: 6222": f'listen: "127.0.0.1:{port}"'}
            server = _server(own, "nats.conf", changes, None, certs, f"nats-{number}")
            opening.append(stack.enter_async_context(server))
        yield list(await asyncio.gather(*opening)), ports


@asynccontextmanager
async def _server(
    folder: Path,
    config: str,
    changes: Mapping[str, str],
    passwords: Mapping[str, str] | None,
    certs: Path | None,
    name: str,
) -> AsyncIterator[str]:
    text = (DEPLOY / config).read_text().replace('http: "0.0.0.0:8222"', "")
    if certs is None:
        text = re.sub(r"^tls \{.*?^\}\n", "", text, flags=re.MULTILINE | re.DOTALL)
    changes = {"/data": str(folder / "data"), "/certs": str(certs), **changes}
    for old, new in changes.items():
        text = text.replace(old, new)
    (folder / "nats.conf").write_text(text)
    shutil.copy(DEPLOY / "nats-users.conf", folder)
    ports = folder / "ports"
    ports.mkdir()
    given = dict(passwords or {one.password_variable: password_of(one.name) for one in ROLES})
    given |= {"NATS_SERVER_NAME": name}
    if certs is not None:
        given |= {
            "NATS_CERT_FILE": str(certs / name / "tls.crt"),
            "NATS_KEY_FILE": str(certs / name / "tls.key"),
        }
    options = ("-c", folder / "nats.conf", "-a", "127.0.0.1", "-p", "-1")
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [_binary(), *options, "--ports_file_dir", ports],
            env={**os.environ, **given},
            stderr=log,
        )
    try:
        yield await _address(ports, folder / "server.log")
    finally:
        process.terminate()
        process.wait(timeout=START_S)


async def connect_as(
    user: str,
    url: str,
    counters: ConnectionCounters | None = None,
    tls: ClientTls | None = None,
) -> Client:
    """Return a connection of a user of `compose_broker`."""
    return await connect(
        url,
        name=f"test-{user}",
        user=user,
        password=password_of(user),
        inbox_prefix=role(user).inbox_prefix,
        counters=counters,
        tls=tls,
    )


async def _address(ports: Path, log: Path) -> str:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        for file in ports.glob("*.ports"):
            with contextlib.suppress(json.JSONDecodeError):  # it is being written
                return str(json.loads(file.read_text())["nats"][0])
        await asyncio.sleep(0.05)
    raise AssertionError(f"the server did not start: {log.read_text()}")
