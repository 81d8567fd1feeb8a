"""The parts that `psm up` runs: command, environment and where each says that it is ready."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping

from msgspec import Struct

from psm.contracts.errors import ConfigError
from psm.workers.local.port_holder import holder_of

_HOST = "127.0.0.1"
_PROBE_S = 2.0
_PROBE = f"GET /health/ready HTTP/1.1\r\nHost: {_HOST}\r\nConnection: close\r\n\r\n".encode()


class Part(Struct, frozen=True, kw_only=True):
    """One process of PSM.

    Attributes:
        name: `worker-0`, `projector`, `serve`.
        command: arguments of `psm`.
        environment: what it gets beyond what all parts share.
        health_port: port on loopback that answers `/health/ready`.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    health_port: int

    @property
    def metrics_url(self) -> str:
        """Where its metrics are."""
        return f"http://{_HOST}:{self.health_port}/metrics"


_OFF: Mapping[str, str] = {"PSM_HTTP_AUTH": "off"}


def parts_of(
    workers: int,
    http_port: int,
    *,
    marks: bool = False,
    risk: bool = False,
    analytics: bool = True,
    access: Mapping[str, str] = _OFF,
) -> list[Part]:
    """Return the parts; the workers are a fleet and share the partitions among themselves.

    `access` is what the environment of the API says about who may ask.
    """
    parts = [_measured(f"worker-{index}", ("worker",)) for index in range(workers)]
    parts.append(_measured("projector", ("projector", "--without", "analytics")))
    if analytics:
        parts.append(_measured("analytics", ("projector", "--only", "analytics")))
    parts.append(_measured("archive", ("archive",)))
    if marks:
        parts.append(_measured("marks", ("marks",)))
    if risk:
        parts.append(_measured("risk", ("risk", "worker")))
    web = {
        "PSM_HTTP_HOST": _HOST,
        "PSM_HTTP_PORT": str(http_port),
        "PSM_METRICS_PORT": "0",
        **access,
    }
    serve = Part(
        name="serve", command=("serve", "--ingest"), environment=web, health_port=http_port
    )
    return [*parts, serve]


def _measured(name: str, command: tuple[str, ...]) -> Part:
    """A part that answers on a metrics port of its own, the same after each restart."""
    port = free_port()
    environment = {"PSM_METRICS_HOST": _HOST, "PSM_METRICS_PORT": str(port)}
    return Part(name=name, command=command, environment=environment, health_port=port)


_given: set[int] = set()


def free_port() -> int:
    """Return a port on loopback that is free now, never the same one twice in this process."""
    while True:
        with socket.socket() as probe:
            probe.bind((_HOST, 0))
            port = int(probe.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port


def require_free(port: int, flag: str) -> None:
    """Raise if the port cannot be listened on.

    Raises:
        ConfigError: it is taken or forbidden.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            if isinstance(error, PermissionError):
                reason = "not allowed to this user"
            else:
                reason = f"taken by {holder_of(port) or 'another program'}"
            raise ConfigError(
                f"port {port} on {_HOST} is {reason}. Stop that, choose another with {flag}, or "
                "take free ones with --port 0"
            ) from error


async def is_ready(port: int) -> bool:
    """Ask `/health/ready`; False also when nobody answers."""
    try:
        async with asyncio.timeout(_PROBE_S):
            reader, writer = await asyncio.open_connection(_HOST, port)
            try:
                request = (
                    f"GET /health/ready HTTP/1.1\r\nHost: {_HOST}\r\nConnection: close\r\n\r\n"
                )
                writer.write(request.encode())
                status = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return status.split()[1:2] == [b"200"]
