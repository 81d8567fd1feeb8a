"""`POST /psm/events`: the door for producers that speak HTTP. Off unless asked for."""

from __future__ import annotations

import msgspec
from opentelemetry import context, propagate
from starlette.requests import Request
from starlette.responses import Response

from psm.adapters.wall_clock import now_text
from psm.contracts.codec import decode_untyped
from psm.contracts.control_events import CONTROL_SUBJECTS
from psm.contracts.drafts import draft_of
from psm.contracts.envelope import MAX_BODY_BYTES
from psm.contracts.errors import ConfigError, ConflictError, ContractError, TransientError
from psm.contracts.publisher import Appended, Publisher, Vouch
from psm.contracts.sequencing import OPERATOR_EVENTS
from psm.contracts.table_events import TABLE_SUBJECTS
from psm.workers.access.policy import Action, Resource
from psm.workers.access.vouched import HEADER, Signer
from psm.workers.api.guard import AccessGuard, principal_of
from psm.workers.api.problems import contract_problem, problem

OPERATOR_ONLY = frozenset({*CONTROL_SUBJECTS, *OPERATOR_EVENTS})
_TRANSFERS = frozenset({"TransferredIn", "TransferredOut"})
_RETRY = {"Retry-After": "1"}


async def append_event(
    request: Request, publisher: Publisher | None, guard: AccessGuard, signer: Signer | None
) -> Response:
    """Append the event in the body: 201 when it is new, 200 when the log has it already.

    Raises:
        ForbiddenError, ForeignError: who asks may not append it.
    """
    path = request.url.path
    if publisher is None:
        return problem(
            "ingest-off",
            "this service only reads; start it with `psm serve --ingest` or PSM_INGEST=true",
            path,
        )
    media_type = request.headers.get("content-type", "").partition(";")[0]
    if media_type.strip().lower() != "application/json":
        return problem("unsupported-media-type", "send Content-Type: application/json", path)
    body = await _body(request)
    if body is None:
        return problem("body-too-large", f"an event has at most {MAX_BODY_BYTES} bytes", path)
    try:
        fields = decode_untyped(body)
    except ContractError as error:
        return contract_problem(error, path)
    event_type = fields.get("event_type")
    if isinstance(event_type, str) and event_type in OPERATOR_ONLY:
        # Unknown rules would stop every worker: that is no business of a trading service.
        detail = "publish it to its subject with the operator's own NATS credentials"
        return problem("operators-only", detail, path)
    # The caller's trace goes on in the headers of the message.
    token = context.attach(propagate.extract(dict(request.headers)))
    try:
        _require(request, guard, body)
        appended = await publisher.append(body, vouch=_vouch(request, signer))
    except ContractError as error:
        return contract_problem(error, path)
    except ConflictError as error:
        return problem("conflict", str(error), path)
    except (TransientError, ConfigError) as error:
        detail = f"{error}; it may be stored: send the same event again"
        return problem("unavailable", detail, path, headers=_RETRY)
    finally:
        context.detach(token)
    if appended.duplicate and guard.is_on:
        # Its author stays who was first; that somebody sent it again is kept, too.
        event = f"event:{appended.event_hash}"
        guard.tell("http.repeated", principal_of(request), "append.repeated", resource=event)
    return _answer(appended)


def _vouch(request: Request, signer: Signer | None) -> Vouch | None:
    """Return what signs who asks; None where nobody is known, or nobody signs."""
    principal = principal_of(request)
    if signer is None or principal.how == "off":
        return None

    def vouch(subject: str, event_hash: bytes) -> dict[str, str]:
        at = now_text("milliseconds")
        return {HEADER: signer.header(principal, subject, event_hash, at)}

    return vouch


def _require(request: Request, guard: AccessGuard, body: bytes) -> None:
    if guard.is_on:
        for action, resource in _written(body):
            guard.require(request, action, resource)


def _written(body: bytes) -> list[tuple[Action, Resource]]:
    """Return the rights that appending an event needs, and to what: accounts, or a symbol.

    A transfer names two accounts of the house, and needs both: what moves one without the other
    would be money from nowhere, in somebody else's name.

    Raises:
        ContractError: it is no event.
    """
    draft = draft_of(body, validate=False)
    envelope = draft.envelope
    if envelope.event_type in TABLE_SUBJECTS:
        return [("append.market", Resource("symbol", envelope.stream_id))]
    named = [envelope.stream_id]
    if envelope.event_type in _TRANSFERS:
        payload = decode_untyped(draft.body).get("payload")
        other = payload.get("counterparty") if isinstance(payload, dict) else None
        if other is not None:
            named.append(str(other))
    return [("append", Resource("account", name)) for name in named]


def _answer(appended: Appended) -> Response:
    headers = {"Cache-Control": "no-store"}
    if appended.sequence_number is not None:
        state = f"/psm/state/{appended.stream_id}?min_sequence={appended.sequence_number}"
        headers["Link"] = f'<{state}>; rel="related"'
    else:  # a report: it takes no place, and is answered
        at = f"min_log_sequence={appended.log_sequence}"
        headers["Link"] = f'</psm/reconciliation/{appended.stream_id}?{at}>; rel="related"'
    return Response(
        msgspec.json.encode(appended),
        status_code=200 if appended.duplicate else 201,
        media_type="application/json",
        headers=headers,
    )


async def _body(request: Request) -> bytes | None:
    """The body, or None if it is larger than an event may be; never read further than that."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > MAX_BODY_BYTES:
        return None
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            return None
        chunks.append(chunk)
    return b"".join(chunks)
