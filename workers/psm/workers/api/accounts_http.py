"""`GET /psm/accounts`: who is in trouble?"""

from __future__ import annotations

import hashlib
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request

from psm.contracts.flags import FLAGS
from psm.workers.access.policy import names_of
from psm.workers.api.guard import principal_of
from psm.workers.api.parameters import ParameterError, choice, integer, text_of
from psm.workers.api.reads import (
    ACCOUNT_ORDERS,
    ACCOUNTS_DEFAULT,
    ACCOUNTS_MAX,
    Answer,
    MalformedPlaceError,
    Reads,
)


async def accounts_answer(request: Request, reads: Reads) -> tuple[Answer, str | None]:
    """Return the page that a request asks for, and a link to the next one."""
    limit = integer(request, "limit") or ACCOUNTS_DEFAULT
    if limit > ACCOUNTS_MAX:
        raise ParameterError(f"limit must be at most {ACCOUNTS_MAX}; follow next for more")
    try:
        page = await reads.accounts(
            choice(request, "sort", ACCOUNT_ORDERS, ACCOUNT_ORDERS[0]),
            flag=choice(request, "flag", FLAGS),
            after=text_of(request, "after"),
            limit=limit,
            visible=names_of(principal_of(request), "account"),
        )
    except MalformedPlaceError as error:
        raise ParameterError(str(error)) from error
    body = msgspec.json.encode(page)
    answer = Answer(body=body, etag=f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    if page.next is None:
        return answer, None
    following = urlencode({**request.query_params, "after": page.next})
    return answer, f'<{request.url.path}?{following}>; rel="next"'
