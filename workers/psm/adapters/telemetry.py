"""Logs, metrics and traces of one process, set up in one call.

`setup` is called once by a command; everything else takes `Telemetry.metrics` as an argument and
logs through `logs.get_logger`. Nothing global of OpenTelemetry is touched, so that two set-ups in
one test do not meet.
"""

from __future__ import annotations

import os
import socket
from importlib.metadata import version
from typing import Literal

from opentelemetry.metrics import Meter, NoOpMeter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry, ProcessCollector

from psm.adapters import logs, tracing
from psm.adapters.database_metrics import DatabaseMetrics
from psm.adapters.health import HealthServer, Readiness, start_health_server
from psm.adapters.logs import get_logger
from psm.adapters.market_metrics import MarketMetrics
from psm.adapters.metrics import Metrics
from psm.adapters.process_metrics import ProcessMetrics
from psm.adapters.risk_metrics import RiskMetrics
from psm.adapters.tracing import child_span, current_trace_id, extract, inject

__all__ = [
    "HealthServer",
    "Metrics",
    "Readiness",
    "Telemetry",
    "child_span",
    "current_trace_id",
    "extract",
    "get_logger",
    "inject",
    "instruments",
    "logs",
    "quiet",
    "setup",
    "start_health_server",
]

_EXPORT_TIMEOUT_S = 5.0


class Telemetry:
    """Instruments that `setup` made.

    Attributes:
        metrics: the instruments of this process.
        risk_metrics: those of the risk engine.
        market_metrics: those of order books.
        process_metrics: those that every process has.
        database_metrics: those of PostgreSQL.
        registry: what a Prometheus scrape reads.
    """

    def __init__(
        self,
        metrics: Metrics,
        risk_metrics: RiskMetrics,
        market_metrics: MarketMetrics,
        process_metrics: ProcessMetrics,
        database_metrics: DatabaseMetrics,
        registry: CollectorRegistry,
        providers: tuple[MeterProvider | TracerProvider, ...] = (),
    ) -> None:
        self.metrics = metrics
        self.risk_metrics = risk_metrics
        self.market_metrics = market_metrics
        self.process_metrics = process_metrics
        self.database_metrics = database_metrics
        self.registry = registry
        self._providers = providers

    def shutdown(self) -> None:
        """Send what is still buffered; waits some seconds for a collector that is away."""
        tracing.use(None)
        for provider in self._providers:
            provider.shutdown()


def setup(
    service: str,
    *,
    level: logs.Level = "info",
    format: logs.Format = "auto",  # noqa: A002
    otlp_endpoint: str | None = None,
    env: Literal["development", "production"] = "development",
) -> Telemetry:
    """Configure the logs of this process and return its instruments.

    Args:
        service: such as `psm-worker`; names the process to collectors.
        level: least severe log lines to write.
        format: of log lines.
        otlp_endpoint: base address of an OTLP/HTTP collector; None exports nothing.
        env: deployment environment.
    """
    logs.configure(level, format)
    release = version("portfolio-state-manager")
    resource = Resource.create(
        {
            "service.name": service,
            "service.namespace": "psm",
            "service.version": release,
            # Two workers that send to one collector are two.
            "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
            "deployment.environment.name": env,
        }
    )
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    readers = [_prometheus(registry)]
    tracers: tuple[TracerProvider, ...] = ()
    if otlp_endpoint is not None:
        readers.append(_otlp_metrics(otlp_endpoint))
        tracers = (_otlp_traces(otlp_endpoint, resource),)
        tracing.use(tracers[0].get_tracer("psm"))
    meters = MeterProvider(metric_readers=readers, resource=resource, shutdown_on_exit=False)
    meter = meters.get_meter("psm")
    return Telemetry(*instruments(meter, service, release), registry, (*tracers, meters))


def quiet() -> Telemetry:
    """Return instruments that record nothing, for tests and one-shot commands."""
    meter = NoOpMeter("psm")
    return Telemetry(*instruments(meter, "", ""), CollectorRegistry())


def instruments(
    meter: Meter, service: str, release: str
) -> tuple[Metrics, RiskMetrics, MarketMetrics, ProcessMetrics, DatabaseMetrics]:
    """Return every instrument there is, made by `meter`; in the order of `Telemetry`."""
    own = ProcessMetrics(meter, service, release)
    metrics, risk, market = Metrics(meter), RiskMetrics(meter), MarketMetrics(meter)
    return metrics, risk, market, own, DatabaseMetrics(meter)


def _prometheus(registry: CollectorRegistry) -> MetricReader:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader

    return PrometheusMetricReader(registry=registry, scope_info_enabled=False)


def _otlp_metrics(endpoint: str) -> MetricReader:
    # The exporters bring an HTTP client along: imported only where a collector is set.
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    exporter = OTLPMetricExporter(f"{endpoint.rstrip('/')}/v1/metrics", timeout=_EXPORT_TIMEOUT_S)
    return PeriodicExportingMetricReader(exporter, export_interval_millis=15_000)


def _otlp_traces(endpoint: str, resource: Resource) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
