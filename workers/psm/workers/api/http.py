"""The read API over HTTP: views as JSON documents, health, metrics and its own description."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from psm.adapters.health import Fault, liveness
from psm.adapters.logs import get_logger
from psm.adapters.metrics import Metrics
from psm.contracts.errors import ConfigError, TransientError
from psm.contracts.live import MalformedQuestionError
from psm.contracts.publisher import Publisher
from psm.workers.analytics.reads import AnalyticsReads
from psm.workers.api.accounts_http import accounts_answer
from psm.workers.api.analytics_http import (
    ANALYTICS_PROBLEMS,
    analytics_problem,
    analytics_routes,
)
from psm.workers.api.archive_http import PROBLEMS, archive_problem, archive_routes
from psm.workers.api.door import Door, Proxies
from psm.workers.api.fold_turns import TooManyFoldsError, unless_gone
from psm.workers.api.health import DOORS, HealthDoor, ServiceHealth
from psm.workers.api.history_http import Past, when_of
from psm.workers.api.ingest import append_event
from psm.workers.api.live_reads import LIVE_PROBLEMS, LiveReads, live_question
from psm.workers.api.market_http import MARKET_PROBLEMS, MarketReads, market_routes
from psm.workers.api.measured import Measured
from psm.workers.api.openapi import openapi
from psm.workers.api.parameters import (
    ACCOUNTS_PARAMETERS,
    READ_PARAMETERS,
    RECONCILIATION_PARAMETERS,
    REFUSALS_PARAMETERS,
    REPLAY_PARAMETERS,
    VERIFY_PARAMETERS,
    Parameter,
    ParameterError,
    check_parameters,
    integer,
    seconds,
)
from psm.workers.api.problems import TITLES, problem
from psm.workers.api.reads import (
    READS,
    WAIT_DEFAULT_S,
    WAIT_MAX_S,
    Answer,
    MalformedAccountError,
    NoReportError,
    NotReachedError,
    ReadName,
    Reads,
    StaleViewError,
    UnknownAccountError,
)
from psm.workers.api.refusals_http import refusals_of
from psm.workers.api.risk_reads import RiskReads, UnknownDecisionError
from psm.workers.api.risk_views_http import risk_routes, unknown_decision
from psm.workers.archive.reads import ArchiveReads
from psm.workers.history.timeline import NoSuchPlaceError, UnknownStreamError
from psm.workers.partition.live_reads import LiveRefusedError

PREFIXES = ("/psm", "/api/psm")
_JSON = "application/json"
_NO_STORE = {"Cache-Control": "no-store"}
# A proxy between may keep what one caller saw, but must ask again, and never for another caller.
_PRIVATE = {"Cache-Control": "private, no-cache", "Vary": "Authorization, Cookie"}

Handler = Callable[[Request], Awaitable[Response]]
_log = get_logger()


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """What the handlers need.

    Attributes:
        reads: answers from the views.
        past: answers from the log.
        live: answers from the books of whoever folds an account.
        archive: answers from the event archive.
        risk_reads: answers from the views about risk.
        market: answers from the view of order books.
        analytics: answers from the views of analytics.
        health: whether the service can answer truthfully.
        publisher: appends events; None where ingest is off.
        risk: asks for decisions on orders.
        metrics: of this process.
        registry: what `/metrics` shows.
        hosts: names of this service beside those of loopback.
        proxies: whose word about a client counts.
        fault: why the process must be started again, None while it is well.
    """

    reads: Reads
    past: Past
    live: LiveReads
    archive: ArchiveReads
    risk_reads: RiskReads
    market: MarketReads
    analytics: AnalyticsReads
    health: ServiceHealth
    publisher: Publisher | None
    risk: Handler
    metrics: Metrics
    registry: CollectorRegistry
    hosts: tuple[str, ...] = ()
    proxies: Proxies = msgspec.field(default_factory=Proxies)
    fault: Fault = lambda: None


def build_app(service: Service) -> Starlette:
    """Return the ASGI application."""
    routes: list[Route] = []
    for prefix in PREFIXES:
        routes += [
            *_view_routes(prefix, service),
            _route(f"{prefix}/verify/{{account_id}}", service.past.verify, VERIFY_PARAMETERS),
            _route(f"{prefix}/replay/{{account_id}}", service.past.replay, REPLAY_PARAMETERS),
            _route(f"{prefix}/refusals", refusals_of(service.archive), REFUSALS_PARAMETERS),
            _route(f"{prefix}/events", _append(service), methods=["POST"]),
            _route(f"{prefix}/risk/check", service.risk, methods=["POST"]),
        ]
    routes += [_route(*described) for described in archive_routes(service.archive)]
    routes += [_route(*described) for described in market_routes(service.market)]
    routes += _operation_routes(service)
    patterns = {id(route.endpoint): route.path for route in routes}
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(Measured, metrics=service.metrics, patterns=patterns),
            Middleware(Door, hosts=service.hosts, proxies=service.proxies),
        ],
        exception_handlers={
            HTTPException: _http_problem,
            MalformedAccountError: _malformed_account,
            MalformedQuestionError: _malformed_account,
            LiveRefusedError: _live_refused,
            ParameterError: _malformed_parameter,
            UnknownAccountError: _unknown_account,
            NoReportError: _no_report,
            NotReachedError: _not_reached,
            StaleViewError: _view_stale,
            TooManyFoldsError: _too_many_folds,
            ClientDisconnect: _client_gone,
            UnknownStreamError: _unknown_account,
            NoSuchPlaceError: _no_such_state,
            **dict.fromkeys(PROBLEMS, archive_problem),
            **MARKET_PROBLEMS,
            UnknownDecisionError: unknown_decision,
            **dict.fromkeys(ANALYTICS_PROBLEMS, analytics_problem),
            TransientError: _unavailable,
            ConfigError: _unavailable,
            Exception: _internal,
        },
    )


def _operation_routes(service: Service) -> list[Route]:
    return [
        _route("/health/live", _live(service)),
        _route("/health/ready", _ready(service)),
        *(_route(f"/health/ready/{door}", _ready(service, door)) for door in DOORS),
        _route("/health", _ready(service)),
        _route("/metrics", _metrics(service)),
        _route("/schema", _schema(openapi())),
    ]


def _view_routes(prefix: str, service: Service) -> list[Route]:
    """Return the routes that answer from the views."""
    answered = _reconciliation(service)
    return [
        *(
            _route(f"{prefix}/{name}/{{account_id}}", _read(service, name), READ_PARAMETERS)
            for name in READS
        ),
        _route(f"{prefix}/reconciliation/{{account_id}}", answered, RECONCILIATION_PARAMETERS),
        _route(f"{prefix}/accounts", _accounts(service), ACCOUNTS_PARAMETERS),
        *(
            _route(f"{prefix}{path}", handler, parameters)
            for path, handler, parameters in (
                *risk_routes(service.risk_reads),
                *analytics_routes(service.analytics),
            )
        ),
    ]


def _route(
    path: str,
    handler: Handler,
    parameters: Sequence[Parameter] = (),
    methods: list[str] | None = None,
) -> Route:
    """Return a route whose handler sees no query parameter but those."""

    async def endpoint(request: Request) -> Response:
        check_parameters(request, parameters)
        return await handler(request)

    return Route(path, endpoint, methods=methods)


def _accounts(service: Service) -> Handler:
    async def accounts(request: Request) -> Response:
        answer, following = await accounts_answer(request, service.reads)
        return _answer(request, answer, {**_PRIVATE, **({"Link": following} if following else {})})

    return accounts


def _read(service: Service, name: ReadName) -> Handler:
    async def read(request: Request) -> Response:
        account_id = request.path_params["account_id"]
        question = live_question(request, name)
        when = when_of(request)
        if question is not None:
            kept = _NO_STORE
            answer = await unless_gone(request, service.live.get(question))
        elif when is not None:
            kept = _NO_STORE
            answer = await unless_gone(request, service.past.get(name, account_id, when))
        else:
            kept = _PRIVATE
            answer = await service.reads.get(
                name,
                account_id,
                min_sequence=integer(request, "min_sequence"),
                timeout_s=seconds(request, "timeout_s", WAIT_DEFAULT_S, WAIT_MAX_S),
            )
        return _answer(request, answer, kept)

    return read


def _reconciliation(service: Service) -> Handler:
    async def reconciliation(request: Request) -> Response:
        answer = await service.reads.reconciliation(
            request.path_params["account_id"],
            min_log_sequence=integer(request, "min_log_sequence") or 0,
            timeout_s=seconds(request, "timeout_s", WAIT_DEFAULT_S, WAIT_MAX_S),
        )
        return _answer(request, answer, _PRIVATE)

    return reconciliation


def _answer(request: Request, answer: Answer, kept: Mapping[str, str]) -> Response:
    headers = {"ETag": answer.etag, **kept}
    if _matches(request.headers.get("if-none-match"), answer.etag):
        return Response(status_code=304, headers=headers)
    return Response(answer.body, media_type=_JSON, headers=headers)


def _append(service: Service) -> Handler:
    async def append(request: Request) -> Response:
        return await append_event(request, service.publisher)

    return append


def _live(service: Service) -> Handler:
    async def live(_request: Request) -> Response:
        status, kind, body = liveness(service.fault())
        return Response(body, status_code=status, media_type=kind, headers=_NO_STORE)

    return live


def _ready(service: Service, door: HealthDoor | None = None) -> Handler:
    async def ready(_request: Request) -> Response:
        report = await service.health.report()
        is_open = report.status if door is None else report.doors[door]
        body = msgspec.json.encode(report)
        status = 200 if is_open == "ready" else 503
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


def _no_report(request: Request, error: Exception) -> Response:
    return problem("no-report", str(error), request.url.path)


def _no_such_state(request: Request, error: Exception) -> Response:
    return problem("no-such-state", str(error), request.url.path)


def _not_reached(request: Request, error: Exception) -> Response:
    assert isinstance(error, NotReachedError)
    return problem("not-reached", str(error), request.url.path, reached_sequence=error.reached)


def _live_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, LiveRefusedError)
    kind, path = LIVE_PROBLEMS[error.outcome], request.url.path
    if kind == "not-reached":
        return problem(kind, error.detail, path, reached_sequence=error.reached)
    headers = {"Retry-After": "1"} if TITLES[kind][0] in (429, 503) else {}
    return problem(kind, error.detail, path, headers=headers)


def _view_stale(request: Request, error: Exception) -> Response:
    assert isinstance(error, StaleViewError)
    return problem("view-stale", str(error), request.url.path, reached_sequence=error.reached)


def _too_many_folds(request: Request, error: Exception) -> Response:
    return problem("too-many-folds", str(error), request.url.path, headers={"Retry-After": "1"})


def _client_gone(request: Request, _error: Exception) -> Response:
    return problem("client-gone", "nobody reads this answer", request.url.path)


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
