"""The event archive over HTTP: lists, single events, causes, explanations, correlations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from psm.workers.access.policy import Principal, names_of
from psm.workers.api.guard import Needs, principal_of
from psm.workers.api.parameters import (
    EVENTS_PARAMETERS,
    MESSAGE_PARAMETERS,
    Parameter,
    ParameterError,
    clean,
    integer,
    text_of,
)
from psm.workers.api.problems import problem
from psm.workers.archive.reads import (
    LIMIT_DEFAULT,
    LIMIT_MAX,
    ArchiveReads,
    DocumentTooLargeError,
    Filter,
    NotArchivedError,
    UnknownCorrelationError,
)
from psm.workers.archive.visible import Visible

_JSON = "application/json"
_NO_STORE = {"Cache-Control": "no-store"}

Handler = Callable[[Request], Awaitable[Response]]
Document = Callable[[str, Visible], Awaitable[bytes]]

_LISTED, _EXPLAINED = Needs(action="events.read"), Needs(action="explain")


def archive_routes(
    archive: ArchiveReads,
) -> list[tuple[str, Handler, Needs, tuple[Parameter, ...]]]:
    """Return path, handler, what it needs and query parameters of each route of the archive.

    What a reader may see is looked at by each of them: an event says whose it is.
    """

    async def events(request: Request) -> Response:
        return await _events(request, archive)

    async def message(request: Request) -> Response:
        return await _message(request, archive)

    return [
        ("/events", events, _LISTED, EVENTS_PARAMETERS),
        ("/events/{event_id}/bytes", message, _LISTED, MESSAGE_PARAMETERS),
        ("/events/{event_id}", _one("event_id", archive.event), _LISTED, ()),
        ("/events/{event_id}/causation", _one("event_id", archive.causation), _EXPLAINED, ()),
        ("/events/{event_id}/explain", _one("event_id", archive.explain), _EXPLAINED, ()),
        # A correlation id is any text, slashes too.
        (
            "/correlations/{correlation_id:path}",
            _one("correlation_id", archive.correlation),
            _EXPLAINED,
            (),
        ),
    ]


async def archive_problem(request: Request, error: Exception) -> Response:
    """Answer for an event or correlation that the archive does not have, or cannot show."""
    return problem(PROBLEMS[type(error)], str(error), request.url.path)


PROBLEMS: dict[type[Exception], str] = {
    NotArchivedError: "unknown-event",
    UnknownCorrelationError: "unknown-correlation",
    DocumentTooLargeError: "document-too-large",
}
"""Errors that `archive_problem` answers, and the kinds of their problems."""


def visible_to(principal: Principal) -> Visible:
    """Return what of the archive a principal may see."""
    return Visible(accounts=names_of(principal, "account"), streams=names_of(principal, "stream"))


def _one(name: str, read: Document) -> Handler:
    async def answer(request: Request) -> Response:
        wanted = clean(name, request.path_params[name])
        body = await read(wanted, visible_to(principal_of(request)))
        return Response(body, media_type=_JSON, headers=_NO_STORE)

    return answer


async def _events(request: Request, archive: ArchiveReads) -> Response:
    """Answer `GET /events?from_sequence=&to_sequence=&stream_id=&event_type=&limit=`."""
    limit = integer(request, "limit") or LIMIT_DEFAULT
    if limit > LIMIT_MAX:
        raise ParameterError(f"limit must be at most {LIMIT_MAX}; follow next_sequence for more")
    wanted = Filter(
        from_sequence=integer(request, "from_sequence"),
        to_sequence=integer(request, "to_sequence"),
        stream_id=text_of(request, "stream_id"),
        event_type=text_of(request, "event_type"),
        visible=visible_to(principal_of(request)),
        limit=limit,
    )
    page = await archive.events(wanted)
    headers = dict(_NO_STORE)
    if page.next_sequence is not None:
        following = urlencode({**request.query_params, "from_sequence": page.next_sequence})
        headers["Link"] = f'<{request.url.path}?{following}>; rel="next"'
    return Response(msgspec.json.encode(page), media_type=_JSON, headers=headers)


async def _message(request: Request, archive: ArchiveReads) -> Response:
    """Answer `GET /events/{event_id}/bytes?offset=`: a piece of the message, exactly as stored."""
    offset = integer(request, "offset", least=0) or 0
    wanted = clean("event_id", request.path_params["event_id"])
    piece = await archive.message(wanted, offset, visible_to(principal_of(request)))
    headers = {**_NO_STORE, "Psm-Total-Bytes": str(piece.total)}
    if (end := offset + len(piece.data)) < piece.total:
        headers["Link"] = f'<{request.url.path}?offset={end}>; rel="next"'
    # Never a type that a browser would show: these are a producer's bytes.
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Content-Disposition"] = "attachment"
    return Response(piece.data, media_type="application/octet-stream", headers=headers)
