"""The metrics that every process has: its connections, its event loop, what it runs.

Processor time, memory, open files and the time of the start come from `prometheus_client`, under
the names that dashboards of other programs use, too (`process_*`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from opentelemetry.metrics import CallbackOptions, Meter, Observation

LOOP_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
"""Seconds."""

LOOK_S = 0.25


class Pooled(Protocol):
    """Of a pool of connections, how many it has, may have, and has idle."""

    def get_size(self) -> int:
        """Return how many it has."""

    def get_max_size(self) -> int:
        """Return how many it may have."""

    def get_idle_size(self) -> int:
        """Return how many nobody uses."""


class ProcessMetrics:
    """What a process tells of itself; figures are read when somebody scrapes."""

    def __init__(self, meter: Meter, service: str, version: str) -> None:
        self._connections: list[Mapping[str, int]] = []
        self._pools: list[Pooled] = []
        self._readiness: Callable[[], bool] | None = None
        meter.create_observable_counter(
            "psm.nats.incidents",
            callbacks=[self._incidents],
            description="What went wrong on connections to NATS, by kind.",
        )
        meter.create_observable_gauge(
            "psm.postgres.connections",
            callbacks=[self._pooled],
            description="Connections to PostgreSQL: used, idle, and the most there may be.",
        )
        self._delay = meter.create_histogram(
            "psm.loop.delay",
            unit="s",
            description="How much later than asked for the event loop came to a task.",
            explicit_bucket_boundaries_advisory=LOOP_BUCKETS,
        )
        self._certificates = meter.create_gauge(
            "psm.certificate.expires_timestamp",
            unit="s",
            description="Unix time at which the certificate of a server, or our own, expires.",
        )
        self._read_again = meter.create_counter(
            "psm.files.read_again",
            description="Times that mounted files had changed and were taken, by what they are of.",
        )
        self._unusable = meter.create_gauge(
            "psm.files.unusable",
            description="1 while changed files cannot be used and those of before go on, else 0.",
        )
        self._waiting = meter.create_gauge(
            "psm.settings.waiting",
            description="Settings that changed in their file and need a new start.",
        )
        meter.create_observable_gauge(
            "psm.ready",
            callbacks=[self._is_ready],
            description="1 while the process is ready, as its health check says, else 0.",
        )
        build = meter.create_gauge(
            "psm.build.info", description="1; the labels name what runs, and its version."
        )
        build.set(1, {"service": service, "version": version})

    def certificate_shown(self, server: str, expires: float) -> None:
        """Record when a certificate expires: `nats`, `postgres`, or our own, `nats-client`."""
        self._certificates.set(expires, {"server": server})

    def files_taken(self, what: str, *, usable: bool) -> None:
        """Record that the files of `what` had changed, and whether they could be taken."""
        self._unusable.set(int(not usable), {"what": what})
        if usable:
            self._read_again.add(1, {"what": what})

    def settings_waiting(self, count: int) -> None:
        """Record how many settings changed in their file that need a new start."""
        self._waiting.set(count)

    def connection(self, counts: Mapping[str, int]) -> None:
        """Show what is counted of one more connection; read at each scrape."""
        self._connections.append(counts)

    def pool(self, pool: Pooled) -> None:
        """Show how full one more pool is; read at each scrape."""
        self._pools.append(pool)

    async def watch_loop(self) -> None:
        """Measure the event loop until cancelled: a loop that is late is a saturated process."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LOOK_S
            await asyncio.sleep(LOOK_S)
            self._delay.record(max(loop.time() - due, 0.0))

    def readiness(self, is_ready: Callable[[], bool]) -> None:
        """Show whether the process is ready; asked at each scrape."""
        self._readiness = is_ready

    def _is_ready(self, _: CallbackOptions) -> Iterable[Observation]:
        if self._readiness is not None:
            yield Observation(int(self._readiness()))

    def _incidents(self, _: CallbackOptions) -> Iterable[Observation]:
        kinds = dict.fromkeys(kind for counts in self._connections for kind in counts)
        for kind in kinds:
            yield Observation(sum(counts[kind] for counts in self._connections), {"kind": kind})

    def _pooled(self, _: CallbackOptions) -> Iterable[Observation]:
        if not self._pools:
            return
        size = sum(pool.get_size() for pool in self._pools)
        idle = sum(pool.get_idle_size() for pool in self._pools)
        yield Observation(size - idle, {"state": "used"})
        yield Observation(idle, {"state": "idle"})
        yield Observation(sum(pool.get_max_size() for pool in self._pools), {"state": "max"})
