"""`/health/live`, `/health/ready` and `/metrics` for processes that serve nothing else.

A few dozen lines over asyncio: it must answer when everything else is in trouble, and it must
not bring a web framework into the partition worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from psm.contracts.errors import ConfigError

Readiness = Callable[[], tuple[bool, dict[str, Any]]]
Fault = Callable[[], str | None]

_REQUEST_TIMEOUT_S = 5.0
_REQUEST_BYTES_MAX = 16 * 1024
_CONNECTIONS_MAX = 64
_JSON = "application/json"
_REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class HealthServer:
    """A running server; `port` is the one it got."""

    def __init__(self, readiness: Readiness, registry: CollectorRegistry, fault: Fault) -> None:
        self._readiness = readiness
        self._registry = registry
        self._fault = fault
        self._connections = 0
        self._server: asyncio.Server | None = None
        self.port = 0

    async def open(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            ConfigError: the address cannot be had.
        """
        try:
            self._server = await asyncio.start_server(
                self._serve, host, port, limit=_REQUEST_BYTES_MAX
            )
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host}:{port} for metrics ({error.strerror}); "
                "choose another PSM_METRICS_PORT"
            ) from error
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= _CONNECTIONS_MAX:
            writer.close()
            return
        self._connections += 1
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                method, target, *_ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
                writer.write(self._answer(method, target.partition("?")[0]))
                await writer.drain()
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a caller that is slow, gone or does not speak HTTP is owed nothing
        finally:
            self._connections -= 1
            writer.close()

    def _answer(self, method: str, path: str) -> bytes:
        if method not in {"GET", "HEAD"}:
            status, kind, body = 405, _JSON, b'{"error":"only GET"}'
        else:
            status, kind, body = self._content(path)
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + (b"" if method == "HEAD" else body)

    def _content(self, path: str) -> tuple[int, str, bytes]:
        if path == "/metrics":
            return 200, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self._registry)
        if path == "/health/live":
            return liveness(self._fault())
        if path in {"/health/ready", "/health"}:
            ready, detail = self._readiness()
            body = {"status": "ready" if ready else "not ready", **detail}
            return 200 if ready else 503, _JSON, msgspec.json.encode(body)
        return 404, _JSON, b'{"error":"try /health/live, /health/ready or /metrics"}'


def liveness(fault: str | None) -> tuple[int, str, bytes]:
    """Return status, content type and body of `/health/live`.

    It fails by the process's own fault alone, which a new process heals; what is away is a matter
    of readiness.
    """
    if fault is None:
        return 200, _JSON, b'{"status":"alive"}'
    return 503, _JSON, msgspec.json.encode({"status": "failed", "fault": fault})


async def start_health_server(
    host: str,
    port: int,
    readiness: Readiness,
    registry: CollectorRegistry,
    fault: Fault = lambda: None,
) -> HealthServer:
    """Return a listening server; port 0 picks a free one.

    Args:
        host: address to listen on.
        port: port to listen on.
        readiness: whether work is being done, and details worth showing; must not block.
        registry: what `/metrics` shows.
        fault: why the process must be started again, None while it is well.

    Raises:
        ConfigError: the address cannot be had.
    """
    server = HealthServer(readiness, registry, fault)
    await server.open(host, port)
    return server
