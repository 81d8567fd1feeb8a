"""What the long-running commands share: instruments, connections, health server, signals."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from nats.aio.client import Client

from psm.adapters import postgres, telemetry
from psm.adapters.jetstream import ConnectionCounters, connect
from psm.adapters.secret_files import secret_in
from psm.adapters.tasks import end_all
from psm.adapters.telemetry import Readiness, Telemetry
from psm.contracts.certificates import read_certificate
from psm.contracts.errors import ConfigError
from psm.workers.partition.heads_store import HeadStore, NoHeads, PostgresHeads
from psm.workers.process.canary import Canary
from psm.workers.process.config import Settings, partitions_of
from psm.workers.process.inspection import Inspection
from psm.workers.process.lease import Lease
from psm.workers.process.life import Life
from psm.workers.process.live_settings import LiveSettings
from psm.workers.process.mounted import Mounted
from psm.workers.process.readiness import Check, Pulse


def chosen_partitions(
    text: str | None, settings: Settings, default: tuple[int, ...]
) -> tuple[int, ...]:
    """Return the partitions that `--partitions` names, or the default.

    Raises:
        ConfigError: `text` is no list of partitions, or one of them does not exist.
    """
    if text is None:
        return default
    try:
        chosen = partitions_of(text)
    except ConfigError as error:
        raise ConfigError(f"--partitions {text}: {error}") from error
    if beyond := [number for number in chosen if number >= settings.partitions]:
        raise ConfigError(
            f"--partitions {text}: partition {beyond[0]} does not exist; "
            f"the log has {settings.partitions}, numbered from 0"
        )
    return chosen


class Process:
    """A running command's surroundings; everything opened here is closed at its end.

    Attributes:
        nc: connection to NATS.
        instruments: metrics, traces, and the registry a scrape reads.
        life: what only a new process would heal.
        mounted: files that may be replaced meanwhile.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        nc: Client,
        instruments: Telemetry,
        life: Life,
        stack: AsyncExitStack,
        surroundings: _Files,
    ) -> None:
        self.nc = nc
        self.instruments = instruments
        self.life = life
        self.mounted, self._live_settings = surroundings
        self._settings = settings
        self._name = name
        self._stack = stack

    async def open_pool(self) -> postgres.Pool:
        """Return a pool of connections to PostgreSQL."""
        pool = await postgres.open_pool(
            self._settings.require_postgres_dsn(),
            name=self._name,
            size_max=self._settings.postgres_pool_max,
            on_certificate=partial(self.instruments.process_metrics.certificate_shown, "postgres"),
        )
        self._stack.callback(pool.terminate)
        self.instruments.process_metrics.pool(pool)
        watch_address(self.mounted, self._settings.require_postgres_dsn(), pool)
        return pool

    async def open_lease(self, what: str) -> Lease:
        """Return the lease on some work, on a connection to PostgreSQL of its own."""
        dsn = self._settings.require_postgres_dsn()
        pool = await postgres.open_pool(dsn, name=f"{self._name}-lease", size_max=1)
        self._stack.callback(pool.terminate)
        return Lease(pool, what)

    async def open_connection(self, name: str) -> Client:
        """Return another connection to NATS, for what must not share this one's subscriptions."""
        nc = await _connected(self._settings, name, self.instruments, self.life)
        self._stack.push_async_callback(nc.close)
        return nc

    def open_heads(self) -> HeadStore | None:
        """Return what the log is compared with at a start; None where that is off."""
        if not self._settings.heads_check:
            return None
        if self._settings.postgres_dsn is None:
            return NoHeads()
        heads = PostgresHeads(self._settings.postgres_dsn)
        self._stack.callback(heads.close)
        return heads

    async def watch(self, checks: Mapping[str, Check]) -> Pulse:
        """Return a pulse of outside systems that is taken until the end."""
        return await self._stack.enter_async_context(Pulse(checks))

    async def open_canary(self) -> Canary:
        """Return a canary that looks until the end whether the broker takes writes."""
        return await self._stack.enter_async_context(
            Canary(
                self.nc,
                self._name,
                self.instruments.metrics,
                self._settings.nats_monitoring_url,
            )
        )

    async def serve_health(self, readiness: Readiness) -> None:
        """Answer health checks and scrapes, where a port is set for it."""
        self.instruments.process_metrics.readiness(lambda: readiness()[0])
        if self._settings.metrics_port:
            health = await telemetry.start_health_server(
                self._settings.metrics_host,
                self._settings.metrics_port,
                readiness,
                self.instruments.registry,
                lambda: self.life.fault,
            )
            self._stack.push_async_callback(health.close)

    def on_settings(self, take: Callable[[Settings], object]) -> None:
        """Call `take` whenever a setting has changed that holds without a new start."""
        self._live_settings.on_change(take)

    def on_stop(self, stop: Callable[[], object]) -> None:
        """Call `stop` on SIGINT, on SIGTERM, and when a fault ends the process."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        self.life.on_fault(stop)


@asynccontextmanager
async def process(settings: Settings, name: str) -> AsyncIterator[Process]:
    """Set up logs and instruments and connect to NATS; undo all of it at the end.

    Raises:
        ProcessFaultError: a fault ended what ran in the block.
    """
    async with AsyncExitStack() as stack:
        instruments = telemetry.setup(
            name,
            level=settings.log_level,
            format=settings.log_format,
            otlp_endpoint=settings.otlp_endpoint,
            env=settings.env,
        )
        stack.callback(instruments.shutdown)
        life = stack.enter_context(Life())
        inspection = stack.enter_context(Inspection(settings.log_level))
        files = _files(settings, instruments, inspection)
        nc = await _connected(settings, name, instruments, life)
        stack.push_async_callback(nc.close)
        loop_watch = asyncio.create_task(instruments.process_metrics.watch_loop())
        stack.push_async_callback(end_all, [loop_watch])
        try:
            async with files.mounted.kept():
                yield Process(settings, name, nc, instruments, life, stack, files)
        finally:
            life.end()


class _Files(NamedTuple):
    mounted: Mounted
    live: LiveSettings


def _files(settings: Settings, instruments: Telemetry, inspection: Inspection) -> _Files:
    """Watch what every process has: settings' files, and who it is at NATS."""
    mounted = Mounted(instruments.process_metrics)
    live = LiveSettings(instruments.process_metrics)
    live.on_change(lambda now: inspection.set_level(now.log_level))
    mounted.watch("settings", lambda: live.files, live.take)
    files = settings.nats_files()

    async def take() -> None:
        # The client reads them at each connection that it makes, and makes one for a new identity.
        for file in files:
            secret_in(file)
        settings.nats_options()

    mounted.watch("nats", lambda: files, take)
    return _Files(mounted, live)


def watch_address(mounted: Mounted, dsn: str, pool: postgres.Pool) -> None:
    """Have a pool connect anew when a file changes: of its address, of certificates."""
    files = postgres.files_of(dsn)

    async def take() -> None:
        for file in files:
            secret_in(file)
        await pool.expire_connections()

    mounted.watch("postgres", lambda: files, take)


def _tell_certificates(settings: Settings, instruments: Telemetry, expires: float) -> None:
    """Record when the broker's certificate expires, and our own, which it asks for."""
    metrics = instruments.process_metrics
    metrics.certificate_shown("nats", expires)
    if settings.nats_cert_file is None:
        return
    # What cannot be read now was read a moment ago; the next connection says the rest.
    with suppress(OSError, ValueError):
        own = read_certificate(Path(settings.nats_cert_file).read_bytes())
        metrics.certificate_shown("nats-client", own.expires.timestamp())


async def _connected(settings: Settings, name: str, instruments: Telemetry, life: Life) -> Client:
    """Return a connection whose end is the process's, and whose incidents are counted."""
    counters = ConnectionCounters()
    instruments.process_metrics.connection(counters.as_mapping())
    return await connect(
        name=name,
        counters=counters,
        on_closed=life.connection_closed,
        on_certificate=partial(_tell_certificates, settings, instruments),
        **settings.nats_options(),
    )
