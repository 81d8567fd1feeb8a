"""The broker of compose.yaml, with its users: a real NATS server on deploy/nats.conf."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from nats.aio.client import Client

from psm.adapters.embedded.nats import _binary
from psm.adapters.jetstream import ConnectionCounters, connect
from psm.adapters.jetstream.roles import ROLES, role

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
    folder: Path, passwords: Mapping[str, str] | None = None
) -> AsyncIterator[str]:
    """Give the address of a server with compose's configuration, its data in `folder`.

    Without monitoring, which has a fixed port there.

    Args:
        folder: empty.
        passwords: by variable; by default those of `password_of`.
    """
    for name in ("nats.conf", "nats-users.conf"):
        text = (DEPLOY / name).read_text().replace("/data", str(folder / "data"))
        (folder / name).write_text(text.replace('http: "0.0.0.0:8222"', ""))
    ports = folder / "ports"
    ports.mkdir()
    given = passwords or {one.password_variable: password_of(one.name) for one in ROLES}
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


async def connect_as(user: str, url: str, counters: ConnectionCounters | None = None) -> Client:
    """Return a connection of a user of `compose_broker`."""
    return await connect(
        url,
        name=f"test-{user}",
        user=user,
        password=password_of(user),
        inbox_prefix=role(user).inbox_prefix,
        counters=counters,
    )


async def _address(ports: Path, log: Path) -> str:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        for file in ports.glob("*.ports"):
            with contextlib.suppress(json.JSONDecodeError):  # it is being written
                return str(json.loads(file.read_text())["nats"][0])
        await asyncio.sleep(0.05)
    raise AssertionError(f"the server did not start: {log.read_text()}")
