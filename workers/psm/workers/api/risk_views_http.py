"""What was decided, and by which limits, over HTTP: `GET /psm/risk/{decisions,limits,state}`."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from psm.projections.names import ALL_NAMES, Names
from psm.risk.limits import CATALOGUE
from psm.workers.access.policy import EVERYTHING, Principal, names_of
from psm.workers.api.guard import Needs, principal_of
from psm.workers.api.parameters import (
    NUMBER,
    TEXT,
    TIME,
    Parameter,
    ParameterError,
    choice,
    clean,
    flag,
    integer,
    text_of,
    timestamp,
)
from psm.workers.api.parameters import limit as limit_parameter
from psm.workers.api.problems import problem
from psm.workers.api.risk_reads import (
    KINDS,
    LIMIT_DEFAULT,
    LIMIT_MAX,
    OUTCOMES,
    STATUSES,
    DecisionDocument,
    DecisionFilter,
    DecisionPage,
    LimitsPage,
    RiskReads,
    StatePage,
)

_JSON = "application/json"
_AFTER = re.compile(r"([0-9]{1,18}),(.{1,300})", re.DOTALL)
_HASH = "^[0-9a-fA-F]{64}$"

Handler = Callable[[Request], Awaitable[Response]]
Routes = list[tuple[str, Handler, Needs, tuple[Parameter, ...]]]

_SCOPE = Parameter(
    name="scope",
    description="Only of this scope: firm, group:x, account:x, strategy:x, symbol:x.",
    schema=TEXT,
)
_READ = Needs(action="read")
_LIMIT = limit_parameter(LIMIT_MAX, LIMIT_DEFAULT)
DECISIONS_PARAMETERS = (
    Parameter(name="account", description="Only of this account.", schema=TEXT),
    Parameter(name="order_id", description="Only of this order.", schema=TEXT),
    Parameter(name="strategy_id", description="Only of this strategy.", schema=TEXT),
    Parameter(name="symbol", description="Only of this symbol.", schema=TEXT),
    Parameter(
        name="decision",
        description="Only with this outcome.",
        schema={"type": "string", "enum": list(OUTCOMES)},
    ),
    Parameter(
        name="check",
        description="Only where this check did not pass.",
        schema={"type": "string", "enum": list(CATALOGUE)},
    ),
    Parameter(name="since", description="Only since this UTC time of the risk clock.", schema=TIME),
    Parameter(
        name="before",
        description="The risk_sequence with which the page before ended.",
        schema=NUMBER,
    ),
    _LIMIT,
)
LIMITS_PARAMETERS = (
    _SCOPE,
    Parameter(
        name="status",
        description="Only versions with this status.",
        schema={"type": "string", "enum": list(STATUSES)},
    ),
    Parameter(
        name="in_force",
        description="Only what holds now.",
        schema={"type": "boolean", "default": False},
    ),
    Parameter(name="after", description="The `next` of the page before.", schema=TEXT),
    _LIMIT,
)
STATE_PARAMETERS = (
    _SCOPE,
    Parameter(
        name="kind",
        description="Only of this kind.",
        schema={"type": "string", "enum": list(KINDS)},
    ),
    Parameter(name="after", description="The `next` of the page before.", schema=TEXT),
    _LIMIT,
)


def risk_routes(reads: RiskReads) -> Routes:
    """Return path behind `/psm`, handler, what it needs and query parameters of each route.

    Each shows only what the reader may know of.
    """

    async def decisions(request: Request) -> Response:
        page = await reads.decisions(_decision_filter(request))
        return _page(request, page, "before", page.next_before)

    async def decision(request: Request) -> Response:
        wanted = clean("decision_hash", request.path_params["decision_hash"])
        accounts = names_of(principal_of(request), "account")
        return _answer(await reads.decision(wanted, accounts))

    async def limits(request: Request) -> Response:
        page = await reads.limits(
            scope=text_of(request, "scope"),
            status=choice(request, "status", STATUSES),
            in_force=flag(request, "in_force"),
            after=_after(request),
            limit=_limit(request),
            scopes=scopes_of(principal_of(request)),
        )
        return _page(request, page, "after", page.next)

    async def state(request: Request) -> Response:
        page = await reads.state(
            scope=text_of(request, "scope"),
            kind=choice(request, "kind", KINDS),
            after=text_of(request, "after"),
            limit=_limit(request),
            scopes=scopes_of(principal_of(request)),
        )
        return _page(request, page, "after", page.next)

    return [
        ("/risk/decisions", decisions, _READ, DECISIONS_PARAMETERS),
        ("/risk/decisions/{decision_hash}", decision, _READ, ()),
        ("/risk/limits", limits, _READ, LIMITS_PARAMETERS),
        ("/risk/state", state, _READ, STATE_PARAMETERS),
    ]


async def unknown_decision(request: Request, error: Exception) -> Response:
    """Answer for a decision that the view does not have."""
    return problem("unknown-decision", str(error), request.url.path)


def risk_view_paths(
    prefix: str,
    name: Callable[[str, str], str],
    content: Callable[[type[msgspec.Struct]], dict[str, Any]],
    problems: Callable[[tuple[str, ...]], dict[str, Any]],
) -> dict[str, Any]:
    """Return the paths in the service's description of itself."""
    link = {"Link": {"description": "The next page, if any.", "schema": {"type": "string"}}}
    paths: dict[str, Any] = {}
    for path, parameters, struct, summary in _LISTS:
        paths[f"{prefix}{path}"] = {
            "get": {
                "operationId": name("get", f"{prefix}{path}"),
                "summary": summary,
                "parameters": [parameter.document() for parameter in parameters],
                "responses": {
                    "200": {"description": "A page.", "headers": link, **content(struct)},
                    **problems(("unavailable",)),
                },
            }
        }
    one = {
        "name": "decision_hash",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": _HASH},
    }
    path = f"{prefix}/risk/decision"
    paths[f"{prefix}/risk/decisions/{{decision_hash}}"] = {
        "get": {
            "operationId": name("get", path),
            "summary": "One decision: every check, and what it was based on.",
            "parameters": [one],
            "responses": {
                "200": {"description": "The decision.", **content(DecisionDocument)},
                **problems(("unknown-decision", "unavailable")),
            },
        }
    }
    return paths


_LISTS: tuple[tuple[str, tuple[Parameter, ...], type[msgspec.Struct], str], ...] = (
    ("/risk/decisions", DECISIONS_PARAMETERS, DecisionPage, "Risk decisions, the newest first."),
    ("/risk/limits", LIMITS_PARAMETERS, LimitsPage, "Limits by scope and version, and by whom."),
    (
        "/risk/state",
        STATE_PARAMETERS,
        StatePage,
        "Latches, halts and near limits that hold, and the last figures.",
    ),
)
RISK_STRUCTS = (DecisionPage, DecisionDocument, LimitsPage, StatePage)


def scopes_of(principal: Principal) -> Names:
    """Return the scopes of limits that a principal may know of: they are named as patterns are."""
    if EVERYTHING in principal.patterns:
        return ALL_NAMES
    return Names(principal.patterns)


def _decision_filter(request: Request) -> DecisionFilter:
    since = timestamp(request, "since")
    return DecisionFilter(
        account_id=text_of(request, "account"),
        order_id=text_of(request, "order_id"),
        strategy_id=text_of(request, "strategy_id"),
        symbol=text_of(request, "symbol"),
        decision=choice(request, "decision", OUTCOMES),
        check=choice(request, "check", tuple(CATALOGUE)),
        since=None if since is None else msgspec.convert(since, datetime, strict=False),
        before=integer(request, "before"),
        limit=_limit(request),
        accounts=names_of(principal_of(request), "account"),
    )


def _limit(request: Request) -> int:
    limit = integer(request, "limit") or LIMIT_DEFAULT
    if limit > LIMIT_MAX:
        raise ParameterError(f"limit must be at most {LIMIT_MAX}; follow the link for more")
    return limit


def _after(request: Request) -> tuple[str, int] | None:
    text = text_of(request, "after")
    if text is None:
        return None
    found = _AFTER.fullmatch(text)
    if found is None:
        raise ParameterError("after must be the `next` of the page before")
    return found[2], int(found[1])


def _page(
    request: Request, page: msgspec.Struct, name: str, following: int | str | None
) -> Response:
    headers = {}
    if following is not None:
        query = urlencode({**request.query_params, name: following})
        headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
    return _answer(page, headers)


def _answer(document: msgspec.Struct, headers: dict[str, str] | None = None) -> Response:
    kept = {"Cache-Control": "no-store", **(headers or {})}
    return Response(msgspec.json.encode(document), media_type=_JSON, headers=kept)
