"""The event archive over HTTP: lists, single events, causes, explanations, correlations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from psm.workers.api.past_http import ParameterError, integer
from psm.workers.api.problems import problem
from psm.workers.archive.reads import (
    LIMIT_DEFAULT,
    LIMIT_MAX,
    ArchiveReads,
    Filter,
    UnknownCorrelationError,
    UnknownEventError,
)

_JSON = "application/json"
_NO_STORE = {"Cache-Control": "no-store"}
_FILTERS = ("from_sequence", "to_sequence", "stream_id", "event_type", "limit")


def archive_routes(archive: ArchiveReads) -> list[Route]:
    """Return the routes of the archive."""

    async def events(request: Request) -> Response:
        return await _events(request, archive)

    return [
        Route("/events", events),
        Route("/events/{event_id}", _one("event_id", archive.event)),
        Route("/events/{event_id}/causation", _one("event_id", archive.causation)),
        Route("/events/{event_id}/explain", _one("event_id", archive.explain)),
        # A correlation id is any text, slashes too.
        Route("/correlations/{correlation_id:path}", _one("correlation_id", archive.correlation)),
    ]


async def unknown_event(request: Request, error: Exception) -> Response:
    """Answer for an event or correlation that is not in the archive."""
    kind = "unknown-event" if isinstance(error, UnknownEventError) else "unknown-correlation"
    return problem(kind, str(error), request.url.path)


UNKNOWN = (UnknownEventError, UnknownCorrelationError)
"""Errors that `unknown_event` answers."""


def _one(
    name: str, read: Callable[[str], Awaitable[bytes]]
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        body = await read(_clean(name, request.path_params[name]))
        return Response(body, media_type=_JSON, headers=_NO_STORE)

    return answer


async def _events(request: Request, archive: ArchiveReads) -> Response:
    """Answer `GET /events?from_sequence=&to_sequence=&stream_id=&event_type=&limit=`."""
    given = request.query_params
    if unknown := sorted(set(given) - set(_FILTERS)):
        raise ParameterError(f"{unknown[0]} is not a parameter here; there are {_listed()}")
    limit = integer(request, "limit") or LIMIT_DEFAULT
    if limit > LIMIT_MAX:
        raise ParameterError(f"limit must be at most {LIMIT_MAX}; follow next_sequence for more")
    wanted = Filter(
        from_sequence=integer(request, "from_sequence"),
        to_sequence=integer(request, "to_sequence"),
        stream_id=_text(request, "stream_id"),
        event_type=_text(request, "event_type"),
        limit=limit,
    )
    page = await archive.events(wanted)
    headers = dict(_NO_STORE)
    if page.next_sequence is not None:
        following = urlencode({**given, "from_sequence": page.next_sequence})
        headers["Link"] = f'<{request.url.path}?{following}>; rel="next"'
    return Response(msgspec.json.encode(page), media_type=_JSON, headers=headers)


def _text(request: Request, name: str) -> str | None:
    text = request.query_params.get(name)
    return None if text is None else _clean(name, text)


def _clean(name: str, text: str) -> str:
    if "\0" in text:
        raise ParameterError(f"{name} holds a character that no event has")
    return text


def _listed() -> str:
    return ", ".join(_FILTERS)
