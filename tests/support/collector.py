"""A collector for OTLP over HTTP, in this process: what is sent to it can be looked at."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from msgspec import Struct
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Recorded(Struct, frozen=True):
    """A span: name, service, trace, itself, parent and links, as hex."""

    name: str
    service: str
    trace: str
    span: str
    parent: str
    links: tuple[str, ...]


class Collector:
    """What arrived.

    Attributes:
        url: to send to.
        spans: in the order of their arrival.
        metrics: names, by service.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[Recorded] = []
        self.metrics: dict[str, set[str]] = {}

    def take(self, path: str, body: bytes) -> None:
        """Take a request in."""
        if path == "/v1/traces":
            for of in ExportTraceServiceRequest.FromString(body).resource_spans:
                spans = [span for scope in of.scope_spans for span in scope.spans]
                self.spans += [_recorded(_service(of.resource), span) for span in spans]
        elif path == "/v1/metrics":
            for of in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                names = {m.name for scope in of.scope_metrics for m in scope.metrics}
                self.metrics.setdefault(_service(of.resource), set()).update(names)

    def named(self, name: str) -> list[Recorded]:
        """Return the spans of a name."""
        return [span for span in self.spans if span.name == name]


@contextmanager
def collector() -> Iterator[Collector]:
    """Collect while the context is open."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _service(resource: Any) -> str:
    names = [a.value.string_value for a in resource.attributes if a.key == "service.name"]
    return str(names[0])


def _recorded(service: str, span: Any) -> Recorded:
    return Recorded(
        span.name,
        service,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        tuple(link.trace_id.hex() for link in span.links),
    )
