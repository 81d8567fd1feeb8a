"""Three real NATS servers on loopback that replicate, to be killed, frozen and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import nats.errors
from nats.aio.client import Client

from psm.adapters.embedded import EmbeddedNats
from psm.adapters.jetstream import stream_info
from psm.adapters.jetstream.api import call
from psm.contracts.errors import PSMError

NODES = 3
READY_S = 60.0
_POLL_S = 0.1

# A client that does not read for a second is a slow consumer; the default is ten.
_CLUSTER = """
write_deadline: "1s"
cluster {{
  name: psm
  listen: "127.0.0.1:{port}"
  routes: [{routes}]
}}
"""


class Node(EmbeddedNats):
    """One server of a cluster."""

    def __init__(self, folder: Path, name: str, route_port: int, routes: Sequence[int]) -> None:
        super().__init__(folder, name=name)
        self.server_name = name
        self.log = folder / "nats.log"
        self.is_frozen = False
        others = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes if port != route_port)
        self._cluster = _CLUSTER.format(port=route_port, routes=others)

    def freeze(self) -> None:
        """Stop it from running without ending it: its connections stay open and silent."""
        os.kill(self.pid, signal.SIGSTOP)
        self.is_frozen = True

    def thaw(self) -> None:
        """Let it go on where it was frozen."""
        if self.is_frozen and self.is_running:
            os.kill(self.pid, signal.SIGCONT)
        self.is_frozen = False

    async def kill(self) -> None:
        await super().kill()
        self.is_frozen = False

    def _config(self) -> str:
        return super()._config() + self._cluster


class NatsCluster:
    """Three nodes; streams on them have three replicas."""

    def __init__(self, folder: Path) -> None:
        ports = free_ports(NODES)
        names = [f"n{number}" for number in range(1, NODES + 1)]
        self.nodes = [
            Node(folder / name, name, port, ports) for name, port in zip(names, ports, strict=True)
        ]

    @property
    def url(self) -> str:
        """Addresses of all nodes, separated by commas."""
        return ",".join(node.url for node in self.nodes)

    async def start(self) -> None:
        """Start the nodes that do not run; return when each of them answers."""
        await asyncio.gather(*(node.start() for node in self.nodes))

    async def stop(self) -> None:
        """Stop all nodes, the frozen ones too."""
        for node in self.nodes:
            node.thaw()
        # Their state is thrown away with the folder: a clean end would only take longer.
        await asyncio.gather(*(node.kill() for node in self.nodes))

    async def leader(self, nc: Client, stream: str) -> Node:
        """Return the node that leads a stream, waiting for an election if there is one."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            try:
                name = (await stream_info(nc, stream)).leader
            except PSMError:
                name = None
            for node in self.nodes:
                if node.server_name == name:
                    return node
            await asyncio.sleep(_POLL_S)
        raise AssertionError(f"{stream} has no leader within {READY_S:.0f} s")

    async def step_down(self, nc: Client, stream: str) -> None:
        """Ask the leader of a stream to give way, as for maintenance."""
        await call(nc, f"STREAM.LEADER.STEPDOWN.{stream}")

    def logged(self, text: str) -> int:
        """Return how often the nodes logged a text."""
        return sum(node.log.read_text().count(text) for node in self.nodes)

    async def heal(self, nc: Client) -> None:
        """Thaw and start what is not running; return when every replica is current again."""
        for node in self.nodes:
            node.thaw()
        await self.start()
        deadline = time.monotonic() + READY_S
        while not await self._is_whole(nc):
            assert time.monotonic() < deadline, f"the cluster is not whole in {READY_S:.0f} s"
            await asyncio.sleep(_POLL_S)

    async def clear(self, nc: Client) -> None:
        """Delete every stream."""
        await self.heal(nc)
        for stream in (await call(nc, "STREAM.LIST"))["streams"] or []:
            await call(nc, f"STREAM.DELETE.{stream['config']['name']}")

    async def _is_whole(self, nc: Client) -> bool:
        """Whether all streams have a leader and two followers that hold everything."""
        try:
            listed = await call(nc, "STREAM.LIST", timeout_s=2.0)
            if listed.get("missing") or listed.get("offline"):
                return False
            infos = [
                await call(nc, f"STREAM.INFO.{stream['config']['name']}", timeout_s=2.0)
                for stream in listed["streams"] or []
            ]
        except (PSMError, nats.errors.Error):
            return False
        return all(map(_is_replicated, infos))


def _is_replicated(info: dict[str, Any]) -> bool:
    cluster = info.get("cluster") or {}
    replicas = cluster.get("replicas") or []
    wanted = info["config"]["num_replicas"] - 1
    current = [r for r in replicas if r.get("current") and not r.get("offline")]
    return bool(cluster.get("leader")) and len(current) == wanted


async def make_streams(nc: Client, make: Callable[[], Awaitable[object]]) -> None:
    """Call `make` until the cluster has formed: before, it refuses three replicas."""
    deadline = time.monotonic() + READY_S
    while True:
        try:
            await make()
        except PSMError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(_POLL_S)
        else:
            return


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that were free a moment ago."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
