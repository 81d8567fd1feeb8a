"""`psm serve`: answer reads over HTTP and NATS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Annotated

import msgspec
import uvicorn
from cyclopts import Parameter

from psm.adapters import telemetry
from psm.contracts.errors import ConfigError
from psm.contracts.publisher import Publisher
from psm.projections.current_state import PROJECTIONS
from psm.workers.api.health import ServiceHealth
from psm.workers.api.http import Service, build_app
from psm.workers.api.nats_reads import start_nats_reads
from psm.workers.api.past_http import Past
from psm.workers.api.reads import Reads
from psm.workers.archive.reads import ArchiveReads
from psm.workers.cli.process import on_stop, process
from psm.workers.config import Settings, load_settings
from psm.workers.past.places import log_shape

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_DRAIN_S = 10
_BACKLOG = 1024
_APPEND_GIVE_UP_S = 10.0


def serve(
    *,
    host: Annotated[
        str | None, Parameter(help="Address to listen on; default PSM_HTTP_HOST.")
    ] = None,
    port: Annotated[
        int | None, Parameter(help="Port; 0 picks a free one; default PSM_HTTP_PORT.")
    ] = None,
    ingest: Annotated[
        bool | None, Parameter(help="Let POST /psm/events append; default PSM_INGEST.")
    ] = None,
) -> int:
    """Answer reads over HTTP and NATS until SIGINT or SIGTERM."""
    given = {"http_host": host, "http_port": port, "ingest": ingest}
    changes = {name: value for name, value in given.items() if value is not None}
    settings = msgspec.structs.replace(load_settings(), **changes)
    return asyncio.run(run(settings))


async def run(settings: Settings) -> int:
    """Serve until told to stop."""
    listener = listen(settings.http_host, settings.http_port)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(listener.close)
        own = await stack.enter_async_context(process(settings, "psm-serve"))
        log, nc = telemetry.get_logger(), own.nc
        pool = await own.open_pool()
        reads = Reads(pool)
        publisher = None
        if settings.ingest:
            publisher = Publisher(nc, give_up_s=_APPEND_GIVE_UP_S)
        app = build_app(
            Service(
                reads=reads,
                archive=ArchiveReads(pool),
                past=Past(nc, log_shape(settings)),
                health=ServiceHealth(nc, pool, tuple(PROJECTIONS.values())),
                publisher=publisher,
                metrics=own.instruments.metrics,
                registry=own.instruments.registry,
            )
        )
        answering = await start_nats_reads(nc, reads)
        stack.push_async_callback(answering.stop)
        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=_DRAIN_S,
            )
        )
        on_stop(server.stop)
        if settings.ingest and settings.http_host not in _LOOPBACK:
            log.warning("http.ingest_exposed", host=settings.http_host)
        url = "http://{}:{}".format(*listener.getsockname()[:2])
        log.info("http.started", url=url, ingest=settings.ingest)
        await server.serve(sockets=[listener])
        log.info("http.stopped")
    return 0


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        ConfigError: the address cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port} ({error.strerror}); "
            "choose another address with --host, --port or PSM_HTTP_PORT"
        ) from error
    listener.setblocking(False)
    return listener


class _Server(uvicorn.Server):
    """uvicorn, but signals are the command's: its own handling ends the process by the signal."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        """Finish the requests at hand and end."""
        self.should_exit = True
