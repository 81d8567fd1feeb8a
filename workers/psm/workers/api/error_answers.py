"""What the HTTP API answers to what goes wrong: each error a problem of its kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from psm.adapters.logs import get_logger
from psm.contracts.errors import ConfigError, TransientError
from psm.contracts.live import MalformedQuestionError
from psm.workers.api.analytics_http import ANALYTICS_PROBLEMS, analytics_problem
from psm.workers.api.archive_http import PROBLEMS, archive_problem
from psm.workers.api.fold_turns import TooManyFoldsError
from psm.workers.api.guard import DENIALS, AccessGuard, denial
from psm.workers.api.live_reads import LIVE_PROBLEMS
from psm.workers.api.market_http import MARKET_PROBLEMS
from psm.workers.api.parameters import ParameterError
from psm.workers.api.problems import TITLES, problem
from psm.workers.api.reads import (
    MalformedAccountError,
    NoReportError,
    NotReachedError,
    StaleViewError,
    UnknownAccountError,
)
from psm.workers.api.risk_reads import UnknownDecisionError
from psm.workers.api.risk_views_http import unknown_decision
from psm.workers.history.timeline import NoSuchPlaceError, UnknownStreamError
from psm.workers.partition.live_reads import LiveRefusedError

_log = get_logger()


def problem_answers(guard: AccessGuard) -> dict[Any, Callable[[Request, Exception], Any]]:
    """Return the answer to each kind of error; refusals of `guard` are told and counted."""
    return {
        **dict.fromkeys(DENIALS, denial(guard)),
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
        UnknownDecisionError: unknown_decision,
        **dict.fromkeys(ANALYTICS_PROBLEMS, analytics_problem),
        **MARKET_PROBLEMS,
        TransientError: _unavailable,
        ConfigError: _unavailable,
        Exception: _internal,
    }


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
