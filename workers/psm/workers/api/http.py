"""The read API over HTTP: views as JSON documents, health, metrics and its own description."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from psm.adapters.logs import get_logger
from psm.adapters.metrics import Metrics
from psm.contracts.errors import ConfigError, TransientError
from psm.contracts.publisher import Publisher
from psm.workers.api.archive_http import UNKNOWN, archive_routes, unknown_event
from psm.workers.api.health import ServiceHealth
from psm.workers.api.ingest import append_event
from psm.workers.api.openapi import openapi
from psm.workers.api.past_http import ParameterError, Past, integer, when_of
from psm.workers.api.problems import problem
from psm.workers.api.reads import (
    READS,
    WAIT_DEFAULT_S,
    WAIT_MAX_S,
    MalformedAccountError,
    NotReachedError,
    ReadName,
    Reads,
    UnknownAccountError,
)
from psm.workers.archive.reads import ArchiveReads
from psm.workers.past.places import NoSuchPlaceError, UnknownStreamError

PREFIXES = ("/psm", "/api/psm")
_JSON = "application/json"
_NO_STORE = {"Cache-Control": "no-store"}

Handler = Callable[[Request], Awaitable[Response]]
_log = get_logger()


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """What the handlers need.

    Attributes:
        reads: answers from the views.
        past: answers from the log.
        archive: answers from the event archive.
        health: whether the service can answer truthfully.
        publisher: appends events; None where ingest is off.
        metrics: of this process.
        registry: what `/metrics` shows.
    """

    reads: Reads
    past: Past
    archive: ArchiveReads
    health: ServiceHealth
    publisher: Publisher | None
    metrics: Metrics
    registry: CollectorRegistry


def build_app(service: Service) -> Starlette:
    """Return the ASGI application."""
    routes: list[Route] = []
    for prefix in PREFIXES:
        routes += [Route(f"{prefix}/{n}/{{account_id}}", _read(service, n)) for n in READS]
        routes += [
            Route(f"{prefix}/verify/{{account_id}}", service.past.verify),
            Route(f"{prefix}/replay/{{account_id}}", service.past.replay),
            Route(f"{prefix}/events", _append(service), methods=["POST"]),
        ]
    routes += archive_routes(service.archive)
    routes += [
        Route("/health/live", _live),
        Route("/health/ready", _ready(service)),
        Route("/health", _ready(service)),
        Route("/metrics", _metrics(service)),
        Route("/schema", _schema(openapi())),
    ]
    patterns = {id(route.endpoint): route.path for route in routes}
    return Starlette(
        routes=routes,
        middleware=[Middleware(_Measured, metrics=service.metrics, patterns=patterns)],
        exception_handlers={
            HTTPException: _http_problem,
            MalformedAccountError: _malformed_account,
            ParameterError: _malformed_parameter,
            UnknownAccountError: _unknown_account,
            NotReachedError: _not_reached,
            UnknownStreamError: _unknown_account,
            NoSuchPlaceError: _no_such_state,
            **dict.fromkeys(UNKNOWN, unknown_event),
            TransientError: _unavailable,
            ConfigError: _unavailable,
            Exception: _internal,
        },
    )


def _read(service: Service, name: ReadName) -> Handler:
    async def read(request: Request) -> Response:
        account_id = request.path_params["account_id"]
        when = when_of(request)
        if when is not None:
            answer = await service.past.get(name, account_id, when)
        else:
            answer = await service.reads.get(
                name,
                account_id,
                min_sequence=integer(request, "min_sequence"),
                timeout_s=_seconds(request, "timeout_s", WAIT_DEFAULT_S, WAIT_MAX_S),
            )
        headers = {"ETag": answer.etag, "Cache-Control": "no-cache"}
        if _matches(request.headers.get("if-none-match"), answer.etag):
            return Response(status_code=304, headers=headers)
        return Response(answer.body, media_type=_JSON, headers=headers)

    return read


def _append(service: Service) -> Handler:
    async def append(request: Request) -> Response:
        return await append_event(request, service.publisher)

    return append


async def _live(_request: Request) -> Response:
    return Response(b'{"status":"alive"}', media_type=_JSON, headers=_NO_STORE)


def _ready(service: Service) -> Handler:
    async def ready(_request: Request) -> Response:
        report = await service.health.report()
        status = 200 if report.status == "ready" else 503
        body = msgspec.json.encode(report)
        return Response(body, status_code=status, media_type=_JSON, headers=_NO_STORE)

    return ready


def _metrics(service: Service) -> Handler:
    async def metrics(_request: Request) -> Response:
        body = generate_latest(service.registry)
        return Response(body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4, **_NO_STORE})

    return metrics


def _schema(document: bytes) -> Handler:
    async def schema(_request: Request) -> Response:
        return Response(document, media_type=_JSON)

    return schema


def _seconds(request: Request, name: str, default: float, most: float) -> float:
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise ParameterError(f"{name} must be a number of seconds from 0 to {most:g}")
    return value


def _matches(header: str | None, etag: str) -> bool:
    if header is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in header.split(",")}
    return "*" in tags or etag in tags


def _malformed_account(request: Request, error: Exception) -> Response:
    return problem("malformed-account-id", str(error), request.url.path)


def _malformed_parameter(request: Request, error: Exception) -> Response:
    return problem("malformed-parameter", str(error), request.url.path)


def _unknown_account(request: Request, error: Exception) -> Response:
    return problem("unknown-account", str(error), request.url.path)


def _no_such_state(request: Request, error: Exception) -> Response:
    return problem("no-such-state", str(error), request.url.path)


def _not_reached(request: Request, error: Exception) -> Response:
    assert isinstance(error, NotReachedError)
    return problem("not-reached", str(error), request.url.path, reached_sequence=error.reached)


def _unavailable(request: Request, error: Exception) -> Response:
    _log.warning("http.unavailable", detail=str(error))
    return problem("unavailable", str(error), request.url.path, headers={"Retry-After": "1"})


def _internal(request: Request, error: Exception) -> Response:
    _log.error("http.failed", detail=type(error).__name__, exc_info=error)
    return problem("internal", "see the service's log", request.url.path)


def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        detail = f"{request.method} is not possible here, but {allowed}"
        return problem("wrong-method", detail, path, headers=error.headers)
    return problem("unknown-path", "there is nothing here; see /schema for what there is", path)


class _Measured:
    """Records route, status and duration of each request; pure ASGI, so streaming is untouched."""

    def __init__(self, app: ASGIApp, metrics: Metrics, patterns: dict[int, str]) -> None:
        self._app = app
        self._metrics = metrics
        self._patterns = patterns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = self._patterns.get(id(scope.get("endpoint")), "unmatched")
            self._metrics.requested(route, status, time.perf_counter() - started)
