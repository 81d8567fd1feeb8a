"""The read API over HTTP: views as JSON documents, health, metrics and its own description."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from psm.adapters.health import Fault, liveness
from psm.adapters.logs import get_logger
from psm.adapters.metrics import Metrics
from psm.contracts.errors import ContractError
from psm.contracts.publisher import Publisher
from psm.workers.access.issuers import AccessFile
from psm.workers.access.policy import Action, Resource
from psm.workers.access.store import Tokens
from psm.workers.access.vouched import Signer
from psm.workers.analytics.reads import AnalyticsReads
from psm.workers.api.access_http import access_routes
from psm.workers.api.accounts_http import accounts_answer
from psm.workers.api.analytics_http import analytics_routes
from psm.workers.api.archive_http import archive_routes
from psm.workers.api.door import SAFE_METHODS, Door, Proxies
from psm.workers.api.error_answers import problem_answers
from psm.workers.api.fold_turns import unless_gone
from psm.workers.api.guard import AccessGuard, Needs, asker_of, principal_of
from psm.workers.api.health import DOORS, HealthDoor, Readiness, ServiceHealth, told_to
from psm.workers.api.history_http import Past, when_of
from psm.workers.api.ingest import append_event
from psm.workers.api.live_reads import LiveReads, live_question
from psm.workers.api.long_answers import while_held
from psm.workers.api.maintenance import Maintenance
from psm.workers.api.market_http import MarketReads, market_routes
from psm.workers.api.openapi import openapi
from psm.workers.api.parameters import (
    ACCOUNTS_PARAMETERS,
    READ_PARAMETERS,
    RECONCILIATION_PARAMETERS,
    REFUSALS_PARAMETERS,
    REPLAY_PARAMETERS,
    VERIFY_PARAMETERS,
    Parameter,
    check_parameters,
    integer,
    seconds,
)
from psm.workers.api.problems import problem
from psm.workers.api.reads import (
    READS,
    WAIT_DEFAULT_S,
    WAIT_MAX_S,
    Answer,
    ReadName,
    Reads,
)
from psm.workers.api.refusals_http import refusals_of
from psm.workers.api.request_meter import RequestMeter
from psm.workers.api.risk_http import asked_of
from psm.workers.api.risk_reads import RiskReads
from psm.workers.api.risk_views_http import risk_routes
from psm.workers.archive.reads import ArchiveReads

PREFIXES = ("/psm", "/api/psm")
OPEN = None
"""What a route needs that is open to anybody."""

_ACCOUNT = "{account_id}"
_READ = Needs(action="read", kind="account", path="account_id")
_STATE = Needs(action="read", kind="account", path="account_id", past="read.past")
_PAST = Needs(action="read.past", kind="account", path="account_id")
_REPLAY = Needs(action="replay", kind="account", path="account_id")
_LISTED = Needs(action="read")
_EVENTS = Needs(action="events.read")
_BY_BODY = Needs()
_SCRAPE = Needs(action="admin", kind="cluster")
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
        mtls_port: where they alone may ask, and say by which certificate a caller came; None:
            there is no such port.
        guard: judges who may ask for what.
        tokens: makes and ends tokens; None where access is off.
        access: whose tokens count beside those that are made here, and for what.
        signer: vouches for who appends; None where nobody does.
        maintenance: what is not done for the time being.
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
    guard: AccessGuard
    tokens: Tokens | None = None
    access: Callable[[], AccessFile] = AccessFile
    signer: Signer | None = None
    hosts: tuple[str, ...] = ()
    proxies: Proxies = msgspec.field(default_factory=Proxies)
    mtls_port: int | None = None
    maintenance: Maintenance = msgspec.field(default_factory=Maintenance)
    fault: Fault = lambda: None


def build_app(service: Service) -> Starlette:
    """Return the ASGI application."""
    route = _Routes(service.guard)
    routes: list[Route] = []
    for prefix in PREFIXES:
        routes += [
            *_view_routes(prefix, service, route),
            route(f"{prefix}/verify/{_ACCOUNT}", service.past.verify, _PAST, VERIFY_PARAMETERS),
            route(f"{prefix}/replay/{_ACCOUNT}", service.past.replay, _REPLAY, REPLAY_PARAMETERS),
            route(f"{prefix}/refusals", refusals_of(service.archive), _EVENTS, REFUSALS_PARAMETERS),
            route(f"{prefix}/events", _append(service), _BY_BODY, methods=["POST"]),
            route(f"{prefix}/risk/check", guarded_check(service), _BY_BODY, methods=["POST"]),
        ]
    routes += [route(*described) for described in archive_routes(service.archive)]
    routes += [route(*described) for described in market_routes(service.market)]
    routes += [
        route("/health/live", _live(service), OPEN),
        route("/health/ready", _ready(service), OPEN),
        *(route(f"/health/ready/{door}", _ready(service, door), OPEN) for door in DOORS),
        route("/health", _ready(service), OPEN),
        route("/schema", _schema(openapi()), OPEN),
        # Where access is controlled, a port of its own is for scrapers: PSM_METRICS_PORT.
        route("/metrics", _metrics(service), _SCRAPE),
        *(route(*described) for described in access_routes(service.tokens, service.access)),
    ]
    patterns = {id(route.endpoint): route.path for route in routes}
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(RequestMeter, metrics=service.metrics, patterns=patterns),
            Middleware(
                Door,
                hosts=service.hosts,
                proxies=service.proxies,
                mtls_port=service.mtls_port,
            ),
        ],
        exception_handlers=problem_answers(service.guard),
    )
    app.router.redirect_slashes = False  # a path is right or wrong, and nobody is sent elsewhere
    return app


def _view_routes(prefix: str, service: Service, route: _Routes) -> list[Route]:
    """Return the routes that answer from the views."""
    answered = _reconciliation(service)
    return [
        *(
            route(f"{prefix}/{name}/{_ACCOUNT}", _read(service, name), _STATE, READ_PARAMETERS)
            for name in READS
        ),
        route(f"{prefix}/reconciliation/{_ACCOUNT}", answered, _READ, RECONCILIATION_PARAMETERS),
        route(f"{prefix}/accounts", _accounts(service), _LISTED, ACCOUNTS_PARAMETERS),
        *(
            route(f"{prefix}{path}", handler, needs, parameters)
            for path, handler, needs, parameters in (
                *risk_routes(service.risk_reads),
                *analytics_routes(service.analytics),
            )
        ),
    ]


class _Routes:
    """Makes routes; each says what it needs, or that it is open to anybody."""

    def __init__(self, guard: AccessGuard) -> None:
        self._guard = guard

    def __call__(
        self,
        path: str,
        handler: Handler,
        needs: Needs | None,
        parameters: Sequence[Parameter] = (),
        methods: list[str] | None = None,
    ) -> Route:
        """Return a route that nobody passes without the right, and no unknown query parameter."""

        async def endpoint(request: Request) -> Response:
            if needs is not None:
                self._guard.admit(request, needs)
            check_parameters(request, parameters)
            if needs is None or not self._guard.is_on or request.method not in SAFE_METHODS:
                return await handler(request)
            held = partial(self._guard.ended, principal_of(request))
            return await while_held(handler(request), held)

        endpoint.needs = needs  # type: ignore[attr-defined]
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
            past = service.past.get(name, account_id, when, asker_of(request))
            answer = await unless_gone(request, past)
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


def guarded_check(service: Service) -> Handler:
    """Return the door for orders: a dry run reads, all else appends the order to a record."""

    async def check(request: Request) -> Response:
        is_closed = service.maintenance.mode != "open"
        if service.guard.is_on or is_closed:
            try:
                asked = await asked_of(request)
            except ContractError as error:
                return problem(
                    "invalid-order",
                    error.detail,
                    request.url.path,
                    reason=error.reason,
                    field=error.field,
                )
            action: Action = "read" if asked.dry_run else "append.record"
            for name in asked.accounts:
                service.guard.require(request, action, Resource("account", name))
            if is_closed and not asked.dry_run:
                return _read_only(request)
        return await service.risk(request)

    return check


def _append(service: Service) -> Handler:
    async def append(request: Request) -> Response:
        if service.maintenance.mode != "open":
            return _read_only(request)
        return await append_event(request, service.publisher, service.guard, service.signer)

    return append


def _read_only(request: Request) -> Response:
    detail = "this replica is in maintenance and appends nothing; ask again, or another one"
    return problem("read-only", detail, request.url.path, headers={"Retry-After": "10"})


def _live(service: Service) -> Handler:
    async def live(_request: Request) -> Response:
        status, kind, body = liveness(service.fault())
        return Response(body, status_code=status, media_type=kind, headers=_NO_STORE)

    return live


def _ready(service: Service, door: HealthDoor | None = None) -> Handler:
    async def ready(request: Request) -> Response:
        report = service.maintenance.applied(await service.health.report())
        is_open = report.status if door is None else report.doors[door]
        known = service.guard.known(request)
        body = msgspec.json.encode(told_to(known, report) if known else Readiness(is_open))
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
