"""The past over HTTP: documents at a number or a time, verification, and whole replays."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import ExitStack, aclosing

import msgspec
from nats.aio.client import Client
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from psm.adapters.logs import get_logger
from psm.contracts.errors import PSMError
from psm.contracts.subjects import STREAM_ID_RULE, is_stream_id
from psm.workers.api.fold_turns import FoldTurns, unless_gone
from psm.workers.api.guard import asker_of
from psm.workers.api.parameters import ParameterError, flag, integer, timestamp
from psm.workers.api.reads import Answer, MalformedAccountError, ReadName
from psm.workers.history.as_of import When, past_state
from psm.workers.history.verify import Verification, is_hash, verify
from psm.workers.log.shape import LogShape
from psm.workers.process.times import is_later
from psm.workers.replay.account import Selection, Step, replay_account

NDJSON = "application/x-ndjson"
_CHUNK_STEPS = 100
_CHUNK_BYTES = 64 * 1024
_log = get_logger()
_NO_STORE = {"Cache-Control": "no-store"}


class Past:
    """Answers questions about the past from the log, each in its turn."""

    def __init__(self, nc: Client, shape: LogShape) -> None:
        self._nc = nc
        self._shape = shape
        self._turns = FoldTurns()

    async def get(self, name: ReadName, account_id: str, when: When, asker: str | None) -> Answer:
        """Return one document as it was; `asker` as for `FoldTurns.turn`.

        Raises:
            MalformedAccountError: `account_id` cannot exist.
            UnknownStreamError, NoSuchPlaceError: there was no such state.
            TooManyFoldsError: others have asked before; also below.
            TransientError: NATS is away.
        """
        _check(account_id)
        async with self._turns.turn(asker):
            past = await past_state(self._nc, self._shape, account_id, when)
        body = msgspec.json.encode(past.document(name))
        return Answer(body=body, etag=f'"{hashlib.sha256(body).hexdigest()[:32]}"')

    async def verify(self, request: Request) -> Response:
        """Answer `GET /psm/verify/{account_id}?sequence=&ledger_hash=`."""
        account_id = request.path_params["account_id"]
        _check(account_id)
        number = integer(request, "sequence") or 1
        given = request.query_params["ledger_hash"]
        if not is_hash(given):
            raise ParameterError("ledger_hash must be the 64 hex digits of a SHA-256")
        answer = await unless_gone(request, self._verification(request, number, given))
        return Response(
            msgspec.json.encode(answer), media_type="application/json", headers=_NO_STORE
        )

    async def replay(self, request: Request) -> Response:
        """Answer `GET /psm/replay/{account_id}?from=&to=`: one JSON document a line and event."""
        account_id = request.path_params["account_id"]
        _check(account_id)
        selection = _selection(request)
        with ExitStack() as opened:
            opened.enter_context(self._turns.replay())
            steps = replay_account(
                self._nc,
                account_id,
                partitions=self._shape.partitions,
                slots=self._shape.slots,
                selection=selection,
            )
            # An error of the log must not come behind a 200.
            asker = asker_of(request)
            first = await unless_gone(request, self._first(steps, asker))
            return _Replay(self._chunks(first, steps, asker), opened.pop_all().close)

    async def _verification(self, request: Request, number: int, given: str) -> Verification:
        account_id = request.path_params["account_id"]
        async with self._turns.turn(asker_of(request)):
            return await verify(self._nc, self._shape, account_id, number, given)

    async def _first(self, steps: AsyncIterator[Step], asker: str | None) -> bytes:
        async with self._turns.turn(asker):
            return await _chunk(steps)

    async def _chunks(
        self, first: bytes, steps: AsyncGenerator[Step], asker: str | None
    ) -> AsyncGenerator[bytes]:
        async with aclosing(steps):
            chunk = first
            while chunk:
                yield chunk  # without a turn: this takes as long as the client likes
                async with self._turns.turn(asker, admitted=True):
                    chunk = await _chunk(steps)


class _Replay(StreamingResponse):
    """A replay that is closed when its client has it all, or has left."""

    def __init__(self, chunks: AsyncGenerator[bytes], close: Callable[[], None]) -> None:
        super().__init__(chunks, media_type=NDJSON, headers=_NO_STORE)
        self._chunks = chunks
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with aclosing(self._chunks):
                await super().__call__(scope, receive, send)
        except PSMError as error:
            # The server closes what is not complete: the client sees a broken stream, no short one.
            _log.warning("http.replay_broken", detail=str(error))
        finally:
            self._close()


def when_of(request: Request) -> When | None:
    """Return the moment that a request asks for; None for now.

    Raises:
        ParameterError: a parameter cannot be read, or two contradict each other.
    """
    sequence, at = integer(request, "at_sequence"), timestamp(request, "at")
    log_time = flag(request, "log_time")
    if sequence is None and at is None:
        return None
    if sequence is not None and at is not None:
        raise ParameterError("give at_sequence or at, not both")
    if "min_sequence" in request.query_params:
        raise ParameterError("min_sequence waits for the present; leave it out with at")
    return When(sequence=sequence, at=at, log_time=log_time)


def _selection(request: Request) -> Selection:
    first, last = integer(request, "from_sequence"), integer(request, "to_sequence")
    since, until = timestamp(request, "from"), timestamp(request, "to")
    if first is not None and last is not None and first > last:
        raise ParameterError("from_sequence is greater than to_sequence: that is no range")
    if is_later(since, until):
        raise ParameterError("from is later than to: that is no range")
    return Selection(
        first=first or 1, last=last, since=since, until=until, log_time=flag(request, "log_time")
    )


async def _chunk(steps: AsyncIterator[Step]) -> bytes:
    """Return the next steps as lines; nothing at the end."""
    lines, size = [], 0
    async for step in steps:
        line = msgspec.json.encode(step)
        lines += [line, b"\n"]
        size += len(line)
        if len(lines) >= 2 * _CHUNK_STEPS or size >= _CHUNK_BYTES:
            break
    return b"".join(lines)


def _check(account_id: str) -> None:
    if not is_stream_id(account_id):
        raise MalformedAccountError(f"an account id is {STREAM_ID_RULE}")
