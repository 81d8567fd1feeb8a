"""Live reads of HTTP and NATS request-reply: the owner's document, and its ETag."""

from __future__ import annotations

import msgspec
from starlette.requests import Request

from psm.contracts.live import (
    AsOf,
    LiveQuestion,
    LiveRead,
    MalformedQuestionError,
)
from psm.contracts.subjects import STREAM_ID_RULE, is_stream_id
from psm.workers.api.parameters import ParameterError, flag, integer, seconds
from psm.workers.api.reads import WAIT_DEFAULT_S, WAIT_MAX_S, Answer
from psm.workers.fleet.live_reads import Owners
from psm.workers.partition.live_reads import LiveOutcome

LIVE_PROBLEMS: dict[LiveOutcome, str] = {
    "handover": "no-owner",
    "silent": "no-owner",
    "busy": "too-many-live-reads",
    "unknown_account": "unknown-account",
    "not_reached": "not-reached",
    "too_large": "document-too-large",
    "failed": "unavailable",
}
"""Outcome -> kind of problem."""


class _Identity(msgspec.Struct, frozen=True):
    as_of: AsOf
    state_hash: str


_identity = msgspec.json.Decoder(_Identity)


class LiveReads:
    """Asks the owners of accounts."""

    def __init__(self, owners: Owners) -> None:
        self._owners = owners

    async def get(self, question: LiveQuestion) -> Answer:
        """Return a document as its owner has it.

        Raises:
            LiveRefusedError: the owner refuses, or there is none now.
            TransientError: NATS is away.
        """
        body = await self._owners.ask(question)
        identity = _identity.decode(body)
        return Answer(body=body, etag=f'"{identity.as_of.log_sequence}-{identity.state_hash}"')


def live_question(request: Request, read: LiveRead) -> LiveQuestion | None:
    """Return the live read that a request asks for; None if it asks for none.

    Raises:
        ParameterError: a parameter cannot be read, or means nothing here.
        MalformedQuestionError: there can be no such account.
    """
    if not flag(request, "live"):
        if "min_log_sequence" in request.query_params:
            raise ParameterError("min_log_sequence has no effect without live=1")
        return None
    for other in ("at_sequence", "at"):
        if other in request.query_params:
            raise ParameterError(f"live is of now; leave it out with {other}")
    account_id = request.path_params["account_id"]
    if not is_stream_id(account_id):
        raise MalformedQuestionError(f"an account id is {STREAM_ID_RULE}")
    return LiveQuestion(
        account_id=account_id,
        read=read,
        min_sequence=integer(request, "min_sequence") or 0,
        min_log_sequence=integer(request, "min_log_sequence") or 0,
        timeout_ms=round(1000 * seconds(request, "timeout_s", WAIT_DEFAULT_S, WAIT_MAX_S)),
    )
