"""Messages that changed nothing, over HTTP: `GET /psm/refusals`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from psm.contracts.reasons import REASONS
from psm.workers.access.policy import names_of
from psm.workers.api.guard import principal_of
from psm.workers.api.parameters import (
    REFUSALS_PARAMETERS,
    ParameterError,
    integer,
    text_of,
    timestamp,
)
from psm.workers.archive.reads import LIMIT_DEFAULT, LIMIT_MAX, ArchiveReads
from psm.workers.archive.refusals import RefusalFilter, RefusalPage

_JSON = "application/json"


def refusals_of(archive: ArchiveReads) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler of `GET /psm/refusals?account=&since=&reason=&before=&limit=`."""

    async def refusals(request: Request) -> Response:
        page = await archive.refusals(_filter(request))
        headers = {"Cache-Control": "no-store"}
        if page.next_before is not None:
            following = urlencode({**request.query_params, "before": page.next_before})
            headers["Link"] = f'<{request.url.path}?{following}>; rel="next"'
        return Response(msgspec.json.encode(page), media_type=_JSON, headers=headers)

    return refusals


def refusals_path(
    name: str,
    content: Callable[[type[msgspec.Struct]], dict[str, Any]],
    problems: Callable[[tuple[str, ...]], dict[str, Any]],
) -> dict[str, Any]:
    """Return the path in the service's description; `content` and `problems` make the answers."""
    link = {"Link": {"description": "The next page, if any.", "schema": {"type": "string"}}}
    return {
        "get": {
            "operationId": name,
            "summary": "Messages that changed nothing, the newest first.",
            "parameters": [parameter.document() for parameter in REFUSALS_PARAMETERS],
            "responses": {
                "200": {"description": "A page.", "headers": link, **content(RefusalPage)},
                **problems(("unavailable",)),
            },
        }
    }


def _filter(request: Request) -> RefusalFilter:
    reason, since = request.query_params.get("reason"), timestamp(request, "since")
    if reason is not None and reason not in REASONS:
        raise ParameterError(f"{reason[:64]!r} is no reason code; docs/reasons.md lists them")
    limit = integer(request, "limit") or LIMIT_DEFAULT
    if limit > LIMIT_MAX:
        raise ParameterError(f"limit must be at most {LIMIT_MAX}; follow next_before for more")
    return RefusalFilter(
        account_id=text_of(request, "account"),
        reason=reason,
        since=None if since is None else msgspec.convert(since, datetime, strict=False),
        before=integer(request, "before"),
        accounts=names_of(principal_of(request), "account"),
        limit=limit,
    )
