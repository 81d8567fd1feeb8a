"""`POST /psm/risk/check`: may this order be sent? AskedOrder of a risk worker over NATS."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import nats.errors
from nats.aio.client import Client
from starlette.requests import Request
from starlette.responses import Response

from psm.contracts import codec
from psm.contracts.envelope import MAX_BODY_BYTES
from psm.contracts.errors import ContractError
from psm.contracts.subjects import RISK_CHECK
from psm.workers.api.problems import TITLES, problem
from psm.workers.risk.door import PROBLEM_HEADER, WAIT_DEFAULT_MS, WAIT_MAX_MS

RISK_PROBLEMS = (
    *("invalid-order", "no-group", "unsupported-media-type", "body-too-large"),
    *("too-many-checks", "no-risk-engine", "no-owner", "not-decided", "read-only", "unavailable"),
)
_JSON = "application/json"
_DESCRIPTION = "Nats-Service-Error"
_STATUS = "Nats-Service-Error-Code"
_MORE_S = 2.0
_RETRY = (429, 503, 504)

Handler = Callable[[Request], Awaitable[Response]]


class AskedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Whose order is asked about, and whether only for the sake of asking.

    Attributes:
        accounts: that it names: of the order, and of the event around it.
    """

    accounts: tuple[str, ...]
    dry_run: bool


class _Question(msgspec.Struct, frozen=True):
    order: msgspec.Raw
    dry_run: bool = False


class _Wait(msgspec.Struct, frozen=True):
    timeout_ms: int = WAIT_DEFAULT_MS


def risk_check(nc: Client) -> Handler:
    """Return the handler; what it answers is the decision as it is stored."""

    async def check(request: Request) -> Response:
        path = request.url.path
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
            return problem("unsupported-media-type", f"send Content-Type: {_JSON}", path)
        body = await request.body()
        if len(body) > MAX_BODY_BYTES:
            return problem("body-too-large", f"a question has {MAX_BODY_BYTES} bytes at most", path)
        try:
            answer = await nc.request(RISK_CHECK, body, timeout=_wait_s(body))
        except nats.errors.NoRespondersError:
            return _problem("no-risk-engine", "no `psm risk worker` runs here", path)
        except nats.errors.TimeoutError:
            detail = "no risk worker has answered; ask again with the same order"
            return _problem("not-decided", detail, path)
        except nats.errors.Error as error:
            return _problem("unavailable", f"NATS is away: {error}", path)
        headers = answer.headers or {}
        if _STATUS in headers:
            kind = headers.get(PROBLEM_HEADER, "unavailable")
            return _problem(kind, headers.get(_DESCRIPTION, ""), path)
        return Response(answer.data, media_type=_JSON, headers={"Cache-Control": "no-store"})

    return check


async def asked_of(request: Request) -> AskedOrder:
    """Return what a question is about.

    Raises:
        ContractError: it does not say whose order it is.
    """
    try:
        question = msgspec.json.decode(await request.body(), type=_Question)
        fields = codec.decode_untyped(bytes(question.order))
        order = fields["payload"] if "event_type" in fields else fields
        named = [order["account_id"]]
        if "event_type" in fields and "stream_id" in fields:
            named.append(fields["stream_id"])  # the archive lists the event under it
    except (*codec.INVALID_JSON, LookupError, TypeError) as error:
        raise ContractError("missing_field", "the order names no account_id", "order") from error
    if not all(isinstance(name, str) for name in named):
        raise ContractError("malformed_field", "account_id must be a text", "order.account_id")
    return AskedOrder(accounts=tuple(named), dry_run=question.dry_run)


def _wait_s(body: bytes) -> float:
    """Return how long the worker may take; what is no question it refuses at once."""
    try:
        timeout_ms = msgspec.json.decode(body, type=_Wait).timeout_ms
    except codec.INVALID_JSON:
        timeout_ms = WAIT_DEFAULT_MS
    return min(max(timeout_ms, 0), WAIT_MAX_MS) / 1000 + _MORE_S


def _problem(kind: str, detail: str, path: str) -> Response:
    known = kind if kind in TITLES else "unavailable"
    headers = {"Retry-After": "1"} if TITLES[known][0] in _RETRY else {}
    return problem(known, detail, path, headers=headers)


def risk_path(name: str, problems: Callable[[tuple[str, ...]], dict[str, Any]]) -> dict[str, Any]:
    """Return the path in the service's description of itself."""
    question = {
        "type": "object",
        "required": ["order"],
        "additionalProperties": False,
        "properties": {
            "order": {
                "type": "object",
                "description": "Payload of an `order_request`, or the whole event.",
            },
            "dry_run": {
                "type": "boolean",
                "default": False,
                "description": "Decide on the state as it is; append and store nothing.",
            },
            "timeout_ms": {
                "type": "integer",
                "minimum": 1,
                "maximum": WAIT_MAX_MS,
                "default": WAIT_DEFAULT_MS,
            },
        },
    }
    return {
        "post": {
            "operationId": name,
            "summary": "May this order be sent? Answered once the decision is stored.",
            "requestBody": {"required": True, "content": {_JSON: {"schema": question}}},
            "responses": {
                "200": {
                    "description": "The event `risk_decision`: approved, reduced or rejected.",
                    "content": {_JSON: {"schema": {"type": "object"}}},
                },
                **problems(RISK_PROBLEMS),
            },
        }
    }
