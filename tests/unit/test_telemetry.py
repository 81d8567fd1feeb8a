"""Logs, metrics, traces and the health server."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import structlog
from prometheus_client import CollectorRegistry, generate_latest

from psm.adapters import logs, telemetry, tracing
from psm.adapters.health import start_health_server
from psm.adapters.logs import get_logger
from psm.contracts.errors import ConfigError

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    tracing.use(None)


@pytest.fixture
def written() -> io.BytesIO:
    file = io.BytesIO()
    logs.configure("info", "json", file=file)
    return file


def lines(file: io.BytesIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.getvalue().splitlines()]


def test_log_line_is_one_json_object(written: io.BytesIO) -> None:
    """A line has UTC time, level and event first, then its fields; below the level is silence."""
    log = get_logger(partition=3)
    log.info("batch.committed", updates=2)
    log.debug("batch.committed")
    (line,) = lines(written)
    assert list(line) == ["timestamp", "level", "event", "partition", "updates"]
    assert str(line["timestamp"]).endswith("Z")
    assert (line["event"], line["partition"], line["updates"]) == ("batch.committed", 3, 2)


def test_exceptions_and_libraries_become_fields(written: io.BytesIO) -> None:
    """A traceback is one field; a library's log line has the same shape."""
    try:
        raise ValueError("boom")
    except ValueError:
        get_logger().exception("process.failed")
    logging.getLogger("nats").error("lost %s", "it")
    logging.getLogger("nats").info("chatter")
    first, second = lines(written)
    assert "ValueError: boom" in str(first["exception"])
    assert (second["event"], second["library"]) == ("library.logged", "nats")
    assert second["message"] == "lost it"


def test_secrets_never_reach_the_log(written: io.BytesIO) -> None:
    """Passwords are cut out of addresses, errors, tracebacks and fields named like secrets.

    Of a token that somebody put into a path its id is left, by which it is revoked.
    """
    dsn = "postgresql://psm:hunter2@db/psm"
    log = get_logger(url=dsn)
    log.info("a", dsn="hunter2", nats_password="hunter2", note="password=hunter2 user=psm")
    log.info("d", path=f"/psm/state/psm_0a1b2c3d_{'hunter' * 5}ab")
    log.info("b", error=OSError(f"cannot reach {dsn}"))
    try:
        raise OSError(dsn)
    except OSError:
        log.exception("c")
    assert b"hunter" not in written.getvalue()
    assert b"/psm/state/psm_0a1b2c3d_***" in written.getvalue()
    assert b"postgresql://***@db/psm" in written.getvalue()


def test_console_is_for_people() -> None:
    """The console format has no JSON, and no colours where nobody sees them."""
    file = io.BytesIO()
    logs.configure("info", "console", file=file)
    get_logger().info("process.ready", port=1)
    text = file.getvalue().decode()
    assert "process.ready" in text
    assert "\x1b" not in text
    assert not text.startswith("{")


def test_trace_is_carried_without_a_collector(written: io.BytesIO) -> None:
    """The producer's trace reaches headers and log lines, and ends with the block."""
    with tracing.child_span("psm.fold", PARENT):
        get_logger().info("x")
        with tracing.child_span("psm.commit"):
            assert tracing.inject() == {"traceparent": PARENT}
    assert tracing.inject() == {}
    assert tracing.current_trace_id() is None
    assert lines(written)[0]["trace_id"] == TRACE


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "x",
        f"00-{'0' * 32}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01",
        PARENT.upper(),
        PARENT + "-",
    ],
)
def test_malformed_trace_context_is_ignored(text: str | None) -> None:
    """A broken header of a producer is no reason to fail."""
    assert tracing.extract(text) is None


def test_trace_context_is_understood() -> None:
    """Ids and flags of the W3C header are read."""
    context = tracing.extract(PARENT)
    assert context is not None
    assert (f"{context.trace_id:032x}", f"{context.span_id:016x}") == (TRACE, SPAN)
    assert context.is_remote


def test_metrics_have_closed_labels_and_base_units() -> None:
    """Exposed names are psm_<what>_<unit>[_total]; no library labels, no account."""
    made = telemetry.setup("psm-test")
    try:
        made.metrics.folded(3, {"applied": 5, "duplicate": 1})
        made.metrics.committed(3, updates=9, seconds=0.0007, latency_s=-1)
        made.metrics.consumer_lag(3, events=2, seconds=0.5)
        made.metrics.fenced(3)
        made.metrics.reader_reset("TRADES", "gap")
        made.metrics.snapshots_written(3, accounts=2, checkpoints=1)
        made.metrics.recovered(3, seconds=1)
        made.metrics.projection_lag("current_state", 3, events=1, seconds=0.1)
        made.metrics.projected("current_state", rows=4, seconds=0.01)
        made.metrics.requested("/psm/state/{account_id}", 200, 0.001)
        text = generate_latest(made.registry).decode()
    finally:
        made.shutdown()
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert 'psm_events_folded_total{outcome="applied",partition="3"} 5.0' in samples
    assert 'psm_commit_duration_seconds_bucket{le="0.0005",partition="3"} 0.0' in samples
    assert 'psm_commit_duration_seconds_bucket{le="0.001",partition="3"} 1.0' in samples
    assert 'psm_event_latency_seconds_sum{partition="3"} 0.0' in samples
    assert 'psm_consumer_lag_events{partition="3"} 2.0' in samples
    assert 'psm_projection_lag_seconds{partition="3",view="current_state"} 0.1' in samples
    assert 'psm_rows_written_total{view="current_state"} 4.0' in samples
    assert "otel_scope" not in text
    labels = set(re.findall(r'[{,]([a-z_]+)="', "\n".join(s for s in samples if s[:4] == "psm_")))
    assert labels == {
        "partition",
        "outcome",
        "le",
        "stream",
        "reason",
        "kind",
        "code",
        "view",
        "route",
        "status",
        "service",
        "version",
    }


class _Collector(BaseHTTPRequestHandler):
    received: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).received.append((self.path, body))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited
        del format, args


def test_collector_receives_traces_and_metrics() -> None:
    """With an OTLP endpoint spans continue the producer's trace, and metrics are pushed too."""

    class Handler(_Collector):
        received: list[tuple[str, bytes]] = []  # noqa: RUF012

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    made = telemetry.setup("psm-test", otlp_endpoint=f"http://127.0.0.1:{server.server_port}/")
    with tracing.child_span("psm.commit", PARENT, {"psm.partition": 3}, links=[PARENT, None]):
        child = tracing.inject()["traceparent"]
        assert tracing.current_trace_id() == TRACE
    made.metrics.fenced(1)
    made.shutdown()
    server.shutdown()
    server.server_close()
    thread.join()
    assert child.split("-")[1] == TRACE
    assert child.split("-")[2] != SPAN
    bodies = dict(Handler.received)
    assert set(bodies) == {"/v1/traces", "/v1/metrics"}
    assert b"psm.commit" in bodies["/v1/traces"]
    assert bytes.fromhex(TRACE) in bodies["/v1/traces"]
    assert b"psm.partitions.fenced" in bodies["/v1/metrics"]
    assert tracing.inject() == {}


async def _get(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), body


async def test_health_tells_alive_from_ready() -> None:
    """Alive answers always; ready only when work is done; metrics are exposed."""
    made = telemetry.setup("psm-test")
    made.metrics.fenced(2)
    ready, fault = False, None
    server = await start_health_server(
        "127.0.0.1", 0, lambda: (ready, {"partitions": 1}), made.registry, lambda: fault
    )
    try:
        assert await _get(server.port, "/health/live") == (200, '{"status":"alive"}')
        assert await _get(server.port, "/health/ready") == (
            503,
            '{"status":"not ready","partitions":1}',
        )
        ready = True
        assert (await _get(server.port, "/health/ready?x=1"))[0] == 200
        fault = "closed for good"
        assert await _get(server.port, "/health/live") == (
            503,
            '{"status":"failed","fault":"closed for good"}',
        )
        status, body = await _get(server.port, "/metrics")
        assert status == 200
        assert 'psm_partitions_fenced_total{partition="2"} 1.0' in body
        assert await _get(server.port, "/metrics", "HEAD") == (200, "")
        assert (await _get(server.port, "/else"))[0] == 404
        assert (await _get(server.port, "/health/live", "POST"))[0] == 405
    finally:
        await server.close()
        made.shutdown()


async def test_health_survives_bad_callers() -> None:
    """Noise, silence and endless headers cost nothing and stop nobody."""
    server = await start_health_server("127.0.0.1", 0, lambda: (True, {}), CollectorRegistry())
    try:
        for noise in (b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"x" * 100_000, b""):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(noise)
            if noise:
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
            writer.close()
        assert (await _get(server.port, "/health/ready"))[0] == 200
    finally:
        await server.close()


async def test_taken_port_is_said_clearly() -> None:
    """A port somebody else has is a configuration error that names the variable."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127.0.0.1:{port}.*PSM_METRICS_PORT"):
            await start_health_server("127.0.0.1", port, lambda: (True, {}), CollectorRegistry())


def test_quiet_instruments_record_nothing() -> None:
    """Tests and one-shot commands need no provider."""
    made = telemetry.quiet()
    made.metrics.fenced(1)
    assert generate_latest(made.registry) == b""
    made.shutdown()
