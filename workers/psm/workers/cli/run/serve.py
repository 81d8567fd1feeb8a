"""`psm serve`: answer reads over HTTP and NATS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from psm.adapters import postgres, telemetry
from psm.contracts.errors import ConfigError
from psm.contracts.publisher import Publisher
from psm.projections.registry import kept
from psm.workers.access.bearer import Authenticator
from psm.workers.access.digest import Digests
from psm.workers.access.following import FollowedAccess
from psm.workers.access.issuers import AccessFile
from psm.workers.access.store import Tokens, TokenTable
from psm.workers.access.vouched import Signer, vouching
from psm.workers.analytics.reads import AnalyticsReads
from psm.workers.api.door import Proxies
from psm.workers.api.guard import AccessGuard
from psm.workers.api.health import ServiceHealth
from psm.workers.api.history_http import Past
from psm.workers.api.http import Service, build_app
from psm.workers.api.live_reads import LiveReads
from psm.workers.api.maintenance import Maintenance
from psm.workers.api.market_http import MarketReads
from psm.workers.api.nats_reads import start_nats_reads
from psm.workers.api.reads import Reads
from psm.workers.api.risk_http import risk_check
from psm.workers.api.risk_reads import RiskReads
from psm.workers.api.server import HttpServer, ServerLimits, listen
from psm.workers.archive.reads import ArchiveReads
from psm.workers.cli.shared.process import Process, process
from psm.workers.fleet import NatsMembers
from psm.workers.fleet.live_reads import Owners
from psm.workers.log.shape import log_shape
from psm.workers.ops.keys import Keyring
from psm.workers.process.canary import Canary
from psm.workers.process.config import Settings, load_settings

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
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
    _check_auth(settings)
    mtls_port = settings.http_mtls_port or None
    ports = [settings.http_port] if mtls_port is None else [settings.http_port, mtls_port]
    listeners = [listen(settings.http_host, port) for port in ports]
    async with contextlib.AsyncExitStack() as stack:
        for listener in listeners:
            stack.callback(listener.close)
        own = await stack.enter_async_context(process(settings, "psm-serve"))
        nc = own.nc
        pool = await own.open_pool()
        publisher = canary = None
        if settings.ingest:
            publisher = Publisher(nc, give_up_s=_APPEND_GIVE_UP_S)
            canary = await own.open_canary()
        digests = Digests(nc, socket.gethostname())
        recognises = await _authenticator(settings, pool, stack)
        access = await _access(settings, recognises, own, stack)
        guard = AccessGuard(recognises, own.instruments.metrics, digests, mtls_port)
        await stack.enter_async_context(digests.kept())
        health = await stack.enter_async_context(_health(own, pool, canary, settings))
        service = _service(own, pool, guard, health, publisher, access, settings)
        # Scrapers have a port of their own: who may scrape may not read every account for that.
        await own.serve_health(lambda: (own.life.fault is None, {}))
        answering = await start_nats_reads(nc, service.reads, service.live)
        stack.push_async_callback(answering.stop)
        server = HttpServer(build_app(service), _limits(settings), service.proxies)
        own.on_settings(lambda now: server.limit(_limits(now)))
        own.on_stop(server.stop)
        _tell_what_is_open(settings, listeners[0])
        await server.serve(sockets=listeners)
        telemetry.get_logger().info("http.stopped")
    return 0


def _service(
    own: Process,
    pool: postgres.Pool,
    guard: AccessGuard,
    health: ServiceHealth,
    publisher: Publisher | None,
    access: FollowedAccess | None,
    settings: Settings,
) -> Service:
    """Return what the handlers need."""
    nc = own.nc
    signer, keys = _vouching(own, settings)
    return Service(
        reads=Reads(pool),
        archive=ArchiveReads(pool, keys),
        risk_reads=RiskReads(pool),
        market=MarketReads(pool),
        analytics=AnalyticsReads(pool, settings.year_days),
        past=Past(nc, log_shape(settings)),
        live=LiveReads(Owners(nc, NatsMembers(nc), settings.partitions)),
        health=health,
        publisher=publisher,
        risk=risk_check(nc),
        metrics=own.instruments.metrics,
        registry=own.instruments.registry,
        guard=guard,
        tokens=Tokens(pool) if guard.is_on else None,
        access=AccessFile if access is None else lambda: access.said,
        signer=signer,
        hosts=settings.http_hosts,
        proxies=Proxies(settings.http_trusted_proxies),
        mtls_port=settings.http_mtls_port or None,
        maintenance=Maintenance(Path(settings.http_mode_file) if settings.http_mode_file else None),
        fault=lambda: own.life.fault,
    )


def _health(
    own: Process, pool: postgres.Pool, canary: Canary | None, settings: Settings
) -> ServiceHealth:
    views = tuple(kept(analytics=settings.analytics).values())
    metrics = own.instruments.metrics
    return ServiceHealth(own.nc, pool, views, metrics, canary, settings.partitions)


def _limits(settings: Settings) -> ServerLimits:
    return ServerLimits(
        connections=settings.http_connections,
        connections_per_address=settings.http_connections_per_address,
    )


def _check_auth(settings: Settings) -> None:
    """Refuse to serve anybody beyond this machine, or a production, without access control.

    Raises:
        ConfigError: access control is off where it must be on.
    """
    if settings.http_auth == "on":
        return
    cure = "set PSM_HTTP_AUTH=on and make tokens with `psm token create`"
    if settings.env == "production":
        raise ConfigError(f"PSM_HTTP_AUTH=off is refused with PSM_ENV=production; {cure}")
    if settings.http_host not in _LOOPBACK:
        raise ConfigError(
            f"PSM_HTTP_AUTH=off answers this machine alone, and {settings.http_host} is reached "
            f"by others; {cure}, or listen on 127.0.0.1"
        )


async def _authenticator(
    settings: Settings, pool: postgres.Pool, stack: contextlib.AsyncExitStack
) -> Authenticator:
    """Return who recognises callers; its tokens and keys are kept up to date until the end."""
    if settings.http_auth == "off":
        return Authenticator(None)
    table = TokenTable(pool, stale_s=settings.http_auth_stale_s)
    await stack.enter_async_context(table.kept())
    return Authenticator(table)


async def _access(
    settings: Settings,
    recognises: Authenticator,
    own: Process,
    stack: contextlib.AsyncExitStack,
) -> FollowedAccess | None:
    """Return what `access.toml` says, which is followed until the end; None without one.

    Raises:
        ConfigError: it cannot be used.
    """
    if settings.access_file is None:
        return None
    signers = settings.http_client_ca_file
    access = FollowedAccess(
        Path(settings.access_file), recognises, None if signers is None else Path(signers)
    )
    await stack.enter_async_context(access.kept())
    own.mounted.watch("access", access.files, access.take)
    return access


def _vouching(own: Process, settings: Settings) -> tuple[Signer | None, Keyring]:
    """Return who vouches for those who append, and the keys by which that is judged.

    Raises:
        ConfigError: a key cannot be used, or nobody could verify what is signed.
    """
    signer, keys = vouching(settings.http_principal_key_file, settings.http_principal_keys)

    async def take() -> None:
        newest, others = vouching(settings.http_principal_key_file, settings.http_principal_keys)
        keys.become(others)
        if signer is not None and newest is not None:
            signer.become(newest)

    files = (settings.http_principal_key_file, *settings.http_principal_keys)
    own.mounted.watch("principal", lambda: files, take)
    return signer, keys


def _tell_what_is_open(settings: Settings, listener: socket.socket) -> None:
    """Say where it listens, and warn where others than this machine may ask."""
    log = telemetry.get_logger()
    url = "http://{}:{}".format(*listener.getsockname()[:2])
    log.info("http.started", url=url, ingest=settings.ingest)
    if settings.http_host in _LOOPBACK:
        return
    if settings.ingest:
        log.warning("http.ingest_exposed", host=settings.http_host)
    if not settings.http_hosts:
        log.warning("http.hosts_missing", host=settings.http_host)
