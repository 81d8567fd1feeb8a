"""RFC 9457 problem details: what every HTTP error looks like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from psm.contracts.errors import ContractError

MEDIA_TYPE = "application/problem+json"

TITLES: dict[str, tuple[int, str]] = {
    "malformed-request": (400, "Not a request of HTTP/1.1"),
    "malformed-account-id": (400, "Malformed account id"),
    "malformed-parameter": (400, "Malformed query parameter"),
    "invalid-json": (400, "The body is not JSON"),
    "malformed-token": (400, "There can be no such token"),
    "client-gone": (400, "The client left before its request was complete"),
    "no-credentials": (401, "No credentials"),
    "bad-credentials": (401, "These credentials open nothing"),
    "not-allowed": (403, "Not allowed"),
    "foreign-origin": (403, "A page of another origin asked"),
    "unknown-proxy": (403, "Only known proxies may ask here"),
    "ingest-off": (403, "Appending is switched off"),
    "operators-only": (403, "Only operators may append this"),
    "unknown-account": (404, "Unknown account"),
    "no-report": (404, "Nobody reported about the account"),
    "no-such-state": (404, "The account had no such state"),
    "unknown-event": (404, "Unknown event"),
    "unknown-decision": (404, "Unknown decision"),
    "unknown-book": (404, "Unknown order book"),
    "unknown-correlation": (404, "Unknown correlation"),
    "unknown-group": (404, "Unknown group"),
    "unknown-token": (404, "Unknown token"),
    "access-off": (409, "Access is not controlled here"),
    "no-group": (404, "The account is in no risk group"),
    "unknown-path": (404, "Unknown path"),
    "wrong-method": (405, "Method not allowed"),
    "request-timeout": (408, "The request took too long to arrive"),
    "conflict": (409, "The event contradicts the log"),
    "book-not-synced": (409, "The order book is not one to read now"),
    "mixed-currencies": (409, "Members have different currencies"),
    "view-stale": (409, "The view cannot have this version"),
    "body-too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "Only JSON is accepted"),
    "document-too-large": (422, "The document is too large"),
    "unknown-host": (421, "This service has another name"),
    "invalid-event": (422, "Not an event of the contract"),
    "invalid-order": (422, "Not an order of the contract"),
    "too-many-failures": (429, "Too many failed tries"),
    "too-many-folds": (429, "Too many questions about the past"),
    "too-many-live-reads": (429, "Live reads take more than their share"),
    "too-many-checks": (429, "Too many orders wait for a decision"),
    "internal": (500, "Internal error"),
    "unavailable": (503, "An outside system is away"),
    "read-only": (503, "Nothing is appended here now"),
    "no-owner": (503, "Nobody can answer from the books now"),
    "no-risk-engine": (503, "Nobody decides on orders here"),
    "not-decided": (504, "The order was not decided in time"),
    "not-reached": (504, "The version was not reached in time"),
}
"""Kind -> status and title. The kind is the last part of a problem's `type`."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of an error.

    Attributes:
        type: `urn:psm:problem:<kind>`; stable, to branch on.
        title: the kind in words.
        status: HTTP status.
        detail: what happened here, and what to do.
        instance: path of the request.
        reason: code of the contract, for events that are refused.
        field: path of the offending field.
        reached_sequence: version that the view has, where one was waited for.
        state, since: of an order book that must not be read.
    """

    type: str
    title: str
    status: int
    detail: str
    instance: str
    reason: str | None = None
    field: str | None = None
    reached_sequence: int | None = None
    state: str | None = None
    since: str | None = None


def problem(
    kind: str,
    detail: str,
    instance: str,
    *,
    headers: Mapping[str, str] | None = None,
    **extra: Any,
) -> Response:
    """Return the response for a problem of a known kind."""
    status, title = TITLES[kind]
    body = Problem(
        type=f"urn:psm:problem:{kind}",
        title=title,
        status=status,
        detail=detail,
        instance=instance,
        **extra,
    )
    return Response(
        msgspec.json.encode(body),
        status_code=status,
        media_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def contract_problem(error: ContractError, instance: str) -> Response:
    """Return the response for something that is not an event of the contract."""
    kind = "invalid-json" if error.reason == "invalid_json" else "invalid-event"
    return problem(kind, error.detail, instance, reason=error.reason, field=error.field)
