"""The past over HTTP: documents at a number or a time, verification, and whole replays."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import msgspec
from nats.aio.client import Client
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from psm.contracts.codec import is_timestamp
from psm.contracts.subjects import STREAM_ID_RULE, is_stream_id
from psm.workers.api.reads import Answer, MalformedAccountError, ReadName
from psm.workers.past.account_replay import Selection, Step, replay_account
from psm.workers.past.places import LogShape
from psm.workers.past.state import When, past_state
from psm.workers.past.verify import is_hash, verify

NDJSON = "application/x-ndjson"
FOLDS_AT_ONCE = 2
_SEQUENCE_MAX = 2**63 - 1


class ParameterError(ValueError):
    """A query parameter that cannot be read."""


class Past:
    """Answers questions about the past from the log.

    A fold keeps a processor busy, so only `FOLDS_AT_ONCE` run at a time and others wait.
    """

    def __init__(self, nc: Client, shape: LogShape) -> None:
        self._nc = nc
        self._shape = shape
        self._turn = asyncio.Semaphore(FOLDS_AT_ONCE)

    async def get(self, name: ReadName, account_id: str, when: When) -> Answer:
        """Return one document as it was.

        Raises:
            MalformedAccountError: `account_id` cannot exist.
            UnknownStreamError, NoSuchPlaceError: there was no such state.
            TransientError: NATS is away.
        """
        _check(account_id)
        async with self._turn:
            past = await past_state(self._nc, self._shape, account_id, when)
        body = msgspec.json.encode(past.document(name))
        return Answer(body=body, etag=f'"{hashlib.sha256(body).hexdigest()[:32]}"')

    async def verify(self, request: Request) -> Response:
        """Answer `GET /psm/verify/{account_id}?sequence=&ledger_hash=`."""
        account_id = request.path_params["account_id"]
        _check(account_id)
        number = integer(request, "sequence")
        given = request.query_params.get("ledger_hash", "")
        if number is None:
            raise ParameterError("sequence is missing: the number of the event to compare after")
        if not is_hash(given):
            raise ParameterError("ledger_hash must be the 64 hex digits of a SHA-256")
        async with self._turn:
            answer = await verify(self._nc, self._shape, account_id, number, given)
        headers = {"Cache-Control": "no-store"}
        return Response(msgspec.json.encode(answer), media_type="application/json", headers=headers)

    async def replay(self, request: Request) -> Response:
        """Answer `GET /psm/replay/{account_id}?from=&to=`: one JSON document a line and event."""
        account_id = request.path_params["account_id"]
        _check(account_id)
        selection = Selection(
            first=integer(request, "from_sequence") or 1,
            last=integer(request, "to_sequence"),
            since=timestamp(request, "from"),
            until=timestamp(request, "to"),
            log_time=flag(request, "log_time"),
        )
        steps = self._steps(account_id, selection)
        first = await anext(steps, None)  # an error of the log must not come behind a 200
        return StreamingResponse(
            _lines(first, steps), media_type=NDJSON, headers={"Cache-Control": "no-store"}
        )

    async def _steps(self, account_id: str, selection: Selection) -> AsyncIterator[Step]:
        async with self._turn:
            async for step in replay_account(
                self._nc,
                account_id,
                partitions=self._shape.partitions,
                valuation_interval_ns=self._shape.valuation_interval_ns,
                selection=selection,
            ):
                yield step


def when_of(request: Request) -> When | None:
    """Return the moment that a request asks for; None for now.

    Raises:
        ParameterError: a parameter cannot be read, or two contradict each other.
    """
    sequence, at = integer(request, "at_sequence"), timestamp(request, "at")
    if sequence is None and at is None:
        return None
    if sequence is not None and at is not None:
        raise ParameterError("give at_sequence or at, not both")
    if "min_sequence" in request.query_params:
        raise ParameterError("min_sequence waits for the present; leave it out with at")
    return When(sequence=sequence, at=at, log_time=flag(request, "log_time"))


def integer(request: Request, name: str) -> int | None:
    """Return a query parameter that is a number from 1, None if it is not given."""
    text = request.query_params.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text[:20]) <= _SEQUENCE_MAX:
        raise ParameterError(f"{name} must be an integer from 1")
    return int(text)


def timestamp(request: Request, name: str) -> str | None:
    """Return a query parameter that is a UTC time, None if it is not given."""
    text = request.query_params.get(name)
    if text is not None and not is_timestamp(text):
        raise ParameterError(f"{name} must be a UTC time such as 2025-12-12T10:30:00Z")
    return text


def flag(request: Request, name: str) -> bool:
    """Return a query parameter that is true or false; false if it is not given."""
    text = request.query_params.get(name, "false")
    if text not in ("true", "false"):
        raise ParameterError(f"{name} must be true or false")
    return text == "true"


async def _lines(first: Step | None, rest: AsyncIterator[Step]) -> AsyncIterator[bytes]:
    if first is not None:
        yield msgspec.json.encode(first) + b"\n"
    async for step in rest:
        yield msgspec.json.encode(step) + b"\n"


def _check(account_id: str) -> None:
    if not is_stream_id(account_id):
        raise MalformedAccountError(f"an account id is {STREAM_ID_RULE}")
